//! `cargo xtask bench`: executables of the release profile, and peers from Debian and the crate
//! registry.

use crate::{cargo, python, run, setup, target};
use anyhow::Result;
use std::process::Command;

/// The peer that is not packaged in Debian.
const RUMQTTD: (&str, &str) = ("rumqttd", "0.20.0");

/// Builds everything and runs one scenario.
pub fn measure(arguments: &[&str]) -> Result<()> {
    setup::run()?;
    setup::install(setup::PEERS)?;
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
    ];
    run_cargo(
        "build the executables for benchmarks",
        &[&["build", "--release", "--bins"][..], &packages].concat(),
    )?;
    let mut command = Command::new(target().join("release/fleeti-bench"));
    command.args(arguments);
    if arguments.first() == Some(&"channel") {
        let tools = target().join("peers");
        if !tools.join("bin/rumqttd").exists() {
            let root = tools.display().to_string();
            let (name, version) = RUMQTTD;
            // Not with its own lock file, which names a crate that current compilers reject.
            let wanted = [
                "install",
                name,
                "--version",
                version,
                "--features",
                "verify-client-cert",
                "--root",
                &root,
            ];
            run_cargo("build rumqttd", &wanted)?;
        }
        command.arg("--rumqttd").arg(tools.join("bin/rumqttd"));
    }
    if arguments.first() == Some(&"sdk") {
        command.arg("--python").arg(python::with_wheel("release")?);
    }
    run("figures", &mut command)
}

fn run_cargo(title: &str, arguments: &[&str]) -> Result<()> {
    run(title, &mut cargo(arguments))
}
