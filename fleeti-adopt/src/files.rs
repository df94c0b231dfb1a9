//! Files of configuration: changed ones of packages, and own ones.

use crate::accounts::Owners;
use crate::conffile::{Conffiles, Origin};
use crate::draft::{Draft, count, listed, no_room};
use crate::note::Area;
use crate::options::Options;
use crate::secret;
use crate::snapshot::{Content, Entry, Kind, Snapshot};
use crate::tree::BEYOND;
use fleeti_core::profile::File;

/// Paths that packages, the installer or other sections of the profile make. The end `*` matches
/// the rest of a path.
const GENERATED: &[&str] = &[
    "/etc/.*",
    "/etc/X11/default-display-manager",
    "/etc/adduser.conf",
    "/etc/adjtime",
    "/etc/aliases.db",
    "/etc/alternatives/*",
    "/etc/apparmor.d/cache*",
    "/etc/apparmor.d/local/*",
    "/etc/apt/*",
    "/etc/ca-certificates.conf*",
    "/etc/cloud/*",
    "/etc/console-setup/*",
    "/etc/debian_version",
    "/etc/default/console-setup",
    "/etc/default/grub*",
    "/etc/default/keyboard",
    "/etc/default/locale",
    "/etc/dpkg/origins/default",
    "/etc/dictionaries-common/*",
    "/etc/environment",
    "/etc/fonts/conf.d/*",
    "/etc/group*",
    "/etc/grub.d/*",
    "/etc/gshadow*",
    "/etc/hostname",
    "/etc/init.d/.*",
    "/etc/initramfs-tools/*",
    "/etc/inputrc",
    "/etc/kernel*",
    "/etc/ld.so.cache",
    "/etc/locale.*",
    "/etc/localtime",
    "/etc/lvm/archive/*",
    "/etc/lvm/backup/*",
    "/etc/machine-id",
    "/etc/magic*",
    "/etc/mailname",
    "/etc/modules",
    "/etc/mtab",
    "/etc/network/interfaces*",
    "/etc/networks",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/pam.d/common-*",
    "/etc/passwd*",
    "/etc/postgresql-common/root.crt",
    "/etc/python3*",
    "/etc/rc?.d/*",
    "/etc/resolv.conf*",
    "/etc/rmt",
    "/etc/rpc",
    "/etc/runit/*",
    "/etc/sgml/*",
    "/etc/shadow*",
    "/etc/shells",
    "/etc/skel/*",
    "/etc/ssh/ssh_host_*",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/certs/java/*",
    "/etc/ssl/certs/ssl-cert-snakeoil.pem",
    "/etc/ssl/private/ssl-cert-snakeoil.key",
    "/etc/subgid*",
    "/etc/subuid*",
    "/etc/sudoers",
    "/etc/systemd/system/*",
    "/etc/terminfo/*",
    "/etc/timezone",
    "/etc/ucf.conf",
    "/etc/udev/rules.d/70-persistent*",
    "/etc/vulkan/*",
    "/etc/xml/*",
];

/// Places of files that a person put there.
const PLACES: [&str; 3] = ["/etc", "/usr/local/bin", "/usr/local/sbin"];

fn is_generated(path: &str) -> bool {
    GENERATED.iter().any(|entry| match entry.strip_suffix('*') {
        Some(beginning) if beginning.contains('?') => {
            // Run levels: `/etc/rc2.d/`.
            let is_level = |c: char| c.is_ascii_digit() || c == 'S';
            let (before, after) = beginning.split_once('?').unwrap_or((beginning, ""));
            path.strip_prefix(before).is_some_and(|rest| {
                rest.starts_with(is_level) && rest.get(1..).is_some_and(|r| r.starts_with(after))
            })
        }
        Some(beginning) => path.starts_with(beginning),
        None => path == *entry,
    })
}

/// Everything that decides about a file.
struct Context<'a> {
    snapshot: &'a Snapshot,
    conffiles: &'a Conffiles<'a>,
    owners: Owners,
    options: &'a Options,
    /// Links that cannot become files of the profile.
    links: Vec<&'a str>,
    /// Files outside of `/etc` that are too large or not text.
    programs: Vec<String>,
    /// Files for which there was no room.
    more: Vec<String>,
}

pub(crate) fn adopt(
    snapshot: &Snapshot,
    conffiles: &Conffiles<'_>,
    options: &Options,
    draft: &mut Draft,
) {
    let owners = Owners::of(snapshot);
    let mut context = Context {
        snapshot,
        conffiles,
        owners,
        options,
        links: Vec::new(),
        programs: Vec::new(),
        more: Vec::new(),
    };
    for place in PLACES {
        for (path, _, entry) in snapshot.below(place) {
            if !is_generated(path) && !draft.handled.contains(path) {
                context.visit(path, entry, draft);
            }
        }
    }
    context.sums(draft);
    let deleted = conffiles.deleted(snapshot);
    let deleted: Vec<_> = deleted.into_iter().filter(|path| !is_generated(path)).collect();
    if !deleted.is_empty() {
        let why = format!(
            "were deleted here, and an image has them: {}",
            listed(deleted.iter().copied())
        );
        let next = "write a [[files]] entry with an empty or harmless content";
        draft.not_taken(
            Area::Files,
            &count(deleted.len(), "file of a package", "files of packages"),
            &why,
            next,
        );
    }
}

impl<'a> Context<'a> {
    /// Notes about many files at once.
    fn sums(&self, draft: &mut Draft) {
        if !self.links.is_empty() {
            let why = format!("a profile has no links: {}", listed(self.links.iter().copied()));
            let next = "write a [[files]] entry where a link leads to a file of your own";
            draft.not_taken(Area::Files, &count(self.links.len(), "link", "links"), &why, next);
        }
        if !self.programs.is_empty() {
            let names = listed(self.programs.iter().map(String::as_str));
            let why = format!("are not text (UTF-8), or have more than 64 KiB: {names}");
            let next = "put them into a package of your own (software.own)";
            let subject = count(self.programs.len(), "program", "programs");
            draft.not_taken(Area::Files, &subject, &why, next);
        }
        if !self.more.is_empty() {
            let names = listed(self.more.iter().map(String::as_str));
            let why = format!("{}: {names}", no_room());
            let next = "put them into a package of your own (software.own)";
            draft.not_taken(Area::Files, &count(self.more.len(), "file", "files"), &why, next);
        }
    }

    fn visit(&mut self, path: &'a str, entry: &'a Entry, draft: &mut Draft) {
        let origin = self.conffiles.origin(path, entry);
        match &entry.kind {
            Kind::Directory => {}
            Kind::Special if origin == Origin::Own => {
                draft.not_taken(Area::Files, path, "is a device, a FIFO or a socket", "");
            }
            Kind::Special => {}
            Kind::Link(target) if origin == Origin::Own => self.link(path, target, draft),
            Kind::Link(_) => {}
            Kind::File(Content::Bytes { bytes, .. })
                if origin == Origin::Own && says_nothing(bytes) => {}
            Kind::File(_) if origin == Origin::Package => {}
            Kind::File(_) if is_available(path) && self.enabled(path) => {}
            Kind::File(content) => {
                let from = match origin {
                    Origin::Changed("ucf") => "changed".to_owned(),
                    Origin::Changed(package) => format!("changed, of the package {package}"),
                    Origin::Own | Origin::Package => "own".to_owned(),
                };
                self.file(path, (entry, content), &from, draft);
            }
        }
    }

    /// Whether an own link such as `sites-enabled/shop` leads to the file, so that it is taken at
    /// the place of the link.
    fn enabled(&self, path: &str) -> bool {
        let link = path.replacen("-available/", "-enabled/", 1);
        matches!(self.snapshot.entries.get(&link).map(|e| &e.kind), Some(Kind::Link(target))
            if resolve(&link, target) == path)
    }

    fn link(&mut self, path: &'a str, target: &str, draft: &mut Draft) {
        // Certificates of authorities, and units that are enabled.
        if path.starts_with("/etc/ssl/certs/") || path.contains(".wants/") {
            return;
        }
        let resolved = resolve(path, target);
        let Some(entry) = self.snapshot.entries.get(&resolved) else {
            self.links.push(path);
            return;
        };
        let is_own = self.conffiles.origin(&resolved, entry) != Origin::Package;
        match &entry.kind {
            Kind::File(content) if is_own && !is_generated(&resolved) => {
                let from = format!("the file that the link leads to, {resolved}");
                self.file(path, (entry, content), &from, draft);
            }
            _ => self.links.push(path),
        }
    }

    fn file(
        &mut self,
        path: &str,
        (entry, content): (&Entry, &Content),
        from: &str,
        draft: &mut Draft,
    ) {
        let is_asked_for = self.options.includes(path);
        let bytes = match content {
            Content::Bytes { bytes, .. } => bytes,
            Content::TooLarge { .. } if path.starts_with("/usr/") => {
                self.programs.push(path.to_owned());
                return;
            }
            Content::TooLarge { size, .. } => {
                let why = format!("has {size} bytes; files of a profile have at most 64 KiB");
                let next = "put it into a package of your own (software.own)";
                return draft.not_taken(Area::Files, path, &why, next);
            }
            Content::Unreadable(why) => {
                let next = if why == BEYOND { "" } else { "run the command as root" };
                return draft.not_taken(Area::Files, path, why, next);
            }
        };
        let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        let Some(text) = text else {
            if path.starts_with("/usr/") {
                self.programs.push(path.to_owned());
                return;
            }
            let next = "put it into a package of your own (software.own)";
            return draft.not_taken(Area::Files, path, "is not text (UTF-8)", next);
        };
        if secret::has_private_key(text) {
            let next = "store it with `fleeti secret set`; it is not copied";
            return draft.not_taken(Area::Secrets, path, "has a private key", next);
        }
        if !entry.is_public() && !is_asked_for {
            let why = format!("is not readable for every user (mode {:04o})", entry.mode);
            let next = format!("if it has no secret, take it with --include {path}");
            return draft.not_taken(Area::Files, path, &why, &next);
        }
        if let Some(why) = secret::found(text).filter(|_| !is_asked_for) {
            let next = format!(
                "store the secret with `fleeti secret set`; if it is not a secret, take the file \
                 with --include {path}"
            );
            return draft.not_taken(Area::Secrets, path, &why, &next);
        }
        if !draft.has_room(path, text) {
            self.more.push(path.to_owned());
            return;
        }
        draft.origin("files", path, from);
        draft.profile.files.push(File {
            mode: format!("{:04o}", entry.mode),
            owner: self.owners.user(entry.uid),
            group: self.owners.group(entry.gid),
            ..File::new(path, text)
        });
    }
}

fn is_available(path: &str) -> bool {
    path.contains("-available/")
}

/// Whether a file is empty or has comments only, as many that packages make.
fn says_nothing(bytes: &[u8]) -> bool {
    let is_comment = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    std::str::from_utf8(bytes).is_ok_and(|text| text.lines().all(is_comment))
}

/// Where a link leads, by the texts alone.
fn resolve(link: &str, target: &str) -> String {
    let parent = link.rsplit_once('/').map_or("", |(parent, _)| parent);
    let whole =
        if target.starts_with('/') { target.to_owned() } else { format!("{parent}/{target}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::{Installed, Package};

    fn taken(snapshot: &Snapshot, include: &[&str]) -> Draft {
        let nginx = [("/etc/nginx/nginx.conf", "user x;"), ("/etc/nginx/mime.types", "types")]
            .map(|(path, text)| (path.to_owned(), crate::tree::md5_hex(text.as_bytes())));
        let package = Package { conffiles: nginx.into(), ..Package::default() };
        let installed = Installed::from([("nginx".to_owned(), package)]);
        let include = include.iter().map(|path| (*path).to_owned()).collect();
        let options = Options { include, ..Options::default() };
        let mut draft = crate::draft::made();
        adopt(snapshot, &Conffiles::of(snapshot, &installed), &options, &mut draft);
        draft
    }

    fn paths(draft: &Draft) -> Vec<&str> {
        draft.profile.files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn changed_and_own_files_are_taken_and_links_to_them_as_files() {
        let snapshot = Snapshot::default()
            .with("/etc/nginx/nginx.conf", "changed")
            .with("/etc/nginx/mime.types", "types")
            .with("/etc/nginx/sites-available/shop", "server {}")
            .with_link("/etc/nginx/sites-enabled/shop", "../sites-available/shop")
            .with("/etc/nginx/sites-available/unused", "server {}")
            .with_link("/etc/nginx/sites-enabled/default", "/etc/nginx/mime.types")
            .with("/etc/rc2.d/S01x", "generated")
            .with("/etc/hosts.deny", "# nothing\n\n")
            .with_file("/usr/local/bin/tool", b"\x7fELF\x00", 0o755)
            .with_file("/usr/local/bin/backup", b"#!/bin/sh\nx\n", 0o755);
        let draft = taken(&snapshot, &[]);
        assert_eq!(
            paths(&draft),
            [
                "/etc/nginx/nginx.conf",
                "/etc/nginx/sites-available/unused",
                "/etc/nginx/sites-enabled/shop",
                "/usr/local/bin/backup"
            ]
        );
        assert_eq!(draft.profile.files[3].mode, "0755");
        assert_eq!(draft.origins["files /etc/nginx/nginx.conf"], "changed, of the package nginx");
        let subjects: Vec<_> = draft.notes.iter().map(|note| note.subject.as_str()).collect();
        assert_eq!(subjects, ["1 link", "1 program"]);
    }

    #[test]
    fn secrets_and_files_that_not_everybody_may_read_are_not_taken() {
        let key = "-----BEGIN PRIVATE KEY-----\nhunter22\n";
        let snapshot = Snapshot::default()
            .with("/etc/ssl/x.key", key)
            .with("/etc/app/config", "db_password = hunter22\n")
            .with_file("/etc/postgresql/15/main/pg_hba.conf", b"local all all peer\n", 0o640)
            .with_file("/etc/app/blob", b"\xff\x00", 0o644)
            .with("/etc/nginx/nginx.conf", "changed")
            .with("/etc/nginx/mime.types", "types");
        let draft = taken(&snapshot, &[]);
        assert_eq!(paths(&draft), ["/etc/nginx/nginx.conf"]);
        assert!(!format!("{:?}{:?}", draft.notes, draft.profile).contains("hunter22"));
        let of = |path: &str| draft.notes.iter().find(|n| n.subject == path).unwrap();
        assert_eq!(of("/etc/ssl/x.key").area, Area::Secrets);
        assert_eq!(of("/etc/app/config").area, Area::Secrets);
        assert!(of("/etc/postgresql/15/main/pg_hba.conf").next.contains("--include"));

        let draft = taken(&snapshot, &["/etc/postgresql", "/etc/app/config", "/etc/ssl/x.key"]);
        // A private key is never taken.
        assert_eq!(
            paths(&draft),
            ["/etc/app/config", "/etc/nginx/nginx.conf", "/etc/postgresql/15/main/pg_hba.conf"]
        );
        assert_eq!(draft.profile.files[2].mode, "0640");
    }

    #[test]
    fn a_link_is_resolved_by_its_text() {
        assert_eq!(resolve("/etc/a/b", "../c"), "/etc/c");
        assert_eq!(resolve("/etc/a/b", "/x/./y"), "/x/y");
        assert_eq!(resolve("/etc/a/b", "../../../../../shadow"), "/shadow");
    }
}
