//! `fleeti profile`.

mod document;
mod draft;
mod import;
mod shown;
mod suite;

use super::request::{block_on, refused};
use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output};
use clap::Subcommand;
pub use document::read;
use fleeti_core::profile::{self, Finding, Profile, Revision};
use fleeti_core::wire::api::ProfileRevision;
use serde::Serialize;
use std::path::{Path, PathBuf};
pub use suite::Packages;

/// What to do with profiles.
#[derive(Subcommand)]
#[command(after_help = "A web server in three minutes:
  fleeti profile library                          # templates, sets and baselines
  fleeti profile new web --template web-server    # writes web.toml
  fleeti profile search web server                # packages and units
  fleeti profile check web.toml                   # errors and warnings, each with its line
  fleeti profile show web.toml --why users[ops]   # where each value comes from

A profile of a Debian system that exists:
  sudo fleeti profile import --adopt              # writes HOSTNAME.toml, lists what was not taken")]
pub enum Command {
    /// List the fragments that a profile can extend, or print one of them.
    ///
    /// A fragment is a part of a profile: a set of packages, users or services, a security
    /// baseline, or a template of a whole system. A profile names fragments in `extends`.
    Library {
        /// Name of a fragment, such as template/web-server.
        name: Option<String>,
    },
    New(draft::New),
    Import(Box<import::Import>),
    /// Check a profile and print every error and warning with path, line and remedy.
    ///
    /// Packages, units, users and groups are checked against the packages of the suite: their lists
    /// are downloaded once, and kept in the cache. Warnings do not change the exit code.
    Check {
        /// A TOML file, such as examples/profiles/kiosk.toml.
        file: PathBuf,
        #[command(flatten)]
        packages: Packages,
    },
    Search(suite::Search),
    Show(shown::Show),
    /// Print the JSON Schema of profiles, for editors and other programs.
    ///
    /// An editor with the schema completes fields and shows their help. Errors that depend on
    /// several fields are found by `fleeti profile check` only.
    Schema,
    /// Save a profile on the server as its next revision.
    Save {
        /// A TOML file, such as examples/profiles/kiosk.toml.
        file: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// List the newest revision of each profile on the server.
    List {
        #[command(flatten)]
        server: Server,
    },
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::Library { name } => shown::library(name.as_deref(), output),
        Command::New(new) => draft::run(&new, output),
        Command::Import(import) => import::run(&import, output),
        Command::Check { file, packages } => check(&file, &packages, output),
        Command::Search(search) => suite::search(&search, output),
        Command::Show(show) => shown::run(&show, output),
        Command::Schema => {
            output.document(&profile::json_schema().map_err(Failure::plain)?);
            Ok(())
        }
        Command::Save { file, server } => {
            let profile = read(&file)?;
            let saved =
                block_on(async { server.client()?.save_profile(&profile).await.map_err(refused) })?;
            output.data(&saved, |r| {
                format!(
                    "{} revision {}; build it with `fleeti build start {} --version 1`",
                    r.line,
                    r.number,
                    file.display()
                )
            });
            Ok(())
        }
        Command::List { server } => {
            let profiles = block_on(async { server.client()?.profiles().await.map_err(refused) })?;
            output.data(&profiles, |list| match list.as_slice() {
                [] => Lines::from("no profiles yet; save one with `fleeti profile save FILE`"),
                list => Lines::from(list.iter().flat_map(shown_revision).collect::<Vec<_>>()),
            });
            Ok(())
        }
    }
}

/// A revision, and the fragments that it was made of.
fn shown_revision(revision: &ProfileRevision) -> Vec<String> {
    let description = &revision.profile.description;
    let first = format!("{:<16} revision {:<4} {description}", revision.line, revision.number);
    let made_of = revision.made_of.iter().map(|made_of| {
        let number = made_of.revision.map(|number| format!(" revision {number}"));
        let newer = made_of.newer.map(|newer| format!(", newer revision {newer} available"));
        let (number, newer) = (number.unwrap_or_default(), newer.unwrap_or_default());
        format!("  made of {}{number}{newer}", made_of.name)
    });
    std::iter::once(first).chain(made_of).collect()
}

/// A valid profile.
#[derive(Serialize)]
struct Checked {
    #[serde(flatten)]
    revision: Revision,
    warnings: Vec<Finding>,
    /// The suite whose packages it was checked against; `None` if only the rules were checked.
    suite: Option<String>,
}

fn check(file: &Path, packages: &Packages, output: &Output) -> CommandResult {
    let indexed = packages.index();
    let resolved = document::resolve_with(file, Some(&indexed))?;
    document::warn_with(file, &resolved, &indexed, output);
    let revision = Revision::new(1, resolved.profile).map_err(Failure::plain)?;
    let suite = indexed.index.map(|index| index.head().suite.clone());
    let checked = Checked { revision, warnings: resolved.warnings, suite };
    output.data(&checked, |c| {
        format!("{} is valid; digest {}", c.revision.profile.name, c.revision.digest)
    });
    Ok(())
}

/// Reads a profile that is built or locked, and checks it against the packages of the suite.
/// Warnings are printed.
pub fn read_checked(file: &Path, packages: &Packages, output: &Output) -> Result<Profile, Failure> {
    let indexed = packages.index();
    let resolved = document::resolve_with(file, Some(&indexed))?;
    document::warn_with(file, &resolved, &indexed, output);
    Ok(resolved.profile)
}
