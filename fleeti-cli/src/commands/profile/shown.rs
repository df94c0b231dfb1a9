//! Shows fragments and profiles: `fleeti profile library` and `fleeti profile show`.

use super::document;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output};
use fleeti_core::profile::{self, Builtin, Finding, Fragment, Kind, Library, Step};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Maximum length of a value in a table, characters.
const VALUE_MAX: usize = 48;

/// Show what a profile says, and where each value comes from.
///
/// Without an option: each value that the profile or one of its fragments sets, with file and line.
/// Fields that nothing sets have their defaults.
#[derive(clap::Args)]
pub struct Show {
    /// A TOML file, such as examples/profiles/kiosk.toml.
    file: PathBuf,
    /// Print the profile as it is built: one document that extends nothing.
    #[arg(long)]
    resolved: bool,
    /// Explain the values at a path and below it, with those that were replaced.
    ///
    /// An entry of a list is named by its key or its position: users[ops].shell,
    /// network.firewall, software.packages, health_checks[0].
    #[arg(long, value_name = "PATH")]
    why: Option<String>,
}

/// A fragment in a list.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    kind: &'static str,
    summary: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

impl<'a> From<&'a Fragment> for Listed<'a> {
    fn from(fragment: &'a Fragment) -> Self {
        Self {
            name: &fragment.name,
            kind: fragment.kind.noun(),
            summary: fragment.summary(),
            text: None,
        }
    }
}

/// Lists all fragments, or prints one.
pub fn library(name: Option<&str>, output: &Output) -> CommandResult {
    let Some(name) = name else {
        let fragments = Builtin::all();
        let listed: Vec<_> = fragments.iter().map(Listed::from).collect();
        output.data(&listed, |listed| by_kind(listed));
        return Ok(());
    };
    let fragment = Builtin.find(name).ok_or_else(|| unknown("fragment", name, &Builtin.names()))?;
    let listed = Listed { text: Some(&fragment.text), ..Listed::from(&fragment) };
    output.toml(&listed, &fragment.text);
    Ok(())
}

/// An error for a name that is not in the library.
pub fn unknown(what: &str, name: &str, known: &[String]) -> Failure {
    let hint = match profile::nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => "list them with `fleeti profile library`".to_owned(),
    };
    Failure::new(format!("there is no {what} {name:?}"), Some(hint))
}

fn by_kind(listed: &[Listed<'_>]) -> Vec<String> {
    let width = listed.iter().map(|l| l.name.len()).max().unwrap_or_default();
    let mut lines = Vec::new();
    for kind in Kind::ALL {
        let mut entries = listed.iter().filter(|l| l.kind == kind.noun()).peekable();
        if entries.peek().is_some() {
            lines.push(format!("{}s:", kind.noun()));
            lines.extend(entries.map(|l| format!("  {:<width$}  {}", l.name, l.summary)));
        }
    }
    lines
}

/// What a profile extends and sets.
#[derive(Serialize)]
struct Shown<'a> {
    name: String,
    extends: &'a [String],
    values: Vec<Step>,
}

pub fn run(show: &Show, output: &Output) -> CommandResult {
    let resolved = document::resolve(&show.file)?;
    document::warn(&show.file, &resolved, output);
    if let Some(path) = &show.why {
        let steps = resolved.why(path).map_err(|finding| no_field(&finding))?;
        output.data(&steps, |steps| explained(&show.file, path, steps));
        return Ok(());
    }
    if show.resolved {
        let text = resolved.to_toml().map_err(Failure::plain)?;
        output.toml(&resolved.profile, &text);
        return Ok(());
    }
    let values = resolved.why("").map_err(|finding| no_field(&finding))?;
    let shown = Shown {
        name: resolved.profile.name.to_string(),
        extends: &resolved.extends,
        values: values.into_iter().filter(|step| !step.is_replaced).collect(),
    };
    output.data(&shown, |s| {
        let extends = match s.extends {
            [] => format!("{} extends nothing", s.name),
            names => format!("{} extends {}", s.name, names.join(", ")),
        };
        Lines::from(extends).and(table(&show.file, &s.values))
    });
    Ok(())
}

fn no_field(finding: &Finding) -> Failure {
    Failure::new(format!("{}: {}", finding.path, finding.message), Some(finding.remedy.as_str()))
}

fn explained(file: &Path, path: &str, steps: &[Step]) -> Vec<String> {
    if steps.is_empty() {
        return vec![format!("nothing sets {path}: it has its default")];
    }
    table(file, steps)
}

/// One line for each value: path, value, and the place that set it.
fn table(file: &Path, steps: &[Step]) -> Vec<String> {
    let value = |step: &Step| -> String {
        if step.value.chars().count() <= VALUE_MAX {
            return step.value.clone();
        }
        step.value.chars().take(VALUE_MAX).chain(['…']).collect()
    };
    let width = |of: &dyn Fn(&Step) -> usize| steps.iter().map(of).max().unwrap_or_default();
    let paths = width(&|step| step.path.chars().count());
    let values = width(&|step| value(step).chars().count());
    let line = |step: &Step| {
        let source = match &step.source {
            Some(name) => name.clone(),
            None => file.display().to_string(),
        };
        let replaced = if step.is_replaced { ", replaced" } else { "" };
        format!("{:<paths$}  {:<values$}  {source}:{}{replaced}", step.path, value(step), step.line)
    };
    steps.iter().map(line).collect()
}
