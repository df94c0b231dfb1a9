//! The filter language: one line that selects devices, the same in the API, the CLI, the pages and the
//! plans of rollouts. Its reference is `docs/reference/filter.md`.
//!
//! A filter is parsed and checked here. [`Filter::matches`] evaluates it for one device; the store
//! compiles the same expression to SQL, and a test holds both against each other.
//!
//! ```
//! use fleeti_core::filter::Filter;
//! use std::collections::BTreeMap;
//! let filter: Filter = "site=berlin and version<2.1 and not revoked".parse()?;
//! assert_eq!(filter.to_string(), "label.site=berlin and version<2.1 and not revoked");
//! // Without a field of that name it is a label, and labels are declared.
//! let error = "versoin<2".parse::<Filter>()?.check(&BTreeMap::new()).unwrap_err();
//! assert_eq!(error.column, 1);
//! # Ok::<_, fleeti_core::filter::FilterError>(())
//! ```
//!
//! Code map: `expression` (what a filter is) · `lexer` · `parser` · `evaluate` (one device) ·
//! `known` (comparison with the declared label keys) · `error`.

mod error;
mod evaluate;
mod expression;
mod known;
mod lexer;
mod parser;

pub use error::FilterError;
pub use evaluate::{DeviceFacts, seen_step};
pub use expression::{Filter, Flag, LabelTest, Node, Order, Test, TextField, TextTest, is_taken};

/// Longest filter, in characters.
pub const FILTER_MAX: usize = 1000;
/// Largest number of tests in a filter.
pub const TESTS_MAX: usize = 32;
/// Largest number of values in a list.
pub const VALUES_MAX: usize = 100;
/// Deepest nesting of parentheses and `not`.
pub const DEPTH_MAX: usize = 16;
/// `last_seen` is compared in steps of this many seconds: the store writes a time for each step, not
/// for each message of a device.
pub const SEEN_STEP_S: u64 = 900;

#[cfg(test)]
mod tests;
