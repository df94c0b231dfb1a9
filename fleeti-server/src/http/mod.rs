//! HTTP: [`device`] for devices, and what it shares with [`crate::api`]: bodies and queries
//! ([`extract`]), methods, ranges, pages, tags and files. [`crate::port`] serves the connections.

pub mod device;
pub mod extract;
pub(crate) mod file_body;
pub(crate) mod methods;
pub(crate) mod paged;
pub(crate) mod range;
pub(crate) mod tags;
pub(crate) mod whole_file;
