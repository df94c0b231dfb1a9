//! `cargo xtask fuzz`: every reader of foreign bytes before libFuzzer, on the stable toolchain.

use crate::{aside, cargo, root, run, target};
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs;
use std::process::Command;

/// Reader, and the folders of its seeds.
const READERS: &[(&str, &[&str])] = &[
    ("list", &["defects/uefi", "secure-boot"]),
    ("auth", &["defects/uefi", "secure-boot"]),
    ("program", &["defects/uefi", "secure-boot"]),
    ("request", &["defects/request"]),
    ("crl", &["defects/crl"]),
    ("manifest", &["defects/manifest"]),
    ("tpm", &["tpm"]),
    ("log", &["measured"]),
    ("text", &["defects/manifest", "text"]),
    ("packet", &["mqtt"]),
    ("body", &["body", "text"]),
];

/// What libFuzzer wants to be told of: the edges that were taken, and what was compared.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// How long each reader is tried.
#[derive(Debug, Clone, Copy)]
pub enum Effort {
    /// So many inputs, the same each time: what a gate finds must not depend on chance. Its output
    /// goes to files, and it gives way to whatever else runs.
    Aside(u32),
    /// So many seconds, with inputs that nobody tried before; what is found is kept for the next
    /// time.
    Search(u64),
    /// So many inputs, likewise.
    Inputs(u64),
}

/// The readers that are named, or every one.
pub fn fuzz(effort: Effort, named: &[&str]) -> Result<()> {
    if let Some(unknown) =
        named.iter().find(|name| READERS.iter().all(|(reader, _)| reader != *name))
    {
        let known: Vec<_> = READERS.iter().map(|(reader, _)| *reader).collect();
        bail!("there is no reader {unknown}; there are {}", known.join(", "));
    }
    let folder = target().join("fuzz");
    fs::create_dir_all(&folder)?;
    let host = host()?;
    let mut build = program(effort, cargo(&[]).get_program());
    build.args(["build", "--manifest-path", "fleeti-pki/fuzz/Cargo.toml", "--target-dir"]);
    // Named, though it is the host's: build scripts are then compiled without the counters, whose
    // runtime they do not have.
    build
        .arg(&folder)
        .args(["--target", &host])
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
    run_with(effort, "build", "build the readers with coverage counters", &mut build)?;
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
                bail!("{} is gone", path.display());
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

/// The triple that this toolchain compiles for.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|l| l.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc -vV names no host")
}
