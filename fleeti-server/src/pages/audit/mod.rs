//! The page of the audit log.

mod handler;
mod view;

pub use self::handler::list;
