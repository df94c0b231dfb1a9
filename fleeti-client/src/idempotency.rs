//! POST requests that are repeated after a broken connection, and done once (`Idempotency-Key`).

use crate::{Client, ClientError, Result};
use bytes::Bytes;
use fleeti_core::wire::problem::Code;
use reqwest::RequestBuilder;
use rustls::crypto::CryptoProvider;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Delays before a request is repeated whose connection broke, or which is still being worked on.
const DELAYS: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(6),
];

/// The keys of the requests of a client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys(Option<Arc<Named>>);

/// Keys that the caller chose.
#[derive(Debug)]
struct Named {
    key: String,
    next: AtomicU32,
}

impl Keys {
    /// The key of the next request; `None` without randomness.
    fn next(&self) -> Option<String> {
        let Some(named) = &self.0 else { return random() };
        Some(match named.next.fetch_add(1, Ordering::SeqCst) {
            0 => named.key.clone(),
            n => format!("{}.{}", named.key, n + 1),
        })
    }
}

fn random() -> Option<String> {
    let mut bytes = [0; 16];
    CryptoProvider::get_default()?.secure_random.fill(&mut bytes).ok()?;
    let mut key = String::with_capacity(32);
    for byte in bytes {
        // Writing to a string does not fail.
        write!(key, "{byte:02x}").ok();
    }
    Some(key)
}

impl Client {
    /// A client whose POST requests have keys that follow from this one: `KEY` for the first, `KEY.2`
    /// for the second, and so on. A program that ends, and is started again with the same key, so does
    /// nothing twice within 24 hours. 1 to 100 ASCII characters without spaces, quotation marks and
    /// backslashes. Without this, each request has a random key.
    #[must_use]
    pub fn with_idempotency_key(&self, key: &str) -> Self {
        let named = Named { key: key.to_owned(), next: AtomicU32::new(0) };
        Self { keys: Keys(Some(Arc::new(named))), ..self.clone() }
    }

    /// Sends a POST request. If its connection breaks it is repeated, and the server does it once.
    pub(crate) async fn post_once(&self, request: RequestBuilder) -> Result<Bytes> {
        let Some(key) = self.keys.next() else {
            return Self::bytes(Self::send(request).await?).await;
        };
        let request = request.header("idempotency-key", format!("\"{key}\""));
        let mut was_sent = false;
        for delay in DELAYS {
            // Only a body that is a stream cannot be cloned.
            let Some(again) = request.try_clone() else { break };
            match Self::answer(again).await {
                Err(e) if is_worth_repeating(&e, was_sent) => tokio::time::sleep(delay).await,
                answer => return answer,
            }
            was_sent = true;
        }
        Self::answer(request).await
    }

    async fn answer(request: RequestBuilder) -> Result<Bytes> {
        Self::bytes(Self::send(request).await?).await
    }
}

/// Whether a request may have been done without an answer. A server that cannot be reached at first
/// has done nothing, and the caller knows best how long to wait for it.
fn is_worth_repeating(e: &ClientError, was_sent: bool) -> bool {
    match e {
        ClientError::Transport(e) => !e.is_builder() && (was_sent || !e.is_connect()),
        e => e.code() == Some(Code::InProgress),
    }
}
