//! Typed HTTP client of the Fleeti API.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let client = fleeti_client::Client::new("http://127.0.0.1:1", "TOKEN")?;
//! match client.devices().await {
//!     Ok(devices) => devices.into_iter().for_each(|d| println!("{} runs {:?}", d.id, d.boot.map(|b| b.running))),
//!     // Nothing listens on this port.
//!     Err(e) => assert!(e.hint().unwrap().contains("is the server running")),
//! }
//! # Ok::<_, fleeti_client::ClientError>(()) }).unwrap();
//! ```
//!
//! Code map: [`Client`] has a method for each operation of the API, and streams for lists of many
//! pages ([`Client::device_stream`]) · [`Events`] is the event stream · [`Content`] and
//! [`Client::call`] send requests by path, for other languages ·
//! [`Pin`] identifies a server by its key · [`WorkerClient`] is the client of a build worker ·
//! [`danger`] has the options that weaken a client.
//!
//! **Features**: none. **Errors**: [`ClientError`]. Its [`code`](ClientError::code) is the stable
//! code of a refusal (RFC 9457); its [`hint`](ClientError::hint) says what to do. **Stability**:
//! Rust items may change with each release before 1.0.

#![warn(missing_docs)]

mod accounts;
mod alerts;
mod answer;
mod approvals;
mod attestation;
mod commands;
pub mod danger;
mod events;
mod idempotency;
mod labels;
mod linked;
mod packages;
mod pages;
mod pin;
mod profiles;
mod raw;
mod rollouts;
mod server;
mod tagged;
mod updates;
mod vault;
mod worker;

pub use events::Events;
pub use pin::{NotAPin, OtherKey, Pin, fingerprint_of, is_trusted};
pub use raw::Content;
pub use tagged::{Tag, Tagged};
pub use worker::{Piece, WholeIndex, WorkerClient};

use danger::PlainHttp;
use fleeti_core::foreign::Foreign;
use fleeti_core::id::{DeviceId, FleetId, ReleaseName, Version};
use fleeti_core::strict;
use fleeti_core::wire::api::{
    Build, ChangeBoot, CreateBuild, CreateEnrollment, Device, Enrollment, Fleet, Forgive,
    ImportBundle, Pair, Paired, Provision, Provisioned, Release, RequestSignature,
    RevocationReason, Revoke, SignatureStatus, SignedBootProof, SignedBy, SwitchIssuer,
    TrustStatus,
};
use fleeti_core::wire::audit::{AuditConsistency, AuditEntries, AuditProof};
use fleeti_core::wire::doctor::Diagnosis;
use fleeti_core::wire::enrollment::EnrollmentRecord;
use fleeti_core::wire::problem::{Code, Problem, TYPE_PREFIX};
use fleeti_core::wire::readmission::SignedTransition;
use fleeti_core::wire::readmission::{CreateReadmission, Readmission};
use idempotency::Keys;
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

/// Page size of the list of devices.
const PAGE: usize = 500;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server refused the request.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The server could not be reached, or its response could not be read.
    #[error("{0}")]
    Transport(#[source] reqwest::Error),
    /// The server's response does not have the documented form.
    #[error("the server's response does not have the documented form: {}", Foreign::log(&.0.to_string()))]
    Answer(#[source] serde_json::Error),
    /// The server's response is larger than any documented one.
    #[error("the server's response is larger than {0} bytes")]
    TooLarge(usize),
    /// The server's key differs from the pinned one.
    #[error(transparent)]
    OtherKey(OtherKey),
    /// A fingerprint was given for an address without TLS.
    #[error("{0} is not an https:// address: a fingerprint identifies a TLS key")]
    NotHttps(String),
    /// TLS could not be set up.
    #[error("TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file.
        path: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A path that names no resource of a server.
    #[error("{0} is no request of a resource")]
    Path(String),
    /// The address is not an `http:` or `https:` URL.
    #[error("{0:?} is not an http:// or https:// address")]
    Address(String),
    /// The token would cross the network in clear text.
    #[error(
        "{0} is not on this machine and has no TLS: others on the network could read the API token"
    )]
    PlainHttp(String),
    /// The event stream ended, and could not be resumed.
    #[error("the server closed the event stream")]
    StreamEnded,
}

impl ClientError {
    /// The code of the problem that the server reports; `None` for another error, and for a code
    /// that this client does not know.
    ///
    /// ```
    /// use fleeti_client::ClientError;
    /// use fleeti_core::wire::problem::Code;
    ///
    /// # let problem = fleeti_core::wire::problem::Problem { kind: "urn:fleeti:problem:not_found".into(), status: 404,
    /// #     detail: "there is no such device".into(), hint: None, errors: vec![] };
    /// let error = ClientError::Refused(problem);
    /// assert_eq!(error.code(), Some(Code::NotFound));
    /// ```
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        let Self::Refused(problem) = self else { return None };
        Code::ALL
            .into_iter()
            .find(|code| problem.kind.strip_prefix(TYPE_PREFIX) == Some(code.as_str()))
    }
    /// What to do about the error.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(problem) => problem.hint.clone(),
            Self::Transport(e) if e.is_connect() => Some("is the server running, and is --server right?".to_owned()),
            Self::OtherKey(_) => Some(
                "compare with what the server prints when it starts, and with DIR/pki/admin/fingerprint there; if its key was replaced, \
                 log in again with `fleeti login URL --fingerprint sha256:...`"
                    .to_owned(),
            ),
            Self::NotHttps(_) => Some("write the address as https://HOST:PORT".to_owned()),
            Self::PlainHttp(_) => Some(
                "use an https address; if you trust the network, pass --insecure (in Python: insecure=True)".to_owned(),
            ),
            Self::Address(_) => Some("write an address such as https://fleeti.example:8080".to_owned()),
            Self::Answer(_) | Self::TooLarge(_) => Some("check that server and client have the same version".to_owned()),
            Self::Transport(_) | Self::Tls(_) | Self::Io { .. } | Self::Path(_) | Self::StreamEnded => None,
        }
    }
}

impl From<reqwest::Error> for ClientError {
    fn from(e: reqwest::Error) -> Self {
        OtherKey::of(&e).map_or_else(|| Self::Transport(e), Self::OtherKey)
    }
}

type Result<T> = std::result::Result<T, ClientError>;

/// Settings of every HTTP client in this crate.
fn http_client() -> reqwest::ClientBuilder {
    static PROVIDER: Once = Once::new();
    // Another part of the program may have installed a provider already, which then stays.
    PROVIDER.call_once(|| {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    });
    // The API never redirects. A redirect would send the token elsewhere.
    reqwest::Client::builder()
        .pool_idle_timeout(fleeti_core::wire::HTTP_IDLE)
        // The event stream is silent for long: keep-alive finds a dead peer.
        .connect_timeout(Duration::from_secs(30))
        .tcp_keepalive(Duration::from_secs(30))
        .redirect(Policy::none())
}

/// A path with those values of a query that are set.
fn with_query<const N: usize>(path: &str, values: [(&str, Option<String>); N]) -> String {
    let set = values.into_iter().filter_map(|(name, value)| Some((name, value?)));
    // Only the query of this address is used.
    let address = reqwest::Url::parse_with_params("http://server", set).ok();
    format!("{path}?{}", address.as_ref().and_then(reqwest::Url::query).unwrap_or_default())
}

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
    /// What changes expect.
    expected: Option<Tag>,
    keys: Keys,
}

impl Client {
    /// A client of the API at `url`, with a bearer token. An address without TLS must be one of
    /// this machine.
    ///
    /// # Errors
    /// [`ClientError::PlainHttp`], [`ClientError::Address`]; [`ClientError::Transport`] when TLS
    /// cannot be set up.
    pub fn new(url: &str, token: &str) -> Result<Self> {
        Self::with_plain_http(url, token, PlainHttp::LoopbackOnly)
    }

    /// Like [`Client::new`], but the caller decides whether other machines may be reached without
    /// TLS.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_plain_http(url: &str, token: &str, plain_http: PlainHttp) -> Result<Self> {
        let is_plain_loopback = danger::check_address(url, plain_http)?;
        // A proxy would be another machine.
        let http = if is_plain_loopback { http_client().no_proxy() } else { http_client() };
        Ok(Self::with(http.build()?, url, token))
    }

    fn with(http: reqwest::Client, url: &str, token: &str) -> Self {
        Self {
            http,
            base: format!("{}/api/v1", url.trim_end_matches('/')),
            token: token.to_owned(),
            expected: None,
            keys: Keys::default(),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let expected = self.expected.as_ref().filter(|_| method != Method::GET);
        let url = format!("{}/{path}", self.base);
        let request = self.http.request(method, url).bearer_auth(&self.token);
        match expected {
            Some(tag) => request.header("if-match", tag.as_str()),
            None => request,
        }
    }

    async fn get<T: DeserializeOwned + Serialize>(&self, path: &str) -> Result<T> {
        Self::read(Self::send(self.request(Method::GET, path)).await?).await
    }
    async fn post<B: Serialize, T: DeserializeOwned + Serialize>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T> {
        let answer = self.post_once(self.request(Method::POST, path).json(body)).await?;
        strict::from_slice(&answer).map_err(ClientError::Answer)
    }

    /// One page of entries of the audit log, oldest first, starting at the entry `from`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_entries(&self, from: u64) -> Result<Vec<String>> {
        let page: AuditEntries = self.get(&format!("audit/entries?from={from}")).await?;
        Ok(page.lines)
    }
    /// An entry of the audit log with its inclusion proof.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_proof(&self, number: u64) -> Result<AuditProof> {
        self.get(&format!("audit/entries/{number}/proof")).await
    }
    /// The newest checkpoint of the audit log (C2SP tlog-checkpoint).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_checkpoint(&self) -> Result<String> {
        Self::text(Self::send(self.request(Method::GET, "audit/checkpoint")).await?).await
    }
    /// The consistency proof between two sizes of the audit log.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_consistency(&self, old: u64, new: u64) -> Result<AuditConsistency> {
        self.get(&format!("audit/consistency?old={old}&new={new}")).await
    }

    /// One device.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn device(&self, id: &DeviceId) -> Result<Device> {
        self.get(&format!("devices/{id}")).await
    }
    /// A device's certificate, PEM.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn certificate(&self, id: &DeviceId) -> Result<String> {
        Self::text(
            Self::send(self.request(Method::GET, &format!("devices/{id}/certificate"))).await?,
        )
        .await
    }
    /// Revokes a device's certificate.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke_device(&self, id: &DeviceId, reason: RevocationReason) -> Result<Device> {
        self.post(&format!("devices/{id}/revoke"), &Revoke { reason }).await
    }
    /// Withdraws a suspension ([`RevocationReason::CertificateHold`]).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn release_hold(&self, id: &DeviceId) -> Result<Device> {
        self.post(&format!("devices/{id}/release-hold"), &()).await
    }
    /// Lets a device install a version again that it rolled back.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn forgive_device(&self, id: &DeviceId, version: &Version) -> Result<Device> {
        self.post(&format!("devices/{id}/forgive"), &Forgive { version: version.clone() }).await
    }
    /// Creates a one-time enrollment token.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_enrollment(&self, fleet: &FleetId, valid_s: u32) -> Result<Enrollment> {
        self.post(&format!("fleets/{fleet}/enrollments"), &CreateEnrollment { valid_s }).await
    }
    /// Provisions a device before its disk is made.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn provision(&self, fleet: &FleetId, request: &Provision) -> Result<Provisioned> {
        self.post(&format!("fleets/{fleet}/devices"), request).await
    }
    /// Changes the Secure Boot keys of a device.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_boot(&self, device: &DeviceId, request: &ChangeBoot) -> Result<Device> {
        self.post(&format!("devices/{device}/boot-keys"), request).await
    }
    /// Published releases.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn releases(&self) -> Result<Vec<Release>> {
        self.get("releases").await
    }
    /// One release.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn release(&self, name: &ReleaseName) -> Result<Release> {
        self.get(&format!("releases/{name}")).await
    }
    /// Uploads a boot proof of a release.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn prove_release(
        &self,
        release: &ReleaseName,
        proof: &SignedBootProof,
    ) -> Result<Release> {
        let request =
            self.request(Method::PUT, &format!("releases/{release}/boot-proof")).json(proof);
        Self::read(Self::send(request).await?).await
    }
    /// Revokes a release: the server offers it to no device.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke_release(&self, release: &ReleaseName) -> Result<Release> {
        self.post(&format!("releases/{release}/revoke"), &()).await
    }
    /// Uploads one file of a release.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn upload(&self, release: &ReleaseName, path: &str, file: &Path) -> Result<()> {
        let request = self.request(Method::PUT, &format!("releases/{release}/files/{path}"));
        let request = raw::with_file(request, file).await?;
        Self::send(request).await.map(|_| ())
    }
    /// Publishes an uploaded release. The server verifies it first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn publish(&self, release: &ReleaseName) -> Result<Release> {
        self.post(&format!("releases/{release}/publish"), &()).await
    }
    /// Queues a build on the server.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_build(&self, build: &CreateBuild) -> Result<Build> {
        self.post("builds", build).await
    }
    /// The newest builds.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn builds(&self) -> Result<Vec<Build>> {
        self.get("builds").await
    }
    /// One build.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn build(&self, id: &str) -> Result<Build> {
        self.get(&format!("builds/{id}")).await
    }
    /// Signs a build with the server's release key and publishes it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sign_build(&self, id: &str) -> Result<Build> {
        self.post(&format!("builds/{id}/sign"), &()).await
    }
    /// The bytes of a build's record. Approvers sign their digest.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn build_record(&self, id: &str) -> Result<Vec<u8>> {
        Ok(Self::bytes(
            Self::send(self.request(Method::GET, &format!("builds/{id}/record"))).await?,
        )
        .await?
        .to_vec())
    }
    /// The enrollment record for a device that shows a pairing code.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn enrollment_record(&self) -> Result<EnrollmentRecord> {
        self.get("enrollment-record").await
    }
    /// Accepts the pending enrollment that shows this code.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pair(&self, pair: &Pair) -> Result<Paired> {
        self.post("pairings", pair).await
    }
    /// Examines the server: what works, what ends when, and what to do about it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn doctor(&self) -> Result<Diagnosis> {
        self.get("doctor").await
    }
    /// The trusted intermediate CAs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn trust(&self) -> Result<TrustStatus> {
        self.get("trust-bundle").await
    }
    /// Imports the trust bundle of a root ceremony.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn import_bundle(&self, import: &ImportBundle) -> Result<TrustStatus> {
        self.post("trust-bundle", import).await
    }
    /// Switches to another intermediate CA for new certificates.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn switch_issuer(&self, switch: &SwitchIssuer) -> Result<TrustStatus> {
        self.post("trust-bundle/issuer", switch).await
    }
    /// All transitions between trust anchors.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn transitions(&self) -> Result<Vec<SignedTransition>> {
        self.get("transitions").await
    }
    /// Publishes a transition between trust anchors.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn import_transition(
        &self,
        transition: &SignedTransition,
    ) -> Result<Vec<SignedTransition>> {
        self.post("transitions", transition).await
    }
    /// Starts a readmission: devices of a fleet with expired certificates and keys in files may
    /// renew.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn readmit(
        &self,
        fleet: &FleetId,
        request: &CreateReadmission,
    ) -> Result<Readmission> {
        self.post(&format!("fleets/{fleet}/readmission"), request).await
    }
    /// The approvals that a build needs before the server signs it, and those given so far.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn signature(&self, build: &str) -> Result<SignatureStatus> {
        self.get(&format!("builds/{build}/signature")).await
    }
    /// Requests a signature.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn request_signature(
        &self,
        build: &str,
        request: &RequestSignature,
    ) -> Result<SignatureStatus> {
        self.post(&format!("builds/{build}/signature"), request).await
    }
    /// Approves a signing request.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn approve_signature(&self, build: &str, by: &SignedBy) -> Result<SignatureStatus> {
        self.post(&format!("builds/{build}/approvals"), by).await
    }
    /// Every fleet with at least one device.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn fleets(&self) -> Result<Vec<Fleet>> {
        self.get("fleets").await
    }
    /// The stream of change events, from now on. It resumes by itself after a broken connection.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events(&self) -> Result<Events> {
        Events::open(self.clone()).await
    }
}
