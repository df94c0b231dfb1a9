//! `cargo xtask fuzz`: every parser of untrusted bytes with libFuzzer, on the stable toolchain.

use crate::{aside, cargo, root, run, target};
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs;
use std::process::Command;

/// Name of a parser, and the folders of its seeds.
const READERS: &[(&str, &[&str])] = &[
    ("list", &["defects/uefi", "secure-boot"]),
    ("auth", &["defects/uefi", "secure-boot"]),
    ("binary", &["defects/uefi", "secure-boot"]),
    ("request", &["defects/request"]),
    ("crl", &["defects/crl"]),
    ("manifest", &["defects/manifest"]),
    ("tpm", &["tpm"]),
    ("log", &["measured"]),
    ("text", &["defects/manifest", "text"]),
    ("passkey", &["passkey"]),
    ("packet", &["mqtt"]),
    ("body", &["body", "text"]),
];

/// Instrumentation for libFuzzer: edges and comparisons.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// How long each parser is fuzzed.
#[derive(Debug, Clone, Copy)]
pub enum Effort {
    /// This number of inputs, the same in each run: the result of a gate must not depend on chance.
    /// Runs at low priority and writes its output to files.
    Aside(u32),
    /// This number of seconds, with random inputs; new inputs are kept for the next run.
    Search(u64),
    /// This number of random inputs; new inputs are kept for the next run.
    Inputs(u64),
}

/// Fuzzes the named parsers, or all.
pub fn fuzz(effort: Effort, named: &[&str]) -> Result<()> {
    if let Some(unknown) =
        named.iter().find(|name| READERS.iter().all(|(reader, _)| reader != *name))
    {
        let known: Vec<_> = READERS.iter().map(|(reader, _)| *reader).collect();
        bail!("there is no parser {unknown}; choose from {}", known.join(", "));
    }
    let folder = target().join("fuzz");
    fs::create_dir_all(&folder)?;
    let host = host()?;
    let mut build = program(effort, cargo(&[]).get_program());
    build.args(["build", "--manifest-path", "fleeti-pki/fuzz/Cargo.toml", "--target-dir"]);
    // Name the host's target: build scripts are then compiled without the counters, whose runtime
    // they do not link.
    build
        .arg(&folder)
        .args(["--target", &host])
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
    run_with(effort, "build", "build the parsers with coverage counters", &mut build)?;
    let fuzzer = folder.join(&host).join("debug/fleeti-pki-fuzz");
    for (reader, seeds) in
        READERS.iter().filter(|(reader, _)| named.is_empty() || named.contains(reader))
    {
        let (corpus, limits) = match effort {
            Effort::Aside(inputs) => (
                "corpus-short",
                vec![format!("-runs={inputs}"), "-seed=1".into(), "-max_len=8192".into()],
            ),
            Effort::Search(seconds) => {
                ("corpus", vec![format!("-max_total_time={seconds}"), "-max_len=65536".into()])
            }
            Effort::Inputs(inputs) => {
                ("corpus", vec![format!("-runs={inputs}"), "-max_len=4096".into()])
            }
        };
        let corpus = folder.join(corpus).join(reader);
        if matches!(effort, Effort::Aside(_)) {
            fs::remove_dir_all(&corpus).ok();
        }
        fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
        let mut command = program(effort, &fuzzer);
        command.env("FLEETI_FUZZ", reader).arg(&corpus);
        for seeds in *seeds {
            let path = root().join("fleeti-pki/tests/fixtures").join(seeds);
            if !path.exists() {
                bail!("{} does not exist", path.display());
            }
            command.arg(path);
        }
        command.args(limits).arg(format!("-artifact_prefix={}/{reader}-", folder.display()));
        command.args(["-print_final_stats=1", "-verbosity=0", "-timeout=60", "-rss_limit_mb=2048"]);
        run_with(effort, reader, &format!("fuzz {reader}"), &mut command)?;
    }
    Ok(())
}

fn program(effort: Effort, program: impl AsRef<OsStr>) -> Command {
    match effort {
        Effort::Aside(_) => {
            let mut command = Command::new("nice");
            command.arg("-n10").arg(program);
            command
        }
        Effort::Search(_) | Effort::Inputs(_) => Command::new(program),
    }
}

fn run_with(effort: Effort, name: &str, title: &str, command: &mut Command) -> Result<()> {
    if !matches!(effort, Effort::Aside(_)) {
        return run(title, command);
    }
    let said = aside::start(name, title, command)?.finish()?;
    if let Some(tried) =
        said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
    {
        println!("    aside: {title}: {} inputs", tried.trim());
    }
    Ok(())
}

/// The target triple of this toolchain.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|l| l.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc -vV names no host")
}
