//! What the ports of devices share.

use super::conduct::Conducts;
use super::doors::Doors;
use super::sessions::Sessions;
use super::tls::TlsState;
use crate::limits::Limits;
use fleeti_control::context::ContextRef;
use std::sync::Arc;

/// What the ports of devices share.
pub struct Gateway {
    /// The control plane.
    pub control: ContextRef,
    /// TLS of the device ports, replaced at every revocation.
    pub tls: Arc<TlsState>,
    /// Accepts connections, within limits.
    pub doors: Doors,
    /// MQTT session state that outlasts connections.
    pub sessions: Sessions,
    /// Rate limits per device.
    pub conducts: Conducts,
    /// Limits on clients.
    pub limits: Limits,
}

/// The shared state, reference-counted.
pub type GatewayRef = Arc<Gateway>;
