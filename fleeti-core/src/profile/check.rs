//! Parses TOML text into a [`Profile`], or returns all findings.

use super::finding::{Finding, Lines};
use super::{Profile, TEXT_MAX, rules, shape};
use crate::id::{Architecture, Line};
use std::collections::HashMap;
use toml::de::DeTable;

/// Parses and checks a profile.
///
/// # Errors
/// All findings, ordered by line; never empty.
pub fn check(text: &str) -> Result<Profile, Vec<Finding>> {
    let mut lines = Lines { text, offsets: HashMap::new() };
    if text.len() > TEXT_MAX {
        return Err(vec![lines.finding(
            "",
            format!("{} bytes, expected at most {TEXT_MAX}", text.len()),
            format!("keep a profile below {TEXT_MAX} bytes"),
        )]);
    }
    let document = match DeTable::parse(text) {
        Ok(document) => document,
        Err(e) => {
            lines.remember("", e.span().map_or(0, |s| s.start));
            return Err(vec![lines.finding(
                "",
                e.message().to_owned(),
                "correct the TOML syntax here".to_owned(),
            )]);
        }
    };
    let mut findings = Vec::new();
    shape::walk_table(
        shape::profile_fields(),
        document.get_ref(),
        "",
        0,
        &mut lines,
        &mut findings,
    );
    // Names are types of their own in the model, so they are checked before a profile exists.
    let text_of = |name: &str| {
        document.get_ref().get(name).and_then(|v| v.get_ref().as_str().map(str::to_owned))
    };
    if let Some(Err(e)) = text_of("name").map(|s| s.parse::<Line>()) {
        findings.push(lines.finding(
            "name",
            e.to_string(),
            "choose a short name such as kiosk".to_owned(),
        ));
    }
    if let Some(Err(e)) = text_of("architecture").map(|s| s.parse::<Architecture>()) {
        findings.push(lines.finding("architecture", e.to_string(), "write \"x86_64\"".to_owned()));
    }
    match repaired_profile(text, &findings) {
        Ok(profile) => {
            // Do not report a field again that already has a finding.
            let known: Vec<String> = findings.iter().map(|f| f.path.clone()).collect();
            let new = |path: &str| {
                !known.iter().any(|k| {
                    path == k
                        || path.strip_prefix(k.as_str()).is_some_and(|r| r.starts_with(['.', '[']))
                })
            };
            let broken = rules::broken(&profile).into_iter().filter(|(path, ..)| new(path));
            findings.extend(
                broken.map(|(path, message, remedy)| lines.finding(&path, message, remedy)),
            );
        }
        // A value that fits the shape but not the type, for example an integer out of range.
        Err(e) => {
            lines.remember("", e.span().map_or(0, |s| s.start));
            findings.push(lines.finding(
                "",
                e.message().to_owned(),
                "correct the value here".to_owned(),
            ));
        }
    }
    findings.sort_by(|a, b| (a.line, &a.path).cmp(&(b.line, &b.path)));
    if findings.is_empty() { toml::from_str(text).map_err(|_| findings) } else { Err(findings) }
}

/// The profile, or, if its structure is broken, a repaired one, so that the rules can check the
/// rest.
fn repaired_profile(text: &str, findings: &[Finding]) -> Result<Profile, toml::de::Error> {
    if findings.is_empty() {
        return toml::from_str(text);
    }
    let mut value =
        shape::repaired(&shape::PROFILE, Some(toml::Value::Table(toml::from_str(text)?)));
    for (name, harmless) in [("name", "x"), ("architecture", "x86_64")] {
        if findings.iter().any(|f| f.path == name)
            && let Some(table) = value.as_table_mut()
        {
            table.insert(name.to_owned(), toml::Value::String(harmless.to_owned()));
        }
    }
    value.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n";

    fn paths(text: &str) -> Vec<(String, usize)> {
        check(text).unwrap_err().into_iter().map(|f| (f.path, f.line)).collect()
    }

    #[test]
    fn a_list_is_no_table() {
        for list in [
            "release_log = [true, 3]",
            "users = [[\"a\", []]]",
            "files = [[\"/a\", \"x\"]]",
            "health_checks = [[\"a\"]]",
        ] {
            assert!(check(&format!("{GOOD}{list}\n")).is_err(), "{list}");
        }
    }

    #[test]
    fn the_smallest_profile_passes() {
        assert_eq!(check(GOOD).unwrap().hostname, "{id}");
    }

    #[test]
    fn all_errors_come_at_once_with_their_lines() {
        let text = "schema = 2\nname = \"Kiosk\"\narchitecture = \"x86_64\"\npackages = [\"bash\", 3]\ncolour = \"red\"\n\n[[users]]\nshell = \"zsh\"\n";
        let found = paths(text);
        for want in [
            ("schema", 1),
            ("name", 2),
            ("packages[1]", 4),
            ("colour", 5),
            ("users[0].name", 7),
            ("users[0].shell", 8),
        ] {
            assert!(found.contains(&(want.0.to_owned(), want.1)), "{want:?} in {found:?}");
        }
    }

    #[test]
    fn aarch64_is_refused_with_the_reason() {
        let findings = check(&GOOD.replace("x86_64", "aarch64")).unwrap_err();
        assert_eq!(findings[0].path, "architecture");
        assert!(
            findings[0].message.contains("no base builds aarch64 yet"),
            "{}",
            findings[0].message
        );
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        assert_eq!(paths("schema = 1\nname = \n"), [(String::new(), 2)]);
    }

    #[test]
    fn every_rule_has_a_line_and_a_remedy() {
        let text = format!(
            "{GOOD}hostname = \"a b\"\nkernel_arguments = [\"init=/bin/sh\", \"a b\"]\npackages = [\"Bash\", \"jq\", \"jq\"]\n\
             [[users]]\nname = \"root\"\npassword_hash = \"hunter2\"\nssh_keys = [\"ssh-rsa\"]\nshell = \"bash\"\n\
             [[services]]\nname = \"x\"\n[[files]]\npath = \"/etc/../root\"\ncontent = \"\"\nmode = \"4755\"\n\
             [[health_checks]]\nname = \"h\"\ncommand = []\ntimeout_s = 0\n[release_log]\nage_days_max = 0\n\
             [server_contact]\ndeadline_s = 5\n"
        );
        let findings = check(&text).unwrap_err();
        let found: Vec<_> = findings.iter().map(|f| f.path.as_str()).collect();
        for want in [
            "hostname",
            "kernel_arguments[0]",
            "kernel_arguments[1]",
            "packages[0]",
            "packages[2]",
            "users[0].name",
            "users[0].password_hash",
            "users[0].ssh_keys[0]",
            "users[0].shell",
            "services[0].name",
            "files[0].path",
            "files[0].mode",
            "health_checks[0].command",
            "health_checks[0].timeout_s",
            "release_log.age_days_max",
            "server_contact.deadline_s",
        ] {
            assert!(found.contains(&want), "{want} in {found:?}");
        }
        assert!(findings.iter().all(|f| f.line > 3 && !f.remedy.is_empty()));
    }

    #[test]
    fn secrets_are_not_repeated_in_findings() {
        let text = format!("{GOOD}[[users]]\nname = \"ops\"\npassword_hash = \"hunter2\"\n");
        assert!(check(&text).unwrap_err().iter().all(|f| !f.to_string().contains("hunter2")));
    }
}
