//! What happens to a secret of a device's boot, and what the agent must do then.

use super::state::{Held, Value};

/// What happened on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The server delivered this value.
    Delivered(Value),
    /// A session with the server began, with the value in use.
    Reached,
    /// The session with the server ended.
    Lost,
    /// Time has passed, or what a step may know has changed.
    Tick,
    /// The device booted.
    Booted,
    /// An operator asks to try the value again that did not reach the server.
    Retry,
}

/// What the agent must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Use this value from now on, and connect again.
    Use(Held),
    /// Report the state to the server.
    Report,
}

/// Facts that a step may use.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Seconds since the device's boot.
    pub now_s: u64,
    /// The time, Unix seconds.
    pub at_s: u64,
    /// How long a value is tried, and how long the device waits for the server with a value that
    /// reached it before, seconds.
    pub try_s: u64,
    /// How long each of two values is used in turn, seconds. It differs between the secrets of a
    /// device, so that every combination of their values has its turn.
    pub period_s: u64,
    /// Whether a trial may begin: no other secret of the device is on trial, and its image is not.
    pub may_try: bool,
}
