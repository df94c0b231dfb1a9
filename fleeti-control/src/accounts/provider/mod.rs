//! OpenID Connect, as the relying party: the authorization code flow with PKCE (OpenID Connect Core
//! 1.0, 3.1; RFC 7636; RFC 9207). No HTTP: the caller sends what these functions return, follows no
//! redirect, and hands back what it read.
//!
//! Nothing is kept of a sign-in that nobody ends. `state` carries its end and a MAC over the browser;
//! the nonce and the code verifier follow from it by a key of this process.
//!
//! Code map: `issuer` (the configured URL) · `discovery` (what the provider says of itself) ·
//! `request` (the request to sign in, and its answer) · `tokens` (the code becomes a person).

mod discovery;
#[cfg(test)]
mod foreign;
mod issuer;
mod request;
mod tokens;

pub use discovery::{Authentication, DOCUMENT_MAX, Endpoints};
pub use issuer::{Issuer, NoIssuer};
pub use request::{ANSWER_MAX, Answered, Provider, answered, begin};
pub use tokens::{TOKENS_MAX, TokenRequest, identity, token_request};
