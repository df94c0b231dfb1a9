//! The sections of a profile: plain data, with descriptions and examples for the JSON Schema.
//!
//! A section that is left out has its default, and is left out again when it is serialized, so that
//! a new section does not change the digest of a profile that does not use it.

mod accounts;
mod base;
mod files;
mod health;
mod identity;
mod kernel;
mod network;
mod security;
mod services;
mod software;
mod storage;
mod support;
mod updates;

pub use accounts::{Group, SudoRule, User};
pub use base::{BaseName, Standing};
pub use files::{File, Secret, SiteType, SiteValue};
pub use health::{DiskCheck, HealthCheck, Probe};
pub use identity::{DEFAULT_LOCALE, Identity};
pub use kernel::{Drivers, Firmware, Flavour, Hardware, Kernel};
pub use network::{
    Bond, BondMode, Bridge, Dhcp, Direction, Dns, Firewall, FirewallRule, Interface, Match,
    Network, OverTls, Peer, Protocol, Proxy, Time, Vlan, Wifi, WifiSecurity, WireGuard,
};
pub use security::{AccessControl, Audit, Lockdown, Passwords, Security, Ssh, UsbGuard};
pub use services::{Container, DropIn, Service, Timer, UnitState};
pub use software::{OwnPackage, Repository, Software, Suite};
pub use storage::{OnReset, State, StateDirectory, Storage};
pub use support::{Diagnostic, SupportKey};
pub use updates::{Extension, Floors, ReleaseLog, ServerContact};

/// Whether a section has its default, and so is not serialized.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn yes() -> bool {
    true
}
