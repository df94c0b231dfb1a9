//! Asking for a signature by a server's own keys, and agreeing to one.

use super::build::spinner;
use super::keys::{self, Passphrase};
use super::server::refused;
use crate::output::Failure;
use fleeti_build::build::BuildRecord;
use fleeti_client::Client;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::api::{Build, BuildPhase, Event, RequestSignature, SignatureStatus};
use fleeti_pki::approval::{Intent, KIND, Word};
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::signer::key_id;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 86_400;

/// Asks for a signature with one's own key.
pub async fn ask(client: &Client, id: &str, key: &Path, passphrase: &Passphrase, days: u64) -> Result<SignatureStatus, Failure> {
    let release_key = client.signature(id).await.map_err(refused)?.release_key;
    let bytes = client.build_record(id).await.map_err(refused)?;
    let record = BuildRecord::parse(Path::new(id), &bytes).map_err(Failure::plain)?;
    let key = keys::open(key, purpose::APPROVER, passphrase)?;
    let created_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let intent = Intent {
        kind: KIND.to_owned(),
        release: record.release.clone(),
        build_sha256: sha256_hex(&bytes),
        release_key,
        requester: key_id(key.public_key_der()),
        created_s,
        expires_s: created_s + days * DAY_S,
    };
    show(&record, &intent);
    let by = Word::Request.sign(&intent, key.as_ref()).map_err(Failure::plain)?;
    let request = RequestSignature { intent: intent.to_text().map_err(Failure::plain)?, by };
    client.request_signature(id, &request).await.map_err(refused)
}

/// Agrees with one's own key, to what the build's record says and nothing else. With a build of one's own, the same files
/// must have come out.
pub async fn approve(
    client: &Client,
    id: &str,
    key: &Path,
    build: Option<&Path>,
    passphrase: &Passphrase,
) -> Result<SignatureStatus, Failure> {
    let status = client.signature(id).await.map_err(refused)?;
    let hint = Some("`fleeti build sign BUILD --key YOUR.key` asks");
    let intent = status.intent.ok_or_else(|| Failure::new("nobody has asked for a signature of this build", hint))?;
    let intent = Intent::parse(&intent).map_err(Failure::plain)?;
    let bytes = client.build_record(id).await.map_err(refused)?;
    // Both came from the server; that they belong together is seen here.
    if sha256_hex(&bytes) != intent.build_sha256 {
        return Err(Failure::plain("what is asked for is not the build that the server shows"));
    }
    let record = BuildRecord::parse(Path::new(id), &bytes).map_err(Failure::plain)?;
    if record.release != intent.release {
        return Err(Failure::plain(format!("what is asked for is {}, the build is {}", intent.release, record.release)));
    }
    if let Some(build) = build {
        let mine = BuildRecord::read(build).map_err(Failure::plain)?;
        if let Some((name, _)) = record.files.iter().find(|(name, file)| mine.files.get(*name) != Some(file)) {
            let hint = Some("is it a build of the same revision, lock, version and agent?");
            return Err(Failure::new(format!("{name} is not the one of your build in {}", build.display()), hint));
        }
    }
    show(&record, &intent);
    let key = keys::open(key, purpose::APPROVER, passphrase)?;
    let by = Word::Approve.sign(&intent, key.as_ref()).map_err(Failure::plain)?;
    client.approve_signature(id, &by).await.map_err(refused)
}

/// What a person puts their name to.
fn show(record: &BuildRecord, intent: &Intent) {
    let inputs = &record.inputs;
    let expires = jiff::Timestamp::from_second(intent.expires_s.cast_signed()).map_or_else(|_| String::new(), |t| t.to_string());
    eprintln!("release        {}", record.release);
    eprintln!("build.json     sha256 {}", intent.build_sha256);
    eprintln!("profile        revision {}, sha256 {}", inputs.revision, inputs.revision_digest);
    eprintln!("package lock   sha256 {}", inputs.lock_digest);
    eprintln!("agent          sha256 {}", inputs.agent_digest);
    eprintln!("root hash      {}", record.root_hash);
    for (name, file) in &record.files {
        eprintln!("{name:<14} sha256 {}", file.sha256);
    }
    eprintln!("release key    {}", intent.release_key);
    eprintln!(
        "asked for by   {}, until {expires}, says the server",
        if intent.requester.is_empty() { "the server" } else { &intent.requester }
    );
}

/// In words.
pub fn describe(status: &SignatureStatus) -> String {
    let who = if status.approved_by.is_empty() { String::new() } else { format!(": {}", status.approved_by.join(", ")) };
    let (given, needed) = (status.approved_by.len(), status.approvals_needed);
    let next = if given < needed as usize { "; others agree with `fleeti build approve BUILD --key THEIR.key`" } else { "" };
    format!("{given} of {needed} approvals{who}{next}")
}

/// Has a build signed where nobody must agree, and follows it to its end.
pub async fn alone(client: &Client, id: &str) -> Result<Build, Failure> {
    let mut events = client.events().await.map_err(refused)?;
    let mut build = client.sign_build(id).await.map_err(refused)?;
    let bar = spinner();
    loop {
        bar.set_message(build.signing_detail.clone());
        match build.signing {
            Some(BuildPhase::Succeeded) => {
                bar.finish_and_clear();
                return Ok(build);
            }
            Some(BuildPhase::Failed) => return Err(Failure::plain(build.signing_detail)),
            _ => {}
        }
        events.wait_for(|e| matches!(e, Event::Build { id: changed } if changed == id)).await.map_err(refused)?;
        build = client.build(id).await.map_err(refused)?;
    }
}
