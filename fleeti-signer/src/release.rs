//! Releases by keys that a server holds. The signer reads the build itself and signs what its
//! record says, and the record is the one that people agreed to; there is nothing that a caller
//! could slip in.

use crate::outbox;
use crate::wire::Request;
use fleeti_build::build::BuildRecord;
use fleeti_build::release::{self, ReleaseSigners};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::api::SignedBy;
use fleeti_pki::approval::{Approved, Intent, Policy};
use fleeti_pki::audit::Act;
use fleeti_pki::openpgp::OpenPgpKey;
use fleeti_pki::signer::{Signer, key_id};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// Keys that sign releases, and who must agree first.
pub struct ServerRelease {
    /// Signs the manifest.
    pub release: Box<dyn Signer>,
    /// Signs `SHA256SUMS`.
    pub openpgp: OpenPgpKey,
    /// Signs programs that firmware starts.
    pub db: Box<dyn Signer>,
    /// Its certificate.
    pub db_certificate_pem: String,
    /// Signs what register 11 holds under a kernel image, where there is such a key.
    pub pcr: Option<Box<dyn Signer>>,
    /// Who must agree.
    pub policy: Policy,
    /// Where builds lie.
    pub builds: PathBuf,
    /// Where releases are left; it is the server's.
    pub outbox: PathBuf,
    /// Where they are made; nobody else's.
    pub work: PathBuf,
}

impl ServerRelease {
    /// For whoever starts the signer: that it signs alone is a choice that is to be seen.
    #[must_use]
    pub fn policy_in_words(&self) -> String {
        match self.policy.approvals() {
            0 => "alone, without anybody's approval: that is what signing/policy.toml says".into(),
            n => format!("when {n} of {} people agree", self.policy.approvers().len()),
        }
    }
}

/// [`Request::SignRelease`].
pub struct ReleaseOrder {
    build: String,
    out: String,
    intent: String,
    request: Option<SignedBy>,
    approvals: Vec<SignedBy>,
}

impl ReleaseOrder {
    /// The order in a request, or the request.
    ///
    /// # Errors
    /// Any other request.
    pub fn of(request: Request) -> Result<Self, Box<Request>> {
        match request {
            Request::SignRelease { build, out, intent, request, approvals } => {
                Ok(Self { build, out, intent, request, approvals })
            }
            other => Err(Box::new(other)),
        }
    }
}

/// What was checked and is about to be signed.
pub struct ReleaseJob {
    set: Arc<ServerRelease>,
    build: PathBuf,
    record: BuildRecord,
    out: String,
    /// For the log.
    pub(crate) act: Act,
    /// Number of the intent's entry.
    pub(crate) number: u64,
}

/// A single name, so that it leads nowhere else.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl ReleaseJob {
    /// Everything that can be said before anything is signed.
    pub(crate) fn plan(
        set: &Arc<ServerRelease>,
        order: &ReleaseOrder,
        now_s: u64,
    ) -> Result<Self, String> {
        if !is_name(&order.build) || !is_name(&order.out) {
            return Err("a build's directory is named by a-z, 0-9 and -".into());
        }
        let intent = Intent::parse(&order.intent).map_err(|e| e.to_string())?;
        let key = key_id(set.release.public_key_der());
        if intent.release_key != key {
            return Err(format!(
                "the request is for the release key {}, this is {key}",
                intent.release_key
            ));
        }
        let approved = set
            .policy
            .check(&intent, order.request.as_ref(), &order.approvals, now_s)
            .map_err(|e| e.to_string())?;
        let build = set.builds.join(&order.build);
        let bytes = BuildRecord::bytes(&build).map_err(|e| e.to_string())?;
        let found = sha256_hex(&bytes);
        if found != approved.intent().build_sha256 {
            return Err(format!(
                "build.json has the digest {found}, what was approved has {}",
                approved.intent().build_sha256
            ));
        }
        let record = BuildRecord::parse(&build, &bytes).map_err(|e| e.to_string())?;
        if record.release != approved.intent().release {
            return Err(format!(
                "the build is {}, what was approved is {}",
                record.release,
                approved.intent().release
            ));
        }
        let out = order.out.clone();
        Ok(Self { set: Arc::clone(set), build, record, out, act: act(&approved), number: 0 })
    }

    /// Signs; gives the digest of the manifest. Takes seconds: everything is read, and compressed.
    ///
    /// It is made where nobody else can reach, and only then put into the outbox, which is the
    /// server's: whoever has the server can exchange what lies there, and finds that no signature
    /// is over it.
    ///
    /// # Errors
    /// What is not as the record says.
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
        release::create((&self.build, &self.record), &made, &signers, now_s, &mut |_| {})
            .map_err(|e| e.to_string())?;
        let manifest = fs::read(made.join("manifest.json")).map_err(failed)?;
        outbox::put(&made, &self.set.outbox, &self.out)
            .map_err(|e| format!("the outbox {}: {e}", self.set.outbox.display()))?;
        Ok(sha256_hex(&manifest))
    }
}

fn act(approved: &Approved) -> Act {
    let by = if approved.by().is_empty() {
        "nobody had to agree".to_owned()
    } else {
        format!("by {}", approved.by().join(", "))
    };
    let subject: String =
        format!("{} build {} {by}", approved.intent().release, approved.intent().build_sha256)
            .chars()
            .take(256)
            .collect();
    // Where nobody has to agree, nobody's name was checked.
    let actor = if approved.by().is_empty() { "server" } else { &approved.intent().requester };
    Act::new(actor, "release.sign", subject)
}
