//! The control plane of Fleeti as a library: everything that can be done with devices, releases,
//! builds and rollouts, without a web server. `fleeti-server` puts HTTP, pages and MQTT around it.
//!
//! Each area has a folder or file, with one function for each operation. An operation gets the
//! [`context::Context`], opens one transaction, loads, calls a state machine of `fleeti_core`,
//! stores, and dispatches the effects after the commit. Areas tell each other what happened by
//! [`events::DomainEvent`]; no area calls back into the one that called it: `cargo xtask deps`
//! refuses circles between files, and the compiler circles of reactions (`reaction`).
//!
//! Code map, areas: [`devices`], [`enrollment`], [`attestation`], [`boot`], [`secrets`],
//! [`commands`], [`labels`], [`views`], [`bulk`], [`replacement`] (devices) · [`profiles`], [`suites`], [`builds`], [`releases`], [`rollouts`], [`channels`] (software) ·
//! [`trust`] (intermediate CAs, CRLs, transitions), [`audit`] (the audit log),
//! [`accounts`] (people, roles, tokens), [`guard`], [`second_person`] (acts of two people), [`alerts`], [`webhooks`], [`email`], [`history`], [`health`] · [`overview`], [`details`], [`drift`], [`doctor`], [`evidence`], [`metrics`] (what several areas know).
//!
//! Code map, foundation: [`start`] (opens it and runs its tasks) · [`context`], [`settings`], [`public_url`], [`email_relay`],
//! [`pki`], [`ports`] (what it is given) · [`events`], `reaction`, `reactions` (what areas tell each
//! other, and who reacts) · [`changes`] (for clients that watch) · [`hub`]
//! (mailboxes of connected devices) · [`places`], [`ledger`] (fair shares) · [`error`], `again`
//! (conflicts in the database), [`clock`], [`alarms`], [`signing`] (requests to the signing
//! service) · [`cursor`], [`precondition`], [`idempotency`] (pages, changes of the version that was read, requests that are repeated) · [`settle`] (database and audit log after a start), [`restored`] (the same after a restore).
//!
//! Every function that uses the database returns an error when the database does not answer. The
//! `# Errors` sections name only the other errors.
//!
//! `examples/src/bin/control_plane.rs` uses it without a web server.
//!
//! **Features**: none. **Errors**: [`error::Error`] has a stable code
//! ([`fleeti_core::wire::problem::Code`]) and a hint. **Stability**: Rust items may change with
//! each release before 1.0.
#![allow(clippy::missing_errors_doc, reason = "said once, above")]

pub mod accounts;
mod again;
pub mod alarms;
pub mod alerts;
pub mod attestation;
pub mod audit;
pub mod board;
pub mod boot;
pub mod builds;
pub mod bulk;
pub mod changes;
pub mod channels;
pub mod clock;
pub mod commands;
pub mod context;
pub mod cursor;
pub mod details;
pub mod devices;
pub mod doctor;
pub mod drift;
pub mod email;
pub mod email_relay;
pub mod enrollment;
pub mod error;
pub mod events;
pub mod evidence;
mod figures;
pub mod guard;
pub mod health;
pub mod history;
pub mod hub;
pub mod idempotency;
pub mod labels;
pub mod ledger;
pub mod metrics;
pub mod overview;
pub mod packages;
pub mod pki;
pub mod places;
pub mod ports;
pub mod precondition;
pub mod profiles;
pub mod public_url;
mod reaction;
mod reactions;
pub mod releases;
pub mod replacement;
pub mod restored;
pub mod rollouts;
pub mod second_person;
pub mod secrets;
pub mod settings;
pub mod settle;
pub mod signing;
pub mod start;
pub mod suites;
pub mod timeline;
pub mod trust;
pub mod views;
pub mod webhooks;
