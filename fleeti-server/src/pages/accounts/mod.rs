//! Pages of accounts: the own one, with its sessions and tokens, and all, for administrators.
//!
//! Code map: `handler` (requests) · `view` (what the pages show) · `form` (reads forms).

mod form;
mod handler;
mod view;

pub use self::handler::{
    add, add_passkey, add_token, disable, enable, end_session, end_session_of, end_sessions_of,
    grant, link, list, offboard, own, passkey_options, remove_passkey, remove_passkey_of,
    remove_token, set_password, show, ungrant,
};
