//! `cargo xtask`: what people and CI run. Depends on none of the crates, so that `setup` can run first.

mod bench;
mod checks;
mod fuzz;
mod mutation;
mod python;
mod setup;
mod tools;

use anyhow::{Context, Result, anyhow, bail};
use fuzz::Effort;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

const HELP: &str = "\
cargo xtask COMMAND

  setup            install what is missing from Debian, saying what and why
  demo [--dir DIR] [--exit] [[--refusals] [--firmware] | --liar]
                   the whole of Fleeti on this machine: build, sign, boot, enroll, update, prove; or a machine that lies
  ci               the fast gate: fmt, clippy, docs, tests, deps, tidy
  test             what .ci/run runs: setup, ci, the pages in a browser, a chain of updates in a virtual machine, and
                   a million inputs for each reader of foreign bytes
  python           build the wheel and test it, installed in a fresh virtual environment
  fuzz [SECONDS | --inputs N] [READER]...
                   readers of foreign bytes before libFuzzer: all of them for 60 seconds each, unless told
  mutate [--list] [PATH]...
                   whether a test fails without each check, of those that decide about evidence of a TPM unless told
  bench SCENARIO [--json FILE]
                   figures beside peers: artifacts (nginx), channel (mosquitto, rumqttd); pages
  tools            what tests judge by that Debian does not have
  deps             which crate may use which
  tidy             rules of the repository
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.split_first() {
        Some((&"setup", [])) => setup::run(),
        Some((&"demo", rest)) => demo(rest),
        Some((&"ci", [])) => setup::run().and_then(|()| ci()),
        Some((&"test", [])) => test(),
        Some((&"fuzz", rest)) => fuzz_as_told(rest),
        Some((&"mutate", paths)) => mutation::mutate(paths),
        Some((&"bench", rest)) if !rest.is_empty() => bench::measure(rest),
        Some((&"python", [])) => setup::run().and_then(|()| build_programs()).and_then(|()| python::test()),
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

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn run(title: &str, command: &mut Command) -> Result<()> {
    println!("==> {title}");
    let started = Instant::now();
    let status = for_once(command).current_dir(root()).stdin(Stdio::null()).status().with_context(|| title.to_owned())?;
    if !status.success() {
        bail!("{title} failed: {status}");
    }
    println!("    ok after {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Beside something else that is told of: what it says goes to a file, and is given back.
fn run_aside(name: &str, title: &str, command: &mut Command) -> Result<String> {
    let folder = target().join("aside");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.log"));
    let log = fs::File::create(&path)?;
    let started = Instant::now();
    let status = for_once(command).current_dir(root()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).status()?;
    let said = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
    if !status.success() {
        bail!("{title} failed: {status}\n{said}");
    }
    println!("    aside: {title} ok after {:.1} s", started.elapsed().as_secs_f64());
    Ok(said)
}

/// Where everything is built once, nothing is written that only helps to build again.
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
    run("build the programs", &mut cargo(&arguments))
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn demo(arguments: &[&str]) -> Result<()> {
    setup::run()?;
    build_programs()?;
    run("demo", Command::new(target().join("ci/fleeti-demo")).args(arguments))
}

fn ci() -> Result<()> {
    run("fmt", &mut cargo(&["fmt", "--all", "--check"]))?;
    run("clippy", &mut cargo(&["clippy", "--workspace", "--all-targets", "--profile", "ci", "--", "-D", "warnings"]))?;
    run("docs", cargo(&["doc", "--workspace", "--no-deps", "--profile", "ci"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    println!("==> deps and tidy");
    checks::deps(&root())?;
    checks::tidy(&root())?;
    // All at once: programs that are built alone have fewer features of their dependencies, and everything is compiled twice.
    run("build programs and tests", &mut cargo(&["build", "--workspace", "--all-targets", "--profile", "ci"]))?;
    tools::install()?;
    let (judge_at, judge) = (tools::VIRT_FW_VARS, tools::virt_fw_vars());
    let (clients_at, clients) = (tools::MQTT_PYTHON, tools::mqtt_python());
    let nextest = Command::new("cargo-nextest").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if nextest.is_ok_and(|s| s.success()) {
        run(
            "tests",
            cargo(&["nextest", "run", "--workspace", "--cargo-profile", "ci", "--no-fail-fast"])
                .env(judge_at, judge)
                .env(clients_at, clients),
        )?;
        run("doctests", &mut cargo(&["test", "--workspace", "--profile", "ci", "--doc", "--quiet"]))?;
    } else {
        run("tests", cargo(&["test", "--workspace", "--profile", "ci"]).env(judge_at, judge).env(clients_at, clients))?;
    }
    examples()?;
    python::test()
}

fn fuzz_as_told(words: &[&str]) -> Result<()> {
    let number = |text: &str| text.parse().with_context(|| format!("{text:?} is no number"));
    let (effort, readers) = match words {
        ["--inputs", inputs, readers @ ..] => (Effort::Inputs(number(inputs)?), readers),
        [seconds, readers @ ..] if seconds.starts_with(|c: char| c.is_ascii_digit()) => (Effort::Search(number(seconds)?), readers),
        readers => (Effort::Search(60), readers),
    };
    setup::run()?;
    fuzz::fuzz(effort, readers)
}

/// Every example, as its first lines say.
fn examples() -> Result<()> {
    for (name, arguments) in
        [("verify_release", &[][..]), ("embed_server", &["--exit"]), ("fake_fleet", &["--devices", "30", "--unhealthy", "3"])]
    {
        run(&format!("example {name}"), Command::new(target().join("ci").join(name)).args(arguments))?;
    }
    Ok(())
}

/// GiB that a whole test writes at most: what is compiled, where that is not there yet; and the images of its devices, with
/// their disks and Nix's store.
const COMPILED: u64 = 6;
const IMAGES: u64 = 8;

fn test() -> Result<()> {
    let started = Instant::now();
    setup::room(&std::env::temp_dir(), IMAGES)?;
    setup::room(Path::new("/nix/store"), IMAGES)?;
    if !target().join("ci").exists() {
        setup::room(&target(), COMPILED + IMAGES)?;
    }
    setup::run()?;
    ci()?;
    run("the pages in a browser", &mut Command::new(target().join("ci/fleeti-browser")))?;
    // A virtual machine without KVM uses one core.
    let demo = |arguments: &[&str]| {
        let mut command = Command::new(target().join("ci/fleeti-demo"));
        command.arg("--exit").args(arguments);
        command
    };
    let mut lies = demo(&["--liar"]);
    let aside = std::thread::spawn(move || {
        run_aside("liar", "a machine that lies about what it runs", &mut lies)?;
        fuzz::fuzz(Effort::Aside, &[])
    });
    let held = run("devices in virtual machines: update, rollbacks, Secure Boot", &mut demo(&["--refusals", "--firmware"]));
    println!("==> what runs aside");
    let aside = aside.join().map_err(|_| anyhow!("what runs aside has panicked"))?;
    held.and(aside)?;
    println!("every test passed, {:.0} s in all", started.elapsed().as_secs_f64());
    Ok(())
}
