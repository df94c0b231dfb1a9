//! Rules of sudo: sudoers(5).

use crate::draft::Draft;
use crate::name::{label, unused};
use crate::note::Area;
use crate::snapshot::{Entry, Kind, Snapshot};
use fleeti_core::profile::SudoRule;

/// Lines that Debian's own file has.
const OF_DEBIAN: [&str; 7] = [
    "Defaults env_reset",
    "Defaults mail_badpass",
    "Defaults use_pty",
    "root ALL=(ALL:ALL) ALL",
    "@includedir /etc/sudoers.d",
    "#includedir /etc/sudoers.d",
    "Defaults secure_path=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"",
];

pub(crate) fn adopt(snapshot: &Snapshot, draft: &mut Draft) {
    let files = std::iter::once(("/etc/sudoers", snapshot.entries.get("/etc/sudoers")))
        .chain(snapshot.below("/etc/sudoers.d").map(|(path, _, entry)| (path, Some(entry))));
    for (path, entry) in files {
        draft.handle(path);
        let name = path.rsplit('/').next().unwrap_or_default();
        // sudo reads no file with a dot or a tilde in its name.
        if path != "/etc/sudoers" && name.contains(['.', '~']) || name == "README" {
            continue;
        }
        match entry.map(|entry| (entry, entry.text())) {
            Some((_, Some(text))) => file(path, name, text, draft),
            Some((Entry { kind: Kind::File(_), .. }, None)) => {
                draft.not_readable(Area::Accounts, path);
            }
            _ => {}
        }
    }
    if !draft.profile.sudo.is_empty() {
        draft.install("sudo");
    }
}

fn file(path: &str, name: &str, text: &str, draft: &mut Draft) {
    let text = text.replace("\\\n", " ");
    for (i, line) in text.lines().enumerate() {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_comment = line.starts_with('#') && !line.starts_with("#include");
        if line.is_empty() || is_comment || OF_DEBIAN.contains(&line.as_str()) {
            continue;
        }
        let at = format!("{path}, line {}", i + 1);
        match rule(&line) {
            Ok(mut rule) => {
                let rules = &draft.profile.sudo;
                let is_taken = |name: &str| rules.iter().any(|rule| rule.name == name);
                rule.name = unused(&label(name, "rule"), is_taken);
                draft.origin("sudo", &rule.name, at.as_str());
                draft.profile.sudo.push(rule);
            }
            Err(why) => {
                let next = "write it as [[sudo]], or change what needs it";
                draft.not_taken(Area::Accounts, &at, why, next);
            }
        }
    }
}

/// `WHO HOST=(RUN AS) TAG: COMMAND, COMMAND`. The rule has no name yet.
fn rule(line: &str) -> Result<SudoRule, &'static str> {
    if line.starts_with("Defaults") {
        return Err("changes a default of sudo, which a profile does not");
    }
    if line.starts_with(['@', '#']) || line.contains("_Alias ") {
        return Err("has an alias or an include, which a profile does not have");
    }
    let (left, right) = line.split_once('=').ok_or("is not a rule that is understood")?;
    let (who, host) = left.trim().rsplit_once(' ').ok_or("is not a rule that is understood")?;
    if host != "ALL" {
        return Err("is for certain hosts; a rule of a profile is for the device");
    }
    let (mut users, mut groups) = (Vec::new(), Vec::new());
    for name in who.split(',').map(str::trim) {
        match name.strip_prefix('%') {
            Some(group) => groups.push(group.to_owned()),
            None if name == "ALL" => return Err("is for every user; name users or groups"),
            None => users.push(name.to_owned()),
        }
    }
    let (run_as, commands) = match right.trim().strip_prefix('(') {
        Some(rest) => rest.split_once(')').ok_or("is not a rule that is understood")?,
        None => ("root", right),
    };
    let user = run_as.split(':').next().unwrap_or_default().trim();
    let run_as = if matches!(user, "ALL" | "") { "root" } else { user };
    let mut commands = commands.trim();
    let mut no_password = false;
    while let Some((tag, rest)) = commands.split_once(':') {
        match tag.trim() {
            "NOPASSWD" => no_password = true,
            "PASSWD" => no_password = false,
            tag if tag.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') => {
                return Err("has a tag such as SETENV or NOEXEC, which a profile does not have");
            }
            _ => break,
        }
        commands = rest.trim();
    }
    let commands = commands.split(',').map(|command| command.trim().to_owned()).collect();
    let run_as = run_as.to_owned();
    Ok(SudoRule { name: String::new(), users, groups, commands, run_as, no_password })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_with_users_groups_commands_and_tags() {
        let snapshot = Snapshot::default()
            .with_file(
                "/etc/sudoers",
                b"# c\nDefaults\tenv_reset\nDefaults insults\nroot\tALL=(ALL:ALL) ALL\n\
                  %sudo\tALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n",
                0o440,
            )
            .with(
                "/etc/sudoers.d/90-deploy",
                "ada,bob ALL=(root) NOPASSWD: /usr/bin/systemctl restart shop, \\\n /bin/ls\n\
                 ada ALL=(postgres) /usr/bin/psql\nada web01=ALL\nada ALL=SETENV: /bin/x\n",
            )
            .with("/etc/sudoers.d/ignored.bak", "eve ALL=ALL\n");
        let mut draft = crate::draft::made();
        adopt(&snapshot, &mut draft);
        let rules = &draft.profile.sudo;
        let names: Vec<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(names, ["sudoers", "90-deploy", "90-deploy-2"]);
        assert_eq!(
            (rules[0].groups.as_slice(), rules[0].no_password),
            (&["sudo".to_owned()][..], false)
        );
        assert_eq!(rules[1].users, ["ada", "bob"]);
        assert_eq!(rules[1].commands, ["/usr/bin/systemctl restart shop", "/bin/ls"]);
        assert!(rules[1].no_password);
        assert_eq!(rules[2].run_as, "postgres");
        assert_eq!(draft.notes.len(), 3, "{:?}", draft.notes);
        assert!(draft.installs("sudo"));
    }
}
