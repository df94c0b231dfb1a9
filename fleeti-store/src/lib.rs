//! The database of a Fleeti server: all of its SQL, one file for each aggregate. It knows nothing
//! of HTTP, TLS or the signing service.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let dir = tempfile::tempdir().unwrap();
//! let db = fleeti_store::Db::open(&dir.path().join("fleeti.db")).await.unwrap();
//! let mut tx = db.write().await.unwrap();
//! let fleet = "office".parse().unwrap();
//! let terms = fleeti_core::enrollment::token::Terms::until(1_800_000_000);
//! fleeti_store::enrollments::insert(&mut tx, "sha256-of-a-token", &fleet, &terms).await.unwrap();
//! tx.commit().await.unwrap();
//! # });
//! ```
//!
//! Every function returns a [`StoreError`] when the database does not answer. The `# Errors`
//! sections name only the other errors.
//!
//! Code map: [`devices`], [`reports`], [`labels`], [`selection`], [`views`], [`desired`], [`admission`], [`mqtt_sessions`], [`commands`] (devices and
//! what they are asked) · [`enrollments`], [`pairings`], [`readmissions`], [`certificates`],
//! [`device_keys`], [`trust`] (identities) · [`tpms`], [`attestations`], [`policies`], [`boot`],
//! [`vault`] (evidence and what only the signing service opens) · [`revisions`], [`builds`],
//! [`approvals`], [`refresh_schedules`], [`releases`], [`packages`], [`rollouts`], [`rollout_devices`],
//! [`budgets`], [`release_paths`], [`forecast`] ·
//! [`accounts`], [`passkeys`], [`sessions`], [`pending_acts`], [`workers`], [`audit`],
//! [`domain_events`], [`idempotency`] · [`alerts`],
//! [`alert_rules`], [`webhooks`], [`emails`], [`history`] · [`beside`] (the database beside its server).
//!
//! **Features**: none. **Errors**: [`StoreError`]: the database does not answer, or what it holds
//! cannot be read. **Stability**: Rust items may change with each release before 1.0.
#![allow(clippy::missing_errors_doc, reason = "said once, above")]
#![warn(missing_docs)]

pub mod accounts;
pub mod admission;
pub mod alert_rules;
pub mod alerts;
pub mod approvals;
pub mod attestations;
pub mod audit;
mod batch;
pub mod beside;
pub mod board;
pub mod boot;
pub mod budgets;
pub mod builds;
pub mod certificates;
pub mod channels;
pub mod commands;
mod connection;
mod db;
pub mod desired;
pub mod device_keys;
pub mod devices;
pub mod dialect;
pub mod domain_events;
pub mod emails;
pub mod enrollments;
mod error;
pub mod forecast;
pub mod history;
mod hold;
mod holder;
pub mod idempotency;
pub mod known;
pub mod labels;
mod lease;
mod location;
pub mod mqtt_sessions;
mod open;
pub mod packages;
pub mod page;
pub mod pairings;
pub mod passkeys;
pub mod pending_acts;
pub mod policies;
pub mod readmissions;
pub mod refresh_schedules;
pub mod release_paths;
pub mod releases;
pub mod reports;
pub mod revisions;
pub mod rollout_devices;
pub mod rollouts;
pub mod selection;
pub mod sessions;
pub mod sql;
mod time;
pub mod timeline;
pub mod tpms;
pub mod trust;
pub mod vault;
pub mod views;
pub mod webhooks;
pub mod workers;

pub use connection::{Connection, Pool, Tx};
pub use db::Db;
pub use error::StoreError;
pub use hold::WriterHold;
pub use holder::Holder;
pub use location::Location;
pub use time::{from_seconds, seconds};
