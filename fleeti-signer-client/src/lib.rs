//! The client of the signing service: what can be asked of it, and how. The service is
//! `fleeti-signer`.
//!
//! ```
//! use fleeti_signer_client::wire::Request;
//! // No request signs arbitrary bytes: each names its subject, and the signing service checks it.
//! let request = Request::Prove { number: 7 };
//! assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"type":"prove","number":7}"#);
//! assert!(serde_json::from_str::<Request>(r#"{"type":"sign","bytes":"AA=="}"#).is_err());
//! ```
//!
//! Code map: [`wire`] (requests and responses) · [`handle`] (asks a signing service, wherever it
//! is) · [`socket`] (asks one behind a socket) · [`room`] (space on its disk).

pub mod handle;
pub mod room;
pub mod socket;
pub mod wire;
