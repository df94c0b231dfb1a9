//! `fleeti build`.

use super::keys::Passphrase;
use super::server::{Server, block_on, refused};
use super::signature;
use crate::CommandResult;
use crate::output::{Failure, Output, bytes, rows};
use clap::Subcommand;
use fleeti_build::build::{self, BuildError, Request, Verification};
use fleeti_build::cache::Cache;
use fleeti_client::Client;
use fleeti_core::id::Version;
use fleeti_core::profile::Revision;
use fleeti_core::wire::api::{Build, BuildPhase, CreateBuild, Event};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::time::Duration;

/// What to do with builds.
#[derive(Subcommand)]
pub enum Command {
    /// Build a profile into an unsigned image.
    Run {
        /// The profile.
        profile: PathBuf,
        /// Version within the image line: numbers joined by dots.
        #[arg(long)]
        version: Version,
        /// The `public` folder of the PKI.
        #[arg(long)]
        trust: PathBuf,
        /// Where the build goes.
        #[arg(long)]
        out: PathBuf,
        /// Number of the profile's revision.
        #[arg(long, default_value_t = 1)]
        revision: u32,
        /// Nothing older may follow this image on a device; the version itself by default.
        #[arg(long)]
        minimum_version: Option<Version>,
        /// Package lock; one is resolved and kept in the cache when this is not given.
        #[arg(long)]
        lock: Option<PathBuf>,
        /// The agent's program; beside this program by default.
        #[arg(long)]
        agent: Option<PathBuf>,
    },
    /// Have the server build a profile; its worker keeps the log.
    Start {
        /// The profile.
        profile: PathBuf,
        /// Version within the image line: numbers joined by dots.
        #[arg(long)]
        version: Version,
        /// Wait until it is built; fails when it is not.
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Have the server sign a build and publish it, where its signer holds release keys.
    ///
    /// Where people must agree first, this asks them: with --key, your own key (`fleeti pki approver-key`). The build is
    /// signed and published with the last approval that is needed.
    Sign {
        /// The id of the build, as in `fleeti build list`.
        build: String,
        /// Your own key.
        #[arg(long)]
        key: Option<PathBuf>,
        /// How long others may take to agree, days.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=7))]
        days: u64,
        #[command(flatten)]
        passphrase: Passphrase,
        #[command(flatten)]
        server: Server,
    },
    /// Agree, with your own key, that the server's keys sign a build. What you sign is shown first.
    Approve {
        /// The id of the build, as in `fleeti build list`.
        build: String,
        /// Your own key (`fleeti pki approver-key`).
        #[arg(long)]
        key: PathBuf,
        /// A build of your own (`fleeti build run`): agree only if the same files have come out of it.
        #[arg(long = "build")]
        own: Option<PathBuf>,
        #[command(flatten)]
        passphrase: Passphrase,
        #[command(flatten)]
        server: Server,
    },
    /// List the newest builds on the server.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Rebuild a build and compare every byte.
    Verify {
        /// The directory of the build.
        directory: PathBuf,
    },
    /// Resolve the package lock of a profile.
    Lock {
        /// The profile.
        profile: PathBuf,
        /// Where the lock is written; into the cache by default.
        #[arg(long)]
        lock: Option<PathBuf>,
        /// Resolve again although there is one.
        #[arg(long)]
        refresh: bool,
    },
}

fn failure(e: BuildError) -> Failure {
    let hint = e.hint();
    Failure::new(e, hint)
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    let cache = Cache::discover().map_err(Failure::plain)?;
    match command {
        Command::Run { profile, version, trust, out, revision, minimum_version, lock, agent } => {
            let profile = super::profile::read(&profile)?;
            let agent = agent.map_or_else(agent_beside_this_program, Ok)?;
            let request = Request { profile, revision, version, minimum_version, trust, lock, agent, out };
            let bar = spinner();
            let record = build::run(&request, &cache, &mut |line| bar.set_message(shorten(line))).map_err(failure)?;
            bar.finish_and_clear();
            output.data(&record, |r| {
                let mut text = format!("built {}\n  root hash {}\n", r.release, r.root_hash);
                for (name, file) in &r.files {
                    text.push_str(&format!("  {name:<18} {:>10}  sha256 {}\n", bytes(file.size), file.sha256));
                }
                text.push_str(&format!("  in {}", request.out.display()));
                text
            });
            Ok(())
        }
        Command::Start { profile, version, wait, server } => {
            let request = CreateBuild { profile: super::profile::read(&profile)?, version };
            let build = block_on(async { start(&server.client()?, &request, wait).await })?;
            output.data(&build, describe);
            match build.phase {
                BuildPhase::Failed => Err(Failure::plain(build.detail)),
                BuildPhase::Queued | BuildPhase::Running | BuildPhase::Succeeded => Ok(()),
            }
        }
        Command::Sign { build, key: None, server, .. } => {
            let build = block_on(async { signature::alone(&server.client()?, &build).await })?;
            output.data(&build, |b| format!("published {}", b.release));
            Ok(())
        }
        Command::Sign { build, key: Some(key), days, passphrase, server } => {
            let status = block_on(async { signature::ask(&server.client()?, &build, &key, &passphrase, days).await })?;
            output.data(&status, signature::describe);
            Ok(())
        }
        Command::Approve { build, key, own, passphrase, server } => {
            let status = block_on(async { signature::approve(&server.client()?, &build, &key, own.as_deref(), &passphrase).await })?;
            output.data(&status, signature::describe);
            Ok(())
        }
        Command::List { server } => {
            let builds = block_on(async { server.client()?.builds().await.map_err(refused) })?;
            output.data(&builds, |list| rows(list, "no build yet; begin with `fleeti build start PROFILE --version 1`", describe));
            Ok(())
        }
        Command::Verify { directory } => {
            let bar = spinner();
            let result = build::verify(&directory, &mut |line| bar.set_message(shorten(line))).map_err(failure)?;
            bar.finish_and_clear();
            output.data(&result, |r| match r {
                Verification::Identical { steps } => format!("identical: {}", steps.join(", ")),
                Verification::FileChanged { file } => format!("{file} is not the file of build.json"),
                Verification::StepDiffers { step, difference } => format!("{step} differs: {difference}"),
            });
            match result {
                Verification::Identical { .. } => Ok(()),
                _ => Err(Failure::plain("the build is not reproduced")),
            }
        }
        Command::Lock { profile, lock, refresh } => {
            let revision = Revision::new(1, super::profile::read(&profile)?).map_err(Failure::plain)?;
            let lock = build::lock_for(&cache, &revision, lock.as_deref(), refresh).map_err(failure)?;
            output.data(&lock, |l| {
                let sets: Vec<_> = l.sets.iter().map(|(name, p)| format!("{name} {}", p.len())).collect();
                format!("lock {}: {}", l.digest(), sets.join(", "))
            });
            Ok(())
        }
    }
}

fn describe(b: &Build) -> String {
    let phase = format!("{:?}", b.phase).to_lowercase();
    let signing = b.signing.map(|s| format!(", signature {s:?}").to_lowercase()).unwrap_or_default();
    format!("{:<28} {:<20} revision {:<4} {phase}{signing}", b.id, b.release.to_string(), b.revision)
}

async fn start(client: &Client, request: &CreateBuild, wait: bool) -> Result<Build, Failure> {
    // The stream first, then the build: nothing that happens in between is missed.
    let mut events = client.events().await.map_err(refused)?;
    let mut build = client.create_build(request).await.map_err(refused)?;
    let bar = spinner();
    while wait && matches!(build.phase, BuildPhase::Queued | BuildPhase::Running) {
        bar.set_message(shorten(&build.detail));
        events.wait_for(|e| matches!(e, Event::Build { id } if *id == build.id)).await.map_err(refused)?;
        build = client.build(&build.id).await.map_err(refused)?;
    }
    bar.finish_and_clear();
    Ok(build)
}

fn agent_beside_this_program() -> Result<PathBuf, Failure> {
    let path = std::env::current_exe().map_err(Failure::plain)?.with_file_name("fleeti-agent");
    if path.exists() {
        Ok(path)
    } else {
        Err(Failure::new(format!("{} does not exist", path.display()), Some("name the agent's program with --agent")))
    }
}

pub fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed}] {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// `building '/nix/store/HASH-NAME.drv'...` is `building NAME` to a person.
fn shorten(line: &str) -> String {
    match line.strip_prefix("building '/nix/store/") {
        Some(rest) => format!("building {}", rest.get(33..).unwrap_or(rest).trim_end_matches("'...").trim_end_matches(".drv")),
        None => line.to_owned(),
    }
}
