//! Errors and warnings of an evaluation, each at the field of the profile that it is about.

use fleeti_core::profile::{Profile, SuiteFindings};
use fleeti_core::wire::problem::FieldError;
use serde_json::Value;

/// How messages of Fleeti's own modules begin; the path follows.
const OWN: &str = "fleeti: ";
/// The options of the profile, in messages of the module system.
const OPTIONS: &str = "fleeti.profile.";
/// Longest message that is passed on, characters.
const MESSAGE_MAX: usize = 2000;
/// Largest number of findings of one evaluation.
const FINDINGS_MAX: usize = 100;

/// Options of NixOS, and the field of the profile that sets them.
const FIELDS: &[(&str, &str)] = &[
    ("security.sudo", "sudo"),
    ("services.openssh", "security.ssh"),
    ("systemd.network", "network"),
    ("networking.", "network"),
    ("services.resolved", "network.dns"),
    ("boot.kernel", "kernel"),
    ("boot.blacklistedKernelModules", "kernel.blacklist"),
    ("boot.initrd", "hardware"),
    ("environment.etc", "files"),
    ("environment.systemPackages", "software.packages"),
    ("virtualisation.oci-containers", "containers"),
    ("image.repart", "storage"),
    ("time.timeZone", "identity.time_zone"),
    ("i18n.", "identity.locale"),
    ("console.", "identity.keyboard"),
    ("systemd.units", "services"),
    ("systemd.services", "services"),
    ("users.groups", "groups"),
    ("users.users", "users"),
];

/// The failed assertions and the warnings of a system that evaluated.
pub(super) fn of_report(profile: &Profile, report: &Value) -> SuiteFindings {
    let list = |name: &str| {
        let items = report[name].as_array().into_iter().flatten();
        let texts = items.filter_map(Value::as_str).take(FINDINGS_MAX);
        texts.map(|text| finding(profile, text)).collect::<Vec<_>>()
    };
    SuiteFindings {
        errors: list("assertions"),
        warnings: list("warnings"),
        ..SuiteFindings::default()
    }
}

/// What the evaluator says about a system that does not evaluate. A package that the stand-in does not
/// have is a warning: a package set may have it.
pub(super) fn of_error(profile: &Profile, stderr: &str) -> SuiteFindings {
    let begin = stderr.find("error:").map_or(0, |at| at + "error:".len());
    let mut found = finding(profile, stderr[begin..].trim());
    let mut findings = SuiteFindings::default();
    let is_missing =
        found.message.starts_with("attribute '") && found.message.contains("' missing");
    // In the extension it is more often a mistake.
    let is_unknown =
        found.message.starts_with("undefined variable '") && !stderr.contains("extension.nix:");
    if is_missing || is_unknown {
        found.message.insert_str(0, "not evaluated, because packages are stand-ins: ");
        findings.warnings.push(found);
    } else {
        findings.errors.push(found);
    }
    findings
}

fn finding(profile: &Profile, text: &str) -> FieldError {
    let (path, message) = match text.strip_prefix(OWN).and_then(|rest| rest.split_once(": ")) {
        Some((path, message)) => (path.to_owned(), message.to_owned()),
        None => (place(profile, text), plain(text)),
    };
    let remedy = match path.as_str() {
        "extension.nixos" => "change the module",
        _ => "change the field, or set it by another module in extension.nixos",
    };
    FieldError { path, message, remedy: remedy.to_owned(), suggestion: None }
}

/// The field that a message of NixOS is about: its own name, the extension that it names, the option
/// that the profile sets. The base itself if it names nothing.
fn place(profile: &Profile, text: &str) -> String {
    if let Some(path) = own_option(text) {
        return path;
    }
    let has_extension = !profile.extension.nixos.is_empty();
    if has_extension && text.contains("extension.nix") {
        return "extension.nixos".to_owned();
    }
    if let Some(path) = account(profile, text) {
        return path;
    }
    let known = FIELDS.iter().find(|(option, _)| text.contains(option));
    match known {
        Some((_, field)) => (*field).to_owned(),
        None if has_extension => "extension.nixos".to_owned(),
        None => "base".to_owned(),
    }
}

/// The path of an option `fleeti.profile...`, in which an entry of a list is
/// `"[definition 1-entry N]"`.
fn own_option(text: &str) -> Option<String> {
    let rest = &text[text.find(OPTIONS)? + OPTIONS.len()..];
    let mut path = String::new();
    let mut rest = rest;
    loop {
        if let Some(entry) = rest.strip_prefix("\"[definition ") {
            let (entry, after) = entry.split_once("]\"")?;
            let number: usize = entry.rsplit_once("entry ")?.1.parse().ok()?;
            path.push_str(&format!("[{}]", number.checked_sub(1)?));
            rest = after;
        } else {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            if end == 0 {
                break;
            }
            let dot = if path.is_empty() { "" } else { "." };
            path.push_str(&format!("{dot}{}", &rest[..end]));
            rest = &rest[end..];
        }
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None => break,
        }
    }
    (!path.is_empty()).then_some(path)
}

/// The entry of a user or a group that a message names.
fn account(profile: &Profile, text: &str) -> Option<String> {
    let names = |option: &str, name: &str| {
        text.contains(&format!("{option}.{name}.")) || text.contains(&format!("{option}.{name}'"))
    };
    let user = profile.users.iter().position(|u| names("users.users", &u.name));
    let group = profile.groups.iter().position(|g| names("users.groups", &g.name));
    user.map(|i| format!("users[{i}]")).or_else(|| group.map(|i| format!("groups[{i}]")))
}

/// The message without the source that follows it and without directories of the evaluation, with the
/// line of the extension if it names one; of limited length.
fn plain(text: &str) -> String {
    const FILE: &str = "extension.nix:";
    let lines = text.lines().map(str::trim);
    let said = lines.take_while(|l| !l.is_empty() && !l.starts_with("(use '--show-trace'"));
    let words = said.flat_map(str::split_whitespace).map(|word| {
        let at = word.find("extension.nix").filter(|at| word[..*at].contains('/'));
        at.map_or(word, |at| &word[at..])
    });
    let mut message = words.collect::<Vec<_>>().join(" ");
    if let Some((_, place)) = text.split_once(FILE).filter(|_| !message.contains(FILE)) {
        let line: String = place.chars().take_while(char::is_ascii_digit).collect();
        message.push_str(&format!(" (line {line})"));
    }
    message.chars().filter(|c| !c.is_control()).take(MESSAGE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::profile::check;

    fn profile(more: &str) -> Profile {
        let good = "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\nbase = \"nixos\"\n";
        check(&format!("{good}{more}")).unwrap()
    }

    #[test]
    fn messages_of_the_modules_are_at_the_field_that_they_are_about() {
        let plain = profile("[[users]]\nname = \"ops\"\nid = 1000\n");
        let extended = profile("extension.nixos = \"{ }\"\n");
        for (profile, text, path) in [
            (&plain, "fleeti: users[0].groups[1]: there is no group lpadmin", "users[0].groups[1]"),
            (
                &plain,
                "A definition for option `fleeti.profile.users.\"[definition 1-entry 2]\".name' is \
                 not of type",
                "users[1].name",
            ),
            (
                &plain,
                "The option `fleeti.profile.identity.language' does not exist.",
                "identity.language",
            ),
            (&plain, "Exactly one of users.users.ops.isSystemUser and", "users[0]"),
            (&plain, "`services.openssh.settings' is wrong", "security.ssh"),
            (&plain, "something else", "base"),
            (&extended, "something else", "extension.nixos"),
            (&extended, "syntax error at /tmp/x/extension.nix:3:5", "extension.nixos"),
        ] {
            assert_eq!(finding(profile, text).path, path, "{text}");
        }
    }

    #[test]
    fn a_package_that_the_stand_in_lacks_is_a_warning() {
        let profile = profile("extension.nixos = \"{ }\"\n");
        let found =
            of_error(&profile, "error: attribute 'htop' missing\n\n at /x/extension.nix:1:5:");
        assert!(found.errors.is_empty());
        assert_eq!(found.warnings[0].path, "extension.nixos");
    }

    #[test]
    fn a_message_does_not_name_directories_of_the_evaluation_and_is_limited() {
        let text =
            format!("syntax error at /tmp/fleeti-x/extension.nix:3:5\u{1b} {}", "x".repeat(9000));
        let found = of_error(&profile("extension.nixos = \"{\"\n"), &format!("error: {text}"));
        let message = &found.errors[0].message;
        assert!(message.starts_with("syntax error at extension.nix:3:5 x"), "{message}");
        assert!(message.len() <= MESSAGE_MAX);
    }
}
