//! Build workers: the routes for administrators, and those for the workers.

use crate::danger::{self, PlainHttp};
use crate::idempotency::Keys;
use crate::pin::{Pin, pinned};
use crate::{Client, Result, http_client};
use fleeti_core::id::WorkerName;
use fleeti_core::wire::suite::KnownIndex;
use fleeti_core::wire::worker::{
    CLAIM_WAIT_S, Claim, CreateWorker, CreatedWorker, Finish, Job, Renew, Worker,
};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Serialize;
use std::time::Duration;

/// Timeout of a request that the server answers at once.
const SOON: Duration = Duration::from_secs(60);
/// Timeout of a claim, which the server holds on purpose.
const CLAIM: Duration = Duration::from_secs(CLAIM_WAIT_S + 30);
/// Timeout of the last request of a build: the server reads every file of the build first.
const FINISH: Duration = Duration::from_secs(1800);

impl Client {
    /// Every build worker.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn workers(&self) -> Result<Vec<Worker>> {
        self.get("workers").await
    }
    /// Adds a build worker. Only this response contains its token.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn add_worker(&self, name: &WorkerName) -> Result<CreatedWorker> {
        self.post("workers", &CreateWorker { name: name.clone() }).await
    }
    /// Removes a build worker.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn remove_worker(&self, name: &WorkerName) -> Result<Vec<Worker>> {
        let request = self.request(Method::DELETE, &format!("workers/{name}"));
        Self::read(Self::send(request).await?).await
    }
}

/// An index that is uploaded.
#[derive(Debug, Clone)]
pub struct WholeIndex {
    /// SHA-256, hexadecimal.
    pub digest: String,
    /// Size, bytes.
    pub size: u64,
}

/// The client of a build worker.
#[derive(Debug, Clone)]
pub struct WorkerClient(Client);

/// Consecutive bytes of a file or log.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Where they begin, in bytes.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl WorkerClient {
    /// A client of the server at `url` with a worker's token, and optionally the key that the
    /// server must have.
    /// # Errors
    /// [`ClientError::NotHttps`](crate::ClientError::NotHttps) for a pin without TLS,
    /// [`ClientError::PlainHttp`](crate::ClientError::PlainHttp) for an address that needs TLS.
    pub fn new(url: &str, token: &str, pin: Option<&Pin>) -> Result<Self> {
        Self::with_plain_http(url, token, pin, PlainHttp::LoopbackOnly)
    }

    /// Like [`WorkerClient::new`], but the caller decides whether other machines may be reached
    /// without TLS.
    ///
    /// # Errors
    /// As [`WorkerClient::new`].
    pub fn with_plain_http(
        url: &str,
        token: &str,
        pin: Option<&Pin>,
        plain_http: PlainHttp,
    ) -> Result<Self> {
        let http = match pin {
            Some(pin) => pinned(url, pin)?,
            // A worker's token needs the same protection as one of the API: without TLS it stays on
            // this machine.
            None if danger::check_address(url, plain_http)? => http_client().no_proxy().build()?,
            None => http_client().build()?,
        };
        let base = format!("{}/worker/v1", url.trim_end_matches('/'));
        Ok(Self(Client {
            http,
            base,
            token: token.to_owned(),
            expected: None,
            keys: Keys::default(),
        }))
    }

    fn post<B: Serialize>(&self, path: &str, body: &B, patience: Duration) -> RequestBuilder {
        self.0.request(Method::POST, path).timeout(patience).json(body)
    }

    /// Takes a build; `None` if there was none within the wait time.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn claim(&self, lease: &str) -> Result<Option<Job>> {
        let answer =
            Client::send(self.post("claim", &Claim { lease: lease.to_owned() }, CLAIM)).await?;
        if answer.status() == StatusCode::NO_CONTENT {
            Ok(None)
        } else {
            Client::read(answer).await.map(Some)
        }
    }
    /// Renews a lease.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn renew(&self, build: &str, renew: &Renew) -> Result<()> {
        Client::send(self.post(&format!("builds/{build}/renew"), renew, SOON)).await.map(drop)
    }
    /// Appends a piece to the log.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn append_log(&self, build: &str, lease: &str, piece: Piece) -> Result<()> {
        self.put(&format!("builds/{build}/log"), lease, piece).await
    }
    /// Uploads a piece of a file.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn put_file(&self, build: &str, lease: &str, name: &str, piece: Piece) -> Result<()> {
        self.put(&format!("builds/{build}/files/{name}"), lease, piece).await
    }
    /// Ends a build.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError); refused if a file differs from the record.
    pub async fn finish(&self, build: &str, finish: &Finish) -> Result<()> {
        Client::send(self.post(&format!("builds/{build}/finish"), finish, FINISH)).await.map(drop)
    }

    /// The index that the server has of a suite.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError).
    pub async fn known_index(&self, suite: &str) -> Result<KnownIndex> {
        self.0.get(&format!("suites/{suite}")).await
    }
    /// Uploads a part of an index of a suite at byte `offset`. `whole` is the index.
    ///
    /// # Errors
    /// [`ClientError`](crate::ClientError); refused if the last part makes no index of this digest.
    pub async fn put_index(
        &self,
        suite: &str,
        whole: &WholeIndex,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<()> {
        let WholeIndex { digest, size } = whole;
        let path = format!("suites/{suite}/{digest}?size={size}&offset={offset}");
        Client::send(self.0.request(Method::PUT, &path).timeout(SOON).body(bytes)).await.map(drop)
    }

    async fn put(&self, path: &str, lease: &str, piece: Piece) -> Result<()> {
        let Piece { offset, bytes } = piece;
        let path = format!("{path}?lease={lease}&offset={offset}");
        Client::send(self.0.request(Method::PUT, &path).timeout(SOON).body(bytes)).await.map(drop)
    }
}
