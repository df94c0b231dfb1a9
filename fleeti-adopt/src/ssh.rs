//! The SSH server: sshd_config(5).

use crate::draft::Draft;
use crate::note::Area;
use crate::options::Options;
use crate::packages::Installed;
use crate::snapshot::Snapshot;
use std::collections::BTreeMap;

const CONFIG: &str = "/etc/ssh/sshd_config";
const FOLDER: &str = "/etc/ssh/sshd_config.d";

/// Settings that Debian's own file has, or that change nothing.
const OF_DEBIAN: [(&str, &str); 12] = [
    ("include", ""),
    ("kbdinteractiveauthentication", "no"),
    ("challengeresponseauthentication", "no"),
    ("usepam", "yes"),
    ("x11forwarding", ""),
    ("printmotd", "no"),
    ("acceptenv", ""),
    ("subsystem", ""),
    ("pubkeyauthentication", "yes"),
    ("permitrootlogin", "no"),
    ("permitrootlogin", "prohibit-password"),
    ("permitemptypasswords", "no"),
];

/// Settings that are looked at.
const READ: [&str; 5] = [
    "passwordauthentication",
    "allowgroups",
    "allowtcpforwarding",
    "allowagentforwarding",
    "maxauthtries",
];

pub(crate) fn adopt(
    snapshot: &Snapshot,
    installed: &Installed,
    options: &Options,
    draft: &mut Draft,
) {
    let paths: Vec<_> = snapshot.below(FOLDER).map(|(path, ..)| path.to_owned()).collect();
    paths.iter().map(String::as_str).chain([CONFIG]).for_each(|path| draft.handle(path));
    if !installed.contains_key("openssh-server") {
        return;
    }
    draft.install("openssh-server");
    draft.replaced(Area::Ssh, "/etc/ssh/ssh_host_*", "each device makes host keys of its own");
    let settings = settings(snapshot, draft);
    let get = |name: &str| settings.get(name).map(String::as_str);
    let ssh = &mut draft.profile.security.ssh;
    if let Some(groups) = get("allowgroups") {
        ssh.allow_groups = groups.split_whitespace().map(str::to_owned).collect();
    }
    ssh.forwarding =
        get("allowtcpforwarding") != Some("no") || get("allowagentforwarding") != Some("no");
    if let Some(attempts) = get("maxauthtries").and_then(|value| value.parse().ok()) {
        ssh.attempts_max = attempts;
    }
    let allows_passwords = get("passwordauthentication") != Some("no");
    ssh.password_login = allows_passwords && options.password_hashes;
    if allows_passwords && !options.password_hashes {
        let next = "if it is needed, set security.ssh.password_login = true and give hashes";
        let why = "no user of the profile has a password";
        draft.not_taken(Area::Ssh, "login with a password", why, next);
    }
    for (name, value) in &settings {
        let is_of_debian =
            OF_DEBIAN.iter().any(|(of, is)| of == name && (is.is_empty() || is == value));
        if !is_of_debian && !READ.contains(&name.as_str()) {
            let why = format!("the profile has no field for this setting ({value})");
            draft.not_taken(Area::Ssh, name, &why, "look at security.ssh");
        }
    }
}

/// The first value of each setting, which is the one that counts.
fn settings(snapshot: &Snapshot, draft: &mut Draft) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let main = snapshot.text(CONFIG).map(|text| (CONFIG, text));
    for (path, text) in snapshot.texts(FOLDER, ".conf").chain(main) {
        for line in text.lines().map(str::trim) {
            let end = line.find([' ', '\t', '=']);
            let Some((name, value)) = end.map(|at| line.split_at(at)) else { continue };
            if name.starts_with('#') {
                continue;
            }
            if name.eq_ignore_ascii_case("match") {
                let why = "has a block of Match, which a profile does not have";
                draft.not_taken(Area::Ssh, path, why, "check who may log in, and from where");
                break;
            }
            let value = value.trim_matches([' ', '\t', '=', '"']).to_owned();
            let name = name.to_ascii_lowercase();
            found.entry(name).or_insert(value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Package;

    #[test]
    fn the_first_value_counts_and_what_has_no_field_is_named() {
        let snapshot = Snapshot::default()
            .with(
                CONFIG,
                "Include /etc/ssh/sshd_config.d/*.conf\n#Port 1\nPort 2222\nMaxAuthTries 3\n\
                 PasswordAuthentication yes\nUsePAM yes\nMatch User x\nAllowGroups no\n",
            )
            .with(
                "/etc/ssh/sshd_config.d/a.conf",
                "passwordauthentication no\nAllowGroups ops adm\n",
            );
        let installed = Installed::from([("openssh-server".to_owned(), Package::default())]);
        let mut draft = crate::draft::made();
        adopt(&snapshot, &installed, &Options::default(), &mut draft);
        let ssh = &draft.profile.security.ssh;
        assert_eq!(ssh.allow_groups, ["ops", "adm"]);
        assert_eq!((ssh.attempts_max, ssh.password_login, ssh.forwarding), (3, false, true));
        let subjects: Vec<_> = draft.notes.iter().map(|note| note.subject.as_str()).collect();
        assert_eq!(subjects, ["/etc/ssh/ssh_host_*", CONFIG, "port"]);
        assert!(draft.installs("openssh-server") && draft.handled.contains(CONFIG));
    }
}
