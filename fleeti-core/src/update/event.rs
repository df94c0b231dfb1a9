//! What happens to an update, and what the agent must do then.

use super::state::{FailureCode, RollbackReason};
use crate::id::Version;
use crate::windows::May;

/// What happened on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The desired state names this version.
    Desired(Version),
    /// The desired state names a version that this device ran before, to go back to.
    DesiredBack(Version),
    /// The desired state names a release that this device cannot run.
    Refused(Version, FailureCode),
    /// The agent restarted within the same boot: effects may be lost.
    Resumed,
    /// A window opened, or what else a download or a reboot waited for ended; none is in progress.
    Opened,
    /// systemd-sysupdate finished.
    StageSucceeded,
    /// Staging failed.
    StageFailed(FailureCode),
    /// The staged version is still desired: it may be activated as soon as its window is open.
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
    /// Check the files of this version in the other slot against the manifest and make its entry
    /// bootable. A version older than the running one was not staged: the device goes back to it.
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
    /// Which jobs may begin now, by the windows of the device and by what else it waits for.
    pub may: May,
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

impl Event {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Desired(_) => "desired",
            Self::DesiredBack(_) => "desired_back",
            Self::Refused(..) => "refused",
            Self::Resumed => "resumed",
            Self::Opened => "opened",
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
