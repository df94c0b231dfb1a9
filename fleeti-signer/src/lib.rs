//! The signing service: the one process that holds a server's keys, and writes the audit log.
//!
//! An attacker with control over the web server can request what the policy allows, within its
//! limits, and every response is in the log before it is sent. The attacker gets no key, cannot
//! have bytes of their choice signed, and cannot remove an entry.
//!
//! ```
//! use fleeti_signer::wire::Request;
//! // No request signs arbitrary bytes: each names its subject, and the signing service checks it.
//! let request = Request::Prove { number: 7 };
//! assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"type":"prove","number":7}"#);
//! assert!(serde_json::from_str::<Request>(r#"{"type":"sign","bytes":"AA=="}"#).is_err());
//! ```
//!
//! Code map: [`wire`] (requests and responses) · [`service`] (keys, checks, signatures; Secure Boot
//! in `boot`, wrapped secrets and recovery keys in `escrow`; what each request writes to the audit
//! log in `service/plan.rs` and these two) · [`limits`] (limits per minute) · `crls` (CRLs in
//! parts) · [`keys`] (opens the keys of a folder) · [`log`] (the audit log on disk) · [`release`]
//! (releases with a server's own keys, after enough approvals) · `outbox` (copies them to the
//! server's folder) · `reserve` (disk space for the audit log) · [`handle`] (a signing service in
//! this process or behind a socket; batches requests) · [`socket`] (the process).

mod boot;
mod crls;
mod escrow;
pub mod handle;
pub mod keys;
pub mod limits;
pub mod log;
mod outbox;
pub mod release;
mod reserve;
pub mod service;
pub mod socket;
pub mod wire;
