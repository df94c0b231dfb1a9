//! `fleeti`: define, build, sign, publish and roll out Linux images.
//!
//! Data goes to stdout, everything else to stderr; `-o json` makes the data one JSON document. Exit
//! codes: 0 done, 1 failed, 2 wrong usage, 3 (`doctor`) a check failed.
//!
//! A library, so that tests can list and run every subcommand of [`command`].
//!
//! Code map: `commands` (one file for each noun) · `output` (the only place that prints: lists,
//! times, sizes, errors with hints).

mod commands;
mod output;

use clap::{CommandFactory, Parser, Subcommand};
use output::{Failure, Output};
use std::process::ExitCode;

/// Define a Linux image, build it with Nix, sign it, and roll it out to devices.
///
/// A first tour:
///   fleeti pki init pki
///   fleeti profile check examples/profiles/kiosk.toml
///   fleeti build run examples/profiles/kiosk.toml --version 1 --trust pki/public --out build/1
///   fleeti release create build/1 --pki pki --out releases/1
///   fleeti login https://SERVER:8080 --fingerprint sha256:... --token-file admin.token
///   fleeti release publish releases/1
///   fleeti rollout start --release kiosk@1 --fleet demo --wait
///
/// Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage; of
/// `doctor` also 3: a check failed.
#[derive(Parser)]
#[command(name = "fleeti", version, about, long_about, verbatim_doc_comment, max_term_width = 100)]
struct Arguments {
    /// Format of the data on stdout.
    #[arg(short, long, value_enum, default_value_t = output::Format::Text, global = true)]
    output: output::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Login(commands::login::Login),
    /// Remove the server and token that `fleeti login` has stored.
    Logout,
    /// Profiles: declarative descriptions of images.
    #[command(subcommand)]
    Profile(commands::profile::Command),
    /// Builds: turn a profile into an unsigned image, with Nix.
    #[command(subcommand)]
    Build(commands::build::Command),
    /// Build workers: list, add or remove them.
    #[command(subcommand)]
    Worker(commands::worker::Command),
    /// Accounts of people and programs, and their roles.
    #[command(subcommand)]
    User(commands::user::Command),
    /// Acts that need a second person: list, approve or deny them.
    #[command(subcommand)]
    Approval(commands::approval::Command),
    /// API tokens.
    #[command(subcommand)]
    Token(commands::token::Command),
    /// Keys, certificates, the root CA and transitions between trust anchors.
    #[command(subcommand)]
    Pki(commands::pki::Command),
    /// Releases: signed, immutable sets of artifacts.
    #[command(subcommand)]
    Release(commands::release::Command),
    /// Devices: enrollment, state, commands, revocation.
    #[command(subcommand)]
    Device(commands::device::Command),
    /// Fleets: named groups of devices.
    #[command(subcommand)]
    Fleet(commands::fleet::Command),
    /// Labels: keys with types, and labels of many devices from a CSV file.
    #[command(subcommand)]
    Label(commands::label::Command),
    /// Saved views: filters of devices with a name.
    #[command(subcommand)]
    View(commands::view::Command),
    /// Packages: the devices that have one.
    #[command(subcommand)]
    Package(commands::package::Command),
    /// Rollouts: install a release on the devices of a fleet.
    #[command(subcommand)]
    Rollout(commands::rollout::Command),
    Fix(commands::fix::Fix),
    /// Channels: what the devices of a fleet should run.
    #[command(subcommand)]
    Channel(commands::channel::Command),
    Why(commands::why::Command),
    /// Attestation: the levels and claims that devices prove with their TPMs.
    #[command(subcommand)]
    Attest(commands::attest::Command),
    /// Examine the server: each line says ok, warning or failed, and what to do. Exit code 3: a check
    /// failed. `fleeti-server doctor` examines a server that does not answer.
    Doctor(commands::doctor::Doctor),
    /// Secrets of fleets, for devices that prove what they run.
    #[command(subcommand)]
    Secret(commands::secret::Command),
    /// Alerts, their rules and silences.
    #[command(subcommand)]
    Alert(commands::alert::Command),
    /// Webhooks: events for other programs.
    #[command(subcommand)]
    Webhook(commands::webhook::Command),
    /// E-mail about alerts: who gets it.
    #[command(subcommand)]
    Email(commands::email::Command),
    /// The audit log: list, verify and prove its entries.
    #[command(subcommand)]
    Audit(commands::audit::Command),
    Api(commands::api::Api),
    Manual(commands::manual::Manual),
}

/// The command line: every subcommand with its arguments.
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
        Command::Approval(command) => commands::approval::run(command, &output),
        Command::User(command) => commands::user::run(command, &output),
        Command::Token(command) => commands::token::run(command, &output),
        Command::Pki(command) => commands::pki::run(command, &output),
        Command::Release(command) => commands::release::run(command, &output),
        Command::Device(command) => commands::device::run(command, &output),
        Command::Fleet(command) => commands::fleet::run(command, &output),
        Command::Label(command) => commands::label::run(command, &output),
        Command::View(command) => commands::view::run(command, &output),
        Command::Package(command) => commands::package::run(command, &output),
        Command::Rollout(command) => commands::rollout::run(command, &output),
        Command::Fix(fix) => commands::fix::run(fix, &output),
        Command::Channel(command) => commands::channel::run(command, &output),
        Command::Why(command) => commands::why::run(&command, &output),
        Command::Attest(command) => commands::attest::run(command, &output),
        Command::Doctor(doctor) => commands::doctor::run(&doctor, &output),
        Command::Secret(command) => commands::secret::run(command, &output),
        Command::Alert(command) => commands::alert::run(command, &output),
        Command::Webhook(command) => commands::webhook::run(command, &output),
        Command::Email(command) => commands::email::run(command, &output),
        Command::Audit(command) => commands::audit::run(command, &output),
        Command::Api(api) => commands::api::run(api, &output),
        Command::Manual(manual) => commands::manual::run(&manual, &output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.fail(&failure),
    }
}

type CommandResult = Result<(), Failure>;
