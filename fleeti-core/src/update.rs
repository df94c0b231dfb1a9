//! The update of one device: `stage -> arm -> reboot -> boot -> health -> commit | rolled back`.
//!
//! [`step`] is pure. The agent turns the world into [`Event`]s, persists the state that comes back
//! and carries out the [`Effect`]s. A state that was persisted and whose effect was lost to a power
//! cut is resumed by [`Event::Booted`] or [`Event::Resumed`].
//!
//! INVARIANT: a version that was rolled back on this device is never staged again, until an
//! operator forgives it; the running version is never a target; nothing below the floor is a
//! target.

use crate::id::Version;
use serde::{Deserialize, Serialize};

/// Most tries to stage one version before the device gives up on it.
pub const STAGE_ATTEMPTS_MAX: u8 = 5;
/// Most tries to arm one version.
pub const ARM_ATTEMPTS_MAX: u8 = 3;
/// So many times the old version reaches the server where the target had not; then the target is to
/// blame. Once may be the end of an outage.
pub const UNREACHED_MAX: u8 = 3;

/// Where the update of a device stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = UpdateState)]
pub enum State {
    /// Runs what it should run.
    #[default]
    Idle,
    /// systemd-sysupdate writes the other slot.
    Staging {
        /// What is staged.
        target: Version,
        /// 1 for the first try.
        attempt: u8,
    },
    /// The other slot holds the target; the boot loader does not know it yet.
    Staged {
        /// What is staged.
        target: Version,
        /// Tries to arm it so far.
        arm_attempts: u8,
    },
    /// The boot loader will choose the target.
    Armed {
        /// What will boot.
        target: Version,
    },
    /// Runs the target, health is not yet known.
    Trying {
        /// What runs.
        target: Version,
    },
    /// The target ran and did not reach the server in time; the device runs its old version again.
    /// An outage is nobody's fault: the target is tried again once the server was reached.
    Unconfirmed {
        /// What was not kept.
        target: Version,
        /// How often the old version reached the server at once where the target had not.
        trials: u8,
        /// Whether the old version reaches it.
        contact: Contact,
    },
    /// The target did not become healthy and the device runs its old version again.
    RolledBack {
        /// What failed.
        target: Version,
        /// Why.
        reason: RollbackReason,
    },
    /// The target could not be installed.
    Failed {
        /// What failed.
        target: Version,
        /// Why.
        code: FailureCode,
    },
}

/// Whether the version that a device fell back to reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Contact {
    /// Not known yet.
    Waiting,
    /// Not in the time that the target had either: an outage.
    Silent,
    /// It does.
    Reached,
}

/// Why a boot of the target did not last, from what it left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RollbackReason {
    /// dm-verity found a block that the root hash does not cover.
    Verity {
        /// The kernel's line.
        evidence: String,
    },
    /// A health check failed.
    Health {
        /// The check and its output.
        evidence: String,
    },
    /// It did not reach the server in time.
    ServerUnreachable {
        /// How long it tried.
        evidence: String,
    },
    /// The boot loader ran out of tries and the target never reached user space.
    BootRefused {
        /// The boot entry that was left behind.
        evidence: String,
    },
}

/// Why a target could not be installed. The text is the stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The manifest's signature is missing or not by a release key of this image.
    ManifestUntrusted,
    /// Older than the running version or the floor.
    TooOld,
    /// Built for another architecture or image line.
    WrongImage,
    /// systemd-sysupdate refused or could not write it.
    StageFailed,
    /// The staged files are not those of the manifest, or could not be armed.
    ArmFailed,
    /// The server could not be reached, or stopped in the middle.
    Unreachable,
    /// It was rolled back on this device before, and no operator has forgiven it.
    RolledBackBefore,
    /// The audit log does not say that this release was published.
    NotInLog,
    /// The audit log's last statement is older than this device accepts: it may hide newer ones.
    LogStale,
    /// The audit log is not the one of last time: somebody shows this device another history.
    LogSplit,
    /// The device has heard that this release was revoked.
    Revoked,
}

impl FailureCode {
    /// Whether the same try may succeed later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Unreachable | Self::StageFailed | Self::ArmFailed | Self::LogStale => true,
            Self::ManifestUntrusted
            | Self::TooOld
            | Self::WrongImage
            | Self::RolledBackBefore
            | Self::NotInLog
            | Self::LogSplit
            | Self::Revoked => false,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The desired state names this version.
    Desired(Version),
    /// The desired state names something that this device cannot run.
    Refused(Version, FailureCode),
    /// The agent started within the same boot: effects may have been lost.
    Resumed,
    /// systemd-sysupdate finished.
    StageSucceeded,
    /// Staging failed.
    StageFailed(FailureCode),
    /// The update may be activated now: the window is open and no lock is held.
    MayActivate,
    /// The target is what the boot loader chooses next.
    ArmSucceeded,
    /// Arming failed.
    ArmFailed,
    /// The device booted; with the reason, when the boot loader gave up on the armed target.
    Booted(Option<RollbackReason>),
    /// `boot-complete.target` was reached and the boot entry was blessed.
    HealthConfirmed,
    /// A session with the server began.
    ServerReached,
    /// No session with the server began in the time that the target had.
    ServerSilent,
    /// An operator allows a version that was rolled back.
    Forgiven(Version),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Verify the manifest and run systemd-sysupdate for this version.
    Stage(Version),
    /// Check the staged files against the manifest and make the entry bootable.
    Arm(Version),
    /// Reboot.
    Reboot,
    /// Tell the server where the update stands.
    Report,
}

/// What the step may look at.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// The version that runs.
    pub running: &'a Version,
    /// Nothing older is accepted.
    pub floor: &'a Version,
    /// Versions that were rolled back on this device.
    pub rolled_back: &'a [Version],
    /// How often the old version has reached the server where the target had not, so far.
    pub trials: u8,
}

/// An event that has no place in a state: nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} does not apply while {state}")]
pub struct Rejected {
    /// The event's name.
    pub event: &'static str,
    /// The state's name.
    pub state: &'static str,
}

impl State {
    /// The state's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Staging { .. } => "staging",
            Self::Staged { .. } => "staged",
            Self::Armed { .. } => "armed",
            Self::Trying { .. } => "trying",
            Self::Unconfirmed { .. } => "unconfirmed",
            Self::RolledBack { .. } => "rolled_back",
            Self::Failed { .. } => "failed",
        }
    }
    /// The version that the device is on its way to, or failed to reach.
    #[must_use]
    pub fn target(&self) -> Option<&Version> {
        match self {
            Self::Idle => None,
            Self::Staging { target, .. }
            | Self::Staged { target, .. }
            | Self::Armed { target }
            | Self::Trying { target }
            | Self::Unconfirmed { target, .. }
            | Self::RolledBack { target, .. }
            | Self::Failed { target, .. } => Some(target),
        }
    }
}

impl Event {
    fn name(&self) -> &'static str {
        match self {
            Self::Desired(_) => "desired",
            Self::Refused(..) => "refused",
            Self::Resumed => "resumed",
            Self::StageSucceeded => "stage_succeeded",
            Self::StageFailed(_) => "stage_failed",
            Self::MayActivate => "may_activate",
            Self::ArmSucceeded => "arm_succeeded",
            Self::ArmFailed => "arm_failed",
            Self::Booted(_) => "booted",
            Self::HealthConfirmed => "health_confirmed",
            Self::ServerReached => "server_reached",
            Self::ServerSilent => "server_silent",
            Self::Forgiven(_) => "forgiven",
        }
    }
}

type Step = Result<(State, Vec<Effect>), Rejected>;

/// One step of the update.
///
/// # Errors
/// [`Rejected`] when the event has no place in the state; the caller keeps the state it has.
pub fn step(state: &State, event: Event, ctx: &Context<'_>) -> Step {
    use State as S;
    let rejected = Rejected { event: event.name(), state: state.name() };
    match event {
        Event::Desired(v) => desired(state, v, ctx),
        Event::Refused(target, code) => match state {
            S::Idle | S::Unconfirmed { .. } | S::RolledBack { .. } | S::Failed { .. } => {
                Ok((S::Failed { target, code }, vec![Effect::Report]))
            }
            // What the device is on its way to has turned out to be nothing for it.
            S::Staging { target: on_its_way, .. } | S::Staged { target: on_its_way, .. }
                if *on_its_way == target =>
            {
                Ok((S::Failed { target, code }, vec![Effect::Report]))
            }
            S::Staging { .. } | S::Staged { .. } | S::Armed { .. } | S::Trying { .. } => {
                Err(rejected)
            }
        },
        Event::Booted(reason) => booted(state, reason, ctx),
        Event::Resumed => match state {
            S::Staging { target, .. } => Ok((state.clone(), vec![Effect::Stage(target.clone())])),
            S::Staged { .. }
            | S::Idle
            | S::Trying { .. }
            | S::Unconfirmed { .. }
            | S::RolledBack { .. }
            | S::Failed { .. } => Ok((state.clone(), vec![Effect::Report])),
            // The entry is armed and the reboot was lost.
            S::Armed { .. } => Ok((state.clone(), vec![Effect::Report, Effect::Reboot])),
        },
        Event::StageSucceeded => match state {
            S::Staging { target, .. } => {
                Ok((S::Staged { target: target.clone(), arm_attempts: 0 }, vec![Effect::Report]))
            }
            S::Idle
            | S::Staged { .. }
            | S::Armed { .. }
            | S::Trying { .. }
            | S::Unconfirmed { .. }
            | S::RolledBack { .. }
            | S::Failed { .. } => Err(rejected),
        },
        Event::StageFailed(code) => match state {
            S::Staging { target, attempt }
                if code.is_retryable() && *attempt < STAGE_ATTEMPTS_MAX =>
            {
                Ok((
                    S::Staging { target: target.clone(), attempt: attempt + 1 },
                    vec![Effect::Report, Effect::Stage(target.clone())],
                ))
            }
            S::Staging { target, .. } => {
                Ok((S::Failed { target: target.clone(), code }, vec![Effect::Report]))
            }
            S::Idle
            | S::Staged { .. }
            | S::Armed { .. }
            | S::Trying { .. }
            | S::Unconfirmed { .. }
            | S::RolledBack { .. }
            | S::Failed { .. } => Err(rejected),
        },
        Event::MayActivate => match state {
            S::Staged { target, .. } => Ok((state.clone(), vec![Effect::Arm(target.clone())])),
            S::Idle
            | S::Staging { .. }
            | S::Armed { .. }
            | S::Trying { .. }
            | S::Unconfirmed { .. }
            | S::RolledBack { .. }
            | S::Failed { .. } => Err(rejected),
        },
        Event::ArmSucceeded => match state {
            S::Staged { target, .. } => {
                Ok((S::Armed { target: target.clone() }, vec![Effect::Report, Effect::Reboot]))
            }
            S::Idle
            | S::Staging { .. }
            | S::Armed { .. }
            | S::Trying { .. }
            | S::Unconfirmed { .. }
            | S::RolledBack { .. }
            | S::Failed { .. } => Err(rejected),
        },
        Event::ArmFailed => match state {
            S::Staged { target, arm_attempts } if arm_attempts + 1 < ARM_ATTEMPTS_MAX => Ok((
                S::Staged { target: target.clone(), arm_attempts: arm_attempts + 1 },
                vec![Effect::Report],
            )),
            S::Staged { target, .. } => Ok((
                S::Failed { target: target.clone(), code: FailureCode::ArmFailed },
                vec![Effect::Report],
            )),
            S::Idle
            | S::Staging { .. }
            | S::Armed { .. }
            | S::Trying { .. }
            | S::Unconfirmed { .. }
            | S::RolledBack { .. }
            | S::Failed { .. } => Err(rejected),
        },
        Event::HealthConfirmed => match state {
            S::Trying { .. } => Ok((S::Idle, vec![Effect::Report])),
            S::Idle | S::Unconfirmed { .. } | S::RolledBack { .. } | S::Failed { .. } => {
                Ok((state.clone(), vec![]))
            }
            S::Staging { .. } | S::Staged { .. } | S::Armed { .. } => Ok((state.clone(), vec![])),
        },
        Event::ServerReached | Event::ServerSilent => Ok(contact(state, &event)),
        Event::Forgiven(v) => match state {
            S::Unconfirmed { target, .. }
            | S::RolledBack { target, .. }
            | S::Failed { target, .. }
                if *target == v =>
            {
                Ok((S::Idle, vec![Effect::Report]))
            }
            S::Idle
            | S::Staging { .. }
            | S::Staged { .. }
            | S::Armed { .. }
            | S::Trying { .. }
            | S::Unconfirmed { .. }
            | S::RolledBack { .. }
            | S::Failed { .. } => Err(rejected),
        },
    }
}

/// What the old version makes of the server says whom to blame: an outage, or the target.
fn contact(state: &State, event: &Event) -> (State, Vec<Effect>) {
    let State::Unconfirmed { target, trials, contact } = state else {
        return (state.clone(), vec![]);
    };
    let is_reached = *event == Event::ServerReached;
    let (trials, contact) = match (contact, is_reached) {
        (Contact::Waiting, true) => (trials.saturating_add(1), Contact::Reached),
        (Contact::Silent, true) => (*trials, Contact::Reached),
        (Contact::Waiting, false) => (*trials, Contact::Silent),
        (Contact::Silent, false) | (Contact::Reached, _) => return (state.clone(), vec![]),
    };
    if trials >= UNREACHED_MAX {
        let evidence = format!(
            "it did not reach the server in {trials} trials, and the version before it reached it each time"
        );
        let reason = RollbackReason::ServerUnreachable { evidence };
        return (State::RolledBack { target: target.clone(), reason }, vec![Effect::Report]);
    }
    (State::Unconfirmed { target: target.clone(), trials, contact }, vec![Effect::Report])
}

fn desired(state: &State, v: Version, ctx: &Context<'_>) -> Step {
    use State as S;
    // Nothing changes, but whoever wishes is told where the device stands.
    let told = Ok((state.clone(), vec![Effect::Report]));
    match state {
        // What is being written, armed or tried is finished first; the agent keeps the wish and
        // asks again then.
        S::Staging { .. } | S::Armed { .. } | S::Trying { .. } => Ok((state.clone(), vec![])),
        S::Staged { target, .. } if *target == v => Ok((state.clone(), vec![])),
        S::RolledBack { target, .. } if *target == v => told,
        S::Failed { target, code } if *target == v && !code.is_retryable() => told,
        // Before the server was reached nobody knows whom to blame.
        S::Unconfirmed { target, contact: Contact::Waiting | Contact::Silent, .. }
            if *target == v =>
        {
            told
        }
        S::RolledBack { .. } | S::Failed { .. } if v == *ctx.running => told,
        S::Idle
        | S::Staged { .. }
        | S::Unconfirmed { .. }
        | S::RolledBack { .. }
        | S::Failed { .. } => {
            if v == *ctx.running {
                return Ok((S::Idle, vec![Effect::Report]));
            }
            if v < *ctx.running || v < *ctx.floor {
                return Ok((
                    S::Failed { target: v, code: FailureCode::TooOld },
                    vec![Effect::Report],
                ));
            }
            if ctx.rolled_back.contains(&v) {
                return Ok((
                    S::Failed { target: v, code: FailureCode::RolledBackBefore },
                    vec![Effect::Report],
                ));
            }
            Ok((
                S::Staging { target: v.clone(), attempt: 1 },
                vec![Effect::Report, Effect::Stage(v)],
            ))
        }
    }
}

fn booted(state: &State, reason: Option<RollbackReason>, ctx: &Context<'_>) -> Step {
    use State as S;
    match (state, reason) {
        // Staged as well: a power cut between arming and keeping that it was armed.
        (S::Staged { target, .. } | S::Armed { target } | S::Trying { target }, _)
            if target == ctx.running =>
        {
            Ok((S::Trying { target: target.clone() }, vec![Effect::Report]))
        }
        (
            S::Staged { target, .. } | S::Armed { target } | S::Trying { target },
            Some(RollbackReason::ServerUnreachable { .. }),
        ) => {
            let state = S::Unconfirmed {
                target: target.clone(),
                trials: ctx.trials,
                contact: Contact::Waiting,
            };
            Ok((state, vec![Effect::Report]))
        }
        (S::Staged { target, .. } | S::Armed { target } | S::Trying { target }, Some(reason)) => {
            Ok((S::RolledBack { target: target.clone(), reason }, vec![Effect::Report]))
        }
        (S::Armed { target } | S::Trying { target }, None) => {
            let evidence = format!(
                "the device runs {} and the boot of {target} left nothing behind",
                ctx.running
            );
            let reason = RollbackReason::BootRefused { evidence };
            Ok((S::RolledBack { target: target.clone(), reason }, vec![Effect::Report]))
        }
        (S::Staging { target, .. }, _) => {
            Ok((state.clone(), vec![Effect::Report, Effect::Stage(target.clone())]))
        }
        (S::Staged { .. }, None)
        | (S::Idle | S::Unconfirmed { .. } | S::RolledBack { .. } | S::Failed { .. }, _) => {
            Ok((state.clone(), vec![Effect::Report]))
        }
    }
}

#[cfg(test)]
mod tests;
