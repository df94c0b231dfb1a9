//! `security.no_compiler`: an image without anything that makes executables.

use crate::lock::Lock;
use fleeti_core::profile::Profile;

/// Packages with a compiler in an image that must have none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "security.no_compiler: the image would contain {}; remove the packages of the profile that need it",
    .0.join(", ")
)]
pub struct Compilers(pub Vec<String>);

/// Packages that contain a compiler, an assembler or a linker.
const COMPILERS: &[&str] = &[
    "as31",
    "bcc",
    "binutils",
    "build-essential",
    "c-compiler",
    "cargo",
    "chicken-bin",
    "clang",
    "cpp",
    "default-jdk",
    "default-jdk-headless",
    "dmd",
    "erlang-dev",
    "fpc",
    "g++",
    "gcc",
    "gdc",
    "gfortran",
    "ghc",
    "gnat",
    "go",
    "gobjc",
    "golang",
    "golang-go",
    "ldc",
    "lld",
    "llvm",
    "luajit",
    "mono-mcs",
    "nasm",
    "nim",
    "ocaml",
    "rustc",
    "sbcl",
    "tcc",
    "vala",
    "valac",
    "yasm",
    "zig",
];
/// Beginnings of names that end with a version or an architecture.
const VERSIONED: &[&str] = &[
    "binutils-x86-64-",
    "clang-",
    "cpp-",
    "fp-compiler-",
    "g++-",
    "gcc-",
    "gccgo-",
    "gdc-",
    "gfortran-",
    "gnat-",
    "golang-1",
    "lld-",
    "openjdk-",
    "rustc-",
    "valac-",
];
/// Names like those above of packages without a compiler.
const HARMLESS: &[&str] = &["base", "jre", "doc", "source", "common"];

/// Refuses a lock with a compiler, if the profile asks for it: also one that a package of the
/// profile needs.
///
/// # Errors
/// [`Compilers`] with their names.
pub(crate) fn check(profile: &Profile, lock: &Lock) -> Result<(), Compilers> {
    if !profile.security.no_compiler {
        return Ok(());
    }
    let names: Vec<String> = lock
        .set("device")
        .iter()
        .map(|package| package.name.to_string())
        .filter(|name| is_compiler(name))
        .collect();
    if names.is_empty() { Ok(()) } else { Err(Compilers(names)) }
}

fn is_compiler(name: &str) -> bool {
    let is_versioned = VERSIONED.iter().any(|beginning| name.starts_with(beginning));
    let is_harmless = name.split('-').skip(1).any(|part| HARMLESS.contains(&part));
    COMPILERS.contains(&name) || is_versioned && !is_harmless
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::Package;
    use std::collections::BTreeMap;

    fn lock(names: &[&str]) -> Lock {
        let packages = names.iter().map(|name| Package {
            name: name.parse().unwrap(),
            version: "1".parse().unwrap(),
            sha256: "0".repeat(64).parse().unwrap(),
            size: 0,
            path: "pool/a.deb".parse().unwrap(),
            origin: None,
        });
        Lock {
            suite: String::new(),
            architecture: String::new(),
            requested: BTreeMap::new(),
            sets: [("device".to_owned(), packages.collect())].into(),
            sources: None,
            snapshots: BTreeMap::new(),
            ids: crate::ids::Ids::default(),
        }
    }

    #[test]
    fn a_compiler_that_another_package_needs_is_refused_by_its_name() {
        let text = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";
        let open = fleeti_core::profile::check(text).unwrap();
        let closed = format!("{text}security.no_compiler = true\n");
        let closed = fleeti_core::profile::check(&closed).unwrap();
        let with = lock(&["bash", "gcc-14", "libgcc-s1"]);
        assert_eq!(check(&open, &with), Ok(()));
        assert_eq!(check(&closed, &with), Err(Compilers(vec!["gcc-14".into()])));
        assert_eq!(check(&closed, &lock(&["bash", "gcc-14-base"])), Ok(()));
    }

    #[test]
    fn compilers_are_known_by_their_names() {
        for name in ["gcc", "gcc-14", "gcc-14-x86-64-linux-gnu", "g++", "tcc", "rustc", "cpp-14"] {
            assert!(is_compiler(name), "{name}");
        }
        for name in ["gcc-14-base", "libgcc-s1", "libc6", "openjdk-21-jre-headless", "cpio", "gpg"]
        {
            assert!(!is_compiler(name), "{name}");
        }
    }
}
