//! The update of one device: `stage -> arm -> reboot -> boot -> health -> commit | rolled back`.
//!
//! [`step`] is pure. The agent turns what happens into [`Event`]s, persists the returned state, and
//! then applies the [`Effect`]s. If a power cut loses the effect of a persisted state,
//! [`Event::Booted`] or [`Event::Resumed`] repeats it.
//!
//! INVARIANT: a version that was rolled back on this device is never staged again until an operator
//! allows it; the running version is never a target; no version below the minimum version is a
//! target.

use crate::id::Version;
use serde::{Deserialize, Serialize};

/// How often the device tries to stage one version.
pub const STAGE_ATTEMPTS_MAX: u8 = 5;
/// How often the device tries to arm one version.
pub const ARM_ATTEMPTS_MAX: u8 = 3;
/// How often the previous version must reach the server, where the target did not, before the
/// target counts as faulty. Once could be the end of an outage.
pub const UNREACHED_MAX: u8 = 3;

/// State of the update of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = UpdateState)]
pub enum State {
    /// The device runs its desired version.
    #[default]
    Idle,
    /// systemd-sysupdate writes the target to the other slot.
    Staging {
        /// The version that is staged.
        target: Version,
        /// Number of this attempt; 1 for the first.
        attempt: u8,
    },
    /// The other slot contains the target. The boot loader does not know it yet.
    Staged {
        /// The version that is staged.
        target: Version,
        /// Failed attempts to arm it.
        arm_attempts: u8,
    },
    /// The boot loader will start the target at the next boot.
    Armed {
        /// The version that will boot.
        target: Version,
    },
    /// The device runs the target; the result of the health checks is pending.
    Trying {
        /// The version that runs on trial.
        target: Version,
    },
    /// The target ran and did not reach the server in time. The device runs its previous version
    /// again. An outage is not the fault of the target, so the device tries it again after the
    /// server was reached.
    Unconfirmed {
        /// The version that was not kept.
        target: Version,
        /// How often the previous version reached the server at once, where the target did not.
        trials: u8,
        /// Whether the previous version reaches the server.
        contact: Contact,
    },
    /// The target failed, and the device runs its previous version again.
    RolledBack {
        /// The version that failed.
        target: Version,
        /// Why it failed.
        reason: RollbackReason,
    },
    /// The target could not be installed.
    Failed {
        /// The version that could not be installed.
        target: Version,
        /// Why it could not be installed.
        code: FailureCode,
    },
}

/// Whether the version that a device fell back to reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Contact {
    /// Not known yet.
    Waiting,
    /// It did not reach the server in the time that the target had: an outage.
    Silent,
    /// It reached the server.
    Reached,
}

/// Why a boot of the target failed, as found afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RollbackReason {
    /// dm-verity found a block that does not match the root hash.
    Verity {
        /// The kernel's message.
        evidence: String,
    },
    /// A health check failed.
    Health {
        /// The health check and its output.
        evidence: String,
    },
    /// The target did not reach the server in time.
    ServerUnreachable {
        /// How long it tried.
        evidence: String,
    },
    /// The boot entry ran out of attempts before the target reached user space.
    BootRefused {
        /// The boot entry that remained.
        evidence: String,
    },
}

/// Why a target could not be installed. The name is a stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The manifest has no valid signatures of this image's release keys.
    ManifestUntrusted,
    /// The version is older than the running one or below the minimum version.
    TooOld,
    /// The release is for another architecture or image line.
    WrongImage,
    /// systemd-sysupdate refused the version or could not write it.
    StageFailed,
    /// The staged files differ from the manifest, or could not be armed.
    ArmFailed,
    /// The server could not be reached, or the download stopped.
    Unreachable,
    /// The version was rolled back on this device before, and no operator has allowed it since.
    RolledBackBefore,
    /// The audit log does not contain the publication of this release.
    NotInLog,
    /// The newest checkpoint of the audit log is older than this device accepts: it may hide newer
    /// releases.
    LogStale,
    /// The audit log is not consistent with the checkpoint that the device knows: the server shows
    /// this device a forked log.
    LogSplit,
    /// The device learned that this release was revoked.
    Revoked,
}

impl FailureCode {
    /// Whether another attempt may succeed later.
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

/// What happened on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The desired state names this version.
    Desired(Version),
    /// The desired state names a release that this device cannot run.
    Refused(Version, FailureCode),
    /// The agent restarted within the same boot: effects may be lost.
    Resumed,
    /// systemd-sysupdate finished.
    StageSucceeded,
    /// Staging failed.
    StageFailed(FailureCode),
    /// The update may be activated now: the maintenance window is open and no lock is held.
    MayActivate,
    /// The boot loader will start the target next.
    ArmSucceeded,
    /// Arming failed.
    ArmFailed,
    /// The device booted. The reason is set if the armed target failed.
    Booted(Option<RollbackReason>),
    /// `boot-complete.target` was reached, and the boot entry was marked as good.
    HealthConfirmed,
    /// An MQTT session with the server began.
    ServerReached,
    /// No session with the server began in the time that the target had.
    ServerSilent,
    /// An operator allowed a rolled-back version again.
    Forgiven(Version),
}

/// What the agent must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Verify the manifest and run systemd-sysupdate for this version.
    Stage(Version),
    /// Check the staged files against the manifest and make the entry bootable.
    Arm(Version),
    /// Reboot.
    Reboot,
    /// Report the state of the update to the server.
    Report,
}

/// Facts that a step may use.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// The running version.
    pub running: &'a Version,
    /// The minimum version: the device installs nothing older.
    pub floor: &'a Version,
    /// Versions that were rolled back on this device.
    pub rolled_back: &'a [Version],
    /// How often the previous version reached the server so far, where the target did not.
    pub trials: u8,
}

/// An event that does not apply in a state. The state does not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} does not apply while {state}")]
pub struct Rejected {
    /// The event's name.
    pub event: &'static str,
    /// The state's name.
    pub state: &'static str,
}

impl State {
    /// The name of the state.
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
    /// The version that the device updates to, or failed to install.
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

/// Applies an event to the update.
///
/// # Errors
/// [`Rejected`] if the event does not apply in the state. The caller keeps its state.
#[allow(clippy::too_many_lines, reason = "one arm for each event: the whole machine")]
pub fn step(state: &State, event: Event, ctx: &Context<'_>) -> Step {
    use State as S;
    let rejected = Rejected { event: event.name(), state: state.name() };
    match event {
        Event::Desired(v) => desired(state, v, ctx),
        Event::Refused(target, code) => match state {
            S::Idle | S::Unconfirmed { .. } | S::RolledBack { .. } | S::Failed { .. } => {
                Ok((S::Failed { target, code }, vec![Effect::Report]))
            }
            // The version that the device is updating to turned out to be unsuitable.
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
            // The entry is armed, but the reboot was lost.
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

/// Decides by whether the previous version reaches the server: an outage, or a faulty target.
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
            "it did not reach the server in {trials} trials, and the previous version reached it each time"
        );
        let reason = RollbackReason::ServerUnreachable { evidence };
        return (State::RolledBack { target: target.clone(), reason }, vec![Effect::Report]);
    }
    (State::Unconfirmed { target: target.clone(), trials, contact }, vec![Effect::Report])
}

fn desired(state: &State, v: Version, ctx: &Context<'_>) -> Step {
    use State as S;
    // Changes nothing and reports the state.
    let unchanged = Ok((state.clone(), vec![Effect::Report]));
    match state {
        // The device finishes staging, arming or a trial first. The agent keeps the desired version
        // and repeats the event then.
        S::Staging { .. } | S::Armed { .. } | S::Trying { .. } => Ok((state.clone(), vec![])),
        S::Staged { target, .. } if *target == v => Ok((state.clone(), vec![])),
        S::RolledBack { target, .. } if *target == v => unchanged,
        S::Failed { target, code } if *target == v && !code.is_retryable() => unchanged,
        // Before the server is reached, it is not known whether the target is faulty.
        S::Unconfirmed { target, contact: Contact::Waiting | Contact::Silent, .. }
            if *target == v =>
        {
            unchanged
        }
        S::RolledBack { .. } | S::Failed { .. } if v == *ctx.running => unchanged,
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
        // Also from `Staged`: a power cut can happen after arming and before the state is
        // persisted.
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
