//! Gates: the conditions on an offer of a release to a device, in one ordered list.
//!
//! Each gate is a function of [`Facts`]. A gate that does not let the offer through says why, and
//! what would change it. The server offers by [`order`] and [`eligibility`], and explains by
//! [`list`]: all three read the same list, so the explanation is what happens.
//!
//! Code map: `facts` (what gates read) · `penalty` (pauses after failures) · `path` (floors, ways) ·
//! `window` (update windows) · `stop` (what a closed gate says).

mod facts;
mod path;
mod penalty;
mod stop;
mod window;

pub use facts::{
    Active, Facts, FleetTarget, GateWait, Hold, Known, Part, Pin, Source, Target, target,
};
pub use path::{
    BLOCKED_MAX, Blocked, Floor, PathError, Paths, ReleaseFacts, ReleasePath, UnknownVersions,
    Versions,
};
pub use penalty::{FIRST_S, LONGEST_S, Penalty, after_failure};
pub use stop::Stop;

use crate::rollout::{DevicePhase, Eligibility, Phase, Proof};
use crate::update::State;
use serde::{Deserialize, Serialize};
use window::window;

/// A condition on an offer.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// The device is not revoked.
    Revoked,
    /// There is a release that the device should run.
    Target,
    /// The device does not run it already.
    Runs,
    /// The device is connected.
    Offline,
    /// An operator holds the updates of the device.
    Hold,
    /// An operator pinned the device to another release.
    Pin,
    /// The device runs the same image line.
    Line,
    /// The device does not run a higher version.
    Version,
    /// The device has run each release that is mandatory on its way.
    Floor,
    /// The way from what it runs is not blocked.
    Edge,
    /// The release is published, and not revoked.
    Release,
    /// The release has a boot proof, where the fleet requires one.
    Proof,
    /// The device has the level that its fleet requires for updates.
    Level,
    /// The version did not fail on the device a short time ago.
    Penalty,
    /// The rollout is running.
    Rollout,
    /// The webhook that the rollout names allows the wave that is due.
    Hook,
    /// The wave of the device has begun.
    Wave,
    /// The rollout has a place for one more device.
    Cap,
    /// Enough devices of its group do not update.
    Budget,
    /// The server has heard of the device since it offered the release.
    Heard,
    /// The windows of the device are open, and nothing on it blocks the update.
    Window,
    /// The device has installed what it was offered.
    Device,
}

/// A gate of the list.
type Row = (Gate, fn(&Facts<'_>) -> Option<Stop>);

/// The list, in the order in which it is read.
const LIST: [Row; 22] = [
    (Gate::Revoked, revoked),
    (Gate::Target, no_target),
    (Gate::Runs, runs),
    (Gate::Offline, offline),
    (Gate::Hold, hold),
    (Gate::Pin, pin),
    (Gate::Line, line),
    (Gate::Version, version),
    (Gate::Floor, floor),
    (Gate::Edge, edge),
    (Gate::Release, release),
    (Gate::Proof, proof),
    (Gate::Level, level),
    (Gate::Penalty, penalty),
    (Gate::Rollout, rollout),
    (Gate::Hook, hook),
    (Gate::Wave, wave),
    (Gate::Cap, cap),
    (Gate::Budget, budget),
    (Gate::Heard, heard),
    (Gate::Window, window),
    (Gate::Device, device),
];

impl Gate {
    /// All gates, in the order in which they are read.
    pub const ALL: [Self; LIST.len()] = {
        let mut all = [Self::Revoked; LIST.len()];
        let mut i = 0;
        while i < LIST.len() {
            all[i] = LIST[i].0;
            i += 1;
        }
        all
    };

    /// What must be true for the gate to be open.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Revoked => "the device is not revoked",
            Self::Target => "its fleet has a release to run",
            Self::Runs => "it does not run the release yet",
            Self::Offline => "the device is connected",
            Self::Hold => "its updates are not held",
            Self::Pin => "it is not pinned to another release",
            Self::Line => "it runs the same image line",
            Self::Version => "it runs a lower version",
            Self::Floor => "it needs no other release before",
            Self::Edge => "the way from what it runs is not blocked",
            Self::Release => "the release is published and not revoked",
            Self::Proof => "the release has the proof that the fleet requires",
            Self::Level => "it has the minimum level to receive updates",
            Self::Penalty => "the version is not in the penalty box",
            Self::Rollout => "the rollout is running",
            Self::Hook => "the webhook gate of the rollout allows the wave",
            Self::Wave => "its wave has begun",
            Self::Cap => "the rollout has a place for it",
            Self::Budget => "the budget of its group has a place for it",
            Self::Heard => "the device was heard of since the offer",
            Self::Window => "its update windows are open",
            Self::Device => "the device has installed the release",
        }
    }

    /// Whether a closed gate holds the device back in a rollout, which then goes on without it.
    fn holds(self) -> bool {
        match self {
            Self::Hold
            | Self::Pin
            | Self::Line
            | Self::Version
            | Self::Floor
            | Self::Edge
            | Self::Release
            | Self::Proof
            | Self::Penalty => true,
            Self::Revoked
            | Self::Target
            | Self::Runs
            | Self::Offline
            | Self::Level
            | Self::Rollout
            | Self::Hook
            | Self::Wave
            | Self::Cap
            | Self::Budget
            | Self::Heard
            | Self::Window
            | Self::Device => false,
        }
    }
}

/// The state of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = GateState)]
pub enum GateState {
    /// It lets the offer through.
    Open,
    /// The release is offered, and the device acts on it later.
    Waits,
    /// The release is not offered.
    Closed,
}

/// A gate, as it is explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = GateCheck)]
pub struct Check {
    /// The gate.
    pub gate: Gate,
    /// Its state.
    pub state: GateState,
    /// What is true.
    pub text: String,
    /// What would change it; absent for an open gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// When time changes it, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_s: Option<u64>,
}

/// All gates, in order.
#[must_use]
pub fn list(facts: &Facts<'_>) -> Vec<Check> {
    LIST.iter().map(|(gate, check)| explained(*gate, check(facts))).collect()
}

fn explained(gate: Gate, stop: Option<Stop>) -> Check {
    match stop {
        None => {
            let text = gate.title().to_owned();
            Check { gate, state: GateState::Open, text, change: None, until_s: None }
        }
        Some(Stop { is_offered, text, change, until_s }) => {
            let state = if is_offered { GateState::Waits } else { GateState::Closed };
            Check { gate, state, text, change: Some(change), until_s }
        }
    }
}

/// The first gate that is closed.
#[must_use]
pub fn first_closed(facts: &Facts<'_>) -> Option<(Gate, Stop)> {
    closed_in(facts, |_| true)
}

fn closed_in(facts: &Facts<'_>, which: impl Fn(Gate) -> bool) -> Option<(Gate, Stop)> {
    LIST.iter()
        .filter(|(gate, _)| which(*gate))
        .filter_map(|(gate, check)| check(facts).map(|stop| (*gate, stop)))
        .find(|(_, stop)| !stop.is_offered)
}

/// What the gates permit a device in a rollout. Those of the rollout itself are its state machine's.
#[must_use]
pub fn eligibility(facts: &Facts<'_>, proof: Proof) -> Eligibility {
    let held = closed_in(facts, Gate::holds);
    let is_held = held.is_some();
    Eligibility {
        may_update: !is_held && level(facts).is_none(),
        is_held,
        again_s: held.filter(|(gate, _)| *gate == Gate::Penalty).and_then(|(_, stop)| stop.until_s),
        via: facts.floor().map(|floor| floor.release.clone()),
        proof,
    }
}

/// What the server must do about the offer of a device that no rollout updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Leave it as it is.
    Keep,
    /// Offer the target.
    Offer,
    /// Withdraw what it is offered.
    Withdraw,
}

/// What the server must do about the offer of a device. A rollout offers to its own devices.
#[must_use]
pub fn order(facts: &Facts<'_>) -> Order {
    let Known { running, desired, update, .. } = facts.known;
    let Some(next) = facts.next().filter(|_| facts.part.is_none()) else { return Order::Keep };
    match first_closed(facts) {
        None if desired.as_ref() == Some(next) => Order::Keep,
        None => Order::Offer,
        Some((Gate::Revoked, _)) => Order::Keep,
        // It runs what it was offered last.
        Some(_) if desired.is_none() || desired == running => Order::Keep,
        // Too late: it starts the release.
        Some(_) if matches!(update, State::Armed { .. } | State::Trying { .. }) => Order::Keep,
        Some(_) => Order::Withdraw,
    }
}

fn revoked(facts: &Facts<'_>) -> Option<Stop> {
    facts.known.is_revoked.then(|| {
        Stop::closed("the device is revoked", "release its hold, or enroll the device again")
    })
}

fn no_target(facts: &Facts<'_>) -> Option<Stop> {
    facts.target.is_none().then(|| {
        let text = "its fleet has no release to run: no rollout has succeeded";
        Stop::closed(text, "start a rollout to the fleet, or pin the fleet to a release")
    })
}

fn runs(facts: &Facts<'_>) -> Option<Stop> {
    let target = facts.target?;
    (facts.known.running.as_ref() == Some(&target.release)).then(|| {
        let text = format!("it runs {} already", target.release);
        Stop::closed(text, "nothing has to change: a rollout of a higher version offers that")
    })
}

fn offline(facts: &Facts<'_>) -> Option<Stop> {
    (facts.is_online == Some(false)).then(|| {
        Stop::waits("the device is not connected", "it learns of an offer when it connects")
    })
}

fn hold(facts: &Facts<'_>) -> Option<Stop> {
    let hold = facts.known.hold.as_ref().filter(|hold| hold.is_on(facts.now_s))?;
    let text = format!("an operator holds its updates: {}", hold.reason);
    let stop = Stop::closed(text, "`fleeti device resume-updates DEVICE`");
    Some(Stop { until_s: hold.until_s, ..stop })
}

fn pin(facts: &Facts<'_>) -> Option<Stop> {
    let (pin, target) = (facts.known.pin.as_ref()?, facts.target?);
    (pin.release != target.release).then(|| {
        let text = format!("an operator pinned it to {}: {}", pin.release, pin.reason);
        Stop::closed(text, "`fleeti device unpin DEVICE`")
    })
}

fn line(facts: &Facts<'_>) -> Option<Stop> {
    let (running, target) = (facts.known.running.as_ref()?, facts.target?);
    (running.line != target.release.line).then(|| {
        let text = format!(
            "it runs image line {}, and {} is of line {}",
            running.line, target.release, target.release.line
        );
        Stop::closed(text, format!("reinstall the device with {}", target.release))
    })
}

fn version(facts: &Facts<'_>) -> Option<Stop> {
    let (running, target) = (facts.known.running.as_ref()?, facts.target?);
    let is_lower = running.line == target.release.line
        && target.release.version < running.version
        && !target.source.is_back();
    if let Some(stop) = below_floor(facts) {
        return Some(stop);
    }
    is_lower.then(|| {
        let text = format!("it runs {running}, which is higher than {}", target.release);
        let change =
            "a device never installs a lower version: publish a higher one, or reinstall it";
        Stop::closed(text, change)
    })
}

/// A device that passed a floor is not downgraded below it.
fn below_floor(facts: &Facts<'_>) -> Option<Stop> {
    let (running, target) = (facts.known.running.as_ref()?, facts.target?);
    if target.source != Source::Downgrade || running.line != target.release.line {
        return None;
    }
    let floor = facts.paths.crossed(&running.version, &target.release.version)?;
    let text = format!("{} is below {}, a floor: {}", target.release, floor.release, floor.reason);
    Some(Stop::closed(text, "end its downgrade: `fleeti device unpin DEVICE`"))
}

fn floor(facts: &Facts<'_>) -> Option<Stop> {
    let (target, floor) = (facts.target?, facts.floor()?);
    let first = &floor.release;
    if facts.known.running.is_none() {
        let text = format!("it has not reported what it runs, and {first} is a floor");
        return Some(Stop::closed(text, "its first report"));
    }
    let is_proved = floor.facts.is_proved || !facts.policy.proved_releases;
    if !floor.facts.is_good || !is_proved {
        let what = if floor.facts.is_good { "has no boot proof" } else { "is revoked" };
        let text = format!("it must run {first} first ({}), which {what}", floor.reason);
        let change = format!("`fleeti release path {first} --no-floor`, or another floor");
        return Some(Stop::closed(text, change));
    }
    let text = format!("it must run {first} first: {}", floor.reason);
    let change = format!("it is offered {first}, and goes on to {} by itself", target.release);
    Some(Stop::waits(text, change))
}

fn edge(facts: &Facts<'_>) -> Option<Stop> {
    let (running, next) = (facts.known.running.as_ref()?, facts.next()?);
    let is_back = facts.target.is_some_and(|target| target.source.is_back());
    if is_back || running.line != next.line {
        return None;
    }
    let way = facts.paths.blocked(&running.version, &next.version)?;
    let text = format!("the way from {running} to {next} is blocked: {}", way.reason);
    let change = format!(
        "another release between them, or `fleeti release path {next} --unblock {}`",
        way.from
    );
    Some(Stop::closed(text, change))
}

fn release(facts: &Facts<'_>) -> Option<Stop> {
    let target = facts.target?;
    (!facts.release.is_good).then(|| {
        let text = format!("{} is revoked, or not published", target.release);
        Stop::closed(text, "publish a higher version and roll that out")
    })
}

fn proof(facts: &Facts<'_>) -> Option<Stop> {
    let target = facts.target?;
    (facts.policy.proved_releases && !facts.release.is_proved).then(|| {
        let text = format!("{} has no boot proof, which the fleet requires", target.release);
        Stop::closed(text, "`fleeti release prove DIR --device DEVICE`")
    })
}

fn level(facts: &Facts<'_>) -> Option<Stop> {
    let level = facts.known.level;
    (!facts.policy.may_update(level)).then(|| {
        let (code, title) = (level.code(), level.title());
        let (text, change) = match facts.policy.update {
            Some(lowest) => (
                format!("its level is {code} ({title}), and updates require {}", lowest.code()),
                "see `fleeti attest show DEVICE` for what it does not prove",
            ),
            None => (
                "the policy of its fleet permits no updates".to_owned(),
                "set a minimum level to receive updates: `fleeti attest policy`",
            ),
        };
        Stop::closed(text, change)
    })
}

fn penalty(facts: &Facts<'_>) -> Option<Stop> {
    let (penalty, target, next) = (facts.known.penalty.as_ref()?, facts.target?, facts.next()?);
    let is_line = facts.known.running.as_ref().is_none_or(|r| r.line == next.line);
    // A device that goes back leaves the higher version that failed.
    let is_left = target.source.is_back() && penalty.version != next.version;
    let is_closed = is_line && !is_left && penalty.closes(&next.version, facts.now_s);
    is_closed.then(|| {
        let times = if penalty.failures == 1 { "once" } else { "repeatedly" };
        let text = format!("version {} failed on it {times}", penalty.version);
        let version = &penalty.version;
        let change =
            format!("a higher version, or `fleeti device forgive DEVICE --version {version}`");
        Stop { until_s: penalty.until_s, ..Stop::closed(text, change) }
    })
}

fn rollout(facts: &Facts<'_>) -> Option<Stop> {
    let part = facts.part.as_ref()?;
    let change = match part.rollout_phase {
        Phase::Starting | Phase::Running => return None,
        Phase::Pausing | Phase::Paused => format!("`fleeti rollout resume {}`", part.rollout),
        Phase::Ready => format!("rollout {} starts", part.rollout),
        Phase::Succeeded | Phase::Failed | Phase::Aborting | Phase::Aborted => {
            "start another rollout".to_owned()
        }
    };
    let text = format!("rollout {} is {}", part.rollout, part.rollout_phase);
    Some(Stop::closed(text, change))
}

fn hook(facts: &Facts<'_>) -> Option<Stop> {
    let part = facts.part.as_ref()?;
    let wait = part.gate.as_ref().filter(|_| is_untaken(part))?;
    let Part { rollout, .. } = part;
    let text = format!(
        "the webhook gate of rollout {rollout} has not allowed wave {}: {}",
        wait.wave.saturating_add(1),
        wait.said
    );
    let change =
        format!("its webhook allows the wave, or `fleeti rollout next {rollout} --over-gate`");
    Some(Stop::closed(text, change))
}

/// Whether no wave has taken the device yet.
fn is_untaken(part: &Part) -> bool {
    part.phase == DevicePhase::Pending && part.wave.is_none()
}

fn wave(facts: &Facts<'_>) -> Option<Stop> {
    let part = facts.part.as_ref()?;
    is_untaken(part).then(|| {
        let text = format!("no wave of rollout {} has taken it yet", part.rollout);
        let change = format!(
            "the next wave, after the current one has succeeded; or `fleeti rollout next {}`",
            part.rollout
        );
        Stop::closed(text, change)
    })
}

fn cap(facts: &Facts<'_>) -> Option<Stop> {
    let part = facts.part.as_ref()?;
    (part.phase == DevicePhase::Pending && part.wave.is_some()).then(|| {
        let text = format!("rollout {} has no place for it now", part.rollout);
        Stop::closed(text, "another device finishes, or the next period of the rate begins")
    })
}

fn budget(facts: &Facts<'_>) -> Option<Stop> {
    let part = facts.part.as_ref()?;
    (part.phase == DevicePhase::Queued).then(|| {
        let text =
            format!("as many devices of its group update as rollout {} permits", part.rollout);
        Stop::closed(text, "another device of its group finishes")
    })
}

fn heard(facts: &Facts<'_>) -> Option<Stop> {
    let part = facts.part.as_ref()?;
    let text = match part.phase {
        DevicePhase::Retrying { until_s, .. } => {
            let text = "its update failed, and the rollout tries it again";
            let stop = Stop::closed(text, "the pause ends");
            return Some(Stop { until_s: Some(until_s), ..stop });
        }
        DevicePhase::Unreached => "it did not start the update in time",
        DevicePhase::Silent => "it started the update, and was not heard of in time",
        DevicePhase::Held => "a gate held it back, and it has not reported since",
        DevicePhase::Blocked => "its level was too low, and it has not reported since",
        DevicePhase::Pending
        | DevicePhase::Queued
        | DevicePhase::Offered
        | DevicePhase::Staging
        | DevicePhase::Staged
        | DevicePhase::Rebooting
        | DevicePhase::Trying
        | DevicePhase::Unconfirmed
        | DevicePhase::Proving
        | DevicePhase::Succeeded
        | DevicePhase::AttestationFailed
        | DevicePhase::RolledBack { .. }
        | DevicePhase::Revoked
        | DevicePhase::Failed { .. } => return None,
    };
    Some(Stop::closed(text, "its next report"))
}

fn device(facts: &Facts<'_>) -> Option<Stop> {
    if facts.known.desired.as_ref() != Some(facts.next()?) {
        return None;
    }
    let (text, change) = match &facts.known.update {
        State::Staged { .. } => ("its other slot has the release", "it makes the release bootable"),
        State::Staging { .. } => ("it downloads and writes the release", "it is done"),
        State::Armed { .. } => ("it reboots into the release", "it is back"),
        State::Trying { .. } => ("it checks whether it is healthy", "its health checks"),
        State::Unconfirmed { .. } => {
            ("it ran the release and did not reach the server", "it reaches the server")
        }
        State::Idle | State::RolledBack { .. } | State::Failed { .. } => {
            ("it is offered the release, and has not begun", "its next report")
        }
    };
    Some(Stop::waits(text, change))
}

#[cfg(test)]
mod tests;
