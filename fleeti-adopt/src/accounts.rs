//! Users and groups: passwd(5), shadow(5), group(5), authorized keys.

use crate::draft::{Draft, listed, no_room};
use crate::note::Area;
use crate::options::Options;
use crate::snapshot::{Entry, Kind, Snapshot};
use fleeti_core::profile::{Group, User};
use std::collections::BTreeMap;

/// An account of passwd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    comment: String,
    pub(crate) home: String,
    shell: String,
}

/// A group of group(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupEntry {
    pub(crate) name: String,
    pub(crate) gid: u32,
    members: Vec<String>,
}

/// Ids of people and of services that an administrator made, as in login.defs(5).
const IDS: std::ops::RangeInclusive<u32> = 1000..=59999;
/// Ids below are those of base-passwd, the same on every Debian.
const SYSTEM_FROM: u32 = 100;

/// The accounts of passwd(5).
pub(crate) fn accounts(text: &str) -> Vec<Account> {
    let account = |line: &str| {
        let fields: Vec<_> = line.split(':').collect();
        let [name, _, uid, gid, comment, home, shell] = fields.as_slice() else { return None };
        Some(Account {
            name: (*name).to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            comment: comment.split(',').next().unwrap_or_default().to_owned(),
            home: (*home).to_owned(),
            shell: (*shell).to_owned(),
        })
    };
    text.lines().filter_map(account).collect()
}

/// The groups of group(5).
pub(crate) fn groups(text: &str) -> Vec<GroupEntry> {
    let group = |line: &str| {
        let fields: Vec<_> = line.split(':').collect();
        let [name, _, gid, members] = fields.as_slice() else { return None };
        let members = members.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect();
        Some(GroupEntry { name: (*name).to_owned(), gid: gid.parse().ok()?, members })
    };
    text.lines().filter_map(group).collect()
}

/// The path of the authorized keys of an account.
pub(crate) fn keys_path(account: &Account) -> String {
    format!("{}/.ssh/authorized_keys", account.home.trim_end_matches('/'))
}

/// Whether the id of an account is in the range that a profile can set.
pub(crate) fn is_own(account: &Account) -> bool {
    IDS.contains(&account.uid)
}

/// The names of owners by their numbers.
pub(crate) struct Owners {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Owners {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let users = accounts(snapshot.text("/etc/passwd").unwrap_or_default());
        let groups = groups(snapshot.text("/etc/group").unwrap_or_default());
        Self {
            users: users.into_iter().rev().map(|user| (user.uid, user.name)).collect(),
            groups: groups.into_iter().rev().map(|group| (group.gid, group.name)).collect(),
        }
    }
    /// The name of a user, or its number.
    pub(crate) fn user(&self, uid: u32) -> String {
        self.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }
    /// The name of a group, or its number.
    pub(crate) fn group(&self, gid: u32) -> String {
        self.groups.get(&gid).cloned().unwrap_or_else(|| gid.to_string())
    }
}

pub(crate) fn adopt(snapshot: &Snapshot, options: &Options, draft: &mut Draft) {
    let users = accounts(snapshot.text("/etc/passwd").unwrap_or_default());
    let groups = groups(snapshot.text("/etc/group").unwrap_or_default());
    if users.is_empty() {
        draft.not_taken(Area::Accounts, "/etc/passwd", "is missing or not readable", "");
    }
    let shadow = Shadow::of(snapshot, draft);
    let mut of_packages = Vec::new();
    for account in &users {
        match account.uid {
            0 => root(account, snapshot, &shadow, draft),
            uid if IDS.contains(&uid) => person(account, &groups, snapshot, draft),
            uid if !(SYSTEM_FROM..65534).contains(&uid) => {}
            _ if snapshot.account_words.contains(&account.name) => {
                of_packages.push(account.name.as_str());
            }
            _ => system(account, &groups, draft),
        }
        let is_taken = draft.profile.users.iter().any(|user| user.name == account.name);
        if is_taken {
            shadow.apply(account, options, draft);
        }
    }
    if !of_packages.is_empty() {
        let why = "packages create these accounts, also in an image";
        draft.replaced(Area::Accounts, &listed(of_packages), why);
    }
    add_groups(&users, &groups, snapshot, draft);
}

fn root(account: &Account, snapshot: &Snapshot, shadow: &Shadow<'_>, draft: &mut Draft) {
    if account.name != "root" {
        let next = "use an account of its own with sudo";
        draft.not_taken(Area::Accounts, &account.name, "has the user id 0", next);
        return;
    }
    if shadow.hash_of("root").is_some() {
        let why = "root has no password on a device";
        draft.not_taken(Area::Accounts, "password of root", why, "use sudo");
    }
    let has_keys = snapshot
        .text(&keys_path(account))
        .is_some_and(|text| text.lines().any(|line| is_key_line(line.trim())));
    if has_keys {
        let why = "nobody logs in as root on a device";
        let next = "add the keys to a user with a sudo rule";
        draft.not_taken(Area::Accounts, "SSH keys of root", why, next);
    }
}

fn is_key_line(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

/// The supplementary groups of an account.
fn supplementary(account: &Account, groups: &[GroupEntry], draft: &mut Draft) -> Vec<String> {
    let own = groups.iter().find(|group| group.gid == account.gid);
    let mut names: Vec<_> = groups
        .iter()
        .filter(|group| group.name != account.name && group.members.contains(&account.name))
        .map(|group| group.name.clone())
        .collect();
    if let Some(own) = own.filter(|own| own.name != account.name) {
        let why = format!("the primary group is {}; it is a supplementary group now", own.name);
        let next = "new files of the user belong to the user's own group";
        draft.taken(Area::Accounts, &account.name, &why, next);
        if !names.contains(&own.name) {
            names.push(own.name.clone());
        }
    }
    names
}

fn person(account: &Account, groups: &[GroupEntry], snapshot: &Snapshot, draft: &mut Draft) {
    let groups = supplementary(account, groups, draft);
    let user = User {
        name: account.name.clone(),
        comment: account.comment.clone(),
        id: Some(account.uid),
        groups,
        ssh_keys: ssh_keys(account, snapshot, draft),
        password_hash: None,
        shell: if account.shell.is_empty() { "/bin/sh".to_owned() } else { account.shell.clone() },
        expires: None,
    };
    let home = &account.home;
    if *home != format!("/home/{}", account.name) {
        let why = format!("the home directory is {home}; on a device it is below /home");
        draft.taken(Area::Accounts, &account.name, &why, "move the data, and check paths");
    }
    let from = format!("/etc/passwd, home directory {home} (its content is not copied)");
    draft.origin("users", &user.name, from);
    draft.profile.users.push(user);
}

/// An account with a low id that no package is known to create.
fn system(account: &Account, groups: &[GroupEntry], draft: &mut Draft) {
    let groups = supplementary(account, groups, draft);
    draft.profile.users.push(User {
        name: account.name.clone(),
        comment: account.comment.clone(),
        id: None,
        groups,
        ssh_keys: Vec::new(),
        password_hash: None,
        shell: account.shell.clone(),
        expires: None,
    });
    let from = format!("/etc/passwd, a system account with the id {}", account.uid);
    draft.origin("users", &account.name, from);
    let why =
        format!("is a system account (id {}) that no package is known to create", account.uid);
    let next = "a profile gives it another id: after copying data, set its owner again";
    draft.taken(Area::Accounts, &account.name, &why, next);
}

fn ssh_keys(account: &Account, snapshot: &Snapshot, draft: &mut Draft) -> Vec<String> {
    let path = keys_path(account);
    let Some(Entry { kind: Kind::File(_), .. }) = snapshot.entries.get(&path) else {
        return Vec::new();
    };
    let Some(text) = snapshot.text(&path) else {
        draft.not_readable(Area::Accounts, &path);
        return Vec::new();
    };
    let mut keys: Vec<String> = Vec::new();
    for (i, line) in text.lines().map(str::trim).enumerate() {
        if !is_key_line(line) {
            continue;
        }
        let kinds = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];
        let at = format!("{path}, line {}", i + 1);
        if !kinds.iter().any(|kind| line.starts_with(kind)) {
            // INVARIANT: the line is not shown. A link could lead to any file of the system.
            let why = "has options, or is not a key: a profile has keys without options, and \
                       without its options a key could do more";
            draft.not_taken(Area::Accounts, &at, why, "decide whether to add the key");
        } else if !keys.iter().any(|key| key == line) {
            if draft.has_room_for_key(line) {
                keys.push(line.to_owned());
            } else {
                draft.not_taken(Area::Accounts, &at, &no_room(), "");
            }
        }
    }
    keys
}

/// Adds the groups that no package is known to create and that do not have the name of a user.
fn add_groups(users: &[Account], groups: &[GroupEntry], snapshot: &Snapshot, draft: &mut Draft) {
    for group in groups {
        let is_of_user = users.iter().any(|user| user.name == group.name);
        let is_own_id = IDS.contains(&group.gid);
        let is_known = group.gid <= SYSTEM_FROM
            || group.gid >= 65534
            || !is_own_id && snapshot.account_words.contains(&group.name);
        if is_of_user || is_known {
            continue;
        }
        let id = is_own_id.then_some(group.gid);
        draft.profile.groups.push(Group { name: group.name.clone(), id });
    }
}

/// shadow(5).
struct Shadow<'a> {
    lines: Vec<Vec<&'a str>>,
}

impl<'a> Shadow<'a> {
    fn of(snapshot: &'a Snapshot, draft: &mut Draft) -> Self {
        let text = snapshot.text("/etc/shadow");
        if text.is_none() {
            let why = "is missing or not readable: passwords and dates of expiry are not known";
            draft.not_taken(Area::Accounts, "/etc/shadow", why, "run the command as root");
        }
        let lines = text.unwrap_or_default().lines();
        Self { lines: lines.map(|line| line.split(':').collect()).collect() }
    }

    fn of_user(&self, name: &str) -> Option<&[&'a str]> {
        self.lines.iter().find(|fields| fields.first() == Some(&name)).map(Vec::as_slice)
    }

    /// The hash of a password that can be used.
    fn hash_of(&self, name: &str) -> Option<&'a str> {
        let hash = *self.of_user(name)?.get(1)?;
        (!hash.is_empty() && !hash.starts_with(['!', '*'])).then_some(hash)
    }

    fn apply(&self, account: &Account, options: &Options, draft: &mut Draft) {
        let Some(fields) = self.of_user(&account.name) else { return };
        let hash = self.hash_of(&account.name);
        let days = fields.get(7).and_then(|days| days.parse().ok());
        let user = draft.profile.users.iter_mut().find(|user| user.name == account.name);
        let Some(user) = user else { return };
        user.expires = days.and_then(date);
        if options.password_hashes {
            user.password_hash = hash.map(str::to_owned);
        } else if hash.is_some() {
            let subject = format!("password of {}", account.name);
            let why = "a hash can be attacked offline, and everyone who has the profile or an \
                       image has it; the password is locked";
            let next = "use SSH keys, or take hashes with --password-hashes";
            draft.not_taken(Area::Secrets, &subject, why, next);
        }
        if fields.get(1) == Some(&"") {
            let why = "is empty on this system; it is locked in the profile";
            draft.not_taken(Area::Accounts, &format!("password of {}", account.name), why, "");
        }
    }
}

/// The date of a number of days after 1970-01-01.
fn date(days: i32) -> Option<String> {
    let epoch = jiff::civil::date(1970, 1, 1);
    epoch.checked_add(jiff::Span::new().try_days(days).ok()?).ok().map(|date| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/bash
toor:x:0:0::/root:/bin/bash
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
postgres:x:112:120:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash
shop:x:998:998::/opt/shop:/usr/sbin/nologin
ada:x:1000:1000:Ada,Room 1,,:/home/ada:/bin/bash
bob:x:1001:100::/srv/bob:
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
broken
";
    const GROUP: &str = "\
users:x:100:
sudo:x:27:ada
docker:x:990:ada,bob
deploy:x:1500:ada
ada:x:1000:
postgres:x:120:
";
    const SHADOW: &str = "\
root:$y$j9T$x$hash:19000::::::
ada:$y$j9T$aaaaaaaa$hunter22:19000:0:99999:7::21183:
bob:!:19000::::::
";

    fn taken(snapshot: Snapshot, options: &Options) -> Draft {
        let mut snapshot = snapshot
            .with("/etc/passwd", PASSWD)
            .with("/etc/group", GROUP)
            .with_file("/etc/shadow", SHADOW.as_bytes(), 0o640);
        snapshot.account_words = ["postgres", "docker"].map(str::to_owned).into();
        let mut draft = crate::draft::made();
        adopt(&snapshot, options, &mut draft);
        draft
    }

    #[test]
    fn people_and_own_system_accounts_are_taken_and_those_of_packages_are_not() {
        let draft = taken(Snapshot::default(), &Options::default());
        let users = &draft.profile.users;
        let names: Vec<_> = users.iter().map(|user| (user.name.as_str(), user.id)).collect();
        assert_eq!(names, [("shop", None), ("ada", Some(1000)), ("bob", Some(1001))]);
        assert_eq!(users[1].comment, "Ada");
        assert_eq!(users[1].groups, ["sudo", "docker", "deploy"]);
        assert_eq!(users[1].expires.as_deref(), Some("2027-12-31"));
        assert_eq!(
            (users[2].shell.as_str(), users[2].groups.as_slice()),
            ("/bin/sh", &["docker".to_owned(), "users".to_owned()][..])
        );
        let groups: Vec<_> = draft.profile.groups.iter().map(|g| (g.name.as_str(), g.id)).collect();
        assert_eq!(groups, [("deploy", Some(1500))]);
        let subjects: Vec<_> = draft.notes.iter().map(|note| note.subject.as_str()).collect();
        for subject in ["password of root", "toor", "postgres", "bob", "shop"] {
            assert!(subjects.contains(&subject), "{subject} in {subjects:?}");
        }
    }

    #[test]
    fn a_hash_is_taken_only_if_it_is_asked_for_and_never_named() {
        let draft = taken(Snapshot::default(), &Options::default());
        assert!(draft.profile.users.iter().all(|user| user.password_hash.is_none()));
        assert!(!format!("{:?}", draft.notes).contains("hunter22"));
        assert!(
            draft.notes.iter().any(|n| n.subject == "password of ada" && n.area == Area::Secrets)
        );
        let options = Options { password_hashes: true, ..Options::default() };
        let draft = taken(Snapshot::default(), &options);
        let hash = draft.profile.users[1].password_hash.as_deref();
        assert_eq!(hash, Some("$y$j9T$aaaaaaaa$hunter22"));
        assert_eq!(draft.profile.users[2].password_hash, None);
    }

    #[test]
    fn keys_with_options_and_lines_that_are_no_keys_are_neither_taken_nor_shown() {
        let text = "# c\nssh-ed25519 AAAA ada\nfrom=\"10.0.0.1\" ssh-ed25519 BBBB x\n\
                    ada:$y$secret:1\nssh-ed25519 AAAA ada\n";
        let snapshot =
            Snapshot::default().with_file("/home/ada/.ssh/authorized_keys", text.as_bytes(), 0o600);
        let draft = taken(snapshot, &Options::default());
        assert_eq!(draft.profile.users[1].ssh_keys, ["ssh-ed25519 AAAA ada"]);
        let notes = format!("{:?}", draft.notes);
        assert!(notes.contains("authorized_keys, line 3") && notes.contains("line 4"), "{notes}");
        assert!(!notes.contains("BBBB") && !notes.contains("secret:1"), "{notes}");
    }
}
