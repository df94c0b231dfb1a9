//! Which parts of a system are read.

use crate::accounts::{accounts, is_own, keys_path};
use crate::cron::CRONTABS;
use crate::packages::names_in_list;
use crate::snapshot::{Gap, Snapshot};
use crate::state::{PARENTS, SINGLE, is_transient};
use crate::tree::Tree;
use crate::units::ENABLED_BY_PACKAGES;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Directories that are read with everything below them.
const FOLDERS: [&str; 7] = [
    "/etc",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/share/base-files",
    "/usr/share/keyrings",
    ENABLED_BY_PACKAGES,
    CRONTABS,
];
const INFO: &str = "/var/lib/dpkg/info";
const LISTS: &str = "/var/lib/apt/lists";
/// Places for which it matters which package owns a path.
const OWNED: [&str; 9] = [
    "/etc/",
    "/var/",
    "/srv/",
    "/opt/",
    "/usr/local/",
    "/usr/share/keyrings/",
    "/lib/systemd/system/",
    "/usr/lib/systemd/system/",
    "/home/",
];

/// Reads the system below a root directory. What cannot be read is in [`Snapshot::gaps`].
///
/// # Errors
/// I/O: the root does not exist or is not a directory.
pub fn collect(root: &Path) -> io::Result<Snapshot> {
    let mut tree = Tree::open(root)?;
    let mut snapshot = Snapshot::default();
    snapshot.status = text(&tree, "/var/lib/dpkg/status", &mut snapshot);
    snapshot.extended_states = text(&tree, "/var/lib/apt/extended_states", &mut snapshot);
    packages(&tree, &mut snapshot);
    snapshot.archive = archive(&tree);
    for folder in FOLDERS {
        tree.walk(folder, &mut snapshot);
    }
    for file in ["/usr/lib/os-release", "/var/lib/ucf/hashfile"] {
        tree.read(file, &mut snapshot);
    }
    let users = accounts(snapshot.text("/etc/passwd").unwrap_or_default());
    for account in users.iter().filter(|account| is_own(account) || account.name == "root") {
        tree.read(&keys_path(account), &mut snapshot);
    }
    snapshot.gaps.extend(tree.beyond());
    data(&tree, &mut snapshot);
    Ok(snapshot)
}

/// The text of a file; empty if the file is missing or cannot be read. The second case is a gap.
fn text(tree: &Tree, path: &str, snapshot: &mut Snapshot) -> String {
    match tree.text(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => {
            snapshot.gaps.push(Gap { path: path.to_owned(), why: e.to_string() });
            String::new()
        }
    }
}

/// Paths of packages, and accounts that their scripts create.
fn packages(tree: &Tree, snapshot: &mut Snapshot) {
    let marks = ["adduser", "useradd", "addgroup", "groupadd", "sysusers"];
    for name in tree.names(INFO) {
        let path = format!("{INFO}/{name}");
        let Some((package, kind)) = name.rsplit_once('.') else { continue };
        match kind {
            "list" => {
                let package = package.split(':').next().unwrap_or_default();
                for line in text(tree, &path, snapshot).lines() {
                    if OWNED.iter().any(|place| line.starts_with(place)) {
                        snapshot.owned.insert(line.to_owned(), package.to_owned());
                    }
                }
            }
            "postinst" | "preinst" | "config" => {
                let script = text(tree, &path, snapshot);
                if marks.iter().any(|mark| script.contains(mark)) {
                    snapshot.account_words.extend(words(&script));
                }
            }
            _ => {}
        }
    }
    for name in tree.names("/usr/lib/sysusers.d") {
        let lines = text(tree, &format!("/usr/lib/sysusers.d/{name}"), snapshot);
        snapshot.account_words.extend(words(&lines));
    }
}

/// Words that can be names of accounts.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
        .filter(|word| (1..=32).contains(&word.len()))
        .map(str::to_owned)
}

/// Names of the packages in the lists of apt; `None` if one of the lists cannot be read.
fn archive(tree: &Tree) -> Option<BTreeSet<String>> {
    let names = tree.names(LISTS);
    let lists: Vec<_> = names.iter().filter(|name| name.contains("_Packages")).collect();
    let is_plain = |name: &&String| name.ends_with("_Packages");
    if lists.is_empty() || !lists.iter().all(is_plain) {
        return None;
    }
    let mut found = BTreeSet::new();
    for list in lists {
        let text = tree.text(&format!("{LISTS}/{list}")).ok()?;
        found.extend(names_in_list(&text).map(str::to_owned));
    }
    Some(found)
}

fn data(tree: &Tree, snapshot: &mut Snapshot) {
    let below = PARENTS.iter().flat_map(|parent| {
        let names = tree.names(parent);
        names.into_iter().map(move |name| format!("{parent}/{name}"))
    });
    let is_read = |path: &String| FOLDERS.contains(&path.as_str()) || is_transient(path);
    let paths: Vec<_> =
        below.filter(|path| !is_read(path)).chain(SINGLE.map(str::to_owned)).collect();
    for path in paths {
        snapshot.data.extend(tree.count(&path, snapshot));
    }
}
