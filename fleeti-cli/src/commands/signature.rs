//! Signing requests and approvals for releases that a server signs with its own keys.

use super::keys::KeyFile;
use super::request::refused;
use crate::output::{Failure, Lines, Output, Progress};
use fleeti_build::build::BuildRecord;
use fleeti_build::pieces::Difference;
use fleeti_client::Client;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::api::{Build, BuildPhase, Event, RequestSignature, SignatureStatus};
use fleeti_pki::approval::{Intent, KIND, Word};
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::signer::key_id;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 86_400;

/// Requests a signature with the caller's approver key.
pub async fn ask(
    client: &Client,
    id: &str,
    key: KeyFile<'_>,
    days: u64,
    output: &Output,
) -> Result<SignatureStatus, Failure> {
    let release_key = client.signature(id).await.map_err(refused)?.release_key;
    let bytes = client.build_record(id).await.map_err(refused)?;
    let record = BuildRecord::parse(Path::new(id), &bytes).map_err(Failure::plain)?;
    let key = key.open(purpose::APPROVER)?;
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
    show(&record, &intent, output);
    let by = Word::Request.sign(&intent, key.as_ref()).map_err(Failure::plain)?;
    let request = RequestSignature { intent: intent.to_text().map_err(Failure::plain)?, by };
    client.request_signature(id, &request).await.map_err(refused)
}

/// A signing request, and the record of the build that it is for.
pub struct Requested {
    /// What an approver signs.
    pub intent: Intent,
    /// The record.
    pub record: BuildRecord,
}

/// The signing request of a build.
pub async fn requested(client: &Client, id: &str) -> Result<Requested, Failure> {
    let status = client.signature(id).await.map_err(refused)?;
    let hint = Some("request one with `fleeti build sign BUILD --key YOUR.key`");
    let intent =
        status.intent.ok_or_else(|| Failure::new("no signing request for this build", hint))?;
    let intent = Intent::parse(&intent).map_err(Failure::plain)?;
    let bytes = client.build_record(id).await.map_err(refused)?;
    // Both came from the server: check that they belong together.
    if sha256_hex(&bytes) != intent.build_sha256 {
        return Err(Failure::plain(
            "the signing request is for another build than the server's build record",
        ));
    }
    let record = BuildRecord::parse(Path::new(id), &bytes).map_err(Failure::plain)?;
    if record.release != intent.release {
        return Err(Failure::plain(format!(
            "the signing request is for {}, the build is {}",
            intent.release, record.release
        )));
    }
    Ok(Requested { intent, record })
}

/// Approves this signing request, and nothing else, with the caller's approver key.
pub async fn approve(
    client: &Client,
    id: &str,
    requested: &Requested,
    key: KeyFile<'_>,
    output: &Output,
) -> Result<SignatureStatus, Failure> {
    let Requested { intent, record } = requested;
    show(record, intent, output);
    let key = key.open(purpose::APPROVER)?;
    let by = Word::Approve.sign(intent, key.as_ref()).map_err(Failure::plain)?;
    client.approve_signature(id, &by).await.map_err(refused)
}

/// Shows what the caller signs.
fn show(record: &BuildRecord, intent: &Intent, output: &Output) {
    let inputs = &record.inputs;
    let files = record
        .files
        .iter()
        .map(|(name, file)| format!("{:<14} sha256 {}", name.as_str(), file.sha256));
    let requester = if intent.requester.is_empty() { "the server" } else { &intent.requester };
    let expires = jiff::Timestamp::from_second(intent.expires_s.cast_signed())
        .map_or_else(|_| String::new(), |t| t.to_string());
    let shown = Lines::from(format!("release        {}", record.release))
        .and(format!("min. version   {}", record.minimum_version))
        .and(format!("build.json     sha256 {}", intent.build_sha256))
        .and(format!(
            "profile        revision {}, sha256 {}",
            inputs.revision, inputs.revision_digest
        ))
        .and(format!("package lock   sha256 {}", inputs.lock_digest))
        .and(format!("agent          sha256 {}", inputs.agent_digest))
        .and(format!("root hash      {}", record.root_hash))
        .and(files.collect::<Vec<_>>())
        .and(format!("release key    {}", intent.release_key))
        .and(format!("requested by   {requester}, until {expires}, according to the server"));
    output.note(shown);
}

/// The state of a signing request in words.
pub fn describe(status: &SignatureStatus) -> String {
    let who = if status.approved_by.is_empty() {
        String::new()
    } else {
        format!(": {}", status.approved_by.join(", "))
    };
    let (given, needed) = (status.approved_by.len(), status.approvals_needed);
    let next = if given < needed as usize {
        "; other approvers run `fleeti build approve BUILD --key THEIR.key`"
    } else {
        ""
    };
    format!("{given} of {needed} approvals{who}{next}")
}

/// Signs a build that needs no approvals, and follows it to its end.
pub async fn alone(client: &Client, id: &str) -> Result<Build, Failure> {
    client.sign_build(id).await.map_err(refused)?;
    ended(client, id).await
}

/// Follows the signature of a build to its end.
pub async fn ended(client: &Client, id: &str) -> Result<Build, Failure> {
    // Subscribe before reading the state, so that no event is missed.
    let mut events = client.events().await.map_err(refused)?;
    let mut build = client.build(id).await.map_err(refused)?;
    let progress = Progress::endless();
    loop {
        progress.say(&build.signing_detail);
        match build.signing {
            Some(BuildPhase::Succeeded) => {
                progress.end();
                return Ok(build);
            }
            Some(BuildPhase::Failed) => {
                return Err(Failure::with_log(build.signing_detail, None::<String>));
            }
            _ => {}
        }
        events
            .wait_for(|e| matches!(e, Event::Build { id: changed } if changed == id))
            .await
            .map_err(refused)?;
        build = client.build(id).await.map_err(refused)?;
    }
}

/// The differences as an error.
pub fn differs(what: &str, differences: &[Difference]) -> Failure {
    let details: Vec<_> = differences.iter().map(ToString::to_string).collect();
    let hint = "check that profile, revision, lock, agent, version and trust folder are the same; if they are, do not sign, and find out who changed the files";
    Failure::new(
        format!("{what} differs from the build of your own inputs in {} places", differences.len()),
        Some(hint),
    )
    .with_details(details)
}
