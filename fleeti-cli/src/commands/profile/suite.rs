//! The packages of the suite: searches, and checks of profiles against them.

use crate::CommandResult;
use crate::commands::server::Server;
use crate::output::{Failure, Output, Progress};
use clap::builder::FalseyValueParser;
use fleeti_build::cache::Cache;
use fleeti_build::suite;
use fleeti_core::profile::SuiteIndex;
use fleeti_core::wire::suite::{FoundPackage, FoundUnit};
use serde::Serialize;

/// How the index of the suite's packages is found. It is made once, and kept in the cache.
#[derive(clap::Args)]
pub struct Packages {
    /// Download nothing: use the index of packages that is in the cache, if there is one.
    #[arg(long, env = "FLEETI_OFFLINE", value_parser = FalseyValueParser::new())]
    offline: bool,
    /// Download the lists of packages again.
    #[arg(long)]
    refresh_packages: bool,
}

/// Search packages and units of the suite that images are made from.
#[derive(clap::Args)]
pub struct Search {
    /// Words that the name or the summary of a package contains.
    #[arg(required = true)]
    words: Vec<String>,
    /// Maximum number of packages, and of units.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=200))]
    limit: u8,
    /// Search the packages that the server checks profiles against.
    #[arg(long)]
    on_server: bool,
    #[command(flatten)]
    packages: Packages,
    #[command(flatten)]
    server: Server,
}

/// What was found.
#[derive(Serialize)]
struct Found {
    packages: Vec<FoundPackage>,
    units: Vec<FoundUnit>,
}

/// The index, and what its user must know.
pub struct Indexed {
    /// `None` if packages are not checked.
    pub index: Option<SuiteIndex>,
    /// What is not checked, and why.
    pub note: Option<String>,
}

impl Packages {
    /// The index, or a note that says why packages are not checked.
    pub fn index(&self) -> Indexed {
        match self.find() {
            Ok(index) => {
                let note = "note: the mirror has no lists of contents, so units and programs are \
                            checked only if all packages of the profile were built here before";
                let note = (!index.head().has_contents).then(|| note.to_owned());
                Indexed { index: Some(index), note }
            }
            Err(why) => {
                let note =
                    format!("note: packages, units, users and groups were not checked: {why}");
                Indexed { index: None, note: Some(note) }
            }
        }
    }

    fn find(&self) -> Result<SuiteIndex, String> {
        let cache = Cache::discover().map_err(|e| e.to_string())?;
        let known = suite::load(&cache);
        if self.offline {
            return match known {
                Ok(Some(index)) => Ok(index),
                Ok(None) => Err(format!("no index in {}, and --offline", cache.root().display())),
                Err(e) => Err(e.to_string()),
            };
        }
        if let (Ok(Some(index)), false) = (known, self.refresh_packages) {
            return Ok(index);
        }
        let progress = Progress::endless();
        let made = suite::refresh(&cache, &mut |line| progress.say(line));
        progress.end();
        made.map_err(|e| e.to_string())
    }
}

pub fn search(search: &Search, output: &Output) -> CommandResult {
    if search.on_server {
        return search_on_server(search, output);
    }
    let hint = "run it with network and without --offline once";
    let index = search.packages.find().map_err(|e| Failure::new(e, Some(hint)))?;
    let (text, limit) = (search.words.join(" "), usize::from(search.limit));
    let found = Found {
        packages: index.search(&text, limit).map_err(Failure::plain)?,
        units: index.search_units(&text, limit).map_err(Failure::plain)?,
    };
    output.data(&found, |found| shown(found, &index.head().suite));
    Ok(())
}

fn search_on_server(search: &Search, output: &Output) -> CommandResult {
    let (text, limit) = (search.words.join(" "), u32::from(search.limit));
    let found = search.server.ask(async |c| c.search_packages(&text, limit).await)?;
    let hint = "a build worker makes it; see `fleeti worker list`";
    let suite = found
        .suite
        .ok_or_else(|| Failure::new("the server has no index of packages yet", Some(hint)))?;
    let found = Found { packages: found.packages, units: found.units };
    output.data(&found, |found| shown(found, &suite.suite));
    Ok(())
}

fn shown(found: &Found, suite: &str) -> Vec<String> {
    if found.packages.is_empty() && found.units.is_empty() {
        return vec![format!("no package or unit of {suite} fits")];
    }
    let width = |of: &dyn Fn(&FoundPackage) -> usize| {
        found.packages.iter().map(of).max().unwrap_or_default()
    };
    let names = width(&|package| package.name.len());
    let versions = width(&|package| package.version.len());
    let mut lines: Vec<_> = found
        .packages
        .iter()
        .map(|p| {
            let size = fleeti_core::size::bytes(p.size_kib.saturating_mul(1024));
            format!("{:<names$}  {:<versions$}  {size:>10}  {}", p.name, p.version, p.summary)
        })
        .collect();
    if !found.units.is_empty() {
        lines.push("units:".to_owned());
        let units = found.units.iter();
        lines.extend(units.map(|unit| format!("  {}  of {}", unit.name, unit.packages.join(", "))));
    }
    lines
}
