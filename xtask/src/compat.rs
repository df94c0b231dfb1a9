//! `cargo xtask compat`: the previous release beside this one. What is kept of it is in `compat/`:
//! its commit, the digests of its programs, and messages, API, database and device state as it wrote
//! them (docs/decisions/0069-the-previous-release-is-kept.md).

mod api;
mod place;
mod run;

use crate::package::stdout;
use crate::{build_programs, cargo, root, run as run_command, target};
use anyhow::{Context, Result, bail, ensure};
use place::Programs;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder with what is kept.
const FOLDER: &str = "compat";
/// The programs of a release that talk to those of another one.
const PROGRAMS: [&str; 3] = ["fleeti", "fleeti-server", "fake_fleet"];
/// The packages that they are in.
const PACKAGES: [&str; 3] = ["fleeti-cli", "fleeti-server", "fleeti-examples"];

/// What `compat/previous.toml` says.
struct Previous {
    version: String,
    commit: String,
    /// `rustc --version` of the compiler that built the programs.
    compiler: String,
    /// SHA-256 of each program, by its name.
    programs: BTreeMap<String, String>,
    /// SHA-256 of each file of the folder, by its name.
    files: BTreeMap<String, String>,
    /// Breaks of the API that are intended, with the reason of each.
    accepted: BTreeMap<String, String>,
}

impl Previous {
    fn read() -> Result<Self> {
        let path = root().join(FOLDER).join("previous.toml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = toml::from_str(text)?;
        let word = |name: &str| -> Result<String> {
            let value = table.get(name).and_then(toml::Value::as_str);
            Ok(value.with_context(|| format!("{name} is missing"))?.to_owned())
        };
        let digests = |name: &str| -> Result<BTreeMap<String, String>> {
            let found = table.get(name).and_then(toml::Value::as_table);
            let found = found.with_context(|| format!("[{name}] is missing"))?;
            let digest = |(file, value): (&String, &toml::Value)| {
                let text = value.as_str().filter(|text| is_digest(text));
                let text = text.with_context(|| format!("{name}.{file:?} is no SHA-256"))?;
                Ok((file.clone(), text.to_owned()))
            };
            found.iter().map(digest).collect()
        };
        let commit = word("commit")?;
        let is_commit = commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
        ensure!(is_commit, "commit {commit:?} is not 40 hexadecimal digits");
        let previous = Self {
            version: word("version")?,
            commit,
            compiler: word("compiler")?,
            programs: digests("programs")?,
            files: digests("files")?,
            accepted: reasons(&table)?,
        };
        for name in PROGRAMS {
            ensure!(previous.programs.contains_key(name), "[programs] has no {name}");
        }
        Ok(previous)
    }
}

fn reasons(table: &toml::Table) -> Result<BTreeMap<String, String>> {
    let Some(accepted) = table.get("accepted").and_then(toml::Value::as_table) else {
        return Ok(BTreeMap::new());
    };
    let reason = |(text, value): (&String, &toml::Value)| {
        let reason = value.as_str().filter(|reason| !reason.is_empty());
        Ok((text.clone(), reason.with_context(|| format!("{text:?} has no reason"))?.to_owned()))
    };
    accepted.iter().map(reason).collect()
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// In the gate: what is kept is unchanged, and the API still serves clients of the previous release.
pub fn check() -> Result<()> {
    println!("==> what is kept of the previous release");
    let previous = Previous::read()?;
    let wrong = changed(&root().join(FOLDER), &previous.files)?;
    ensure!(wrong.is_empty(), "{FOLDER}: {}", wrong.join("; "));
    let today = root().join("fleeti-server/openapi.json");
    api::check(&root().join(FOLDER).join("openapi.json"), &today, &previous.accepted)
}

/// Files whose digest differs, which are missing, or which nothing names.
fn changed(folder: &Path, files: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (name, digest) in files {
        let path = folder.join(name);
        if !path.exists() {
            wrong.push(format!("{name} is missing"));
        } else if sha256(&path)? != *digest {
            wrong.push(format!("{name} is not the one that the previous release wrote"));
        }
    }
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !files.contains_key(&name) && !["previous.toml", "README.md"].contains(&name.as_str()) {
            wrong.push(format!("{name} is not in previous.toml"));
        }
    }
    Ok(wrong)
}

/// By coreutils, as this crate has no digests.
fn sha256(path: &Path) -> Result<String> {
    let text = stdout(Command::new("sha256sum").arg("--").arg(path))?;
    let digest = text.trim_start_matches('\\').split(' ').next().unwrap_or_default();
    ensure!(is_digest(digest), "sha256sum said {text:?}");
    Ok(digest.to_owned())
}

/// `cargo xtask compat [--check | --keep-api | [--programs DIR] [--with DIR]]`.
pub fn command(words: &[&str]) -> Result<()> {
    match words {
        ["--check"] => check(),
        ["--keep-api"] => keep_api(),
        _ => {
            let (mut kept, mut current) = (None, None);
            for pair in words.chunks(2) {
                match pair {
                    ["--programs", folder] => kept = Some(Path::new(*folder)),
                    ["--with", folder] => current = Some(Path::new(*folder)),
                    other => bail!("unknown arguments {other:?}; see `cargo xtask`"),
                }
            }
            check()?;
            if current.is_none() {
                build_programs()?;
            }
            both_directions(kept, current)
        }
    }
}

/// Keeps the API of this commit without texts for people, one line for each path and schema.
fn keep_api() -> Result<()> {
    let text = fs::read_to_string(root().join("fleeti-server/openapi.json"))?;
    let kept = api::lines(&api::essence(&serde_json::from_str(&text)?))?;
    Ok(fs::write(root().join(FOLDER).join("openapi.json"), kept)?)
}

/// Runs the programs of the previous release against those of this one. `kept` is a folder with the
/// previous ones; without it they are built from their commit. Those of this one are in `current`,
/// else in `target/ci`.
pub fn both_directions(kept: Option<&Path>, current: Option<&Path>) -> Result<()> {
    let previous = Previous::read()?;
    let folder = match kept {
        Some(folder) => folder.to_owned(),
        None => built(&previous)?,
    };
    same_programs(&folder, &previous, kept.is_some())?;
    let built = target().join("ci");
    run::run(
        &Programs::new(&folder, &format!("the previous release ({})", previous.version))?,
        &Programs::new(current.unwrap_or(&built), "this one")?,
    )
}

/// The programs of the previous release, built from its commit with the versions of its lock, unless
/// they were before.
fn built(previous: &Previous) -> Result<PathBuf> {
    let place = target().join("compat");
    let (folder, stamp) = (place.join("target/ci"), place.join("built"));
    let known = fs::read_to_string(&stamp).unwrap_or_default();
    if stamped(previous, &folder).is_ok_and(|now| now == known) {
        return Ok(folder);
    }
    let commit = previous.commit.as_str();
    let source = place.join("source");
    let git = |words: &[&str]| stdout(Command::new("git").args(words).current_dir(root()));
    let exists = git(&["cat-file", "-e", &format!("{commit}^{{commit}}")]);
    exists.with_context(|| format!("commit {commit} is not here; fetch the whole history"))?;
    let path = source.display().to_string();
    // What a run that was ended left.
    if source.exists() {
        fs::remove_dir_all(&source)?;
    }
    git(&["worktree", "prune"])?;
    fs::create_dir_all(&place)?;
    git(&["worktree", "add", "--detach", &path, commit])?;
    let mut build = cargo(&["build", "--locked", "--profile", "ci", "--bins"]);
    build.args(PACKAGES.iter().flat_map(|package| ["-p", package]));
    build.env("CARGO_TARGET_DIR", place.join("target")).env("CARGO_INCREMENTAL", "0");
    build.arg("--manifest-path").arg(source.join("Cargo.toml"));
    let ended = run_command("build the previous release", &mut build);
    git(&["worktree", "remove", "--force", &path])?;
    ended?;
    fs::write(&stamp, stamped(previous, &folder)?)?;
    Ok(folder)
}

/// Commit and programs of a folder, as one text.
fn stamped(previous: &Previous, folder: &Path) -> Result<String> {
    let line = |name: &str| Ok(format!("{name} {}\n", sha256(&folder.join(name))?));
    let lines = PROGRAMS.into_iter().map(line).collect::<Result<String>>()?;
    Ok(format!("{}\n{lines}", previous.commit))
}

/// Compares digests of programs with the kept ones. Programs that somebody names must be those.
/// Built ones have other bytes where compiler, linker or the folder of crates differ, which is said.
fn same_programs(folder: &Path, previous: &Previous, is_named: bool) -> Result<()> {
    for name in PROGRAMS {
        let found = sha256(&folder.join(name))?;
        let kept = previous.programs.get(name).map(String::as_str).unwrap_or_default();
        ensure!(
            found == kept || !is_named,
            "{}/{name} has the SHA-256 {found}, not {kept}",
            folder.display()
        );
        if found == kept {
            println!("    {name} is the kept program {found}");
        } else {
            println!("    {name} is {found}, and {kept} was built by {}", previous.compiler);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_named_with_its_digest() {
        check().unwrap();
    }

    #[test]
    fn a_changed_a_missing_and_an_unknown_file_are_named() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["same", "changed", "unknown", "previous.toml"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digests = [("same", empty), ("changed", &"0".repeat(64)), ("missing", empty)];
        let files = digests.map(|(name, digest)| (name.to_owned(), digest.to_owned())).into();
        let wrong = changed(dir.path(), &files).unwrap();
        assert_eq!(
            wrong,
            [
                "changed is not the one that the previous release wrote",
                "missing is missing",
                "unknown is not in previous.toml"
            ]
        );
    }

    #[test]
    fn a_commit_or_a_digest_of_another_form_is_refused() {
        let text = |commit: &str, digest: &str| {
            let programs = PROGRAMS.map(|name| format!("{name} = \"{digest}\"\n")).concat();
            format!(
                "version = \"1\"\ncommit = \"{commit}\"\ncompiler = \"c\"\n[programs]\n{programs}[files]\n"
            )
        };
        let (commit, digest) = ("a".repeat(40), "0".repeat(64));
        assert!(Previous::parse(&text(&commit, &digest)).is_ok());
        for (commit, digest) in
            [("main", digest.as_str()), (&commit, "0"), ("--upload-pack=x", &digest)]
        {
            assert!(Previous::parse(&text(commit, digest)).is_err(), "{commit} {digest}");
        }
    }
}
