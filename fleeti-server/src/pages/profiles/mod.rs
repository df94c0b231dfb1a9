//! Pages of profiles and their revisions.
//!
//! Code map: `handler` (requests) · `view` (what the pages show) · `form` (a form generated from
//! the profile's schema) · `field` (one field of it) · `schema` (the types of its values).

mod field;
mod form;
mod handler;
mod schema;
mod view;

pub use self::handler::{change_form, edit, list, new, save, show};
