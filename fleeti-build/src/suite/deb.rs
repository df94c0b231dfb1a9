//! What a package brings, read from the .deb file: its members, sysusers.d(5), and what its
//! maintainer scripts create. Scripts are read and never run.

use super::SuiteError;
use super::tar;
use fleeti_core::profile::Brought;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// Largest unit, sysusers.d file or maintainer script that is read, bytes.
const TEXT_MAX: u64 = 1 << 20;

/// A package that was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) brought: Brought,
    /// Whether that is all. A script may compute the name of a user.
    pub(super) is_whole: bool,
}

/// Reads a package.
///
/// # Errors
/// [`SuiteError::Package`].
pub(super) fn read(path: &Path) -> Result<Reading, SuiteError> {
    let failed = |detail: String| SuiteError::Package { path: path.to_owned(), detail };
    let mut found = Reading { is_whole: true, ..Reading::default() };
    archive(path, "--fsys-tarfile", |input| {
        tar::each(input, |member| {
            if member.is_file {
                let path = member.path.trim_start_matches("./").to_owned();
                let text = if is_read(&path) { member.text(TEXT_MAX)? } else { String::new() };
                file(&path, &text, &mut found.brought);
            }
            Ok(())
        })
    })
    .map_err(failed)?;
    archive(path, "--ctrl-tarfile", |input| {
        tar::each(input, |member| {
            let name = member.path.trim_start_matches("./").to_owned();
            if ["preinst", "postinst"].contains(&name.as_str()) {
                script(&member.text(TEXT_MAX)?, &mut found);
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

fn is_account(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.len() <= 31
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
}

fn account(name: &str, names: &mut BTreeSet<String>) {
    if is_account(name) {
        names.insert(name.to_owned());
    }
}

/// Options of adduser, addgroup, useradd and groupadd that have a value.
const WITH_VALUE: &[&str] = &[
    "--home",
    "--shell",
    "--gecos",
    "--comment",
    "--ingroup",
    "--gid",
    "--uid",
    "--firstuid",
    "--lastuid",
    "--firstgid",
    "--lastgid",
    "--conf",
    "--home-dir",
    "--groups",
    "--key",
    "-d",
    "-s",
    "-c",
    "-g",
    "-u",
    "-G",
    "-K",
    "-h",
];

/// Adds what a maintainer script creates.
fn script(text: &str, found: &mut Reading) {
    let text = text.replace("\\\n", " ");
    let variables = variables(&text);
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let words = words(line);
        for (at, word) in words.iter().enumerate() {
            let rest = &words[at + 1..];
            match word.rsplit('/').next().unwrap_or_default() {
                program @ ("adduser" | "addgroup" | "useradd" | "groupadd") => {
                    created(program, rest, &variables, found);
                }
                "--install" | "--slave" => {
                    let link = rest.first().and_then(|path| program(path.trim_start_matches('/')));
                    found.brought.programs.extend(link);
                }
                _ => {}
            }
        }
    }
}

/// The words of a line of shell. Quotes join what they enclose.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ' ' | '\t') => words.push(String::new()),
            _ => words.iter_mut().next_back().into_iter().for_each(|word| word.push(c)),
        }
    }
    let bare = |word: String| word.trim_matches([';', '(', ')']).to_owned();
    words.into_iter().map(bare).filter(|word| !word.is_empty()).collect()
}

/// Variables of a script to which a name is assigned.
fn variables(text: &str) -> BTreeMap<&str, &str> {
    let assigned = |line: &'_ str| -> Option<(usize, usize)> {
        let at = line.find('=')?;
        let is_name = at > 0 && line[..at].bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        is_name.then_some((at, at + 1))
    };
    let mut variables = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if let Some((end, start)) = assigned(line) {
            let value = line[start..].trim_matches(['"', '\'', ';']);
            variables.insert(&line[..end], value);
        }
    }
    variables
}

/// Adds the user or the group that a command creates.
fn created(program: &str, words: &[String], variables: &BTreeMap<&str, &str>, found: &mut Reading) {
    let mut names = Vec::new();
    let mut is_group = program.ends_with("group") || program == "groupadd";
    let mut has_own_group = program == "useradd";
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let ends = word.contains(['>', '|', '&']) || ["then", "fi"].contains(&word);
        if ends {
            break;
        } else if WITH_VALUE.contains(&word) {
            has_own_group &= !["-g", "--gid"].contains(&word);
            words.next();
        } else if word == "--group" && program == "adduser" {
            has_own_group = true;
        } else if word == "--group" {
            is_group = true;
        } else if !word.starts_with('-') && !word.is_empty() {
            names.push(word);
        }
    }
    // `adduser USER GROUP` adds a user to a group; a word of a message is no command.
    let is_computed = names.iter().any(|name| name.starts_with("$(") || name.starts_with('`'));
    found.is_whole &= !is_computed;
    let [name] = names.as_slice() else { return };
    let variable = name.strip_prefix('$').map(|v| v.trim_matches(['{', '}']));
    let value = match variable {
        Some(variable) => variables.get(variable).copied(),
        None => Some(*name),
    };
    match value.filter(|value| is_account(value)) {
        Some(value) if is_group => account(value, &mut found.brought.groups),
        Some(value) => {
            account(value, &mut found.brought.users);
            if has_own_group {
                account(value, &mut found.brought.groups);
            }
        }
        None => found.is_whole = false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_script(text: &str) -> Reading {
        let mut found = Reading { is_whole: true, ..Reading::default() };
        script(text, &mut found);
        found
    }

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn users_and_groups_of_maintainer_scripts_are_found() {
        for (text, users, groups) in [
            (
                "if ! getent group docker > /dev/null; then\n  groupadd --system docker\nfi",
                &[][..],
                &["docker"][..],
            ),
            ("\taddgroup --system --quiet docker || true", &[], &["docker"]),
            (
                "adduser --system --group --no-create-home --home /run/x --quiet ntpsec",
                &["ntpsec"],
                &["ntpsec"],
            ),
            ("adduser --system --ingroup ssl \\\n  --gecos \"a b\" tor >/dev/null", &["tor"], &[]),
            ("useradd -r -g web -d /srv web-run", &["web-run"], &[]),
            ("useradd --system web", &["web"], &["web"]),
            ("USER=postgres\nadduser --system --group \"$USER\"", &["postgres"], &["postgres"]),
            ("adduser ops sudo", &[], &[]),
            ("# adduser --system x", &[], &[]),
        ] {
            let found = of_script(text);
            assert_eq!(
                (found.brought.users, found.brought.groups),
                (names(users), names(groups)),
                "{text}"
            );
            assert!(found.is_whole, "{text}");
        }
    }

    #[test]
    fn a_name_that_a_script_computes_makes_the_package_unknown() {
        assert!(!of_script("adduser --system $(cat /etc/name)").is_whole);
        assert!(!of_script("groupadd \"$GROUP\"").is_whole);
    }

    #[test]
    fn alternatives_units_and_sysusers_are_found() {
        let found = of_script(
            "update-alternatives --install /usr/bin/vi vi /usr/bin/vim.basic 30 \\\n --slave /usr/share/man/man1/vi.1.gz vi.1.gz /x",
        );
        assert_eq!(found.brought.programs, names(&["/usr/bin/vi"]));
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
