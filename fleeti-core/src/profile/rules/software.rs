//! Rules for packages and where they come from.

use super::Sink;
use crate::profile::{BaseName, Profile, Repository, Software, Suite};

/// Components of Debian's archive besides `main`.
const COMPONENTS: [&str; 3] = ["contrib", "non-free", "non-free-firmware"];

/// Names of sources that are not further repositories.
const TAKEN: [&str; 2] = ["debian", "own"];
/// Largest age limit of package lists, days.
const DAYS_MAX: u32 = 3650;

pub(super) fn check(profile: &Profile, sink: &mut Sink) {
    let software = &profile.software;
    match profile.base {
        BaseName::Debian => names("software.packages", &software.packages, sink),
        BaseName::Nixos => attributes("software.packages", &software.packages, sink),
    }
    names("software.backports", &software.backports, sink);
    if software.snapshot_age_days_max.is_some_and(|days| !(1..=DAYS_MAX).contains(&days)) {
        let remedy = format!("write 1 to {DAYS_MAX}");
        sink.say("software.snapshot_age_days_max", "is not a number of days", remedy.as_str());
    }
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
    own(software, sink);
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

/// Package names, each once.
fn names(list: &str, packages: &[String], sink: &mut Sink) {
    for (i, name) in packages.iter().enumerate() {
        if !is_package(name) {
            let remedy = "use the name of a package, such as jq";
            sink.say(format!("{list}[{i}]"), "is not a package name", remedy);
        }
    }
    super::unique(list, "", packages.iter(), sink);
}

/// Names of nixpkgs, each once.
fn attributes(list: &str, packages: &[String], sink: &mut Sink) {
    for (i, name) in packages.iter().enumerate() {
        if !is_attribute_path(name) {
            let remedy =
                "use the name of an attribute of nixpkgs, such as jq or python3Packages.pip";
            sink.say(format!("{list}[{i}]"), "is not the name of a package of nixpkgs", remedy);
        }
    }
    super::unique(list, "", packages.iter(), sink);
}

fn own(software: &Software, sink: &mut Sink) {
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
        let is_file = super::is_clean_path(&own.from) && own.from.ends_with(".deb");
        if !is_file && !is_address(&own.from) {
            let remedy =
                "write https://HOST/PATH, or the path of a .deb on the machine that builds";
            sink.say(format!("software.own[{i}].from"), "is not the place of a .deb", remedy);
        }
        // Two places for one package: which one is meant?
        let by = software.repositories.iter().find(|r| r.packages.contains(&own.name));
        if let Some(repository) = by {
            let message = format!("also comes from the repository {}", repository.name);
            sink.say(format!("software.own[{i}].name"), &message, "name it in one of the two");
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
    let software = &profile.software;
    if let Some(i) = software.suites.iter().position(|suite| *suite == Suite::Backports)
        && software.backports.is_empty()
    {
        let path = format!("software.suites[{i}]");
        sink.say(path, "brings no package", "name packages in software.backports");
    }
    for (i, repository) in software.repositories.iter().enumerate() {
        if repository.packages.is_empty() {
            let path = format!("software.repositories[{i}].packages");
            sink.say(path, "is empty: the repository brings no package", "name its packages");
        }
    }
    for (i, name) in profile.software.packages.iter().enumerate() {
        if let Some((_, remedy)) = POINTLESS.iter().find(|(package, _)| package == name) {
            let path = format!("software.packages[{i}]");
            sink.say(path, "has no effect on a device with a read-only root", *remedy);
        }
    }
}

/// Whether a text is an address that apt, and a list of its sources, take as it is.
fn is_address(url: &str) -> bool {
    let rest = url.strip_prefix("https://").unwrap_or_default();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/%+=&,@".contains(&b);
    !rest.is_empty() && super::is_line(rest, 512) && rest.bytes().all(is_plain)
}

fn check_repository(path: &str, repository: &Repository, sink: &mut Sink) {
    if !super::is_label(&repository.name) {
        sink.say(format!("{path}.name"), "is not a name", "use letters, digits and '-'");
    }
    if TAKEN.contains(&repository.name.as_str()) {
        let remedy = "use another name, such as that of the vendor";
        sink.say(format!("{path}.name"), "names packages of the base or your own", remedy);
    }
    names(&format!("{path}.packages"), &repository.packages, sink);
    if !is_address(&repository.url) {
        sink.say(format!("{path}.url"), "is not an https address", "write https://HOST/PATH");
    }
    let word = |text: &str| {
        super::is_line(text, 64)
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
    };
    if !word(&repository.suite) {
        sink.say(format!("{path}.suite"), "is not a suite", "write one such as stable");
    }
    // A suite that is a path has no components, every other has some (sources.list(5)).
    if repository.suite.ends_with('/') != repository.components.is_empty() {
        let remedy = "write one such as main; none if the suite ends with /";
        sink.say(format!("{path}.components"), "does not fit the suite", remedy);
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

/// Identifiers of the Nix language with `.` between them.
fn is_attribute_path(name: &str) -> bool {
    let is_identifier = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-+".contains(&b))
    };
    (1..=128).contains(&name.len()) && name.split('.').all(is_identifier)
}
