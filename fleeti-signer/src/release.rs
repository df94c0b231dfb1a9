//! Releases signed with a server's own keys. The signing service reads the build itself, and signs
//! what the approved build record says; a caller cannot add anything to it.

use crate::outbox;
use fleeti_build::build::BuildRecord;
use fleeti_build::release::{self, NewRelease, ReleaseSigners};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::api::SignedBy;
use fleeti_pki::approval::{Approved, Intent, Policy};
use fleeti_pki::audit::Act;
use fleeti_pki::openpgp::OpenPgpKey;
use fleeti_pki::signer::{Signer, key_id};
use fleeti_signer_client::wire::Request;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// Release keys of a server, with their approval policy.
pub struct ServerRelease {
    /// Signs the manifest.
    pub release: Box<dyn Signer>,
    /// Signs `SHA256SUMS`.
    pub openpgp: OpenPgpKey,
    /// Signs EFI binaries.
    pub db: Box<dyn Signer>,
    /// Its certificate.
    pub db_certificate_pem: String,
    /// Signs PCR policies (PCR 11), if there is such a key.
    pub pcr: Option<Box<dyn Signer>>,
    /// The approval policy.
    pub policy: Policy,
    /// Folder of builds.
    pub builds: PathBuf,
    /// The server's folder for signed releases.
    pub outbox: PathBuf,
    /// Private work folder.
    pub work: PathBuf,
}

impl ServerRelease {
    /// The approval policy, for the log: signing without approvals must be visible.
    #[must_use]
    pub fn policy_in_words(&self) -> String {
        match self.policy.approvals() {
            0 => "without approvals, as set in signing/policy.toml".into(),
            n => format!("with {n} approvals of {} approvers", self.policy.approvers().len()),
        }
    }
}

/// [`Request::SignRelease`].
pub struct ReleaseRequest {
    build: String,
    out: String,
    intent: String,
    request: Option<SignedBy>,
    approvals: Vec<SignedBy>,
}

impl ReleaseRequest {
    /// The arguments of a request to sign a release.
    ///
    /// # Errors
    /// Any other request, unchanged.
    pub fn of(request: Request) -> Result<Self, Box<Request>> {
        match request {
            Request::SignRelease { build, out, intent, request, approvals } => {
                Ok(Self { build, out, intent, request, approvals })
            }
            other => Err(Box::new(other)),
        }
    }
}

/// Checked work that is about to be signed.
pub struct ReleaseJob {
    set: Arc<ServerRelease>,
    build: PathBuf,
    record: BuildRecord,
    out: String,
    /// The act, for the log.
    pub(crate) act: Act,
    /// Number of the intent entry.
    pub(crate) number: u64,
}

/// Whether this is a single file name, so that it cannot lead to another folder.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl ReleaseJob {
    /// Makes all checks that are possible before signing.
    pub(crate) fn plan(
        set: &Arc<ServerRelease>,
        request: &ReleaseRequest,
        now_s: u64,
    ) -> Result<Self, String> {
        if !is_name(&request.build) || !is_name(&request.out) {
            return Err("a directory name must have 1 to 64 characters of a-z, 0-9 and -".into());
        }
        let intent = Intent::parse(&request.intent).map_err(|e| e.to_string())?;
        let key = key_id(set.release.public_key_der());
        if intent.release_key != key {
            return Err(format!(
                "the signing request is for the release key {}, this signing service has {key}",
                intent.release_key
            ));
        }
        let approved = set
            .policy
            .check(&intent, request.request.as_ref(), &request.approvals, now_s)
            .map_err(|e| e.to_string())?;
        let build = set.builds.join(&request.build);
        let bytes = BuildRecord::bytes(&build).map_err(|e| e.to_string())?;
        let found = sha256_hex(&bytes);
        if found != approved.intent().build_sha256 {
            return Err(format!(
                "build.json has the digest {found}, approved is {}",
                approved.intent().build_sha256
            ));
        }
        let record = BuildRecord::parse(&build, &bytes).map_err(|e| e.to_string())?;
        if record.release != approved.intent().release {
            return Err(format!(
                "the build is {}, approved is {}",
                record.release,
                approved.intent().release
            ));
        }
        let out = request.out.clone();
        Ok(Self { set: Arc::clone(set), build, record, out, act: act(&approved), number: 0 })
    }

    /// Signs the release and returns the digest of its manifest. Takes seconds, because it reads
    /// and compresses every file.
    ///
    /// The release is made in a private folder and then copied to the outbox, which belongs to the
    /// server. An attacker who controls the server can replace files there, but then the signatures
    /// do not match.
    ///
    /// # Errors
    /// If the build does not match its record, or on I/O errors.
    pub fn run(&self, now_s: u64) -> Result<String, String> {
        let ServerRelease { release, openpgp, db, db_certificate_pem, pcr, work, .. } =
            self.set.as_ref();
        let signers = ReleaseSigners {
            release: release.as_ref(),
            openpgp,
            db: Some((db.as_ref(), db_certificate_pem)),
            pcr: pcr.as_deref(),
        };
        let failed = |e: std::io::Error| format!("{}: {e}", work.display());
        let private =
            tempfile::Builder::new().prefix("release-").tempdir_in(work).map_err(failed)?;
        let made = private.path().join("release");
        let new = NewRelease {
            build: &self.build,
            record: &self.record,
            out: &made,
            signers: &signers,
            created_s: now_s,
        };
        release::create(new, &mut |_| {}).map_err(|e| e.to_string())?;
        let manifest = fs::read(made.join("manifest.json")).map_err(failed)?;
        outbox::put(&made, &self.set.outbox, &self.out)
            .map_err(|e| format!("the outbox {}: {e}", self.set.outbox.display()))?;
        Ok(sha256_hex(&manifest))
    }
}

fn act(approved: &Approved) -> Act {
    let by = if approved.by().is_empty() {
        "without approvals".to_owned()
    } else {
        format!("by {}", approved.by().join(", "))
    };
    let subject: String =
        format!("{} build {} {by}", approved.intent().release, approved.intent().build_sha256)
            .chars()
            .take(256)
            .collect();
    // Without approvals, the requester's name is not verified.
    let actor = if approved.by().is_empty() { "server" } else { &approved.intent().requester };
    Act::new(actor, "release.sign", subject)
}
