//! Links the server with packed relative relocations (`DT_RELR`), which glibc 2.36 and later read.
//!
//! A position-independent executable has an entry for each pointer in its data. Unpacked they take
//! 2 MB, all of which the loader reads, so that they stay in the server's resident memory.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
