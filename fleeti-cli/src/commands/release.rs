//! `fleeti release`.

use super::build::{Inputs, differs};
use super::keys::{self, Passphrase};
use super::server::{Server, block_on, refused};
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, Progress, bytes, rows};
use clap::Subcommand;
use fleeti_build::build::BuildRecord;
use fleeti_build::cache::Cache;
use fleeti_build::compare;
use fleeti_build::countersign::countersign;
use fleeti_build::disk;
use fleeti_build::release::{self, ReleaseError, ReleaseSigners};
use fleeti_core::boot_proof::{BootProof, KIND, REGISTERS};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{DeviceId, ReleaseName};
use fleeti_core::manifest::Manifest;
use fleeti_core::strict;
use fleeti_core::wire::api::{Provisioned, Release, SignedBootProof};
use fleeti_core::wire::attestation::Attestation;
use fleeti_core::wire::device::EnrollmentRecord;
use fleeti_pki::boot_proof;
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::manifest::ReleaseKeys;
use fleeti_pki::openpgp::OpenPgpKey;
use fleeti_pki::signer::Signer;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What to do with releases.
#[derive(Subcommand)]
pub enum Command {
    /// Sign a build into an immutable release directory.
    Create {
        /// The directory of the build.
        build: PathBuf,
        /// The folder of the PKI, with its offline keys.
        #[arg(long)]
        pki: PathBuf,
        /// Where the release goes; must not exist.
        #[arg(long)]
        out: PathBuf,
        /// Leave out the signature that every device of the organisation starts: only devices with
        /// Secure Boot keys of their own (`fleeti device provision`) will start it, each by the
        /// signature that the server's signer makes.
        #[arg(long)]
        device_keys_only: bool,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Verify a release directory: its signatures, then every file.
    Verify {
        /// The release directory.
        release: PathBuf,
        /// The `public` folder of the PKI.
        #[arg(long)]
        trust: PathBuf,
    },
    /// Upload a release directory to the server, which verifies and publishes it.
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
    /// Revoke a release: its rollouts end, and no device gets it any more. What runs it goes on
    /// until there is something newer; `fleeti device boot-keys DEVICE forbid` keeps it from
    /// booting again.
    Revoke {
        /// As in `kiosk@2`.
        release: ReleaseName,
        #[command(flatten)]
        server: Server,
    },
    /// Sign a release with one's own release key (`fleeti pki release-key`), on one's own machine.
    ///
    /// Everything in the directory is compared with the manifest first. With `--profile` and
    /// `--trust`, the release is built from your own inputs on this machine, and every byte that
    /// boots is compared. Who signs without them signs what somebody else says, and has to say so:
    /// `--not-built-here`. A release is published once as many release keys have signed it as
    /// `release.pem` asks for.
    Sign {
        /// The release directory.
        release: PathBuf,
        /// One's own key.
        #[arg(long)]
        key: PathBuf,
        /// The directory of the build that it should be of: compared with what your inputs make as
        /// well.
        #[arg(long, requires = "profile")]
        build: Option<PathBuf>,
        /// Sign what nobody built here: the files are compared with the manifest alone.
        #[arg(long, conflicts_with_all = ["profile", "build"])]
        not_built_here: bool,
        #[command(flatten)]
        inputs: Inputs,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Prove that a published release boots as it promises, by a device that runs it: one in QEMU,
    /// or one in a lab.
    ///
    /// The device's TPM has to have said so, at L4 at least (`fleeti attest show DEVICE`). What it
    /// said is compared with the manifest, written to DIR/boot-proof.json, signed, and given to the
    /// server. A fleet may ask for it before a release is rolled out to it: `fleeti attest policy
    /// FLEET --proved-releases true`. Where several people must sign, each of them does this in the
    /// same directory. What the device said, the server says: it verified the quote.
    Prove {
        /// The release directory.
        release: PathBuf,
        /// The device that runs it.
        #[arg(long)]
        device: DeviceId,
        /// One's own release key.
        #[arg(long)]
        key: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
        #[command(flatten)]
        server: Server,
    },
    /// Make the disk image of a new device from a build and its release.
    Disk {
        /// The directory of the build.
        build: PathBuf,
        /// The release directory.
        #[arg(long)]
        release: PathBuf,
        /// Where the disk image goes.
        #[arg(long)]
        out: PathBuf,
        /// Size of the disk, GiB; the data partition fills what is left.
        #[arg(long, default_value_t = 4)]
        size_gib: u64,
        /// Enrollment record to put on the ESP (`fleeti device enrollment`).
        #[arg(long, conflicts_with = "bundle")]
        record: Option<PathBuf>,
        /// What makes the disk the one of a certain device (`fleeti device provision`): its record,
        /// its Secure Boot keys and its signatures.
        #[arg(long)]
        bundle: Option<PathBuf>,
        /// Leave the record of the bundle out: the machine gets it as an OEM string (`fleeti device
        /// smbios`).
        #[arg(long, requires = "bundle")]
        no_record: bool,
    },
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::Create { build, pki, out, device_keys_only, passphrase } => {
            let offline = |purpose: &str| {
                keys::open(
                    &pki.join("offline").join(format!("{purpose}.key")),
                    purpose,
                    &passphrase,
                )
            };
            let openpgp = OpenPgpKey::new(offline(purpose::OPENPGP)?).map_err(Failure::plain)?;
            let release_key = offline(purpose::RELEASE)?;
            let db = if device_keys_only {
                None
            } else {
                let path = pki.join("public/db.pem");
                let pem = std::fs::read_to_string(&path)
                    .map_err(|e| Failure::plain(format!("{}: {e}", path.display())))?;
                Some((offline(purpose::DB)?, pem))
            };
            let db = db.as_ref().map(|(key, pem)| (key.as_ref(), pem.as_str()));
            // Only an image that was built for such a key asks for it.
            let has_pcr = pki.join("offline").join(format!("{}.key", purpose::PCR)).exists();
            let pcr = has_pcr.then(|| offline(purpose::PCR)).transpose()?;
            let signers = ReleaseSigners {
                release: release_key.as_ref(),
                openpgp: &openpgp,
                db,
                pcr: pcr.as_deref(),
            };
            let record = BuildRecord::read(&build).map_err(Failure::plain)?;
            let manifest =
                release::create((&build, &record), &out, &signers, now_s(), &mut |line| {
                    output.note(line)
                })
                .map_err(Failure::plain)?;
            output.data(&manifest, |m| {
                let list: Vec<_> = m
                    .artifacts
                    .iter()
                    .map(|a| format!("  {:<60} {:>10}", a.path, bytes(a.size)))
                    .collect();
                Lines::from(format!("signed {}", m.release)).and(list)
            });
            Ok(())
        }
        Command::Verify { release, trust } => {
            let verified =
                release::verify(&release, &release_keys(&trust)?).map_err(Failure::plain)?;
            output.data(verified.manifest(), |m| {
                format!(
                    "{} is signed by a trusted release key; {} files are as signed",
                    m.release,
                    m.artifacts.len()
                )
            });
            Ok(())
        }
        Command::Publish { release, server } => {
            let release = block_on(publish(&release, server.client()?))?;
            output.data(&release, |r| {
                format!("published {}; roll it out with `fleeti rollout start --release {} --fleet FLEET`", r.name, r.name)
            });
            Ok(())
        }
        Command::List { server } => {
            let releases = block_on(async { server.client()?.releases().await.map_err(refused) })?;
            output.data(&releases, |list| {
                rows(list, "no release yet; publish one with `fleeti release publish DIR`", |r| {
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
        Command::Revoke { release, server } => {
            let release = block_on(async {
                server.client()?.revoke_release(&release).await.map_err(refused)
            })?;
            output.data(&release, |r| format!("{} is revoked", r.name));
            Ok(())
        }
        Command::Sign { release, key, build, not_built_here, inputs, passphrase } => {
            let manifest = Manifest::parse(&keys::read(&release.join("manifest.json"))?)
                .map_err(Failure::plain)?;
            let own = inputs.own(&manifest.release, &Cache::discover().map_err(Failure::plain)?)?;
            if own.is_none() && !not_built_here {
                let hint = "name your own inputs with --profile and --trust, and it is built and compared here; --not-built-here signs what \
                            somebody else says";
                return Err(Failure::new(
                    format!("nobody built {} here", manifest.release),
                    Some(hint),
                ));
            }
            if let (Some(own), Some(build)) = (&own, &build) {
                let found = compare::with_build(own, build).map_err(Failure::plain)?;
                if !found.differences.is_empty() {
                    return Err(differs("the build", &found.differences));
                }
            }
            let key = keys::open(&key, purpose::RELEASE, &passphrase)?;
            let refused = |e| match e {
                ReleaseError::Differs(found) => differs("the release", &found),
                other => Failure::plain(other),
            };
            let own = own.as_ref().map(|own| (own, now_s()));
            let (manifest, signature) =
                countersign(&release, own, key.as_ref()).map_err(refused)?;
            let signed = release::read_signatures(&release).map_err(Failure::plain)?.len();
            let data = serde_json::json!({"release": manifest.release, "key_id": signature.key_id, "signatures": signed, "built": own.is_some()});
            output.data(&data, |_| {
                let looked_at = if own.is_some() {
                    "every byte is what your own inputs make"
                } else {
                    "nobody built it here, as --not-built-here says"
                };
                Lines::from(format!(
                    "{} is signed by {}; it has {signed} signatures",
                    manifest.release, signature.key_id
                ))
                .and(looked_at)
            });
            Ok(())
        }
        Command::Prove { release, device, key, passphrase, server } => {
            let key = keys::open(&key, purpose::RELEASE, &passphrase)?;
            let proved = block_on(prove(&release, &device, key.as_ref(), server.client()?))?;
            output.data(&proved, |r| {
                format!(
                    "{} is proved to boot by {device}; {}",
                    r.name,
                    release.join(PROOF).display()
                )
            });
            Ok(())
        }
        Command::Disk { build, release, out, size_gib, record, bundle, no_record } => {
            let record: Option<EnrollmentRecord> =
                record.map(|path| read_json(&path)).transpose()?;
            let bundle: Option<Provisioned> = bundle.map(|path| read_json(&path)).transpose()?;
            let personal = match &bundle {
                None => disk::Personal { record: record.as_ref(), ..disk::Personal::default() },
                Some(b) => {
                    let record = Some(&b.record).filter(|_| !no_record);
                    disk::Personal { record, writes: &b.writes, signatures: b.signatures.clone() }
                }
            };
            disk::create(&build, &release, &out, Some(size_gib << 30), &personal)
                .map_err(Failure::plain)?;
            let device = bundle.map(|b| b.device);
            output.data(&serde_json::json!({"disk": out, "device": device}), |_| match &device {
                Some(device) => format!(
                    "wrote {} for {device}; it turns Secure Boot on at its first boot",
                    out.display()
                ),
                None => format!("wrote {}", out.display()),
            });
            Ok(())
        }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

async fn publish(dir: &Path, client: fleeti_client::Client) -> Result<Release, Failure> {
    let path = dir.join("manifest.json");
    let bytes =
        std::fs::read(&path).map_err(|e| Failure::plain(format!("{}: {e}", path.display())))?;
    // Only its form: whether it is trusted is the server's to say, and every device's.
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

/// What a boot proof is called in a release's directory.
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
    // What somebody has signed already is signed as it is, where the device still says the same.
    if path.exists() {
        bytes = keys::read(&path)?;
        let signed = BootProof::parse(&bytes).map_err(Failure::plain)?;
        signed.check(&manifest, &digest).map_err(Failure::plain)?;
        if signed.device != proof.device || signed.registers != proof.registers {
            let hint = Some(
                "name the device that is in it, or remove it and its signatures to begin anew",
            );
            return Err(Failure::new(
                format!("{} is of {}, or of other registers", path.display(), signed.device),
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

/// What a device has said, as a proof for a release.
fn proof_of(
    manifest: &Manifest,
    manifest_sha256: String,
    device: &DeviceId,
    said: Attestation,
) -> Result<BootProof, Failure> {
    let hint = Some(format!(
        "`fleeti attest now {device}` asks its TPM, `fleeti attest show {device}` says what it proves"
    ));
    let Some(result) =
        said.result.filter(|r| said.is_fresh && r.release.as_ref() == Some(&manifest.release))
    else {
        return Err(Failure::new(
            format!("{device} does not prove that it runs {}", manifest.release),
            hint,
        ));
    };
    let registers = said.registers.into_iter().filter(|r| REGISTERS.contains(&r.register));
    Ok(BootProof {
        kind: KIND.to_owned(),
        release: manifest.release.clone(),
        manifest_sha256,
        device: device.clone(),
        level: said.level,
        registers: registers.map(|r| (r.register.to_string(), r.value)).collect(),
        evidence: result.evidence,
        proved_s: result.appraised_s,
    })
}

fn read_json<T: serde::de::DeserializeOwned + serde::Serialize>(path: &Path) -> Result<T, Failure> {
    let bytes =
        std::fs::read(path).map_err(|e| Failure::plain(format!("{}: {e}", path.display())))?;
    strict::from_slice(&bytes).map_err(|e| Failure::plain(format!("{}: {e}", path.display())))
}

/// The release keys of a `public` folder.
pub fn release_keys(trust: &Path) -> Result<ReleaseKeys, Failure> {
    let path = trust.join("release.pem");
    let text = std::fs::read_to_string(&path)
        .map_err(|e| Failure::plain(format!("{}: {e}", path.display())))?;
    ReleaseKeys::from_pem(&text).map_err(Failure::plain)
}
