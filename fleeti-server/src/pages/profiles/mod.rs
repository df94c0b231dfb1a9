//! Pages of profiles and their revisions, and the editor.
//!
//! Code map: `handler` (requests) · `view` (what the pages show) · `refresh` (builds by a schedule) · `changes` (what a change of a
//! profile does) · `editor` (the editor) · `sections` (its sections) · `sets` (templates and sets by
//! choice) · `form` (fields generated from the profile's schema, with `entries`, `field`, `finding`
//! and `said`) · `read` (reads the form) · `posted` (form or text) · `edit` (what buttons do) ·
//! `document` (the form as TOML), `kept` (the text with its comments, changed) · `schema` (the types
//! of values) · `found` (what a search found).

mod changes;
mod document;
mod edit;
mod editor;
mod entries;
mod field;
mod finding;
mod form;
mod found;
mod handler;
mod kept;
mod kept_array;
mod kept_list;
mod kept_made;
mod posted;
mod read;
mod refresh;
mod said;
mod schema;
mod sections;
mod sets;
#[cfg(test)]
mod tests;
mod view;

pub use self::handler::{change_form, changes, check, edit, list, new, save, search, show};
pub use self::refresh::{remove as remove_refresh, set as set_refresh};
