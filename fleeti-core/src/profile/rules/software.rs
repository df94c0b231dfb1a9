//! Rules for packages and where they come from.

use super::Sink;
use crate::profile::{Profile, Repository};

/// Components of Debian's archive besides `main`.
const COMPONENTS: [&str; 3] = ["contrib", "non-free", "non-free-firmware"];

pub(super) fn check(profile: &Profile, sink: &mut Sink) {
    let software = &profile.software;
    for (i, name) in software.packages.iter().enumerate() {
        if !is_package(name) {
            sink.say(
                format!("software.packages[{i}]"),
                "is not a package name",
                "use the name of a package of the base, such as jq",
            );
        }
    }
    super::unique("software.packages", "", software.packages.iter(), sink);
    for (i, component) in software.components.iter().enumerate() {
        if !COMPONENTS.contains(&component.as_str()) {
            let remedy = format!("use {}", COMPONENTS.join(", "));
            sink.say(format!("software.components[{i}]"), "is not a component", remedy);
        }
    }
    for (i, repository) in software.repositories.iter().enumerate() {
        check_repository(&format!("software.repositories[{i}]"), repository, sink);
    }
    super::unique(
        "software.repositories",
        "name",
        software.repositories.iter().map(|r| &r.name),
        sink,
    );
    super::unique("software.own", "name", software.own.iter().map(|p| &p.name), sink);
    for (i, own) in software.own.iter().enumerate() {
        if !is_package(&own.name) {
            let remedy = "use the name that the .deb has";
            sink.say(format!("software.own[{i}].name"), "is not a package name", remedy);
        }
        let is_digest =
            own.sha256.len() == 64 && own.sha256.bytes().all(|b| b"0123456789abcdef".contains(&b));
        if !is_digest {
            let remedy = "write the 64 digits of sha256sum";
            sink.say(format!("software.own[{i}].sha256"), "is not a SHA-256 digest", remedy);
        }
    }
    if profile.security.no_compiler {
        let is_compiler = |p: &&String| COMPILERS.contains(&p.as_str());
        if let Some(i) = software.packages.iter().position(|p| is_compiler(&p)) {
            sink.say(
                format!("software.packages[{i}]"),
                "is a compiler, which security.no_compiler refuses",
                "remove the package, or set security.no_compiler = false",
            );
        }
    }
}

/// Packages that contain a compiler or pull one in.
const COMPILERS: &[&str] = &[
    "build-essential",
    "gcc",
    "g++",
    "clang",
    "cpp",
    "golang",
    "golang-go",
    "rustc",
    "cargo",
    "gfortran",
    "tcc",
    "default-jdk",
    "ghc",
    "dpkg-dev",
];

/// Packages that work, but not as their authors meant it in an image that is updated as a whole.
const POINTLESS: &[(&str, &str)] = &[
    ("unattended-upgrades", "images are updated as a whole; remove it"),
    ("needrestart", "images are updated as a whole; remove it"),
    ("apt-listchanges", "images are updated as a whole; remove it"),
    ("grub-efi-amd64", "systemd-boot starts the device; remove it"),
    ("grub-pc", "systemd-boot starts the device; remove it"),
    ("shim-signed", "systemd-boot starts the device; remove it"),
    ("dracut", "the build makes the initrd; remove it"),
    ("initramfs-tools", "the build makes the initrd; remove it"),
];

pub(super) fn doubt(profile: &Profile, sink: &mut Sink) {
    for (i, name) in profile.software.packages.iter().enumerate() {
        if let Some((_, remedy)) = POINTLESS.iter().find(|(package, _)| package == name) {
            let path = format!("software.packages[{i}]");
            sink.say(path, "has no effect on a device with a read-only root", *remedy);
        }
    }
}

fn check_repository(path: &str, repository: &Repository, sink: &mut Sink) {
    if !super::is_label(&repository.name) {
        sink.say(format!("{path}.name"), "is not a name", "use letters, digits and '-'");
    }
    let rest = repository.url.strip_prefix("https://").unwrap_or_default();
    if rest.is_empty() || !super::is_line(rest, 512) || rest.contains(char::is_whitespace) {
        sink.say(format!("{path}.url"), "is not an https address", "write https://HOST/PATH");
    }
    let word = |text: &str| {
        super::is_line(text, 64)
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
    };
    if !word(&repository.suite) {
        sink.say(format!("{path}.suite"), "is not a suite", "write one such as stable");
    }
    for (i, component) in repository.components.iter().enumerate() {
        if !word(component) {
            let path = format!("{path}.components[{i}]");
            sink.say(path, "is not a component", "write one such as main");
        }
    }
    if !repository.key.trim_start().starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----") {
        let remedy = "paste the file that begins with -----BEGIN PGP PUBLIC KEY BLOCK-----";
        sink.say(format!("{path}.key"), "is not an OpenPGP public key", remedy);
    }
}

/// Debian Policy 5.6.1; a subset of what Nix attribute names allow.
fn is_package(name: &str) -> bool {
    (2..=128).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        // apt reads a `-` at the end as a request to remove the package.
        && !name.ends_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
}
