//! Seals of receivers.

use crate::context::Context;
use crate::error::Error;
use fleeti_core::wire::email::EmailReceiver;

/// The MAC of a receiver. Whether it is enabled has no part in it: that leads e-mail nowhere else.
pub(super) fn of(cx: &Context, receiver: &EmailReceiver) -> Result<String, Error> {
    let EmailReceiver { id, address, fleets, severity, enabled: _, created_s: _ } = receiver;
    cx.accounts.seal("email receiver", &(id, address, fleets, severity))
}
