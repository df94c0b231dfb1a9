//! What an alert is about, and what operators write about it.

use crate::accounts::actor::Scope;
use crate::error::Error;
use fleeti_core::alert::Subject;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::alerts::{Alert, NOTE_MAX};
use fleeti_core::wire::problem::Code;

/// What an alert is about: a device of a fleet, a fleet as a whole, or the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    fleet: Option<&'a FleetId>,
    device: Option<&'a DeviceId>,
}

impl<'a> About<'a> {
    pub(super) const SERVER: Self = Self { fleet: None, device: None };

    pub(super) fn device_of(fleet: &'a FleetId, device: &'a DeviceId) -> Self {
        Self { fleet: Some(fleet), device: Some(device) }
    }
    pub(super) fn whole(fleet: &'a FleetId) -> Self {
        Self { fleet: Some(fleet), device: None }
    }
    pub(super) fn subject(self) -> Subject {
        match (self.fleet, self.device) {
            (_, Some(_)) => Subject::Device,
            (Some(_), None) => Subject::Fleet,
            (None, None) => Subject::Server,
        }
    }
    pub(super) fn fleet(self) -> Option<&'a FleetId> {
        self.fleet
    }
    pub(super) fn device(self) -> Option<&'a DeviceId> {
        self.device
    }
}

/// What an alert is about, in words.
pub(super) fn named(alert: &Alert) -> String {
    match (&alert.device, &alert.fleet) {
        (Some(device), _) => device.to_string(),
        (None, Some(fleet)) => format!("fleet {fleet}"),
        (None, None) => "the server".to_owned(),
    }
}

/// The fleet of an alert as a scope of permissions. An alert about the server concerns all fleets.
pub(super) fn scope(alert: &Alert) -> Scope<'_> {
    alert.fleet.as_ref().map_or(Scope::All, Scope::Fleet)
}

/// Checks a note or a reason of an operator.
pub(super) fn check_text(name: &str, text: &str) -> Result<(), Error> {
    if text.len() > NOTE_MAX || text.chars().any(char::is_control) {
        let text = format!("{name}: must be one line of at most {NOTE_MAX} bytes");
        return Err(Error::new(Code::Invalid, text));
    }
    Ok(())
}
