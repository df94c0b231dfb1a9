//! Login sessions: one administrator signs in with the token of the first start. A cookie lasts 12
//! h.
//!
//! Code map: `handler` (signing in and out) · `view` (the sign-in page) · `cookie` (the session's
//! cookie) · `guard` (who is let through).

mod cookie;
mod guard;
mod handler;
mod view;

pub use self::cookie::of;
pub use self::guard::{same_origin, signed_in};
pub use self::handler::{begin, end, show};
