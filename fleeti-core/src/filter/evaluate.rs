//! Evaluates a filter for one device.

use super::SEEN_STEP_S;
use super::expression::{Filter, Flag, LabelTest, Node, Test, TextField, TextTest};
use crate::id::{DeviceId, FleetId, LabelKey, ReleaseName};
use crate::wire::api::Device;
use std::collections::BTreeMap;

/// What a filter can know of a device.
#[derive(Debug, Clone, Copy)]
pub struct DeviceFacts<'a> {
    /// Its id.
    pub id: &'a DeviceId,
    /// Its fleet.
    pub fleet: &'a FleetId,
    /// Its name.
    pub name: Option<&'a str>,
    /// The note about it.
    pub note: Option<&'a str>,
    /// The release that it reports.
    pub running: Option<&'a ReleaseName>,
    /// The name of the state of its update.
    pub state: &'a str,
    /// Whether its certificate is revoked.
    pub is_revoked: bool,
    /// Whether it raises an alarm, or its attestation failed.
    pub has_alarm: bool,
    /// When the server last heard of it, Unix seconds.
    pub last_seen_s: u64,
    /// Its labels.
    pub labels: &'a BTreeMap<LabelKey, String>,
}

impl<'a> From<&'a Device> for DeviceFacts<'a> {
    fn from(device: &'a Device) -> Self {
        Self {
            id: &device.id,
            fleet: &device.fleet,
            name: device.name.as_deref(),
            note: device.note.as_deref(),
            running: device.boot.as_ref().map(|boot| &boot.running),
            state: device.update.as_ref().map_or("idle", |state| state.name()),
            is_revoked: device.revoked,
            has_alarm: device.alarm.is_some() || device.attestation_failure.is_some(),
            last_seen_s: device.last_seen_s,
            labels: &device.labels,
        }
    }
}

/// The step of a time in which `last_seen` is compared.
#[must_use]
pub const fn seen_step(time_s: u64) -> u64 {
    time_s / SEEN_STEP_S
}

impl Filter {
    /// Whether it matches a device now.
    #[must_use]
    pub fn matches(&self, device: &DeviceFacts<'_>, now_s: u64) -> bool {
        node(&self.root, device, now_s)
    }
}

fn node(of: &Node, device: &DeviceFacts<'_>, now_s: u64) -> bool {
    match of {
        Node::All(all) => all.iter().all(|one| node(one, device, now_s)),
        Node::Any(any) => any.iter().any(|one| node(one, device, now_s)),
        Node::Not(one) => !node(one, device, now_s),
        Node::Test(one) => test(one, device, now_s),
    }
}

fn test(of: &Test, device: &DeviceFacts<'_>, now_s: u64) -> bool {
    let step_before = |seconds: u64| seen_step(now_s.saturating_sub(seconds));
    match of {
        Test::Text(field, test) => text(*field, test, device),
        Test::Version(order, version) => {
            device.running.is_some_and(|running| order.holds(&running.version, version))
        }
        Test::SeenBefore(seconds) => seen_step(device.last_seen_s) < step_before(*seconds),
        Test::SeenWithin(seconds) => seen_step(device.last_seen_s) >= step_before(*seconds),
        Test::Flag(Flag::Revoked) => device.is_revoked,
        Test::Flag(Flag::Alarm) => device.has_alarm,
        Test::Label(key, test) => device.labels.get(key).is_some_and(|value| label(test, value)),
        Test::Search(text) => {
            let fits = |found: &str| contains(found, text);
            fits(device.id.as_str()) || device.name.is_some_and(fits)
        }
    }
}

fn text(field: TextField, test: &TextTest, device: &DeviceFacts<'_>) -> bool {
    let release;
    let found = match field {
        TextField::Id => Some(device.id.as_str()),
        TextField::Fleet => Some(device.fleet.as_str()),
        TextField::Name => device.name,
        TextField::Note => device.note,
        TextField::Line => device.running.map(|running| running.line.as_str()),
        TextField::Release => {
            release = device.running.map(ToString::to_string);
            release.as_deref()
        }
        TextField::State => Some(device.state),
    };
    let Some(found) = found else { return false };
    match test {
        TextTest::OneOf(values) => values.iter().any(|value| value == found),
        TextTest::Contains(part) => contains(found, part),
    }
}

fn label(test: &LabelTest, value: &str) -> bool {
    match test {
        LabelTest::Present => true,
        LabelTest::OneOf(values) => values.iter().any(|one| one == value),
        LabelTest::Contains(part) => contains(value, part),
        LabelTest::Number(order, number) => {
            value.parse::<i64>().is_ok_and(|value| order.holds(&value, number))
        }
    }
}

/// As `LIKE` of a database compares texts in lower case: only ASCII letters have two cases.
fn contains(text: &str, part: &str) -> bool {
    text.to_ascii_lowercase().contains(&part.to_ascii_lowercase())
}
