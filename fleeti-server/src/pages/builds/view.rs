//! What the pages of builds show.

use crate::pages::display::{Badge, Fact, FileRow, escaped, time};
use crate::pages::page::Page;
use crate::sse::Message;
use askama::Template;
use fleeti_build::build::{BuildRecord, stages};
use fleeti_control::builds::details::Details;
use fleeti_control::builds::is_moving;
use fleeti_control::builds::logs::Grown;
use fleeti_core::size::bytes;
use fleeti_core::wire::api::{Build, BuildPhase, SignatureStatus};
use fleeti_pki::approval::Intent;

/// Maximum number of builds on a page.
pub const ROWS: u32 = 100;

/// A row of a list of builds.
pub struct BuildRow {
    pub id: String,
    pub release: String,
    pub revision: u32,
    pub phase: Badge,
    pub created: String,
    pub detail: String,
}

fn phase_words(phase: BuildPhase, words: [&str; 4]) -> Badge {
    match phase {
        BuildPhase::Queued => Badge::new("", words[0]),
        BuildPhase::Running => Badge::new("busy", words[1]),
        BuildPhase::Succeeded => Badge::new("good", words[2]),
        BuildPhase::Failed => Badge::new("bad", words[3]),
    }
}

impl From<&Build> for BuildRow {
    fn from(b: &Build) -> Self {
        let (phase, detail) = match b.signing {
            None => (phase_words(b.phase, ["queued", "building", "built", "failed"]), &b.detail),
            Some(p) => (
                phase_words(p, ["waiting for signature", "signing", "published", "signing failed"]),
                &b.signing_detail,
            ),
        };
        Self {
            id: b.id.clone(),
            release: b.release.to_string(),
            revision: b.revision,
            phase,
            created: time(b.created_s),
            detail: detail.chars().take(120).collect(),
        }
    }
}

/// The list of builds.
#[derive(Template)]
#[template(path = "builds.html", blocks = ["main"])]
pub struct BuildList {
    page: Page,
    builds: Vec<BuildRow>,
}

impl BuildList {
    pub fn of(page: Page, builds: &[Build]) -> Self {
        Self { page, builds: builds.iter().map(BuildRow::from).collect() }
    }
}

/// The page of one build.
#[derive(Template)]
#[template(path = "build.html", blocks = ["main"])]
pub struct BuildPage {
    page: Page,
    b: BuildRow,
    line: String,
    failure: Option<String>,
    succeeded: bool,
    published: bool,
    is_signing: bool,
    signature: SignatureStatus,
    /// Name of the approver who requested the signature; empty if there is no request.
    requester: String,
    signs_alone: bool,
    stages: Vec<Badge>,
    log: String,
    log_after: Option<u64>,
    facts: Vec<Fact>,
    files: Vec<FileRow>,
}

impl BuildPage {
    pub fn of(page: Page, details: Details) -> Self {
        let Details { build, record, is_published, signature, log } = details;
        Self {
            page,
            b: BuildRow::from(&build),
            line: build.release.line.to_string(),
            failure: failure(&build),
            succeeded: build.phase == BuildPhase::Succeeded,
            published: is_published,
            is_signing: build.signing.is_some_and(is_moving),
            requester: requester(&signature),
            signs_alone: signature.available && signature.approvals_needed == 0,
            signature,
            stages: stage_badges(&log.beginning, build.phase),
            log: log.end,
            log_after: is_moving(build.phase).then_some(log.next),
            facts: record.as_ref().map(facts).unwrap_or_default(),
            files: record.as_ref().map(files).unwrap_or_default(),
        }
    }
}

fn failure(build: &Build) -> Option<String> {
    match (build.phase, build.signing) {
        (BuildPhase::Failed, _) => Some(build.detail.clone()),
        (_, Some(BuildPhase::Failed)) => Some(build.signing_detail.clone()),
        _ => None,
    }
}

fn requester(signature: &SignatureStatus) -> String {
    let intent = signature.intent.as_deref().and_then(|text| Intent::parse(text).ok());
    let approver =
        intent.and_then(|i| signature.approvers.iter().find(|a| a.key_id == i.requester));
    approver.map(|a| a.name.clone()).unwrap_or_default()
}

fn stage_badges(log: &str, phase: BuildPhase) -> Vec<Badge> {
    let names = stages(log);
    let last = names.len();
    let tone = |i: usize| match phase {
        BuildPhase::Running | BuildPhase::Queued if i + 1 == last => "busy",
        BuildPhase::Failed if i + 1 == last => "bad",
        _ => "good",
    };
    names.into_iter().enumerate().map(|(i, name)| Badge::new(tone(i), name)).collect()
}

fn facts(record: &BuildRecord) -> Vec<Fact> {
    vec![
        ("root hash (dm-verity)", record.root_hash.clone()),
        ("package lock SHA-256", record.inputs.lock_digest.clone()),
        ("agent SHA-256", record.inputs.agent_digest.clone()),
        ("Nix", record.nix_version.clone()),
    ]
}

fn files(record: &BuildRecord) -> Vec<FileRow> {
    let rows = record.files.iter().map(|(path, file)| FileRow {
        path: path.to_string(),
        size: bytes(file.size),
        sha256: file.sha256.clone(),
    });
    rows.collect()
}

/// News of a log as an event. The data of lines is HTML.
pub fn log_event(grown: Grown) -> Message {
    match grown {
        Grown::Lines(text, end) => {
            Message::Event { id: Some(end.to_string()), name: None, data: escaped(&text) }
        }
        Grown::Silence => Message::KeepAlive,
        Grown::Done => Message::named("done", "done"),
    }
}
