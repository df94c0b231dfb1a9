//! `fleeti profile`.

mod document;
mod draft;
mod import;
mod kept;
mod refresh;
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
        /// List also the profiles of the server, which documents on the server can extend.
        #[arg(long)]
        on_server: bool,
        #[command(flatten)]
        server: Server,
    },
    New(draft::New),
    Import(Box<import::Import>),
    /// Check a profile and print every error and warning with path, line and remedy.
    ///
    /// Packages, units, users and groups are checked against the packages of the suite: their lists
    /// are downloaded once, and kept in the cache. Warnings do not change the exit code. With
    /// --on-server the server checks the text: `extends` can name its profiles, and no files.
    Check {
        /// A TOML file, such as examples/profiles/kiosk.toml.
        file: PathBuf,
        /// Let the server check it, and save nothing.
        #[arg(long)]
        on_server: bool,
        #[command(flatten)]
        packages: Packages,
        #[command(flatten)]
        server: Server,
    },
    Search(suite::Search),
    Show(shown::Show),
    /// Print the JSON Schema of profiles, for editors and other programs.
    ///
    /// An editor with the schema completes fields and shows their help. Errors that depend on
    /// several fields are found by `fleeti profile check` only.
    Schema,
    /// Save a profile on the server as its next revision.
    ///
    /// The command resolves what the file extends, and saves the result. With --as-written the
    /// server keeps the text with its comments and resolves it: `extends` can name profiles of the
    /// server, and no files.
    Save {
        /// A TOML file, such as examples/profiles/kiosk.toml.
        file: PathBuf,
        /// Save the text as its author wrote it.
        #[arg(long)]
        as_written: bool,
        #[command(flatten)]
        server: Server,
    },
    Revisions(kept::Revisions),
    Revision(kept::OneRevision),
    Changes(kept::Changes),
    RefreshSchedule(refresh::Arguments),
    /// List the newest revision of each profile on the server.
    List {
        #[command(flatten)]
        server: Server,
    },
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::Library { name, on_server: false, .. } => shown::library(name.as_deref(), output),
        Command::Library { name, on_server: true, server } => {
            kept::library(name.as_deref(), &server, output)
        }
        Command::New(new) => draft::run(&new, output),
        Command::Import(import) => import::run(&import, output),
        Command::Check { file, on_server: false, packages, .. } => check(&file, &packages, output),
        Command::Check { file, on_server: true, server, .. } => kept::check(&file, &server, output),
        Command::Search(search) => suite::search(&search, output),
        Command::Show(show) => shown::run(&show, output),
        Command::Schema => {
            output.document(&profile::json_schema().map_err(Failure::plain)?);
            Ok(())
        }
        Command::Save { file, as_written, server } => save(&file, as_written, &server, output),
        Command::Revisions(arguments) => kept::revisions(&arguments, output),
        Command::Revision(arguments) => kept::revision(&arguments, output),
        Command::Changes(arguments) => kept::changes(&arguments, output),
        Command::RefreshSchedule(arguments) => refresh::run(&arguments, output),
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

fn save(file: &Path, as_written: bool, server: &Server, output: &Output) -> CommandResult {
    let saved = if as_written {
        let text = document::text(file)?;
        server.ask(async |c| c.save_profile_text(&text).await)?
    } else {
        let profile = read(file)?;
        server.ask(async |c| c.save_profile(&profile).await)?
    };
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

impl Checked {
    fn line(&self) -> String {
        format!("{} is valid; digest {}", self.revision.profile.name, self.revision.digest)
    }
}

fn check(file: &Path, packages: &Packages, output: &Output) -> CommandResult {
    let indexed = packages.index();
    let resolved = document::resolve_with(file, Some(&indexed))?;
    document::warn_with(file, &resolved, &indexed, output);
    let revision = Revision::new(1, resolved.profile).map_err(Failure::plain)?;
    let suite = indexed.index.map(|index| index.head().suite.clone());
    let checked = Checked { revision, warnings: resolved.warnings, suite };
    output.data(&checked, Checked::line);
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
