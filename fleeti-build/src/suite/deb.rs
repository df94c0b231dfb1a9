//! What the files of a package bring, read from the .deb file: its members and sysusers.d(5). What
//! its maintainer scripts bring is known from installations.

use super::SuiteError;
use super::tar;
use fleeti_core::profile::Brought;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// Largest unit or sysusers.d file that is read, bytes.
const TEXT_MAX: u64 = 1 << 20;

/// Reads a package.
///
/// # Errors
/// [`SuiteError::Package`].
pub(super) fn read(path: &Path) -> Result<Brought, SuiteError> {
    let failed = |detail: String| SuiteError::Package { path: path.to_owned(), detail };
    let mut found = Brought::default();
    archive(path, "--fsys-tarfile", |input| {
        tar::each(input, |member| {
            if member.is_file {
                let path = member.path.trim_start_matches("./").to_owned();
                let text = if is_read(&path) { member.text(TEXT_MAX)? } else { String::new() };
                file(&path, &text, &mut found);
            }
            Ok(())
        })
    })
    .map_err(failed)?;
    Ok(found)
}

/// Runs dpkg-deb, and reads the archive that it writes.
fn archive(
    path: &Path,
    part: &str,
    read: impl FnOnce(&mut dyn Read) -> io::Result<()>,
) -> Result<(), String> {
    let mut child = Command::new("dpkg-deb")
        .arg(part)
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("dpkg-deb: {e}"))?;
    let result = match child.stdout.take() {
        Some(mut output) => read(&mut output),
        None => Ok(()),
    };
    let status = child.wait().map_err(|e| e.to_string())?;
    result.map_err(|e| e.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("dpkg-deb {part}: {status}")) }
}

/// The path below /usr of a path of a package. Before /usr was merged, the same folders were below
/// the root.
fn below_usr(path: &str) -> &str {
    path.strip_prefix("usr/").unwrap_or(path)
}

fn is_one_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/')
}

/// The name of a system unit.
pub(super) fn unit(path: &str) -> Option<&str> {
    below_usr(path).strip_prefix("lib/systemd/system/").filter(|name| is_one_name(name))
}

fn is_sysusers(path: &str) -> bool {
    let name = below_usr(path).strip_prefix("lib/sysusers.d/");
    name.is_some_and(|name| is_one_name(name) && name.ends_with(".conf"))
}

fn is_read(path: &str) -> bool {
    unit(path).is_some() || is_sysusers(path)
}

/// Adds what a file of the package brings.
fn file(path: &str, text: &str, brought: &mut Brought) {
    if let Some(unit) = unit(path) {
        brought.units.insert(unit.to_owned());
        let aliases = text.lines().filter_map(|line| line.trim().strip_prefix("Alias="));
        let names = aliases.flat_map(str::split_whitespace).filter(|name| is_one_name(name));
        brought.units.extend(names.map(str::to_owned));
    } else if is_sysusers(path) {
        sysusers(text, brought);
    } else if let Some(program) = program(path) {
        brought.programs.insert(program);
    }
}

/// The path of a program below /usr/bin or /usr/sbin.
pub(super) fn program(path: &str) -> Option<String> {
    let path = below_usr(path);
    let folders = ["bin/", "sbin/"];
    let is_program =
        folders.iter().any(|folder| path.strip_prefix(folder).is_some_and(is_one_name));
    is_program.then(|| format!("/usr/{path}"))
}

/// Lines of sysusers.d(5): `u NAME ...`, `g NAME ...`, `m USER GROUP`.
fn sysusers(text: &str, brought: &mut Brought) {
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["u" | "u!", name, ..] => {
                account(name, &mut brought.users);
                account(name, &mut brought.groups);
            }
            ["g", name, ..] => account(name, &mut brought.groups),
            ["m", user, group, ..] => {
                account(user, &mut brought.users);
                account(group, &mut brought.groups);
            }
            _ => {}
        }
    }
}

pub(super) fn is_account(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.len() <= 31
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
}

fn account(name: &str, names: &mut BTreeSet<String>) {
    if is_account(name) {
        names.insert(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn units_programs_and_sysusers_are_found() {
        let mut brought = Brought::default();
        file("usr/lib/systemd/system/ssh.service", "[Install]\nAlias=sshd.service\n", &mut brought);
        file("lib/systemd/system/x.socket", "", &mut brought);
        file("usr/lib/systemd/system/a.target.wants/x.service", "", &mut brought);
        file("usr/sbin/sshd", "", &mut brought);
        file(
            "usr/lib/sysusers.d/x.conf",
            "u! sshd - \"x\" /run\ng _ssh -\nm ops video\n#u no\n",
            &mut brought,
        );
        assert_eq!(brought.units, names(&["ssh.service", "sshd.service", "x.socket"]));
        assert_eq!(brought.programs, names(&["/usr/sbin/sshd"]));
        assert_eq!(brought.users, names(&["ops", "sshd"]));
        assert_eq!(brought.groups, names(&["_ssh", "sshd", "video"]));
    }
}
