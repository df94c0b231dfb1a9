//! `fleeti profile new`: a commented profile to start from.

use super::{document, shown};
use crate::CommandResult;
use crate::output::{Failure, Output};
use fleeti_core::id::Line;
use fleeti_core::profile::{Builtin, Fragment, Kind, Library, Profile};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Write a commented profile that extends a template.
///
/// The profile is valid as it is: `fleeti profile check` passes. Its comments say what to change
/// first.
#[derive(clap::Args)]
pub struct New {
    /// Name of the profile, and image line of its builds: 1 to 16 characters of a-z, 0-9 and '-'.
    name: Line,
    /// Template to start from, such as web-server. `fleeti profile library` lists them.
    #[arg(long)]
    template: String,
    /// Further fragment to extend, such as baseline/strict or ./base.toml. A later one changes an
    /// earlier one.
    #[arg(long, value_name = "FRAGMENT")]
    extends: Vec<String>,
    /// File to write, or `-` for stdout [default: NAME.toml]. An existing file is not changed.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What was written.
#[derive(Serialize)]
struct Draft<'a> {
    name: &'a Line,
    /// `None` for stdout.
    file: Option<&'a Path>,
    extends: &'a [String],
    text: &'a str,
}

pub fn run(new: &New, output: &Output) -> CommandResult {
    let template = template(&new.template)?;
    let file = new.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.toml", new.name)));
    let extends = [&[template.name.to_string()], new.extends.as_slice()].concat();
    let head = head(&new.name, &file, &template, &extends);
    // The comments depend on what the fragments bring.
    let profile = document::resolve_text(&file, &head, None)?.profile;
    let text = format!("{head}{}", examples(&profile));
    let resolved = document::resolve_text(&file, &text, None)?;
    let is_stdout = file == Path::new("-");
    let draft = Draft {
        name: &new.name,
        file: (!is_stdout).then_some(&file),
        extends: &extends,
        text: &text,
    };
    if is_stdout {
        output.toml(&draft, &text);
    } else {
        write_new(&file, &text)?;
        output.data(&draft, |_| {
            let file = file.display();
            format!("wrote {file}; edit it, then run `fleeti profile check {file}`")
        });
    }
    document::warn(&file, &resolved, output);
    Ok(())
}

/// The template of a name, with or without `template/`.
fn template(name: &str) -> Result<Fragment, Failure> {
    let full = if name.contains('/') { name.to_owned() } else { format!("template/{name}") };
    let templates = Builtin::all().into_iter().filter(|f| f.kind == Kind::Template);
    let known: Vec<_> = templates.map(|f| f.name.into_owned()).collect();
    match Builtin.find(&full).filter(|fragment| fragment.kind == Kind::Template) {
        Some(fragment) => Ok(fragment),
        None => Err(shown::unknown("template", &full, &known)),
    }
}

fn write_new(file: &Path, text: &str) -> Result<(), Failure> {
    let written = fleeti_files::create_durably(file, text.as_bytes(), fleeti_files::PUBLIC);
    written.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => Failure::new(
            format!("{} exists already", file.display()),
            Some("name another file with --out"),
        ),
        _ => Failure::plain(format!("{}: {e}", file.display())),
    })
}

/// The text up to the comments about sections.
fn head(name: &Line, file: &Path, template: &Fragment, extends: &[String]) -> String {
    let file = if file == Path::new("-") {
        format!("{name}.toml")
    } else {
        file.display().to_string().replace(|c: char| c.is_control(), "?")
    };
    let summary = template.summary().trim_end_matches('.');
    let list: Vec<_> = extends.iter().map(|name| format!("{name:?}")).collect();
    format!(
        "# {summary}.
#
#   fleeti profile check {file}              # errors and warnings, each with its line
#   fleeti profile show {file}               # what is set, and where
#   fleeti profile show {file} --resolved    # the whole profile
#
# Lines with \"#\" directly before the text are examples: remove the \"#\" to use them.
schema = 1
name = \"{name}\"
description = {summary:?}
architecture = \"x86_64\"

# A later fragment changes an earlier one, and this file changes all of them:
#   fleeti profile library {}
extends = [{}]
",
        template.name,
        list.join(", ")
    )
}

/// Examples of what is changed first.
fn examples(profile: &Profile) -> String {
    let name = &profile.name;
    let packages = &profile.software.packages;
    let mut text = format!(
        "
# {{id}} is the id of the device.
#identity.hostname = \"{name}-{{id}}\"
#identity.time_zone = \"Europe/Berlin\"

# Packages of the base, besides those of the fragments.
#software.packages = [\"file\"]
"
    );
    if packages.iter().any(|package| package == "jq") {
        text.push_str(
            "
# What the fragments bring and this system does not need.
#remove.software.packages = [\"jq\"]
",
        );
    }
    let user = profile.users.first();
    let has_ssh = packages.iter().any(|package| package == "openssh-server");
    if let Some(user) = user.filter(|_| has_ssh) {
        // Writing to a string does not fail.
        write!(
            text,
            "
# The account of a fragment needs a public key to log in: one line of a .pub file.
#[[users]]
#name = \"{}\"
#ssh_keys = [\"ssh-ed25519 AAAA... name@example.com\"]
",
            user.name
        )
        .ok();
    }
    write!(
        text,
        "
# A port that is open in the packet filter, and the unit that listens on it.
#[[network.firewall.rules]]
#name = \"app\"
#service = \"app.service\"
#ports = [\"8080\"]

# A directory that survives updates. Everything else is that of the image after each boot.
#[[state.directories]]
#path = \"/var/lib/{name}-data\"

# A file of the image.
#[[files]]
#path = \"/etc/motd\"
#content = \"This is {name}.\\n\"

# A new image is kept unless the weights of its failed checks reach 100.
#[[health_checks]]
#name = \"memory is left\"
#memory_free_mib = 64
#weight = 50
"
    )
    .ok();
    text
}
