//! Login sessions: a person signs in with a password, a passkey, or the token of the first start. A cookie
//! lasts 12 h.
//!
//! Code map: `handler` (signing in and out, one-time links) · `view` (their pages) · `cookie` (the session's
//! cookie) · `guard` (who is let through).

mod cookie;
mod guard;
mod handler;
mod view;

pub use self::cookie::of;
pub use self::guard::{same_origin, signed_in};
pub use self::handler::{
    begin, begin_by_passkey, end, join, origin, passkey_options, show, show_link, signed_in_at,
};
