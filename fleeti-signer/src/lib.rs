//! The signer: the one process that holds the keys of a server, and the audit log.
//!
//! Whoever takes the web server can ask the signer for what its policy allows, within its limits,
//! and every answer is in the log before it is given; he gets no key, signs no bytes of his choice,
//! and takes no entry back.
//!
//! ```
//! use fleeti_signer::wire::Request;
//! // There is no request for "sign these bytes": each names what it is about, and is checked by the signer.
//! let request = Request::Prove { number: 7 };
//! assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"type":"prove","number":7}"#);
//! assert!(serde_json::from_str::<Request>(r#"{"type":"sign","bytes":"AA=="}"#).is_err());
//! ```
//!
//! Code map: [`wire`] (what can be asked) · [`keeper`] (keys, checks, signatures; Secure Boot in
//! `boot`, what is kept for others in `escrow`) · [`limits`] (how much of it in a minute) · `lists`
//! (revocation lists in parts) · [`keys`] (keys out of a folder) · [`log`] (the audit log on a
//! disk) · [`release`] (releases by a server's own keys, once enough people agree) · [`handle`] (a
//! signer in this process or behind a socket; many requests are one flush) · [`socket`] (the
//! process).

mod boot;
mod escrow;
pub mod handle;
pub mod keeper;
pub mod keys;
pub mod limits;
mod lists;
pub mod log;
mod outbox;
pub mod release;
mod reserve;
pub mod socket;
pub mod wire;
