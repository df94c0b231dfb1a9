//! `fleeti`: define, build, sign, publish and roll out.
//!
//! Data goes to stdout, everything else to stderr; `-o json` makes the data one JSON document. Exit
//! codes: 0 done, 1 failed, 2 wrong usage.
//!
//! A library, so that a test can walk the subcommands that [`command`] has and run each of them.

mod commands;
mod output;

use clap::{CommandFactory, Parser, Subcommand};
use output::{Failure, Output};
use std::process::ExitCode;

/// Define a Linux system, build it with Nix, sign it, and roll it out to devices.
///
/// A first tour:
///   fleeti pki init pki
///   fleeti profile check examples/profiles/kiosk.toml
///   fleeti build run examples/profiles/kiosk.toml --version 1 --trust pki/public --out build/1
///   fleeti release create build/1 --pki pki --out releases/1
///   fleeti login https://SERVER:8080 --fingerprint sha256:... --token-file admin.token
///   fleeti release publish releases/1
///   fleeti rollout start --release kiosk@1 --fleet demo --wait
#[derive(Parser)]
#[command(version, about, long_about, verbatim_doc_comment, max_term_width = 100)]
struct Arguments {
    /// How data is written to stdout.
    #[arg(short, long, value_enum, default_value_t = output::Format::Text, global = true)]
    output: output::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Login(commands::login::Login),
    /// Forget the server that `fleeti login` keeps, and its token.
    Logout,
    /// Profiles: the declared system.
    #[command(subcommand)]
    Profile(commands::profile::Command),
    /// Builds: from a profile to an unsigned image, with Nix.
    #[command(subcommand)]
    Build(commands::build::Command),
    /// Build workers: who may take builds.
    #[command(subcommand)]
    Worker(commands::worker::Command),
    /// Keys and certificates.
    #[command(subcommand)]
    Pki(commands::pki::Command),
    /// Releases: signed, immutable, served as they are.
    #[command(subcommand)]
    Release(commands::release::Command),
    /// Devices: enrollment, state, commands, revocation.
    #[command(subcommand)]
    Device(commands::device::Command),
    /// Rollouts: a release to a fleet.
    #[command(subcommand)]
    Rollout(commands::rollout::Command),
    /// What devices prove with their TPMs: levels, claims, and what was measured.
    #[command(subcommand)]
    Attest(commands::attest::Command),
    /// Secrets of fleets: given to devices that prove what they run.
    #[command(subcommand)]
    Secret(commands::secret::Command),
    /// The audit log: who did what, and whether anybody changed that.
    #[command(subcommand)]
    Audit(commands::audit::Command),
}

/// What the program accepts: every subcommand with its arguments.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the program with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.output);
    let result = match arguments.command {
        Command::Login(login) => commands::login::run(&login, &output),
        Command::Logout => commands::login::forget(&output),
        Command::Profile(command) => commands::profile::run(command, &output),
        Command::Build(command) => commands::build::run(command, &output),
        Command::Worker(command) => commands::worker::run(command, &output),
        Command::Pki(command) => commands::pki::run(command, &output),
        Command::Release(command) => commands::release::run(command, &output),
        Command::Device(command) => commands::device::run(command, &output),
        Command::Rollout(command) => commands::rollout::run(command, &output),
        Command::Attest(command) => commands::attest::run(command, &output),
        Command::Secret(command) => commands::secret::run(command, &output),
        Command::Audit(command) => commands::audit::run(command, &output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.fail(&failure),
    }
}

type CommandResult = Result<(), Failure>;
