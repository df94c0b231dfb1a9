//! `fleeti build`.

use super::keys::{KeyFile, Passphrase};
use super::profile::Packages;
use super::request::{block_on, refused};
use super::server::Server;
use super::signature::{self, differs};
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, Progress, rows};
use clap::Subcommand;
use fleeti_build::build::{self, BuildError, Request};
use fleeti_build::cache::Cache;
use fleeti_build::compare::{self, Own};
use fleeti_build::pieces::Difference;
use fleeti_build::record::{ArtifactName, BuildRecord, FileRecord};
use fleeti_client::Client;
use fleeti_core::id::{ReleaseName, Version};
use fleeti_core::size::bytes;
use fleeti_core::wire::api::{Build, BuildPhase, CreateBuild, Event};
use std::path::{Path, PathBuf};

/// What to do with builds.
#[derive(Subcommand)]
pub enum Command {
    /// Build a profile into an unsigned image.
    Run {
        /// The profile, a TOML file.
        profile: PathBuf,
        /// Version within the image line: numbers joined by dots.
        #[arg(long)]
        version: Version,
        /// The `public` folder of the PKI.
        #[arg(long)]
        trust: PathBuf,
        /// Output directory of the build.
        #[arg(long)]
        out: PathBuf,
        /// Revision number of the profile.
        #[arg(long, default_value_t = 1)]
        revision: u32,
        /// Minimum version that a device may install after this image; --version by default.
        #[arg(long)]
        minimum_version: Option<Version>,
        /// Package lock. By default, one is resolved and stored in the cache.
        #[arg(long)]
        lock: Option<PathBuf>,
        /// The agent's executable; by default, the one beside `fleeti`.
        #[arg(long)]
        agent: Option<PathBuf>,
        #[command(flatten)]
        packages: Packages,
    },
    /// Queue a build of a profile on the server. A build worker runs it and keeps its log.
    Start {
        /// The profile, a TOML file.
        profile: PathBuf,
        /// Version within the image line: numbers joined by dots.
        #[arg(long)]
        version: Version,
        /// Refresh the package lock of the line first; the log of the build shows what changes.
        #[arg(long)]
        refresh_lock: bool,
        /// Wait until the build has ended, and fail if it failed.
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Sign a build with the server's release keys and publish it. The server's signing service
    /// must hold release keys.
    ///
    /// If the approval policy of the server requires approvals, this creates a signing request,
    /// which you sign with your approver key (--key, see `fleeti pki approver-key`). The server
    /// signs and publishes the build after the last required approval.
    Sign {
        /// Id of the build, as in `fleeti build list`.
        build: String,
        /// Your approver key.
        #[arg(long)]
        key: Option<PathBuf>,
        /// Days until the signing request expires.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=7))]
        days: u64,
        #[command(flatten)]
        passphrase: Passphrase,
        #[command(flatten)]
        server: Server,
    },
    /// Approve, with your approver key, that the server signs a build. Shows the build first.
    ///
    /// With `--profile` and `--trust`, the command builds the release from your own inputs on this
    /// machine, as `fleeti build verify` does, and approves only if every field of the build record
    /// and every file is identical. Without them you approve another person's build, and must
    /// confirm that with `--not-built-here`.
    Approve {
        /// Id of the build, as in `fleeti build list`.
        build: String,
        /// Your approver key (`fleeti pki approver-key`).
        #[arg(long)]
        key: PathBuf,
        /// A copy of the server's build directory, to name the bytes that differ.
        #[arg(long = "build", requires = "profile")]
        copy: Option<PathBuf>,
        /// Approve without building.
        #[arg(long, conflicts_with_all = ["profile", "copy"])]
        not_built_here: bool,
        #[command(flatten)]
        inputs: Inputs,
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
    /// Rebuild an image from your own profile, package lock and agent, and compare every byte with
    /// a build.
    ///
    /// The inputs come from you and not from the build: pass your own `--profile` and `--trust`,
    /// and preferably your own `--lock` and `--agent`. Steps that are already in this machine's Nix
    /// store are built again.
    Verify {
        /// The directory of the build.
        directory: PathBuf,
        #[command(flatten)]
        inputs: Inputs,
    },
    /// Show what takes space in an image, by package, and which programs run with other rights.
    Contents {
        /// Output directory of the build.
        directory: PathBuf,
    },
    /// Show what differs between two images: packages, units, users, groups, files, size.
    Diff {
        /// Output directory of the build before.
        before: PathBuf,
        /// Output directory of the build after.
        after: PathBuf,
    },
    /// Resolve the package lock of a profile, or refresh it and show what changes.
    Lock(super::lock::Arguments),
}

/// The caller's own inputs of a build.
#[derive(clap::Args)]
pub struct Inputs {
    /// Your own copy of the profile.
    #[arg(long, requires = "trust")]
    profile: Option<PathBuf>,
    /// Your own copy of the `public` folder of the PKI.
    #[arg(long, requires = "profile")]
    trust: Option<PathBuf>,
    /// Your own package lock; by default, the one in your cache, or a newly resolved one.
    #[arg(long, requires = "profile")]
    lock: Option<PathBuf>,
    /// Your own agent executable; by default, the one beside `fleeti`.
    #[arg(long, requires = "profile")]
    agent: Option<PathBuf>,
    /// Expected version; by default, the version of the build that is compared.
    #[arg(long, requires = "profile")]
    version: Option<Version>,
    /// Minimum version that a device may install after this image; --version by default.
    #[arg(long, requires = "profile")]
    minimum_version: Option<Version>,
    /// Revision number of the profile.
    #[arg(long, default_value_t = 1)]
    revision: u32,
}

impl Inputs {
    /// Builds from these inputs; `None` without a profile.
    pub fn own(&self, of: &ReleaseName, cache: &Cache) -> Result<Option<Own>, Failure> {
        let (Some(profile), Some(trust)) = (&self.profile, &self.trust) else { return Ok(None) };
        let request = Request {
            profile: super::profile::read(profile)?,
            revision: self.revision,
            version: self.version.clone().unwrap_or_else(|| of.version.clone()),
            minimum_version: self.minimum_version.clone(),
            trust: trust.clone(),
            lock: self.lock.clone(),
            refresh_lock: false,
            refresh_packages: Vec::new(),
            agent: self.agent.clone().map_or_else(agent_beside_this_program, Ok)?,
            out: PathBuf::new(),
        };
        let progress = Progress::endless();
        let own = Own::make(&request, cache, &mut |line| progress.say(&shorten(line)))
            .map_err(failure)?;
        progress.end();
        Ok(Some(own))
    }
}

fn failure(e: BuildError) -> Failure {
    let hint = e.hint();
    Failure::with_log(e, hint)
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    let cache = Cache::discover().map_err(Failure::plain)?;
    match command {
        Command::Run {
            profile,
            version,
            trust,
            out,
            revision,
            minimum_version,
            lock,
            agent,
            packages,
        } => {
            let profile = super::profile::read_checked(&profile, &packages, output)?;
            let agent = agent.map_or_else(agent_beside_this_program, Ok)?;
            let request = Request {
                profile,
                revision,
                version,
                minimum_version,
                trust,
                lock,
                refresh_lock: false,
                refresh_packages: Vec::new(),
                agent,
                out,
            };
            build_here(&request, &cache, output)
        }
        Command::Start { profile, version, refresh_lock, wait, server } => {
            let profile = super::profile::read(&profile)?;
            let refresh_packages = Vec::new();
            let request = CreateBuild { profile, version, refresh_lock, refresh_packages };
            build_on_server(&request, wait, &server, output)
        }
        Command::Sign { build, key: None, server, .. } => sign(&build, &server, output),
        Command::Sign { build, key: Some(key), days, passphrase, server } => ask_for_approval(
            &build,
            KeyFile { path: &key, passphrase: &passphrase },
            days,
            &server,
            output,
        ),
        Command::Approve { build, key, copy, not_built_here, inputs, passphrase, server } => {
            let approval = Approval {
                build: &build,
                key: KeyFile { path: &key, passphrase: &passphrase },
                copy: copy.as_deref(),
                not_built_here,
                inputs: &inputs,
            };
            approve(approval, &server, &cache, output)
        }
        Command::List { server } => list(&server, output),
        Command::Contents { directory } => super::contents::summary(&directory, output),
        Command::Diff { before, after } => super::contents::diff(&before, &after, output),
        Command::Verify { directory, inputs } => verify(&directory, &inputs, &cache, output),
        Command::Lock(arguments) => super::lock::run(&arguments, &cache, output),
    }
}

fn build_on_server(
    request: &CreateBuild,
    wait: bool,
    server: &Server,
    output: &Output,
) -> CommandResult {
    let build = block_on(async { start(&server.client()?, request, wait).await })?;
    output.data(&build, describe);
    match build.phase {
        BuildPhase::Failed => Err(Failure::with_log(build.detail, None::<String>)),
        BuildPhase::Queued | BuildPhase::Running | BuildPhase::Succeeded => Ok(()),
    }
}

/// Signs a build on the server, where nobody has to approve.
fn sign(build: &str, server: &Server, output: &Output) -> CommandResult {
    let build = block_on(async { signature::alone(&server.client()?, build).await })?;
    output.data(&build, |b| format!("published {}", b.release));
    Ok(())
}

fn ask_for_approval(
    build: &str,
    key: KeyFile<'_>,
    days: u64,
    server: &Server,
    output: &Output,
) -> CommandResult {
    let status =
        block_on(async { signature::ask(&server.client()?, build, key, days, output).await })?;
    output.data(&status, signature::describe);
    Ok(())
}

/// An approval by the caller.
struct Approval<'a> {
    build: &'a str,
    key: KeyFile<'a>,
    /// A copy of the server's build directory.
    copy: Option<&'a Path>,
    not_built_here: bool,
    inputs: &'a Inputs,
}

fn approve(
    approval: Approval<'_>,
    server: &Server,
    cache: &Cache,
    output: &Output,
) -> CommandResult {
    let Approval { build, key, copy, not_built_here, inputs } = approval;
    let requested = block_on(async { signature::requested(&server.client()?, build).await })?;
    match inputs.own(&requested.record.release, cache)? {
        Some(own) => {
            let mut found = compare::with_record(&own, &requested.record).map_err(failure)?;
            if let Some(copy) = copy {
                let copied = compare::with_build(&own, copy).map_err(failure)?;
                found.differences.extend(copied.differences);
            }
            found.differences.extend(rebuilt(&own)?);
            if !found.differences.is_empty() {
                return Err(differs("the requested build", &found.differences));
            }
            output.note(Lines::from("every byte equals the build of your own inputs"));
        }
        None if not_built_here => {}
        None => {
            let hint = "name your own inputs with --profile and --trust to build and compare it here, \
                        or approve another person's build with --not-built-here";
            let text = format!("{} was not built here", requested.record.release);
            return Err(Failure::new(text, Some(hint)));
        }
    }
    let status = block_on(async {
        signature::approve(&server.client()?, build, &requested, key, output).await
    })?;
    output.data(&status, signature::describe);
    Ok(())
}

/// Differences of the steps that were already in this machine's Nix store, which are built again.
fn rebuilt(own: &Own) -> Result<Vec<Difference>, Failure> {
    let progress = Progress::endless();
    let differences = own.rebuild(&mut |line| progress.say(&shorten(line))).map_err(failure)?;
    progress.end();
    Ok(differences)
}

fn list(server: &Server, output: &Output) -> CommandResult {
    let builds = block_on(async { server.client()?.builds().await.map_err(refused) })?;
    output.data(&builds, |list| {
        rows(
            list,
            "no builds yet; start one with `fleeti build start PROFILE --version 1`",
            describe,
        )
    });
    Ok(())
}

fn verify(directory: &Path, inputs: &Inputs, cache: &Cache, output: &Output) -> CommandResult {
    let record = BuildRecord::read(directory).map_err(failure)?;
    let hint =
        "run `fleeti build verify DIR --profile PROFILE.toml --trust pki/public --lock LOCK.json`";
    let own = inputs.own(&record.release, cache)?;
    let own =
        own.ok_or_else(|| Failure::new("no own inputs to compare the build with", Some(hint)))?;
    let rebuilt = rebuilt(&own)?;
    let mut found = compare::with_build(&own, directory).map_err(failure)?;
    found.differences.extend(rebuilt);
    output.data(&found, |c| {
        let remarks: Vec<_> = c.remarks.iter().map(|r| format!("note: {r}")).collect();
        let verdict = if c.differences.is_empty() { "identical" } else { "different" };
        let files: Vec<_> = own.record.files.keys().map(ArtifactName::as_str).collect();
        Lines::from(format!("{verdict}: {}, {}", own.record.release, files.join(", "))).and(remarks)
    });
    if found.differences.is_empty() {
        Ok(())
    } else {
        Err(differs("the build", &found.differences))
    }
}

fn build_here(request: &Request, cache: &Cache, output: &Output) -> CommandResult {
    let progress = Progress::endless();
    let record =
        build::run(request, cache, &mut |line| progress.say(&shorten(line))).map_err(failure)?;
    progress.end();
    output.data(&record, |r| {
        let file = |(name, file): (&ArtifactName, &FileRecord)| {
            format!("  {:<18} {:>10}  sha256 {}", name.as_str(), bytes(file.size), file.sha256)
        };
        Lines::from(format!("built {}", r.release))
            .and(format!("  root hash {}", r.root_hash))
            .and(r.files.iter().map(file).collect::<Vec<_>>())
            .and(format!("  in {}", request.out.display()))
    });
    Ok(())
}

fn describe(b: &Build) -> String {
    let phase = format!("{:?}", b.phase).to_lowercase();
    let signing =
        b.signing.map(|s| format!(", signature {s:?}").to_lowercase()).unwrap_or_default();
    format!(
        "{:<28} {:<20} revision {:<4} {phase}{signing}",
        b.id,
        b.release.to_string(),
        b.revision
    )
}

/// Starts a build, and follows it to its end if that is asked for.
pub async fn start(client: &Client, request: &CreateBuild, wait: bool) -> Result<Build, Failure> {
    let build = client.create_build(request).await.map_err(refused)?;
    if wait { followed(client, build).await } else { Ok(build) }
}

/// Follows a build to its end.
pub async fn followed(client: &Client, build: Build) -> Result<Build, Failure> {
    // Subscribe before reading the state, so that no event is missed.
    let mut events = client.events().await.map_err(refused)?;
    let mut build = client.build(&build.id).await.map_err(refused)?;
    let progress = Progress::endless();
    while matches!(build.phase, BuildPhase::Queued | BuildPhase::Running) {
        progress.say(&shorten(&build.detail));
        events
            .wait_for(|e| matches!(e, Event::Build { id } if *id == build.id))
            .await
            .map_err(refused)?;
        build = client.build(&build.id).await.map_err(refused)?;
    }
    progress.end();
    Ok(build)
}

fn agent_beside_this_program() -> Result<PathBuf, Failure> {
    let path = std::env::current_exe().map_err(Failure::plain)?.with_file_name("fleeti-agent");
    if path.exists() {
        Ok(path)
    } else {
        Err(Failure::new(
            format!("{} does not exist", path.display()),
            Some("name the agent's executable with --agent"),
        ))
    }
}

/// Shows `building '/nix/store/HASH-NAME.drv'...` as `building NAME`.
fn shorten(line: &str) -> String {
    match line.strip_prefix("building '/nix/store/") {
        Some(rest) => format!(
            "building {}",
            rest.get(33..).unwrap_or(rest).trim_end_matches("'...").trim_end_matches(".drv")
        ),
        None => line.to_owned(),
    }
}
