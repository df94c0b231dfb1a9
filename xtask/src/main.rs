//! `cargo xtask`: the commands that developers and CI run. Uses no crate of the workspace, so that
//! `setup` can run first.

mod aside;
mod bench;
mod calls;
mod checks;
mod circles;
mod clean_root;
mod compat;
mod deb;
mod documents;
mod foreign;
mod fuzz;
mod gate;
mod licences;
mod map;
mod mutation;
mod oci;
mod openapi;
mod package;
mod packages;
mod postgres;
mod python;
mod sdk;
mod setup;
mod site;
mod tools;

use anyhow::{Context, Result, bail};
use fuzz::Effort;
use gate::Length;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

const HELP: &str = "\
cargo xtask COMMAND

  setup            install missing Debian packages, and print why each is needed
  demo [--dir DIR] [--exit]
       [[--refusals] [--firmware] | --adversary | --recoveries | --hardware | --boot-secrets | --units --exit]
                   run all of Fleeti on this machine: build, sign, boot, enroll, update, prove; or, with --adversary,
                   devices with forged evidence; with --recoveries, lost keys and addresses; with --hardware, disks on
                   NVMe, SATA and USB; with --boot-secrets, a secret that changes with the network; with --units, the
                   server's packages and systemd units
  ci               the fast gate: fmt, deps, tidy, licences, spelling, clippy, docs, tests, examples, Python
  test [--long]    the gate of .ci/run: setup, ci, a tiny run of every benchmark, the pages in a browser, one chain of
                   updates in a virtual machine, and a short fuzz; with --long also the other scenarios in virtual
                   machines, and a million inputs for each parser of untrusted bytes
  example NAME [ARGUMENT]...
                   build and run an example of examples/, in the profile of the executables
  python           build the wheel and test it in a new virtual environment
  sdk              write the parts of the Python package that follow from the OpenAPI document
  fuzz [SECONDS | --inputs N] [READER]...
                   fuzz parsers of untrusted bytes with libFuzzer; by default all of them, for 60 seconds each
  mutate [--list] [PATH]...
                   check that a test fails without each check; by default the checks of TPM evidence
  bench SCENARIO [--json FILE] [--tiny]
                   measure beside peers: artifacts (nginx), channel (mosquitto, rumqttd), trust (cfssl, openssl);
                   pages, profile, attestation, certificates, boot; honest clients beside hostile ones: abuse
  packages [--profile ci] [--check] [--oci]
                   make Debian packages in target/packages; with --check, install, upgrade, remove and purge them in a
                   clean root; with --oci, also an OCI image of the server
  compat [--programs DIR] [--with DIR] | --check | --keep-api
                   run the programs of the previous release, built from its commit or in --programs, against those of
                   this one, built or in --with, in both directions; with --check only compare digests and the API;
                   with --keep-api keep the API of this commit, which becomes the previous release
  site             build the documents as a site in target/site/book, and check its links
  postgres COMMAND [ARGUMENT]...
                   run a command, such as cargo nextest, beside a PostgreSQL server of its own (FLEETI_POSTGRES;
                   over TLS FLEETI_POSTGRES_TLS, with its CA in FLEETI_POSTGRES_ROOTS)
  tools            install test tools that Debian does not package
  licences         check licences and sources of every crate, and run `cargo deny` if it is installed
  deps             check which crate may use which, and that no files of a crate import each other in a circle
  tidy             check the rules of the repository
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.split_first() {
        Some((&"setup", [])) => setup::run(),
        Some((&"demo", rest)) => demo(rest),
        Some((&"licences", [])) => licences::deny(),
        Some((&"ci", [])) => setup::run().and_then(|()| gate::ci()),
        Some((&"test", [])) => gate::test(Length::Gate),
        Some((&"test", ["--long"])) => gate::test(Length::Long),
        Some((&"fuzz", rest)) => fuzz_with(rest),
        Some((&"mutate", paths)) => mutation::mutate(paths),
        Some((&"bench", rest)) if !rest.is_empty() => bench::measure(rest),
        Some((&"example", [name, rest @ ..])) => example(name, rest),
        Some((&"python", [])) => {
            setup::run().and_then(|()| build_programs()).and_then(|()| python::test())
        }
        Some((&"sdk", [])) => sdk::write(),
        Some((&"packages", rest)) => setup::run().and_then(|()| packages::command(rest)),
        Some((&"compat", rest)) => compat::command(rest),
        Some((&"site", [])) => setup::run()
            .and_then(|()| build_programs())
            .and_then(|()| site::build(&target().join("ci"))),
        Some((&"postgres", command)) if !command.is_empty() => postgres::beside(command),
        Some((&"tools", [])) => setup::run().and_then(|()| tools::install()),
        Some((&"deps", [])) => checks::deps(&root()),
        Some((&"tidy", [])) => checks::tidy(&root()),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn run(title: &str, command: &mut Command) -> Result<()> {
    println!("==> {title}");
    let started = Instant::now();
    let status = for_once(command)
        .current_dir(root())
        .stdin(Stdio::null())
        .status()
        .with_context(|| title.to_owned())?;
    if !status.success() {
        bail!("{title} failed: {status}");
    }
    println!("    ok after {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// In CI, turns off incremental compilation, which only helps later builds.
fn for_once(command: &mut Command) -> &mut Command {
    if std::env::var_os("CI").is_some() { command.env("CARGO_INCREMENTAL", "0") } else { command }
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

fn build_programs() -> Result<()> {
    let packages = [
        "-p",
        "fleeti-cli",
        "-p",
        "fleeti-server",
        "-p",
        "fleeti-signer",
        "-p",
        "fleeti-agent",
        "-p",
        "fleeti-testkit",
        "-p",
        "fleeti-examples",
    ];
    let mut arguments = vec!["build", "--profile", "ci", "--bins"];
    arguments.extend(packages);
    run("build the executables", &mut cargo(&arguments))
}

/// Builds like the demo, so that nothing is compiled twice.
fn example(name: &str, arguments: &[&str]) -> Result<()> {
    if !root().join("examples/src/bin").join(format!("{name}.rs")).exists() {
        bail!("there is no example {name}; see examples/src/bin");
    }
    setup::run()?;
    build_programs()?;
    let program = target().join("ci").join(name);
    run(&format!("example {name}"), Command::new(program).args(arguments))
}

/// Builds executables, tests and examples together: built alone, executables have fewer features of
/// their dependencies, and everything is compiled twice.
fn build_all() -> Result<()> {
    run(
        "build programs and tests",
        &mut cargo(&["build", "--workspace", "--all-targets", "--profile", "ci"]),
    )
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn demo(arguments: &[&str]) -> Result<()> {
    setup::run()?;
    build_programs()?;
    let mut demo = Command::new(target().join("ci/fleeti-demo"));
    demo.args(arguments);
    if arguments.contains(&"--units") {
        deb::make(&package::order("ci")?)?;
        demo.arg("--packages").arg(target().join("packages"));
    }
    run("demo", &mut demo)
}

fn fuzz_with(words: &[&str]) -> Result<()> {
    let number = |text: &str| text.parse().with_context(|| format!("{text:?} is not a number"));
    let (effort, readers) = match words {
        ["--inputs", inputs, readers @ ..] => (Effort::Inputs(number(inputs)?), readers),
        [seconds, readers @ ..] if seconds.starts_with(|c: char| c.is_ascii_digit()) => {
            (Effort::Search(number(seconds)?), readers)
        }
        readers => (Effort::Search(60), readers),
    };
    setup::run()?;
    fuzz::fuzz(effort, readers)
}
