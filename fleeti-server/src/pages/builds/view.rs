//! Pages of builds, and their logs while they grow.

use super::page::{Page, Result, see, show};
use super::session;
use super::view::{Badge, BuildRow, FileRow, bytes};
use crate::sse::{self, KEEP_ALIVE, Message};
use actix_web::web::{Data, Form, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_build::build::{BuildRecord, stages};
use fleeti_control::builds;
use fleeti_control::builds::approvals;
use fleeti_control::builds::details::{self, Details};
use fleeti_control::builds::is_moving;
use fleeti_control::builds::logs;
use fleeti_control::builds::logs::Grown;
use fleeti_control::context::Context;
use fleeti_core::id::{Line, Version};
use fleeti_core::wire::api::{Build, BuildPhase, SignatureStatus};
use fleeti_pki::approval::Intent;
use futures::StreamExt;
use serde::Deserialize;
use std::sync::Arc;

const ROWS: u32 = 100;

#[derive(Template)]
#[template(path = "builds.html", blocks = ["main"])]
struct List {
    page: Page,
    builds: Vec<BuildRow>,
}

pub async fn list(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse> {
    let builds = builds::newest(&cx, ROWS).await?.iter().map(BuildRow::from).collect();
    show!(request, List { page: Page::new("/builds", &request, &["build"]), builds })
}

#[derive(Deserialize)]
pub struct Wanted {
    line: Line,
    revision: u32,
    version: Version,
}

pub async fn create(cx: Data<Context>, form: Form<Wanted>) -> Result<HttpResponse> {
    let Wanted { line, revision, version } = form.into_inner();
    let build = builds::create_of(&cx, &line, revision, version).await?;
    Ok(see(&format!("/builds/{}", build.id)))
}

pub async fn release(cx: Data<Context>, id: Path<String>) -> Result<HttpResponse> {
    approvals::sign_alone(&cx, &id).await?;
    Ok(see(&format!("/builds/{id}")))
}

#[derive(Template)]
#[template(path = "build.html", blocks = ["main"])]
struct One {
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
    facts: Vec<(&'static str, String)>,
    files: Vec<FileRow>,
}

pub async fn show(
    cx: Data<Context>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse> {
    let details = details::details(&cx, &id).await?;
    show!(request, One::of(Page::new("/builds", &request, &["build", "release"]), details))
}

impl One {
    fn of(page: Page, details: Details) -> Self {
        let Details { build, record, is_published, signature, log } = details;
        let asked = signature.intent.as_deref().and_then(|text| Intent::parse(text).ok());
        let requester =
            asked.and_then(|i| signature.approvers.iter().find(|a| a.key_id == i.requester));
        let (facts, files) = record.as_ref().map(made).unwrap_or_default();
        Self {
            page,
            b: BuildRow::from(&build),
            line: build.release.line.to_string(),
            failure: failure(&build),
            succeeded: build.phase == BuildPhase::Succeeded,
            published: is_published,
            is_signing: build.signing.is_some_and(is_moving),
            requester: requester.map(|a| a.name.clone()).unwrap_or_default(),
            signs_alone: signature.available && signature.approvals_needed == 0,
            signature,
            stages: stage_badges(&log.beginning, build.phase),
            log: log.end,
            log_after: is_moving(build.phase).then_some(log.next),
            facts,
            files,
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

fn made(record: &BuildRecord) -> (Vec<(&'static str, String)>, Vec<FileRow>) {
    let facts = vec![
        ("root hash (dm-verity)", record.root_hash.clone()),
        ("package lock SHA-256", record.inputs.lock_digest.clone()),
        ("agent SHA-256", record.inputs.agent_digest.clone()),
        ("Nix", record.nix_version.clone()),
    ];
    let files = record.files.iter().map(|(path, f)| FileRow {
        path: path.to_string(),
        size: bytes(f.size),
        sha256: f.sha256.clone(),
    });
    (facts, files.collect())
}

#[derive(Deserialize)]
pub struct From {
    #[serde(default)]
    after: u64,
}

/// `GET /builds/{build}/log`: streams the log from a byte offset on, until the build ends.
pub async fn log(
    cx: Data<Context>,
    request: HttpRequest,
    id: Path<String>,
    from: Query<From>,
) -> Result<HttpResponse> {
    builds::get(&cx, &id).await?;
    let resumed =
        request.headers().get("last-event-id").and_then(|v| v.to_str().ok()?.parse().ok());
    let at = resumed.unwrap_or(from.after);
    let log = logs::follow(Arc::clone(&cx), session::of(&request), id.into_inner(), at, KEEP_ALIVE);
    Ok(sse::response(log.map(|grown| {
        [match grown {
            Grown::Lines(text, end) => lines(&text, end),
            Grown::Silence => Message::KeepAlive,
            Grown::Done => Message::named("done", "done"),
        }]
    })))
}

/// Lines of a log as one event. Its data is HTML.
fn lines(text: &str, end: u64) -> Message {
    let data = askama::filters::escape(text, askama::filters::Html)
        .map_or_else(|_| String::new(), |t| t.to_string());
    Message::Event { id: Some(end), name: None, data }
}
