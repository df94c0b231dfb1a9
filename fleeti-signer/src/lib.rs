//! The signing service: the one process that holds a server's keys, and writes the audit log.
//!
//! An attacker with control over the web server can request what the policy allows, within its
//! limits, and every response is in the log before it is sent. The attacker gets no key, cannot
//! have bytes of their choice signed, and cannot remove an entry.
//!
//! Callers use `fleeti-signer-client`.
//!
//! Code map: [`service`] (keys, checks, signatures; Secure Boot
//! in `boot`, wrapped secrets and recovery keys in `escrow`; what each request writes to the audit
//! log in `service/plan.rs` and these two) · [`limits`] (limits per minute) · [`lifetimes`] (of certificates and CRLs) · `crls` (CRLs in
//! parts) · [`keys`] (opens the keys of a folder) · [`log`] (the audit log on disk) · [`release`]
//! (releases with a server's own keys, after enough approvals) · `outbox` (copies them to the
//! server's folder) · `reserve` (disk space for the audit log) · [`disk`] (warns before that disk
//! is full) · [`embedded`] (a signing service on a thread; batches requests) · [`socket`] (the
//! process).

mod boot;
mod crls;
pub mod disk;
pub mod embedded;
mod escrow;
pub mod keys;
pub mod lifetimes;
pub mod limits;
pub mod log;
mod outbox;
pub mod release;
mod reserve;
pub mod service;
pub mod socket;
