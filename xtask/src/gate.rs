//! `cargo xtask ci` and `cargo xtask test`: the gates.

use crate::fuzz::{self, Effort};
use crate::postgres::Cluster;
use crate::{
    aside, build_all, cargo, checks, compat, licences, packages, python, root, run, sdk, setup,
    site, target, tools,
};
use anyhow::Result;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// How many tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// The gate of each change.
    Gate,
    /// The gate, and everything that takes too long for each change.
    Long,
}

/// Most GiB that a full test writes: compiled code, if it does not exist yet; images of devices
/// with their disks and the Nix store.
const COMPILED: u64 = 4;
const IMAGES: u64 = 8;

/// Inputs for each parser of untrusted bytes.
const FUZZ_GATE: u32 = 100_000;
const FUZZ_LONG: u32 = 1_000_000;

/// The chain of updates in a virtual machine that every change must pass.
const CHAIN: (&str, &[&str]) =
    ("devices in a virtual machine: update, rollbacks, proof", &["--refusals"]);

/// The other scenarios in virtual machines.
const VM_SCENARIOS: &[(&str, &[&str])] = &[
    ("changes of Secure Boot keys in a virtual machine", &["--firmware"]),
    ("a device with forged evidence", &["--adversary"]),
    ("recovery from lost keys, backups, clocks and addresses", &["--recoveries"]),
    ("boots from disks on NVMe, SATA and USB, and their proofs", &["--hardware"]),
    ("changes of a secret without which a device is lost", &["--boot-secrets"]),
    ("server, signing service and build worker from their packages", &["--units"]),
];

/// Benchmark scenarios; each must work.
const SCENARIOS: &[&str] = &[
    "artifacts",
    "channel",
    "control",
    "pages",
    "profile",
    "rollout",
    "trust",
    "attestation",
    "abuse",
    "sdk",
];

/// The fast gate.
pub fn ci() -> Result<()> {
    rules()?;
    build_all()?;
    lints()?;
    tests()
}

/// The gate of `.ci/run`.
pub fn test(length: Length) -> Result<()> {
    let started = Instant::now();
    setup::room(&std::env::temp_dir(), IMAGES)?;
    setup::room(Path::new("/nix/store"), IMAGES)?;
    if !target().join("ci").exists() {
        setup::room(&target(), COMPILED + IMAGES)?;
    }
    setup::run()?;
    setup::install(setup::PEERS)?;
    rules()?;
    build_all()?;
    // A virtual machine without KVM uses one core, so its chain runs in the background.
    let (title, arguments) = CHAIN;
    let chain = aside::start("chain", title, &mut scenario(arguments))?;
    lints()?;
    tests()?;
    let made = packages::gate()?;
    benchmarks()?;
    run("the pages in a browser", &mut Command::new(target().join("ci/fleeti-browser")))?;
    fuzz::fuzz(Effort::Aside(if length == Length::Long { FUZZ_LONG } else { FUZZ_GATE }), &[])?;
    print!("{}", chain.finish()?);
    if length == Length::Long {
        for (title, arguments) in VM_SCENARIOS {
            run(title, &mut scenario(arguments))?;
        }
        everyday_packages()?;
        packages::long_gate(&made)?;
        crates()?;
        println!("==> the previous release beside this one");
        compat::both_directions(None, None)?;
        site::build(&target().join("ci"))?;
    }
    println!("all tests passed in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Images with packages that people use every day, what scripts of packages make, and predictions
/// that are held against images.
fn everyday_packages() -> Result<()> {
    let test = ["nextest", "run", "-p", "fleeti-build", "--cargo-profile", "ci"];
    let which = ["--run-ignored", "only", "-E", "test(/^(everyday|brought|radius)::/)"];
    run("everyday packages", &mut cargo(&[test.as_slice(), which.as_slice()].concat()))
}

/// Crates that others can depend on.
const LIBRARIES: &[&str] = &[
    "fleeti-files",
    "fleeti-core",
    "fleeti-adopt",
    "fleeti-pki",
    "fleeti-build",
    "fleeti-client",
    "fleeti-signer-client",
    "fleeti-store",
    "fleeti-control",
    "fleeti-agent",
];

/// Packs the libraries as a registry would get them.
fn crates() -> Result<()> {
    let mut pack = cargo(&["package", "--no-verify", "--allow-dirty", "--quiet"]);
    pack.args(LIBRARIES.iter().flat_map(|name| ["-p", name]));
    run("crates as packages", pack.env("CARGO_TARGET_DIR", target().join("crates")))
}

fn scenario(arguments: &[&str]) -> Command {
    let mut command = Command::new(target().join("ci/fleeti-demo"));
    command.arg("--exit").args(arguments);
    if arguments.contains(&"--units") {
        command.arg("--packages").arg(target().join("packages"));
    }
    command
}

fn rules() -> Result<()> {
    run("fmt", &mut cargo(&["fmt", "--all", "--check"]))?;
    println!("==> deps and tidy");
    checks::deps(&root())?;
    checks::tidy(&root())?;
    licences::check(&root())?;
    sdk::check()?;
    compat::check()?;
    run(
        "spelling",
        Command::new(tools::typos()?).args(["--config", "typos.toml"]).current_dir(root()),
    )
}

fn lints() -> Result<()> {
    run(
        "clippy",
        &mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--profile",
            "ci",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    run(
        "docs",
        cargo(&["doc", "--workspace", "--no-deps", "--profile", "ci"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

/// Tests of the server that run a second time, on PostgreSQL: the main job from the enrollment of a
/// device to its update, proof and revocation, and whatever writes much.
const ON_POSTGRESQL: [&str; 9] =
    ["audit", "builds", "device_port", "lifetimes", "policy", "rollout", "tpm", "trust", "vault"];

fn tests() -> Result<()> {
    tools::install()?;
    let cluster = Cluster::start()?;
    let nextest = Command::new("cargo-nextest")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if nextest.is_ok_and(|s| s.success()) {
        let modules = ON_POSTGRESQL.join("|");
        let on_postgresql = format!("package(fleeti-server) & binary(it) & test(/^({modules})::/)");
        run(
            "tests",
            cargo(&["nextest", "run", "--workspace", "--cargo-profile", "ci", "--no-fail-fast"])
                .envs(tools::judges())
                .envs(cluster.environment()),
        )?;
        run(
            "tests of the server on PostgreSQL",
            cargo(&["nextest", "run", "--workspace", "--cargo-profile", "ci", "--no-fail-fast"])
                .args(["-E", &on_postgresql])
                .envs(tools::judges())
                .envs(cluster.environment())
                .env("FLEETI_TEST_DATABASE", "postgres"),
        )?;
        run(
            "doctests",
            &mut cargo(&["test", "--workspace", "--profile", "ci", "--doc", "--quiet"]),
        )?;
    } else {
        run(
            "tests",
            cargo(&["test", "--workspace", "--profile", "ci"])
                .envs(tools::judges())
                .envs(cluster.environment()),
        )?;
        run(
            "tests of the server on PostgreSQL",
            cargo(&["test", "-p", "fleeti-server", "--profile", "ci", "--test", "it", "--"])
                .args(ON_POSTGRESQL.map(|module| format!("{module}::")))
                .envs(tools::judges())
                .envs(cluster.environment())
                .env("FLEETI_TEST_DATABASE", "postgres"),
        )?;
    }
    drop(cluster);
    examples()?;
    python::test()
}

/// Runs every example, as its first lines say.
fn examples() -> Result<()> {
    for (name, arguments) in [
        ("verify_release", &[][..]),
        ("issue_device", &[]),
        ("appraise_quote", &[]),
        ("plan_rollout", &[]),
        ("push_rollout", &[]),
        ("embed_agent", &[]),
        ("control_plane", &[]),
        ("embed_server", &["--exit"]),
        ("fake_fleet", &["--devices", "30", "--unhealthy", "3"]),
    ] {
        run(
            &format!("example {name}"),
            Command::new(target().join("ci").join(name)).args(arguments),
        )?;
    }
    Ok(())
}

/// Runs every scenario for a few seconds, so that a broken benchmark is noticed.
fn benchmarks() -> Result<()> {
    for scenario in SCENARIOS {
        let json = target().join(format!("bench-{scenario}.json"));
        let mut command = Command::new(target().join("ci/fleeti-bench"));
        if *scenario == "sdk" {
            command.arg("--python").arg(python::tested());
        }
        run(
            &format!("tiny benchmark {scenario}"),
            command.args([scenario, "--tiny", "--json"]).arg(json),
        )?;
    }
    Ok(())
}
