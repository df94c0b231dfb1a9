//! Units of systemd: enabled, disabled and masked ones, own ones and drop-ins.

use crate::draft::{Draft, listed, no_room};
use crate::note::Area;
use crate::options::Options;
use crate::packages::{Installed, is_replaced};
use crate::secret;
use crate::snapshot::{Entry, Kind, Snapshot};
use fleeti_core::profile::{DropIn, Service, UnitState};
use std::collections::{BTreeMap, BTreeSet};

const FOLDER: &str = "/etc/systemd/system";
/// Where deb-systemd-helper(1p) keeps what packages enabled.
pub(crate) const ENABLED_BY_PACKAGES: &str = "/var/lib/systemd/deb-systemd-helper-enabled";
/// Kinds of units that a profile can add.
const SUFFIXES: [&str; 6] = [".service", ".socket", ".timer", ".path", ".target", ".mount"];

/// Where a unit comes from.
enum Of<'a> {
    /// The profile adds it.
    Profile,
    /// A package that the profile installs, directly or not.
    Package(&'a str),
    /// A package of a minimal system.
    Base,
    /// A package that Fleeti replaces.
    Replaced,
    /// No package and no file of the system is known to have it.
    Nobody,
}

pub(crate) fn adopt(
    snapshot: &Snapshot,
    installed: &Installed,
    options: &Options,
    draft: &mut Draft,
) {
    let mut services: BTreeMap<String, Service> = BTreeMap::new();
    for (path, rest, entry) in snapshot.below(FOLDER) {
        if let Some(text) = own_text(path, rest, entry, options, draft) {
            let service = get(&mut services, rest);
            service.state = UnitState::Disabled;
            service.unit = Some(text);
            draft.origin("services", rest, path);
            if package_of(rest, snapshot).is_some() {
                let why = "replaces the whole unit of a package";
                let next = "a drop-in with the changes alone lasts longer";
                draft.taken(Area::Services, rest, why, next);
            }
        }
    }
    let enabled = enabled(snapshot);
    let mut of_base = BTreeSet::new();
    for unit in &enabled {
        let template = template(unit);
        let is_own = services.contains_key(unit)
            || template.as_ref().is_some_and(|t| services.contains_key(t));
        match of(unit, is_own, snapshot, installed) {
            Of::Profile => get(&mut services, unit).state = UnitState::Enabled,
            Of::Package(package) => {
                get(&mut services, unit);
                draft.origin("services", unit, format!("enabled, of the package {package}"));
            }
            Of::Base => {
                of_base.insert(unit.as_str());
            }
            Of::Replaced => {}
            Of::Nobody => {
                let why = "is enabled, but no package and no file of this system has it";
                draft.not_taken(Area::Services, unit, why, "");
            }
        }
    }
    if !of_base.is_empty() {
        let why = "are enabled and belong to a minimal Debian; the base of Fleeti decides itself \
                   which of them start";
        draft.replaced(Area::Services, &listed(of_base), why);
    }
    turned_off(snapshot, installed, &enabled, &mut services, draft);
    drop_ins(snapshot, options, &enabled, &mut services, draft);
    default_target(snapshot, draft);
    draft.profile.services.extend(services.into_values());
}

fn get<'a>(services: &'a mut BTreeMap<String, Service>, name: &str) -> &'a mut Service {
    services.entry(name.to_owned()).or_insert_with(|| Service {
        name: name.to_owned(),
        state: UnitState::Enabled,
        unit: None,
        drop_ins: Vec::new(),
    })
}

/// The text of an own unit.
fn own_text(
    path: &str,
    rest: &str,
    entry: &Entry,
    options: &Options,
    draft: &mut Draft,
) -> Option<String> {
    if rest.contains('/') || !matches!(entry.kind, Kind::File(_)) {
        return None;
    }
    if !SUFFIXES.iter().any(|suffix| rest.ends_with(suffix)) {
        let why = "a profile cannot add a unit of this kind";
        draft.not_taken(Area::Services, path, why, "");
        return None;
    }
    readable(path, entry, options, draft).map(str::to_owned)
}

/// The text of a unit or a drop-in that may be taken.
fn readable<'a>(
    path: &str,
    entry: &'a Entry,
    options: &Options,
    draft: &mut Draft,
) -> Option<&'a str> {
    let Some(text) = entry.text() else {
        let why = "is not readable, not text or too large";
        draft.not_taken(Area::Services, path, why, "run the command as root");
        return None;
    };
    if secret::has_private_key(text) {
        let next = "store it with `fleeti secret set`; it is not copied";
        draft.not_taken(Area::Secrets, path, "has a private key", next);
        return None;
    }
    if options.includes(path) {
        return within(path, text, draft);
    }
    let next = format!("take it with --include {path} if it has no secret");
    if let Some(why) = secret::found(text) {
        draft.not_taken(Area::Secrets, path, &why, &next);
        None
    } else if entry.is_public() {
        within(path, text, draft)
    } else {
        let why = format!("is not readable for every user (mode {:04o})", entry.mode);
        draft.not_taken(Area::Services, path, &why, &next);
        None
    }
}

/// The text if there is room for it.
fn within<'a>(path: &str, text: &'a str, draft: &mut Draft) -> Option<&'a str> {
    let has_room = draft.has_room(path, text);
    if !has_room {
        let next = "put it into a package of your own (software.own)";
        draft.not_taken(Area::Services, path, &no_room(), next);
    }
    has_room.then_some(text)
}

/// Units that a link in a directory such as `multi-user.target.wants` enables.
fn enabled(snapshot: &Snapshot) -> BTreeSet<String> {
    let units = snapshot.below(FOLDER).filter_map(|(_, rest, entry)| {
        let (directory, unit) = rest.split_once('/')?;
        let is_wanted = directory.ends_with(".wants") || directory.ends_with(".requires");
        (is_wanted && matches!(entry.kind, Kind::Link(_))).then(|| unit.to_owned())
    });
    units.collect()
}

/// `app@.service` of `app@1.service`.
fn template(unit: &str) -> Option<String> {
    let (name, rest) = unit.split_once('@')?;
    let (_, suffix) = rest.rsplit_once('.')?;
    Some(format!("{name}@.{suffix}"))
}

fn package_of<'a>(unit: &str, snapshot: &'a Snapshot) -> Option<&'a str> {
    let template = template(unit);
    let names = std::iter::once(unit).chain(template.as_deref());
    let folders = ["/lib/systemd/system", "/usr/lib/systemd/system"];
    let mut paths = names.flat_map(|name| folders.map(|folder| format!("{folder}/{name}")));
    paths.find_map(|path| snapshot.owned.get(&path)).map(String::as_str)
}

fn of<'a>(unit: &str, is_own: bool, snapshot: &'a Snapshot, installed: &Installed) -> Of<'a> {
    if is_own {
        return Of::Profile;
    }
    let Some(package) = package_of(unit, snapshot) else {
        // A script of SysV; systemd makes a unit of it.
        let script = unit.strip_suffix(".service").map(|name| format!("/etc/init.d/{name}"));
        let is_script = script.is_some_and(|path| snapshot.entries.contains_key(&path));
        return if is_script { Of::Base } else { Of::Nobody };
    };
    if is_replaced(package) {
        return Of::Replaced;
    }
    match installed.get(package) {
        Some(known) if !known.is_base => Of::Package(package),
        _ => Of::Base,
    }
}

/// Units that were masked, and units of packages that were enabled and are not any more.
fn turned_off(
    snapshot: &Snapshot,
    installed: &Installed,
    enabled: &BTreeSet<String>,
    services: &mut BTreeMap<String, Service>,
    draft: &mut Draft,
) {
    for (_, rest, entry) in snapshot.below(FOLDER) {
        if !rest.contains('/') && entry.kind == Kind::Link("/dev/null".to_owned()) {
            get(services, rest).state = UnitState::Masked;
            draft.origin("services", rest, "masked");
        }
    }
    for (_, rest, _) in snapshot.below(ENABLED_BY_PACKAGES) {
        let Some((directory, unit)) = rest.split_once('/') else { continue };
        let is_off = directory.ends_with(".wants")
            && !enabled.contains(unit)
            && !services.contains_key(unit);
        if is_off && matches!(of(unit, false, snapshot, installed), Of::Package(_)) {
            get(services, unit).state = UnitState::Disabled;
            draft.origin("services", unit, "disabled; its package enables it");
        }
    }
}

fn drop_ins(
    snapshot: &Snapshot,
    options: &Options,
    enabled: &BTreeSet<String>,
    services: &mut BTreeMap<String, Service>,
    draft: &mut Draft,
) {
    for (path, rest, entry) in snapshot.below(FOLDER) {
        let Some((unit, file)) = rest
            .split_once('/')
            .and_then(|(folder, file)| Some((folder.strip_suffix(".d")?, file)))
        else {
            continue;
        };
        let Some(name) = file.strip_suffix(".conf") else { continue };
        if services.get(unit).is_some_and(|service| service.unit.is_some()) {
            let why = "changes a unit that the profile adds";
            draft.not_taken(Area::Services, path, why, "write the setting into the unit's text");
            continue;
        }
        let Some(text) = readable(path, entry, options, draft) else { continue };
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let is_new = !services.contains_key(unit);
        let service = get(services, unit);
        service.drop_ins.push(DropIn { name, text: text.to_owned() });
        if is_new {
            // A unit that is not enabled is started by another one, or not at all.
            let state =
                if enabled.contains(unit) { UnitState::Enabled } else { UnitState::Disabled };
            service.state = state;
            draft.origin("services", unit, path);
        }
    }
}

fn default_target(snapshot: &Snapshot, draft: &mut Draft) {
    let entry = snapshot.entries.get("/etc/systemd/system/default.target");
    let Some(Kind::Link(target)) = entry.map(|entry| &entry.kind) else { return };
    if !target.ends_with("/graphical.target") && !target.ends_with("/multi-user.target") {
        let why =
            format!("is {target} here; a device starts multi-user.target or graphical.target");
        draft.not_taken(Area::Services, "default.target", &why, "");
    }
}

/// Programs that own units start and that would not be in the image.
pub(crate) fn missing_programs(snapshot: &Snapshot, draft: &mut Draft) {
    let mut missing = Vec::new();
    for service in &draft.profile.services {
        let text = service.unit.as_deref().unwrap_or_default();
        for program in programs(text) {
            let is_foreign = ["/usr/local/", "/opt/", "/srv/", "/home/", "/root/", "/var/"]
                .iter()
                .any(|top| program.starts_with(top));
            let is_there = snapshot.owned.contains_key(program)
                || draft.profile.files.iter().any(|file| file.path == program);
            if is_foreign && !is_there {
                missing.push((service.name.clone(), program.to_owned()));
            }
        }
    }
    for (unit, program) in missing {
        let why = format!("starts {program}, which is not in the profile: the unit will fail");
        let next = "put the program into a package of your own (software.own)";
        draft.not_taken(Area::Services, &unit, &why, next);
    }
}

fn programs(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (name, command) = line.trim().split_once('=')?;
        let program = command.split_whitespace().next()?;
        name.trim_end()
            .starts_with("Exec")
            .then(|| program.trim_start_matches(['@', '-', ':', '+', '!', '|']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Package;

    fn installed() -> Installed {
        let base = Package { is_base: true, ..Package::default() };
        let names = ["nginx", "postgresql-common", "openssh-server", "unattended-upgrades"];
        let mut installed: Installed =
            names.map(|name| (name.to_owned(), Package::default())).into();
        installed.insert("cron".to_owned(), base);
        installed
    }

    fn snapshot() -> Snapshot {
        let unit = |name: &str| format!("{FOLDER}/{name}");
        let wanted = |name: &str| format!("{FOLDER}/multi-user.target.wants/{name}");
        let of = |name: &str| format!("/lib/systemd/system/{name}");
        Snapshot::default()
            .with(&unit("shop.service"), "[Service]\nExecStart=-/opt/shop/run --x\n")
            .with(&unit("idle.service"), "[Service]\nExecStart=/bin/true\n")
            .with(&unit("key.service"), "[Service]\nEnvironment=API_TOKEN=hunter22\n")
            .with(&unit("x.slice"), "[Slice]\n")
            .with(&unit("nginx.service.d/10-limit.v2.conf"), "[Service]\nMemoryMax=1G\n")
            .with(&unit("cron.service.d/a.conf"), "[Service]\nNice=1\n")
            .with(&unit("shop.service.d/a.conf"), "[Service]\nNice=1\n")
            .with_link(&unit("ssh.socket"), "/dev/null")
            .with_link(&unit("default.target"), "/lib/systemd/system/rescue.target")
            .with_link(&wanted("shop.service"), &unit("shop.service"))
            .with_link(&wanted("nginx.service"), &of("nginx.service"))
            .with_link(&wanted("postgresql@15-main.service"), &of("postgresql@.service"))
            .with_link(&wanted("cron.service"), &of("cron.service"))
            .with_link(&wanted("unattended-upgrades.service"), &of("unattended-upgrades.service"))
            .with_link(&wanted("gone.service"), &of("gone.service"))
            .with(&format!("{ENABLED_BY_PACKAGES}/multi-user.target.wants/ssh.service"), "")
            .with_owner(&of("nginx.service"), "nginx")
            .with_owner(&of("ssh.service"), "openssh-server")
            .with_owner(&of("ssh.socket"), "openssh-server")
            .with_owner(&of("postgresql@.service"), "postgresql-common")
            .with_owner(&of("cron.service"), "cron")
            .with_owner(&of("unattended-upgrades.service"), "unattended-upgrades")
    }

    #[test]
    fn units_are_taken_with_their_state_texts_and_drop_ins() {
        let mut draft = crate::draft::made();
        adopt(&snapshot(), &installed(), &Options::default(), &mut draft);
        let services: Vec<_> = draft
            .profile
            .services
            .iter()
            .map(|s| (s.name.as_str(), s.state, s.unit.is_some(), s.drop_ins.len()))
            .collect();
        assert_eq!(
            services,
            [
                ("cron.service", UnitState::Enabled, false, 1),
                ("idle.service", UnitState::Disabled, true, 0),
                ("nginx.service", UnitState::Enabled, false, 1),
                ("postgresql@15-main.service", UnitState::Enabled, false, 0),
                ("shop.service", UnitState::Enabled, true, 0),
                ("ssh.service", UnitState::Disabled, false, 0),
                ("ssh.socket", UnitState::Masked, false, 0),
            ]
        );
        assert_eq!(draft.profile.services[2].drop_ins[0].name, "10-limit-v2");
        assert!(!format!("{:?}{:?}", draft.profile, draft.notes).contains("hunter22"));
        let subjects: Vec<_> = draft.notes.iter().map(|note| note.subject.as_str()).collect();
        assert_eq!(
            subjects,
            [
                "/etc/systemd/system/key.service",
                "/etc/systemd/system/x.slice",
                "gone.service",
                "cron.service",
                "/etc/systemd/system/shop.service.d/a.conf",
                "default.target"
            ]
        );
    }

    #[test]
    fn a_private_key_in_a_unit_is_not_taken_also_if_its_path_is_included() {
        let key = "[Service]\nEnvironment=\"KEY=-----BEGIN PRIVATE KEY----- hunter22\"\n";
        let token = "[Service]\nExecStart=/bin/true --token hunter22\n";
        let path = |name: &str| format!("{FOLDER}/{name}");
        let snapshot = Snapshot::default()
            .with(&path("key.service"), key)
            .with(&path("nginx.service.d/key.conf"), key)
            .with(&path("token.service"), token);
        for (include, taken) in
            [(Vec::new(), vec![]), (vec![FOLDER.to_owned()], vec!["token.service"])]
        {
            let options = Options { include, ..Options::default() };
            let mut draft = crate::draft::made();
            adopt(&snapshot, &installed(), &options, &mut draft);
            let services: Vec<_> = draft.profile.services.iter().map(|s| s.name.as_str()).collect();
            assert_eq!(services, taken);
            let keys = draft.notes.iter().filter(|note| note.why == "has a private key").count();
            assert_eq!(keys, 2, "{:?}", draft.notes);
            assert!(!format!("{:?}", draft.notes).contains("hunter22"), "{:?}", draft.notes);
        }
    }

    #[test]
    fn a_unit_whose_program_is_not_in_the_profile_is_named() {
        let mut draft = crate::draft::made();
        let snapshot = snapshot();
        adopt(&snapshot, &installed(), &Options::default(), &mut draft);
        draft.notes.clear();
        missing_programs(&snapshot, &mut draft);
        let [note] = draft.notes.as_slice() else { panic!("{:?}", draft.notes) };
        assert!(note.subject == "shop.service" && note.why.contains("/opt/shop/run"), "{note:?}");
    }
}
