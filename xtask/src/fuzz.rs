//! `cargo xtask fuzz`: every reader of foreign bytes before libFuzzer, on the stable toolchain.

use crate::{cargo, root, run, target};
use anyhow::{Context, Result, bail};
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
    /// A few seconds, with the same inputs each time: what a gate finds must not depend on chance.
    Short,
    /// So many seconds, with inputs that nobody tried before; what is found is kept for the next time.
    Search(u64),
}

/// Every reader.
pub fn fuzz(effort: Effort) -> Result<()> {
    let folder = target().join("fuzz");
    let mut build = cargo(&["build", "--manifest-path", "fleeti-pki/fuzz/Cargo.toml", "--target-dir"]);
    // Named, though it is the host's: build scripts are then compiled without the counters, whose runtime they do not have.
    let host = host()?;
    build.arg(&folder).args(["--target", &host]).env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
    run("build the readers with coverage counters", &mut build)?;
    let program = folder.join(&host).join("debug/fleeti-pki-fuzz");
    for (reader, seeds) in READERS {
        let (corpus, limits) = match effort {
            Effort::Short => ("corpus-short", ["-max_total_time=5".to_owned(), "-runs=100000".into(), "-seed=1".into()].to_vec()),
            Effort::Search(seconds) => ("corpus", vec![format!("-max_total_time={seconds}")]),
        };
        let corpus = folder.join(corpus).join(reader);
        if matches!(effort, Effort::Short) {
            fs::remove_dir_all(&corpus).ok();
        }
        fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
        let mut command = Command::new(&program);
        command.env("FLEETI_FUZZ", reader).arg(&corpus);
        for seeds in *seeds {
            let path = root().join("fleeti-pki/tests/fixtures").join(seeds);
            if !path.exists() {
                bail!("{} is gone", path.display());
            }
            command.arg(path);
        }
        command.args(limits);
        command.arg(format!("-artifact_prefix={}/{reader}-", folder.display())).args([
            "-print_final_stats=1",
            "-verbosity=0",
            "-max_len=65536",
        ]);
        command.args(["-timeout=10", "-rss_limit_mb=2048"]);
        run(&format!("fuzz {reader}"), &mut command)?;
    }
    Ok(())
}

/// The triple that this toolchain compiles for.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find_map(|l| l.strip_prefix("host: ")).map(str::to_owned).context("rustc -vV names no host")
}
