//! Host name, locale, time zone, keyboard, and the release of Debian.

use crate::draft::Draft;
use crate::ini::variable;
use crate::note::Area;
use crate::options::Options;
use crate::snapshot::{Kind, Snapshot};

/// The host name, without a domain.
pub(crate) fn hostname(snapshot: &Snapshot) -> Option<&str> {
    let text = snapshot.text("/etc/hostname")?;
    let name =
        text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    name.split('.').next()
}

/// The text of os-release(5).
fn os_release(snapshot: &Snapshot) -> Option<&str> {
    snapshot.text("/usr/lib/os-release").or_else(|| snapshot.text("/etc/os-release"))
}

/// The name of the release, for people.
pub(crate) fn release(snapshot: &Snapshot) -> String {
    os_release(snapshot)
        .and_then(|text| variable(text, "PRETTY_NAME"))
        .unwrap_or_else(|| "Debian".to_owned())
}

pub(crate) fn adopt(snapshot: &Snapshot, options: &Options, draft: &mut Draft) {
    suite(snapshot, &options.suite, draft);
    if let Some(name) = hostname(snapshot) {
        name.clone_into(&mut draft.profile.identity.hostname);
        let next = "for several devices, write a pattern such as web-{id}";
        draft.taken(Area::System, "host name", "each device of the profile gets this name", next);
    }
    let locale = ["/etc/default/locale", "/etc/locale.conf"]
        .iter()
        .find_map(|path| variable(snapshot.text(path)?, "LANG"));
    if let Some(locale) = locale.filter(|locale| locale != "C" && locale != "POSIX") {
        draft.profile.identity.locale = locale;
    }
    if let Some(zone) = time_zone(snapshot) {
        draft.profile.identity.time_zone = zone;
    }
    keyboard(snapshot, draft);
}

fn suite(snapshot: &Snapshot, suite: &str, draft: &mut Draft) {
    let text = os_release(snapshot).unwrap_or_default();
    let id = variable(text, "ID").unwrap_or_default();
    let codename = variable(text, "VERSION_CODENAME").unwrap_or_default();
    if id != "debian" {
        let why = "is not Debian; names of packages and files can differ";
        draft.taken(Area::System, &release(snapshot), why, "check every section");
    } else if codename != suite {
        let why = format!("images are made from Debian {suite}");
        let next = "check that packages and files of configuration fit the versions of that suite";
        draft.taken(Area::System, &release(snapshot), &why, next);
    }
}

/// `Etc/UTC` is the default, and so is its short name.
fn time_zone(snapshot: &Snapshot) -> Option<String> {
    let of_link = match &snapshot.entries.get("/etc/localtime").map(|entry| &entry.kind) {
        Some(Kind::Link(target)) => target.split_once("zoneinfo/").map(|(_, zone)| zone),
        _ => None,
    };
    let zone = of_link.or_else(|| snapshot.text("/etc/timezone").map(str::trim))?;
    let is_utc = matches!(zone, "" | "UTC" | "Etc/UTC" | "UCT" | "Etc/UCT" | "Zulu" | "Universal");
    (!is_utc).then(|| zone.to_owned())
}

fn keyboard(snapshot: &Snapshot, draft: &mut Draft) {
    let Some(text) = snapshot.text("/etc/default/keyboard") else { return };
    let Some(layouts) = variable(text, "XKBLAYOUT").filter(|layout| !layout.is_empty()) else {
        return;
    };
    let first = layouts.split(',').next().unwrap_or_default();
    first.clone_into(&mut draft.profile.identity.keyboard);
    let variant = variable(text, "XKBVARIANT").unwrap_or_default();
    if layouts.contains(',') || !variant.trim_matches(',').is_empty() {
        let why = "a profile has one layout without a variant";
        draft.not_taken(Area::System, "variant or second layout of the keyboard", why, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_system_are_read() {
        let snapshot = Snapshot::default()
            .with("/etc/hostname", "# x\nweb01.example.com\n")
            .with("/etc/default/locale", "LANG=\"de_DE.UTF-8\"\n")
            .with_link("/etc/localtime", "/usr/share/zoneinfo/Europe/Berlin")
            .with("/etc/default/keyboard", "XKBLAYOUT=\"de,us\"\nXKBVARIANT=\"nodeadkeys,\"\n")
            .with("/usr/lib/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n");
        let mut draft = crate::draft::made();
        adopt(&snapshot, &Options::default(), &mut draft);
        let identity = &draft.profile.identity;
        assert_eq!(identity.hostname, "web01");
        assert_eq!(identity.locale, "de_DE.UTF-8");
        assert_eq!(identity.time_zone, "Europe/Berlin");
        assert_eq!(identity.keyboard, "de");
        let subjects: Vec<_> = draft.notes.iter().map(|note| note.subject.as_str()).collect();
        let variant = "variant or second layout of the keyboard";
        assert_eq!(subjects, ["Debian", "host name", variant]);
    }
}
