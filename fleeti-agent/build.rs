//! Links the agent with packed relative relocations (`DT_RELR`), which glibc 2.36 and later read, and
//! with one copy of functions whose code is the same.
//!
//! A position-independent executable has an entry for each pointer in its data. Unpacked they take
//! 1.4 MB, all of which the loader reads, so that they stay in the agent's resident memory.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
