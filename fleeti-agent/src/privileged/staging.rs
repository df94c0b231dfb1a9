//! Stages a version, then arms it. Staging runs the unmodified systemd-sysupdate, whose UKI target
//! is a `.staged` file that systemd-boot ignores. Arming checks its digest against the manifest and
//! renames it to a boot entry.

use crate::Paths;
use crate::anchors;
use crate::console;
use crate::image::{self, running_release};
use crate::release_log;
use crate::secure_boot::{self, Trusted};
use anyhow::{Context, Result, ensure};
use fleeti_core::id::{Architecture, Version};
use fleeti_core::strict;
use fleeti_core::update::FailureCode;
use fleeti_core::wire::boot::BootSignatures;
use fleeti_core::wire::device::ReleaseProof;
use fleeti_pki::authenticode;
use fleeti_pki::manifest::{Signature, Verified, verify};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// A transfer that takes longer is stuck.
const TIME_LIMIT: Duration = Duration::from_secs(3 * 3600);
/// Boot attempts in which a new version must become healthy.
const TRIES: u32 = 3;

/// A refusal: its code and detail.
pub type Refusal = (FailureCode, String);

fn refuse<T>(code: FailureCode, detail: impl Into<String>) -> Result<T, Refusal> {
    Err((code, detail.into()))
}

/// Makes every check of the manifest of an update that this device can make.
pub fn check_manifest(
    paths: &Paths,
    manifest: &str,
    signatures: &[(String, String)],
) -> Result<Verified, Refusal> {
    check_either(paths, manifest, signatures, |version, running| version > running)
}

/// As [`check_manifest`], for a version to go back to: an older one, and none below the minimum
/// version.
pub fn check_previous(
    paths: &Paths,
    manifest: &str,
    signatures: &[(String, String)],
) -> Result<Verified, Refusal> {
    check_either(paths, manifest, signatures, |version, running| version < running)
}

/// `is_right` compares the version with the running one.
fn check_either(
    paths: &Paths,
    manifest: &str,
    signatures: &[(String, String)],
    is_right: fn(&Version, &Version) -> bool,
) -> Result<Verified, Refusal> {
    let internal = |e: anyhow::Error| (FailureCode::ManifestUntrusted, format!("{e:#}"));
    let anchors = anchors::of_helper(paths).map_err(internal)?;
    let verified =
        verify(manifest.as_bytes(), &Signature::all_of(signatures), anchors.release_keys())
            .map_err(|e| (FailureCode::ManifestUntrusted, e.to_string()))?;
    let (running, facts) =
        (running_release(paths).map_err(internal)?, image::facts(paths).map_err(internal)?);
    let m = verified.manifest();
    if m.release.line != running.line || m.architecture != Architecture::X86_64 {
        return refuse(
            FailureCode::WrongImage,
            format!("{} for {} cannot run on this device", m.release, m.architecture),
        );
    }
    let (v, floor) = (&m.release.version, &facts.minimum_version);
    if !is_right(v, &running.version) || v < floor {
        return refuse(
            FailureCode::TooOld,
            format!("{v} may not follow {} here (floor {floor})", running.version),
        );
    }
    if m.uki().is_none() {
        return refuse(FailureCode::WrongImage, "the manifest names no UKI");
    }
    Ok(verified)
}

/// Verifies and stages a release.
pub async fn stage(
    paths: &Paths,
    manifest: &str,
    signatures: &[(String, String)],
    proof: Option<&ReleaseProof>,
    url: &str,
) -> Result<Verified, Refusal> {
    let verified = check(paths, manifest, signatures, proof, url)?;
    transfer(paths, &verified, manifest, url).await?;
    Ok(verified)
}

/// Verifies a release, and the URL from which it is downloaded. Stores nothing but the checkpoint
/// of a valid proof.
pub fn check(
    paths: &Paths,
    manifest: &str,
    signatures: &[(String, String)],
    proof: Option<&ReleaseProof>,
    url: &str,
) -> Result<Verified, Refusal> {
    let verified = check_manifest(paths, manifest, signatures)?;
    release_log::check(paths, &verified, proof, paths.clock.now_s())?;
    if !is_loopback_url(url) {
        return refuse(
            FailureCode::StageFailed,
            "the helper downloads only from the loopback proxy",
        );
    }
    Ok(verified)
}

/// Downloads a verified release into the other slot.
pub async fn transfer(
    paths: &Paths,
    verified: &Verified,
    manifest: &str,
    url: &str,
) -> Result<(), Refusal> {
    let failed = |e: anyhow::Error| (FailureCode::StageFailed, format!("{e:#}"));
    let definitions = write_definitions(paths, url).map_err(failed)?;
    let version = verified.manifest().release.version.clone();
    run_sysupdate(paths, &definitions, &version).await.map_err(failed)?;
    check_staged(paths, verified).map_err(failed)?;
    // Only what was verified here may be armed, also after a restart.
    crate::write_durably(&paths.helper_state.join("staged.json"), manifest.as_bytes())
        .map_err(|e| failed(e.into()))
}

/// Whether this is exactly a URL of the daemon's proxy: `http://127.0.0.1:<port>/<64 hexadecimal
/// digits>/`. It cannot name another host, and contains no `%`, which systemd would expand.
fn is_loopback_url(url: &str) -> bool {
    let Some((port, path)) =
        url.strip_prefix("http://127.0.0.1:").and_then(|rest| rest.split_once('/'))
    else {
        return false;
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let secret = path.strip_suffix('/').unwrap_or_default();
    digits(port)
        && port.parse::<u16>().is_ok()
        && secret.len() == 64
        && secret.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Writes the image's templates with this download's URL to a folder of root's.
fn write_definitions(paths: &Paths, url: &str) -> Result<PathBuf> {
    let target = paths.run.join("sysupdate.d");
    fs::remove_dir_all(&target).ok();
    fs::DirBuilder::new().mode(0o700).create(&target)?;
    let templates = paths.lib.join("sysupdate.d");
    for entry in fs::read_dir(&templates).with_context(|| templates.display().to_string())? {
        let entry = entry?;
        let text = fs::read_to_string(entry.path())?.replace("@URL@", url);
        fs::write(target.join(entry.file_name()), text)?;
    }
    Ok(target)
}

/// Mounts the first file over each of the others up to `--`, then executes the command after it.
const WITH_KEYRING: &str = r#"ring=$1; shift; while [ "$1" != -- ]; do mount --bind -o ro "$ring" "$1" || exit 1; shift; done; shift; exec "$@""#;

/// The command for systemd-sysupdate, with the trusted OpenPGP keys. Keys other than the image's
/// are mounted over those in a mount namespace of its own, because the root is verified and other
/// processes must not see them. Mounts made meanwhile propagate in (such as the ESP's automount),
/// none propagate out.
fn sysupdate(paths: &Paths) -> Result<Command> {
    let anchors = anchors::of_helper(paths)?;
    let Some(keyring) = anchors.keyring() else { return Ok(Command::new(&paths.sysupdate)) };
    let own = paths.run.join("keyring.gpg");
    crate::write_durably(&own, keyring)?;
    let over: Vec<_> = paths.keyrings.iter().filter(|path| path.exists()).collect();
    console::say(
        "fleeti: the image's OpenPGP keys no longer count: release keys have introduced others",
    );
    let mut command = Command::new(&paths.unshare);
    command.args(["--mount", "--propagation", "slave", "--", "/bin/sh", "-c", WITH_KEYRING, "sh"]);
    command.arg(&own).args(over).arg("--").arg(&paths.sysupdate);
    Ok(command)
}

async fn run_sysupdate(paths: &Paths, definitions: &Path, version: &Version) -> Result<()> {
    let mut command = sysupdate(paths)?;
    command
        .arg(format!("--definitions={}", definitions.display()))
        .args(["update", version.as_str()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(TIME_LIMIT, command.spawn()?.wait_with_output())
        .await
        .context("systemd-sysupdate is stuck")??;
    let text = String::from_utf8_lossy(&output.stderr);
    let words: Vec<_> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let tail = words[words.len().saturating_sub(6)..].join(" | ");
    ensure!(output.status.success(), "systemd-sysupdate: {tail}");
    Ok(())
}

fn staged_path(paths: &Paths, verified: &Verified) -> PathBuf {
    let release = &verified.manifest().release;
    paths.esp.join("EFI/Linux").join(format!("{}_{}.staged", release.line, release.version))
}

/// Checks that the staged UKI is the manifest's. It contains the root hash, so it covers everything
/// else.
fn check_staged(paths: &Paths, verified: &Verified) -> Result<()> {
    let path = staged_path(paths, verified);
    let expected = verified.manifest().uki().context("the manifest names no UKI")?;
    let found = digest(&path).with_context(|| path.display().to_string())?;
    if found != expected.sha256 {
        // Not the release's bytes: deleted, so that the next attempt writes the file again.
        fs::remove_file(&path).ok();
        anyhow::bail!("the staged UKI has SHA-256 {found}, the manifest says {}", expected.sha256);
    }
    Ok(())
}

/// The staged UKI, if it is the manifest's; `None` if it is a boot entry already.
pub fn staged_kernel_image(paths: &Paths, verified: &Verified) -> Result<Option<Vec<u8>>> {
    let path = staged_path(paths, verified);
    if !path.exists() {
        return Ok(None);
    }
    check_staged(paths, verified)?;
    Ok(Some(fs::read(&path)?))
}

fn digest(path: &Path) -> Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0u8; 1 << 16]);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..n]);
    }
}

/// Makes the staged version a boot entry with its attempts, in a form that the firmware starts:
/// with the device's own signature if the firmware verifies signatures and knows none of the
/// image's.
pub fn arm(paths: &Paths, verified: &Verified) -> Result<()> {
    let release = &verified.manifest().release;
    let staged = staged_path(paths, verified);
    let folder = paths.esp.join("EFI/Linux");
    let entry = folder.join(format!("{}_{}+{TRIES}-0.efi", release.line, release.version));
    if entry.exists() {
        // Armed before a power cut, and the staged file may still exist; or the entry is
        // incomplete.
        if is_whole(verified, &entry)? {
            return remove_if_there(&staged);
        }
        fs::remove_file(&entry)?;
    }
    check_staged(paths, verified)?;
    let is_signed = match secure_boot::trusted(paths)? {
        None => false,
        Some(trusted) => attach(paths, verified, &trusted, &staged, &entry)?,
    };
    if is_signed {
        return remove_if_there(&staged);
    }
    fleeti_files::sync(&staged)?;
    Ok(fleeti_files::rename_durably(&staged, &entry)?)
}

/// Boot entries of a version to go back to: as it was kept, and with its attempts.
fn previous_entries(paths: &Paths, verified: &Verified) -> [PathBuf; 2] {
    let (folder, release) = (paths.esp.join("EFI/Linux"), &verified.manifest().release);
    [".efi".to_owned(), format!("+{TRIES}-0.efi")]
        .map(|rest| folder.join(format!("{}_{}{rest}", release.line, release.version)))
}

/// The UKI of a version to go back to. It is the manifest's, and was kept: it worked on this device.
pub fn previous_kernel_image(paths: &Paths, verified: &Verified) -> Result<Vec<u8>> {
    let release = &verified.manifest().release;
    let entries = previous_entries(paths, verified);
    let entry = entries.iter().find(|entry| entry.exists()).with_context(|| {
        format!("the other slot does not have {release}: it has no boot entry that was kept")
    })?;
    ensure!(is_whole(verified, entry)?, "the boot entry of {release} is not its manifest's");
    Ok(fs::read(entry)?)
}

/// Makes a version that was kept the first choice of the boot loader, with attempts, and the running
/// version the last one: if the older version does not become healthy, the running one boots again.
///
/// The running version comes first: after a power cut between both, the older version boots as the
/// one that was kept.
pub fn arm_previous(paths: &Paths, verified: &Verified) -> Result<()> {
    previous_kernel_image(paths, verified)?;
    let running = running_release(paths)?;
    let folder = paths.esp.join("EFI/Linux");
    let of_running =
        |rest: &str| folder.join(format!("{}_{}{rest}", running.line, running.version));
    let (first, last) = (of_running(".efi"), of_running(&format!("+0-{TRIES}.efi")));
    ensure!(
        first.exists() || last.exists(),
        "{running} is on trial itself: it has no boot entry that was kept"
    );
    if first.exists() {
        fleeti_files::rename_durably(&first, &last)?;
    }
    let [kept, counted] = previous_entries(paths, verified);
    if kept.exists() {
        fleeti_files::rename_durably(&kept, &counted)?;
    }
    Ok(())
}

/// Whether a boot entry is the manifest's UKI, with or without signatures.
fn is_whole(verified: &Verified, entry: &Path) -> Result<bool> {
    let expected = verified.manifest().uki().context("the manifest names no UKI")?;
    match &expected.authenticode {
        Some(text) => {
            Ok(authenticode::digest(&fs::read(entry)?).is_ok_and(|d| hex::encode(d) == *text))
        }
        None => Ok(digest(entry)? == expected.sha256),
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// Writes the entry with the device's signature; `false` if the staged UKI starts without one.
fn attach(
    paths: &Paths,
    verified: &Verified,
    trusted: &Trusted,
    staged: &Path,
    entry: &Path,
) -> Result<bool> {
    let binary = fs::read(staged)?;
    let artifact = verified.manifest().uki().context("the manifest names no UKI")?;
    let kept: BootSignatures = match fs::read(paths.helper_state.join("staged.boot.json")) {
        Ok(bytes) => strict::from_slice(&bytes)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => BootSignatures::default(),
        Err(e) => return Err(e.into()),
    };
    let length = binary.len();
    let signed = trusted.signed(binary, secure_boot::signature_for(&kept, &artifact.path))?;
    if signed.len() == length {
        return Ok(false);
    }
    // It is complete and on disk under a name that does not boot, before it gets the name that does.
    fleeti_files::write_durably(entry, &signed, fleeti_files::PUBLIC)?;
    Ok(true)
}

/// The manifest of the version staged last. Its signatures were checked before it was stored, in a
/// folder that only root can write.
pub fn staged(paths: &Paths) -> Result<String> {
    Ok(fs::read_to_string(paths.helper_state.join("staged.json"))?)
}

/// Stores the signatures beside the manifest, so that arming can verify again.
pub fn keep_signatures(
    paths: &Paths,
    signatures: &[(String, String)],
    boot: &BootSignatures,
) -> Result<()> {
    crate::write_durably(&paths.helper_state.join("staged.boot.json"), &serde_json::to_vec(boot)?)?;
    Ok(crate::write_durably(
        &paths.helper_state.join("staged.sigs.json"),
        &serde_json::to_vec(signatures)?,
    )?)
}

/// The signatures of the version staged last.
pub fn staged_signatures(paths: &Paths) -> Result<Vec<(String, String)>> {
    Ok(strict::from_slice(&fs::read(paths.helper_state.join("staged.sigs.json"))?)?)
}
