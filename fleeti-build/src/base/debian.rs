//! The Debian base: pinned .debs, assembled by Nix derivations without nixpkgs.

mod drivers;
mod firmware;
mod honoured;
mod partitions;

use super::{Base, BaseError, Ignored, Inputs, Maker, Parts};
use crate::cache::Cache;
use crate::choices;
use crate::file::sha256_file;
use crate::lock::Lock;
use crate::package::Package;
use crate::runner::Runner;
use crate::step::{ArtifactName, Step};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::command_line;
use fleeti_core::id::ReleaseName;
use fleeti_core::profile::{BaseName, DEFAULT_LOCALE, Flavour, Profile, Revision};
use fleeti_core::wire::worker::REPORTS;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The time stamp of every file in an image, constant so that the build date does not change the
/// image. It is also the earliest clock that a device starts with.
pub const SOURCE_DATE_EPOCH: u64 = 1_767_225_600;

/// First line of every SBAT section.
const SBAT: &str = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md";

macro_rules! first_boot {
    ($name:literal) => {
        (
            concat!("first-boot/", $name),
            include_str!(concat!("../../nix/debian/first-boot/", $name)),
        )
    };
}

const SCRIPTS: &[(&str, &str)] = &[
    ("default.nix", include_str!("../../nix/debian/default.nix")),
    ("install.py", include_str!("../../nix/debian/install.py")),
    ("owners.py", include_str!("../../nix/debian/owners.py")),
    ("apart.py", include_str!("../../nix/debian/apart.py")),
    ("brought.py", include_str!("../../nix/debian/brought.py")),
    ("members.py", include_str!("../../nix/debian/members.py")),
    ("hold.py", include_str!("../../nix/debian/hold.py")),
    ("finish.py", include_str!("../../nix/debian/finish.py")),
    ("database.py", include_str!("../../nix/debian/database.py")),
    ("java.py", include_str!("../../nix/debian/java.py")),
    ("ids.py", include_str!("../../nix/debian/ids.py")),
    ("ids.json", include_str!("../../nix/debian/ids.json")),
    ("exclude.json", include_str!("../../nix/debian/exclude.json")),
    ("made.json", include_str!("../../nix/debian/made.json")),
    ("script-changes.json", include_str!("../../nix/debian/script-changes.json")),
    ("unpack.py", include_str!("../../nix/debian/unpack.py")),
    first_boot!("postgresql.service"),
    first_boot!("postgresql.sh"),
    first_boot!("mariadb.service"),
    first_boot!("mariadb.sh"),
    first_boot!("bind9.service"),
    first_boot!("bind9.sh"),
    first_boot!("postfix.service"),
    first_boot!("postfix.sh"),
    first_boot!("snakeoil.service"),
    first_boot!("snakeoil.sh"),
    ("initrd.py", include_str!("../../nix/debian/initrd.py")),
    ("kmod.py", include_str!("../../nix/debian/kmod.py")),
    ("root.py", include_str!("../../nix/debian/root.py")),
    ("uki.py", include_str!("../../nix/debian/uki.py")),
    ("disk.py", include_str!("../../nix/debian/disk.py")),
    ("archive.py", include_str!("../../nix/debian/archive.py")),
    ("contents.py", include_str!("../../nix/debian/contents.py")),
    ("setuid.json", include_str!("../../nix/debian/setuid.json")),
];

const TOOLS: &[&str] = &[
    "base-files",
    "bash",
    "coreutils",
    "findutils",
    "grep",
    "sed",
    "mawk",
    "util-linux",
    "dpkg",
    "xz-utils",
    "zstd",
    "binutils",
    "kmod",
    "passwd",
    "systemd",
    "systemd-ukify",
    "systemd-boot-efi",
    "systemd-repart",
    "systemd-container",
    "erofs-utils",
    "cryptsetup-bin",
    "mtools",
    "dosfstools",
    "e2fsprogs",
    "python3",
    "python3-pefile",
    "gpg",
    "busybox-static",
    "fdisk",
    "apt",
    "fakeroot",
    "tar",
];
const DEVICE: &[&str] = &[
    "base-files",
    "base-passwd",
    "libc-bin",
    "bash",
    "dash",
    "coreutils",
    "util-linux",
    "mount",
    "kmod",
    "udev",
    "systemd",
    "systemd-sysv",
    "systemd-boot",
    "systemd-container",
    "systemd-repart",
    "systemd-cryptsetup",
    "systemd-resolved",
    "systemd-timesyncd",
    "dbus",
    "libtss2-esys-3.0.2-0t64",
    "libtss2-mu-4.0.1-0t64",
    "libtss2-rc0t64",
    "libtss2-tcti-device0t64",
    "libtss2-tctildr0t64",
    "ca-certificates",
    "gpg",
    "iproute2",
    "procps",
    "passwd",
    "login",
    "grep",
    "sed",
    "mawk",
    "findutils",
    "hostname",
    "dmsetup",
    "e2fsprogs",
    "gzip",
    "xz-utils",
];
/// Debian's essential packages and what maintainer scripts need besides. Those that no package of an
/// image depends on are removed again when everything is configured.
const INSTALLER: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "bsdutils",
    "coreutils",
    "dash",
    "debconf",
    "debianutils",
    "diffutils",
    "dpkg",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "init-system-helpers",
    "libc-bin",
    "ncurses-base",
    "ncurses-bin",
    "perl-base",
    "sed",
    "sysvinit-utils",
    "tar",
    "util-linux",
    "mawk",
];
const INITRD: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "systemd",
    "udev",
    "kmod",
    "mount",
    "dmsetup",
    "systemd-cryptsetup",
    "libtss2-esys-3.0.2-0t64",
    "libtss2-mu-4.0.1-0t64",
    "libtss2-rc0t64",
    "libtss2-tcti-device0t64",
    "liblz4-1",
];

/// The Debian base.
#[derive(Debug, Clone, Copy, Default)]
pub struct Debian;

impl Base for Debian {
    fn name(&self) -> BaseName {
        BaseName::Debian
    }

    fn honoured(&self) -> &'static [&'static str] {
        honoured::HONOURED
    }

    fn refused(&self, profile: &Profile) -> Vec<Ignored> {
        honoured::refused(profile)
    }

    fn maker(&self) -> Option<&dyn Maker> {
        Some(self)
    }
}

impl Maker for Debian {
    /// Packages that every device has. They come from Debian's archive only.
    fn own_packages(&self) -> &'static [&'static str] {
        DEVICE
    }

    fn packages(&self, revision: &Revision) -> BTreeMap<String, Vec<String>> {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let mut device = owned(DEVICE);
        let profile = &revision.profile;
        device.extend(profile.software.packages.iter().cloned());
        device.extend(profile.software.own.iter().map(|own| own.name.clone()));
        if choices::keeps_time_itself(profile) {
            device.retain(|name| name != "systemd-timesyncd");
        }
        // What sections of the profile need.
        if profile.identity.time_zone != "Etc/UTC" {
            device.push("tzdata".to_owned());
        }
        if profile.network.firewall.enabled {
            device.push("nftables".to_owned());
        }
        device.extend(firmware::packages(profile));
        device.sort();
        device.dedup();
        let mut tools = owned(TOOLS);
        if needs_locale(profile) {
            // Definitions, compiler, and what unpacks the character map.
            tools.extend(owned(&["libc-bin", "locales", "gzip"]));
        }
        [
            ("tools", tools),
            ("initrd", owned(INITRD)),
            ("installer", owned(INSTALLER)),
            ("kernel", owned(&[kernel(profile)])),
            ("device", device),
        ]
        .into_iter()
        .map(|(set, names)| (set.to_owned(), names))
        .collect()
    }

    fn build(
        &self,
        inputs: &Inputs,
        cache: &Cache,
        runner: &dyn Runner,
        line: &mut dyn FnMut(&str),
    ) -> Result<Parts, BaseError> {
        inputs.lock.fetch(cache, &inputs.revision.profile.software, |done, total| {
            line(&format!("fetching packages {done}/{total}"))
        })?;
        let io = |path: &Path| {
            let path = path.to_owned();
            |source| BaseError::Io { path, source }
        };
        // A directory of this build only: another build must not read what this one writes.
        let shared = cache.root().join("work");
        fs::create_dir_all(&shared).map_err(io(&shared))?;
        let own =
            tempfile::Builder::new().prefix("build-").tempdir_in(&shared).map_err(io(&shared))?;
        let work = own.path();
        let scripts = work.join("scripts");
        fs::create_dir_all(scripts.join("first-boot")).map_err(io(&scripts))?;
        for (name, text) in SCRIPTS {
            let path = scripts.join(name);
            fs::write(&path, text).map_err(io(&path))?;
        }
        let overlay = work.join("overlay.json");
        fs::write(&overlay, inputs.overlay.to_json()).map_err(io(&overlay))?;
        let pcr = work.join("pcr.pem");
        fs::write(&pcr, &inputs.pcr_pem).map_err(io(&pcr))?;
        let spec = work.join("spec.json");
        let busybox = busybox_seed(&inputs.lock, cache, work)?;
        let text = spec_json(inputs, cache, &busybox, &overlay, &pcr);
        fs::write(&spec, text.to_string()).map_err(io(&spec))?;

        line("evaluating");
        const ATTRIBUTES: [&str; 5] = ["tree", "root", "initrd", "uki", "disk"];
        let spec_text = spec.display().to_string();
        let derivations = runner.instantiate(
            &scripts.join("default.nix"),
            &[("spec", &spec_text)],
            &ATTRIBUTES,
        )?;
        let outputs = runner.realise(&derivations, false, line)?;
        if derivations.len() != ATTRIBUTES.len() || outputs.len() != ATTRIBUTES.len() {
            return Err(BaseError::Output("list of outputs"));
        }
        let steps = derivations
            .into_iter()
            .zip(outputs)
            .map(|(derivation, output)| Step { derivation, output });
        let named: BTreeMap<_, _> =
            ATTRIBUTES.into_iter().map(ArtifactName::ours).zip(steps).collect();
        let output = |name: &str| named[name].output.clone();
        let read = |path: PathBuf| fs::read_to_string(&path).map_err(io(&path));
        let uki = output("uki");
        Ok(Parts {
            root: output("root").join("root.erofs"),
            reports: REPORTS.map(|name| (name, output("root").join(name))).into(),
            verity: output("root").join("root.verity"),
            root_hash: read(output("root").join("roothash"))?.trim().to_owned(),
            uki: uki.join("uki.efi"),
            systemd_boot: uki.join("systemd-boot.efi"),
            disk: output("disk").join("disk.raw"),
            pcr11: pcr11(&read(uki.join("pcr11.txt"))?)?,
            systemd_version: read(uki.join("systemd-version"))?
                .trim()
                .trim_start_matches("systemd ")
                .to_owned(),
            derivations: named,
        })
    }
}

/// Boot phase paths in the order in which systemd 257 predicts them (systemd-measure(1)).
const PHASES: [&str; 4] = [
    "enter-initrd",
    "enter-initrd:leave-initrd",
    "enter-initrd:leave-initrd:sysinit",
    fleeti_core::manifest::PHASE_READY,
];

/// Parses the output of `ukify --measure`: one line `11:sha256=HEX` per phase. The headings go to
/// stderr.
fn pcr11(text: &str) -> Result<BTreeMap<String, String>, BaseError> {
    let values: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("11:sha256=")).collect();
    if values.len() != PHASES.len() || values.iter().any(|v| v.len() != 64) {
        return Err(BaseError::Output("PCR 11 prediction"));
    }
    Ok(PHASES
        .iter()
        .zip(values)
        .map(|(phase, value)| ((*phase).to_owned(), value.to_owned()))
        .collect())
}

/// A GUID (version 4, variant 1) derived from a text.
fn guid_of(text: &str) -> String {
    let h = sha256_hex(text.as_bytes());
    format!("{}-{}-4{}-8{}-{}", &h[..8], &h[8..12], &h[13..16], &h[17..20], &h[20..32])
}

/// The static busybox from which the Nix build starts, taken from its pinned package, which was
/// just hashed. It is unpacked for every build, because a kept copy could be changed unnoticed.
fn busybox_seed(lock: &Lock, cache: &Cache, work: &Path) -> Result<PathBuf, BaseError> {
    let package = lock
        .set("tools")
        .iter()
        .find(|p| &*p.name == "busybox-static")
        .ok_or(BaseError::Output("busybox-static in the lock"))?;
    let (unpacked, folder) = (work.join("busybox-static"), work.join("seed"));
    let program = folder.join("busybox");
    let io = |source| BaseError::Io { path: program.clone(), source };
    let status = Command::new("dpkg-deb")
        .arg("-x")
        .arg(cache.package(&package.sha256))
        .arg(&unpacked)
        .status();
    if !status.map_err(io)?.success() {
        return Err(BaseError::Output("busybox"));
    }
    fs::create_dir_all(&folder).map_err(io)?;
    fs::copy(unpacked.join("usr/bin/busybox"), &program).map_err(io)?;
    Ok(folder)
}

fn store_name(package: &Package) -> String {
    let name = format!("{}_{}.deb", package.name, package.version);
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() || "+-._".contains(c) { c } else { '-' })
        .collect()
}

/// The dm-verity salt of an image line. All its versions share one, so that equal blocks have equal
/// hashes.
fn verity_salt(release: &ReleaseName) -> String {
    sha256_hex(format!("fleeti-verity-salt-v1|{}", release.line).as_bytes())
}

/// The kernel command line, with a placeholder for the root hash.
#[must_use]
pub fn kernel_command_line(profile: &Profile) -> String {
    let lockdown = profile.security.lockdown.argument();
    let arguments = profile.kernel.arguments.iter().map(String::as_str);
    command_line::of("@ROOT_HASH@", lockdown.into_iter().chain(arguments))
}

fn spec_json(
    inputs: &Inputs,
    cache: &Cache,
    busybox: &Path,
    overlay: &Path,
    pcr: &Path,
) -> serde_json::Value {
    let sets: BTreeMap<_, Vec<_>> = inputs
        .lock
        .sets
        .iter()
        .map(|(set, packages)| {
            let pinned = packages.iter().map(|p| json!({"path": cache.package(&p.sha256), "name": store_name(p), "sha256": p.sha256}));
            (set, pinned.collect())
        })
        .collect();
    let (line, version) = (&inputs.release.line, &inputs.release.version);
    let agent = fs::canonicalize(&inputs.agent).unwrap_or_else(|_| inputs.agent.clone());
    let identity = &inputs.revision.profile.identity;
    let locale = if needs_locale(&inputs.revision.profile) { identity.locale.as_str() } else { "" };
    json!({
        "sets": sets,
        "ids": inputs.lock.ids,
        "busybox": busybox,
        "overlay": overlay,
        "pcr": pcr,
        "agent": agent,
        "epoch": SOURCE_DATE_EPOCH.to_string(),
        "line": line,
        "version": version,
        "root_uuid": guid_of(&format!("fleeti-root-v1|{}", inputs.release)),
        "verity_salt": verity_salt(&inputs.release),
        // The build replaces the placeholder when the root hash is known.
        "cmdline": kernel_command_line(&inputs.revision.profile),
        "sbat": format!("{SBAT}\nfleeti,1,Fleeti UKI,{line},{version},https://fleeti.invalid\n"),
        "partitions": partitions::definitions(
            &inputs.release,
            &guid_of(&format!("fleeti-disk-v1|{line}")),
            &inputs.revision.profile.storage,
        ),
        "root_mib": inputs.revision.profile.storage.root_mib.to_string(),
        "modules": drivers::modules(&inputs.revision.profile),
        "microcode": firmware::microcode(&inputs.revision.profile),
        "locale": locale,
    })
}

/// Whether the locale has to be compiled. libc-bin brings C.UTF-8 compiled, and no other one.
fn needs_locale(profile: &Profile) -> bool {
    profile.identity.locale != DEFAULT_LOCALE
}

fn kernel(profile: &Profile) -> &'static str {
    match profile.kernel.flavour {
        Flavour::Cloud => "linux-image-cloud-amd64",
        Flavour::Generic => "linux-image-amd64",
    }
}

/// SHA-256 of the agent binary, which is an input of the build.
///
/// # Errors
/// If the file cannot be read.
pub fn agent_digest(agent: &Path) -> Result<String, BaseError> {
    sha256_file(agent).map_err(|source| BaseError::Io { path: agent.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prediction_of_ukify_is_read_by_phase() {
        let text: String = (0..4)
            .map(|n| format!("11:sha1=aa\n11:sha256={}\n", n.to_string().repeat(64)))
            .collect();
        let phases = pcr11(&text).unwrap();
        assert_eq!(phases["enter-initrd"], "0".repeat(64));
        assert_eq!(phases[fleeti_core::manifest::PHASE_READY], "3".repeat(64));
        assert!(pcr11("nothing").is_err());
    }

    #[test]
    fn store_names_have_no_character_that_nix_refuses() {
        let (sha256, path) = ("0".repeat(64).parse().unwrap(), "pool/a.deb".parse().unwrap());
        let p = Package {
            name: "aa".parse().unwrap(),
            version: "1:2~rc1+b1".parse().unwrap(),
            sha256,
            size: 0,
            path,
            origin: None,
        };
        assert_eq!(store_name(&p), "aa_1-2-rc1+b1.deb");
    }
}
