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

/// So many seconds and runs for each reader; whichever comes first.
pub fn fuzz(seconds: u64, runs: u64) -> Result<()> {
    let folder = target().join("fuzz");
    let mut build = cargo(&["build", "--manifest-path", "fleeti-pki/fuzz/Cargo.toml", "--target-dir"]);
    // Named, though it is the host's: build scripts are then compiled without the counters, whose runtime they do not have.
    let host = host()?;
    build.arg(&folder).args(["--target", &host]).env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
    run("build the readers with coverage counters", &mut build)?;
    let program = folder.join(&host).join("debug/fleeti-pki-fuzz");
    for (reader, seeds) in READERS {
        let corpus = folder.join("corpus").join(reader);
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
        command.arg(format!("-max_total_time={seconds}")).arg(format!("-runs={runs}"));
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
