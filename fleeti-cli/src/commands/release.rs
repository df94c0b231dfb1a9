//! `fleeti release`.

mod document;
mod evidence;
mod path;
mod shown;

pub use document::release_keys;

use super::build::Inputs;
use super::keys::{self, KeyFile, Passphrase};
use super::request::{block_on, refused};
use super::server::Server;
use super::signature::differs;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, Progress, rows};
use clap::{Args, Subcommand};
use fleeti_build::build::BuildRecord;
use fleeti_build::cache::Cache;
use fleeti_build::compare;
use fleeti_build::countersign::countersign;
use fleeti_build::disk;
use fleeti_build::release::{self, NewRelease, ReleaseError, ReleaseSigners};
use fleeti_core::boot_proof::{BootProof, KIND, PCRS};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{DeviceId, ReleaseName};
use fleeti_core::manifest::Manifest;
use fleeti_core::size::bytes;
use fleeti_core::strict;
use fleeti_core::wire::api::{Provisioned, Release, SignedBootProof};
use fleeti_core::wire::attestation::Attestation;
use fleeti_core::wire::enrollment::EnrollmentRecord;
use fleeti_pki::boot_proof;
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::openpgp::OpenPgpKey;
use fleeti_pki::signer::Signer;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What to do with releases.
#[derive(Subcommand)]
pub enum Command {
    Create(Create),
    /// Verify the signatures and every file of a release directory.
    Verify {
        /// The release directory.
        release: PathBuf,
        /// The `public` folder of the PKI.
        #[arg(long)]
        trust: PathBuf,
    },
    /// Upload a release directory to the server. The server verifies and publishes it.
    Publish {
        /// The release directory.
        release: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// List the newest releases on the server.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Show one release of the server: state, files with sizes, and its boot proof.
    Show {
        /// The release, as in `kiosk@2`.
        release: ReleaseName,
        #[command(flatten)]
        server: Server,
    },
    /// Get the SBOM of a published release (CycloneDX), verified: release keys signed the manifest,
    /// which has its digest.
    Sbom(document::Document),
    /// Get the provenance of a published release (in-toto with SLSA), verified as its SBOM is.
    Provenance(document::Document),
    Evidence(evidence::EvidenceArgs),
    /// Revoke a release: its rollouts end, and no device can download it any more. Devices that run
    /// it keep it until there is a newer release. `fleeti device boot-keys DEVICE forbid` stops it
    /// from booting again.
    Revoke {
        /// The release, as in `kiosk@2`.
        release: ReleaseName,
        #[command(flatten)]
        server: Server,
    },
    Path(path::PathArgs),
    Sign(Sign),
    /// Prove that a published release boots, with the evidence of a device that runs it: in QEMU or
    /// in a lab.
    ///
    /// The device must have proved the release at L4 or higher (`fleeti attest show DEVICE`). The
    /// command compares its PCR values with the manifest, writes them to DIR/boot-proof.json, signs
    /// that file, and uploads it. A fleet may require a boot proof before rollouts: `fleeti attest
    /// policy FLEET --proved-releases true`. If the threshold is higher than one, each release
    /// signer runs this command in the same directory. The PCR values come from the server, which
    /// has verified the quote.
    Prove {
        /// The release directory.
        release: PathBuf,
        /// The device that runs it.
        #[arg(long)]
        device: DeviceId,
        /// Your release key.
        #[arg(long)]
        key: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
        #[command(flatten)]
        server: Server,
    },
    Disk(Disk),
}

/// Sign a build and write an immutable release directory.
#[derive(Args)]
pub struct Create {
    /// The directory of the build.
    build: PathBuf,
    /// The PKI folder with the offline keys.
    #[arg(long)]
    pki: PathBuf,
    /// Output directory of the release; must not exist.
    #[arg(long)]
    out: PathBuf,
    /// Omit the Secure Boot signature with the organisation's db key. Only devices with their
    /// own Secure Boot keys (`fleeti device provision`) can then boot the release, each with a
    /// signature that the server's signing service makes.
    #[arg(long)]
    device_keys_only: bool,
    #[command(flatten)]
    passphrase: Passphrase,
}

/// Add the signature of your own release key (`fleeti pki release-key`), on your own machine.
///
/// The command first compares every file in the directory with the manifest. With `--profile`
/// and `--trust`, it builds the release from your own inputs on this machine, and compares
/// every byte that boots. Without them you sign another person's build, and must confirm that
/// with `--not-built-here`. The server publishes a release when the threshold of `release.pem`
/// is reached.
#[derive(Args)]
pub struct Sign {
    /// The release directory.
    release: PathBuf,
    /// Your release key.
    #[arg(long)]
    key: PathBuf,
    /// Directory of the build that the release was made from, to compare with your own build as
    /// well.
    #[arg(long, requires = "profile")]
    build: Option<PathBuf>,
    /// Sign without building: compare the files with the manifest only.
    #[arg(long, conflicts_with_all = ["profile", "build"])]
    not_built_here: bool,
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    passphrase: Passphrase,
}

/// Make the disk image of a new device from a build and its release.
#[derive(Args)]
pub struct Disk {
    /// The directory of the build.
    build: PathBuf,
    /// The release directory.
    #[arg(long)]
    release: PathBuf,
    /// Output file of the disk image.
    #[arg(long)]
    out: PathBuf,
    /// Size of the disk, GiB; the data partition gets the rest.
    #[arg(long, default_value_t = 4)]
    size_gib: u64,
    /// Enrollment record to put on the ESP (`fleeti device enrollment`).
    #[arg(long, conflicts_with = "bundle")]
    record: Option<PathBuf>,
    /// File of a provisioned device (`fleeti device provision`), with its record, Secure Boot
    /// keys and signatures.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Do not write the record of the --bundle file to the disk: the machine gets it as an OEM
    /// string (`fleeti device smbios`).
    #[arg(long, requires = "bundle")]
    no_record: bool,
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::Create(arguments) => create(&arguments, output),
        Command::Verify { release, trust } => verify(&release, &trust, output),
        Command::Publish { release, server } => publish_directory(&release, &server, output),
        Command::List { server } => list(&server, output),
        Command::Show { release, server } => shown::show(&release, &server, output),
        Command::Sbom(arguments) => document::get(document::SBOM, &arguments, output),
        Command::Provenance(arguments) => document::get(document::PROVENANCE, &arguments, output),
        Command::Evidence(arguments) => evidence::get(&arguments, output),
        Command::Revoke { release, server } => revoke(&release, &server, output),
        Command::Path(arguments) => path::path(arguments, output),
        Command::Sign(arguments) => sign(&arguments, output),
        Command::Prove { release, device, key, passphrase, server } => {
            let key = KeyFile { path: &key, passphrase: &passphrase };
            prove_boot(&release, &device, key, &server, output)
        }
        Command::Disk(arguments) => make_disk(&arguments, output),
    }
}

fn create(arguments: &Create, output: &Output) -> CommandResult {
    let Create { build, pki, out, device_keys_only, passphrase } = arguments;
    let offline = |purpose: &str| {
        keys::open(&pki.join("offline").join(format!("{purpose}.key")), purpose, passphrase)
    };
    let openpgp = OpenPgpKey::new(offline(purpose::OPENPGP)?).map_err(Failure::plain)?;
    let release_key = offline(purpose::RELEASE)?;
    let db = if *device_keys_only {
        None
    } else {
        let path = pki.join("public/db.pem");
        let pem = std::fs::read_to_string(&path)
            .map_err(|e| Failure::plain(format!("{}: {e}", path.display())))?;
        Some((offline(purpose::DB)?, pem))
    };
    let db = db.as_ref().map(|(key, pem)| (key.as_ref(), pem.as_str()));
    // Only images that were built with pcr.pem need a PCR policy.
    let has_pcr = pki.join("offline").join(format!("{}.key", purpose::PCR)).exists();
    let pcr = has_pcr.then(|| offline(purpose::PCR)).transpose()?;
    let signers = ReleaseSigners {
        release: release_key.as_ref(),
        openpgp: &openpgp,
        db,
        pcr: pcr.as_deref(),
    };
    let record = BuildRecord::read(build).map_err(Failure::plain)?;
    let new = NewRelease { build, record: &record, out, signers: &signers, created_s: now_s() };
    let manifest = release::create(new, &mut |line| output.note(line)).map_err(Failure::plain)?;
    output.data(&manifest, |m| {
        let list: Vec<_> =
            m.artifacts.iter().map(|a| format!("  {:<60} {:>10}", a.path, bytes(a.size))).collect();
        Lines::from(format!("signed {}", m.release)).and(list)
    });
    Ok(())
}

fn verify(release: &Path, trust: &Path, output: &Output) -> CommandResult {
    let verified = release::verify(release, &release_keys(trust)?).map_err(Failure::plain)?;
    output.data(verified.manifest(), |m| {
        format!(
            "{} is signed by a trusted release key; {} files match the manifest",
            m.release,
            m.artifacts.len()
        )
    });
    Ok(())
}

fn publish_directory(release: &Path, server: &Server, output: &Output) -> CommandResult {
    let release = block_on(publish(release, server.client()?))?;
    output.data(&release, |r| {
        format!(
            "published {}; roll it out with `fleeti rollout start --release {} --fleet FLEET`",
            r.name, r.name
        )
    });
    Ok(())
}

fn list(server: &Server, output: &Output) -> CommandResult {
    let releases = block_on(async { server.client()?.releases().await.map_err(refused) })?;
    output.data(&releases, |list| {
        rows(list, "no releases yet; publish one with `fleeti release publish DIR`", |r| {
            format!(
                "{:<24} {:>10}  {:<8}  manifest {}",
                r.name.to_string(),
                bytes(r.artifacts.iter().map(|a| a.size).sum()),
                if r.revoked_s.is_some() { "revoked" } else { "" },
                r.manifest_sha256
            )
        })
    });
    Ok(())
}

fn revoke(release: &ReleaseName, server: &Server, output: &Output) -> CommandResult {
    let release =
        block_on(async { server.client()?.revoke_release(release).await.map_err(refused) })?;
    output.data(&release, |r| format!("{} is revoked", r.name));
    Ok(())
}

fn sign(arguments: &Sign, output: &Output) -> CommandResult {
    let Sign { release, key, build, not_built_here, inputs, passphrase } = arguments;
    let manifest =
        Manifest::parse(&keys::read(&release.join("manifest.json"))?).map_err(Failure::plain)?;
    let own = inputs.own(&manifest.release, &Cache::discover().map_err(Failure::plain)?)?;
    if own.is_none() && !not_built_here {
        let hint = "name your own inputs with --profile and --trust to build and compare it here, or sign \
                    another person's build with --not-built-here";
        return Err(Failure::new(format!("{} was not built here", manifest.release), Some(hint)));
    }
    if let (Some(own), Some(build)) = (&own, build) {
        let found = compare::with_build(own, build).map_err(Failure::plain)?;
        if !found.differences.is_empty() {
            return Err(differs("the build", &found.differences));
        }
    }
    let key = keys::open(key, purpose::RELEASE, passphrase)?;
    let refused = |e| match e {
        ReleaseError::Differs(found) => differs("the release", &found),
        other => Failure::plain(other),
    };
    let own = own.as_ref().map(|own| (own, now_s()));
    let (manifest, signature) = countersign(release, own, key.as_ref()).map_err(refused)?;
    let signed = release::read_signatures(release).map_err(Failure::plain)?.len();
    let data = serde_json::json!({"release": manifest.release, "key_id": signature.key_id, "signatures": signed, "built": own.is_some()});
    output.data(&data, |_| {
        let looked_at = if own.is_some() {
            "every byte equals the build of your own inputs"
        } else {
            "it was not built here (--not-built-here)"
        };
        Lines::from(format!(
            "{} is signed by {}; it has {signed} signatures",
            manifest.release, signature.key_id
        ))
        .and(looked_at)
    });
    Ok(())
}

fn prove_boot(
    release: &Path,
    device: &DeviceId,
    key: KeyFile<'_>,
    server: &Server,
    output: &Output,
) -> CommandResult {
    let key = key.open(purpose::RELEASE)?;
    let proved = block_on(prove(release, device, key.as_ref(), server.client()?))?;
    output.data(&proved, |r| {
        format!("{device} proves that {} boots; proof in {}", r.name, release.join(PROOF).display())
    });
    Ok(())
}

fn make_disk(arguments: &Disk, output: &Output) -> CommandResult {
    let Disk { build, release, out, size_gib, record, bundle, no_record } = arguments;
    let record: Option<EnrollmentRecord> = record.as_deref().map(read_json).transpose()?;
    let bundle: Option<Provisioned> = bundle.as_deref().map(read_json).transpose()?;
    let personal = match &bundle {
        None => disk::Personal { record: record.as_ref(), ..disk::Personal::default() },
        Some(b) => {
            let record = Some(&b.record).filter(|_| !no_record);
            disk::Personal { record, writes: &b.writes, signatures: b.signatures.clone() }
        }
    };
    let device = bundle.as_ref().map(|b| &b.device);
    disk::create(build, release, out, Some(size_gib << 30), &personal).map_err(Failure::plain)?;
    output.data(&serde_json::json!({"disk": out, "device": device}), |_| match device {
        Some(device) => format!(
            "wrote {} for {device}; Secure Boot is turned on at its first boot",
            out.display()
        ),
        None => format!("wrote {}", out.display()),
    });
    Ok(())
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

async fn publish(dir: &Path, client: fleeti_client::Client) -> Result<Release, Failure> {
    let path = dir.join("manifest.json");
    let bytes =
        std::fs::read(&path).map_err(|e| Failure::plain(format!("{}: {e}", path.display())))?;
    // Checks the form only: the server and each device decide whether to trust it.
    let manifest = Manifest::parse(&bytes).map_err(Failure::plain)?;
    let signatures = release::read_signatures(dir).map_err(Failure::plain)?;
    let files: Vec<String> = ["manifest.json".to_owned()]
        .into_iter()
        .chain(signatures.iter().map(fleeti_pki::manifest::Signature::file_name))
        .chain(manifest.artifacts.iter().map(|a| a.path.clone()))
        .collect();
    let progress = Progress::of(files.len(), "files");
    for file in &files {
        progress.say(file);
        client.upload(&manifest.release, file, &dir.join(file)).await.map_err(refused)?;
        progress.one_more();
    }
    progress.end();
    client.publish(&manifest.release).await.map_err(refused)
}

/// File name of a boot proof in a release directory.
const PROOF: &str = "boot-proof.json";

async fn prove(
    dir: &Path,
    device: &DeviceId,
    key: &dyn Signer,
    client: fleeti_client::Client,
) -> Result<Release, Failure> {
    let manifest = keys::read(&dir.join("manifest.json"))?;
    let (digest, manifest) =
        (sha256_hex(&manifest), Manifest::parse(&manifest).map_err(Failure::plain)?);
    let path = dir.join(PROOF);
    let proof = proof_of(
        &manifest,
        digest.clone(),
        device,
        client.attestation(device).await.map_err(refused)?,
    )?;
    proof.check(&manifest, &digest).map_err(Failure::plain)?;
    let mut bytes = boot_proof::to_bytes(&proof).map_err(Failure::plain)?;
    // Signs an existing proof as it is, if the device still has the same PCR values.
    if path.exists() {
        bytes = keys::read(&path)?;
        let signed = BootProof::parse(&bytes).map_err(Failure::plain)?;
        signed.check(&manifest, &digest).map_err(Failure::plain)?;
        if signed.device != proof.device || signed.pcrs != proof.pcrs {
            let hint = Some(
                "name the device in the proof, or remove the proof and its signatures to start again",
            );
            return Err(Failure::new(
                format!(
                    "{} is a proof of {}, or of other PCR values",
                    path.display(),
                    signed.device
                ),
                hint,
            ));
        }
    }
    let signature = boot_proof::sign(&bytes, key).map_err(Failure::plain)?;
    keys::replace(&path, &bytes)?;
    keys::replace(&dir.join(format!("boot-proof.{}.sig", signature.key_id)), &signature.der)?;
    let mut signatures = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Failure::plain)? {
        let path = entry.map_err(Failure::plain)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(id) =
            name.strip_prefix("boot-proof.").and_then(|rest| rest.strip_suffix(".sig"))
        {
            signatures.push((id.to_owned(), fleeti_pki::base64_text(&keys::read(&path)?)));
        }
    }
    let proof = String::from_utf8(bytes).map_err(Failure::plain)?;
    client
        .prove_release(&manifest.release, &SignedBootProof { proof, signatures })
        .await
        .map_err(refused)
}

/// Makes a boot proof of a device's attestation result.
fn proof_of(
    manifest: &Manifest,
    manifest_sha256: String,
    device: &DeviceId,
    said: Attestation,
) -> Result<BootProof, Failure> {
    let hint = Some(format!(
        "challenge its TPM with `fleeti attest now {device}`, and see the result with `fleeti attest show {device}`"
    ));
    let Some(result) =
        said.result.filter(|r| said.is_fresh && r.release.as_ref() == Some(&manifest.release))
    else {
        return Err(Failure::new(
            format!("{device} does not prove that it runs {}", manifest.release),
            hint,
        ));
    };
    let pcrs = said.pcrs.into_iter().filter(|r| PCRS.contains(&r.pcr));
    Ok(BootProof {
        kind: KIND.to_owned(),
        release: manifest.release.clone(),
        manifest_sha256,
        device: device.clone(),
        level: said.level,
        pcrs: pcrs.map(|r| (r.pcr.to_string(), r.value)).collect(),
        evidence: result.evidence,
        proved_s: result.appraised_s,
    })
}

fn read_json<T: serde::de::DeserializeOwned + serde::Serialize>(path: &Path) -> Result<T, Failure> {
    let bytes =
        std::fs::read(path).map_err(|e| Failure::plain(format!("{}: {e}", path.display())))?;
    strict::from_slice(&bytes).map_err(|e| Failure::plain(format!("{}: {e}", path.display())))
}
