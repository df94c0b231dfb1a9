//! Units of an image.

use super::super::{Container, Service, Timer, UnitState};
use super::image::{FIREWALL, Image};
use super::keys::Keys;
use super::ports;
use std::collections::{BTreeMap, BTreeSet};

/// What a profile says of a unit.
#[derive(PartialEq)]
enum Settings<'a> {
    /// Its text, if it is not that of a package, and its drop-ins.
    Service {
        unit: Option<&'a str>,
        drop_ins: BTreeMap<&'a str, &'a str>,
    },
    Timer(&'a Timer),
    Container(&'a Container),
    Firewall(Vec<ports::Rule<'a>>),
}

/// A unit, and what of it: the packet filter is a unit and its rules.
type Key = (String, What);

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Unit,
    Rules,
}

/// The unit of a package, as the package has it.
const PLAIN: Settings<'static> = Settings::Service { unit: None, drop_ins: BTreeMap::new() };

/// Units that start at boot and did not before, that no longer do, and that have other settings.
pub(super) fn differ(before: &Image, after: &Image) -> Keys {
    let (old, new) = (started(before), started(after));
    let added: BTreeSet<_> = new.difference(&old).cloned().collect();
    let removed: BTreeSet<_> = old.difference(&new).cloned().collect();
    let same_packages = before.installed.packages == after.installed.packages;
    let (masked, settings) = (masked(before, after), [settings(before), settings(after)]);
    let differs = |key: &&Key| {
        let name = &key.0;
        match settings.each_ref().map(|settings| settings.get(*key)) {
            [Some(before), Some(after)] => before != after,
            // Then the package has it in both.
            [Some(one @ Settings::Service { unit: None, .. }), None]
            | [None, Some(one @ Settings::Service { unit: None, .. })] => {
                (same_packages || old.contains(name) && new.contains(name)) && *one != PLAIN
            }
            _ => false,
        }
    };
    let is_kept =
        |name: &String| !added.contains(name) && !removed.contains(name) && !masked.contains(name);
    let changed = settings.iter().flat_map(BTreeMap::keys).filter(differs);
    let changed = changed.map(|key| key.0.clone()).filter(is_kept).collect();
    Keys { added, removed, changed }
}

/// Units that one of the images masks.
fn masked(before: &Image, after: &Image) -> BTreeSet<String> {
    let services = before.profile.services.iter().chain(&after.profile.services);
    services.filter(|s| s.state == UnitState::Masked).map(|s| s.name.clone()).collect()
}

/// The units that start at boot.
fn started(image: &Image) -> BTreeSet<String> {
    let profile = image.profile;
    let mut started = image.installed.enabled.clone();
    started.extend(profile.timers.iter().map(timer));
    started.extend(profile.containers.iter().map(container));
    if profile.network.firewall.enabled {
        started.insert(FIREWALL.to_owned());
    }
    // What the profile says of a unit itself comes first.
    for service in &profile.services {
        let is_started = service.state == UnitState::Enabled
            && service.unit.as_deref().is_none_or(is_wanted_by_something);
        if is_started {
            started.insert(service.name.clone());
        } else {
            started.remove(&service.name);
        }
    }
    started
}

fn timer(timer: &Timer) -> String {
    timer.service.replace(".service", ".timer")
}

fn container(container: &Container) -> String {
    format!("{}.service", container.name)
}

/// Whether a unit says what starts it (systemd.unit(5), "[Install]"): to enable another one changes
/// nothing.
fn is_wanted_by_something(text: &str) -> bool {
    let mut is_install = false;
    text.lines().map(str::trim).any(|line| {
        if line.starts_with('[') {
            is_install = line == "[Install]";
        }
        let wanted = ["WantedBy", "RequiredBy", "UpheldBy"];
        is_install
            && line.split_once('=').is_some_and(|(name, value)| {
                wanted.contains(&name.trim()) && !value.trim().is_empty()
            })
    })
}

/// What the profile says of units.
fn settings<'a>(image: &Image<'a>) -> BTreeMap<Key, Settings<'a>> {
    let profile = image.profile;
    let service = |service: &'a Service| {
        let drop_ins = service.drop_ins.iter().map(|d| (d.name.as_str(), d.text.as_str()));
        let drop_ins = drop_ins.collect();
        (service.name.clone(), Settings::Service { unit: service.unit.as_deref(), drop_ins })
    };
    let services = profile.services.iter().map(service);
    let timers = profile.timers.iter().map(|t| (timer(t), Settings::Timer(t)));
    let containers = profile.containers.iter().map(|c| (container(c), Settings::Container(c)));
    let units = services.chain(timers).chain(containers);
    let units = units.map(|(name, settings)| ((name, What::Unit), settings));
    let firewall = &profile.network.firewall;
    let rules = firewall
        .enabled
        .then(|| ((FIREWALL.to_owned(), What::Rules), Settings::Firewall(ports::rules(firewall))));
    units.chain(rules).collect()
}
