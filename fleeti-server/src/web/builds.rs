//! Builds, and their logs as they grow.

use super::live::KEEP_ALIVE;
use super::page::{Page, Result, see, show};
use super::session;
use super::shown::{Badge, BuildRow, FileRow, bytes};
use crate::app::AppRef;
use crate::db;
use crate::service::{builds, releases, revisions, sessions};
use actix_web::http::header;
use actix_web::web::{Bytes, Data, Form, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_build::build::{BuildRecord, stages};
use fleeti_core::id::{Line, Version};
use fleeti_core::wire::api::{Build, BuildPhase, CreateBuild, Event};
use futures::stream;
use serde::Deserialize;
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

const ROWS: u32 = 100;
/// Most of a log that a page or an event carries.
const LOG_MAX: u64 = 64 * 1024;
/// Most of a log that is read for a page.
const LOG_WHOLE_MAX: u64 = 4 << 20;

#[derive(Template)]
#[template(path = "builds.html", blocks = ["main"])]
struct List {
    page: Page,
    builds: Vec<BuildRow>,
}

pub async fn list(app: Data<AppRef>, request: HttpRequest) -> Result<HttpResponse> {
    let builds = db::builds::newest(app.db.pool(), ROWS).await?.iter().map(BuildRow::from).collect();
    show!(request, List { page: Page::new("/builds", &request, &["build"]), builds })
}

#[derive(Deserialize)]
pub struct Wanted {
    line: Line,
    revision: u32,
    version: Version,
}

pub async fn create(app: Data<AppRef>, form: Form<Wanted>) -> Result<HttpResponse> {
    let profile = revisions::get(&app, &form.line, form.revision).await?.profile;
    let build = builds::create(&app, &CreateBuild { profile, version: form.version.clone() }).await?;
    Ok(see(&format!("/builds/{}", build.id)))
}

pub async fn release(app: Data<AppRef>, id: Path<String>) -> Result<HttpResponse> {
    builds::sign(&app, &id).await?;
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
    server_signs: bool,
    stages: Vec<Badge>,
    log: String,
    log_after: Option<u64>,
    facts: Vec<(&'static str, String)>,
    files: Vec<FileRow>,
}

pub async fn show(app: Data<AppRef>, request: HttpRequest, id: Path<String>) -> Result<HttpResponse> {
    let build = builds::get(&app, &id).await?;
    let path = builds::log_path(&app, &id);
    let (log, end) = read_log(path.clone(), 0, LOG_WHOLE_MAX).await;
    // A log that is larger than what is read for its stages ends elsewhere.
    let size = tokio::fs::metadata(&path).await.map_or(0, |m| m.len());
    let shown = match is_moving(build.phase) || size <= LOG_WHOLE_MAX {
        true => last_part(&log, false),
        false => last_part(&read_log(path, size - LOG_MAX, LOG_MAX).await.0, true),
    };
    let record = build.directory.as_ref().and_then(|d| BuildRecord::read(std::path::Path::new(d)).ok());
    let published = match &record {
        Some(record) => releases::is_of(&app, &build.release, record).await?,
        None => false,
    };
    let (facts, files) = record.as_ref().map(made).unwrap_or_default();
    let view = One {
        page: Page::new("/builds", &request, &["build", "release"]),
        b: BuildRow::from(&build),
        line: build.release.line.to_string(),
        failure: failure(&build),
        succeeded: build.phase == BuildPhase::Succeeded,
        published,
        is_signing: build.signing.is_some_and(is_moving),
        server_signs: app.config.holds_signing_keys(),
        stages: stage_badges(&log, build.phase),
        log: shown,
        log_after: is_moving(build.phase).then_some(end),
        facts,
        files,
    };
    show!(request, view)
}

fn is_moving(phase: BuildPhase) -> bool {
    matches!(phase, BuildPhase::Queued | BuildPhase::Running)
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
    let files = record.files.iter().map(|(path, f)| FileRow { path: path.clone(), size: bytes(f.size), sha256: f.sha256.clone() });
    (facts, files.collect())
}

/// The end of a log, from the beginning of a line.
fn last_part(log: &str, is_cut: bool) -> String {
    let max = usize::try_from(LOG_MAX).unwrap_or(usize::MAX);
    if log.len() <= max && !is_cut {
        return log.to_owned();
    }
    let from = log.len().saturating_sub(max);
    let line = log.as_bytes()[from..].iter().position(|b| *b == b'\n').map_or(log.len(), |i| from + i + 1);
    format!("... the beginning is left out; the whole log is in the build's folder\n{}", &log[line..])
}

/// Whole lines of a log from a byte on, and where they end; nothing while there is no log. A line longer than `max`
/// comes in parts.
async fn read_log(path: PathBuf, from: u64, max: u64) -> (String, u64) {
    let read = async {
        let mut file = tokio::fs::File::open(&path).await?;
        file.seek(std::io::SeekFrom::Start(from)).await?;
        let mut bytes = Vec::new();
        file.take(max).read_to_end(&mut bytes).await?;
        std::io::Result::Ok(bytes)
    };
    let bytes = read.await.unwrap_or_default();
    let is_full = bytes.len() as u64 == max;
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(if is_full { bytes.len() } else { 0 }, |i| i + 1);
    (String::from_utf8_lossy(&bytes[..whole]).into_owned(), from + whole as u64)
}

#[derive(Deserialize)]
pub struct From {
    #[serde(default)]
    after: u64,
}

/// `GET /builds/{build}/log`: what the log has beyond a byte, now and as it grows, until the build ends.
pub async fn log(app: Data<AppRef>, request: HttpRequest, id: Path<String>, from: Query<From>) -> Result<HttpResponse> {
    builds::get(&app, &id).await?;
    let resumed = request.headers().get("last-event-id").and_then(|v| v.to_str().ok()?.parse().ok());
    let tail = Tail {
        path: builds::log_path(&app, &id),
        session: session::of(&request),
        at: resumed.unwrap_or(from.after),
        id: id.into_inner(),
        events: app.events.subscribe(),
        app,
        done: false,
    };
    let stream = stream::unfold(tail, |mut tail| async move {
        let text = tail.next().await?;
        Some((Ok::<_, actix_web::Error>(Bytes::from(text)), tail))
    });
    Ok(HttpResponse::Ok().content_type("text/event-stream").insert_header((header::CACHE_CONTROL, "no-store")).streaming(stream))
}

struct Tail {
    app: Data<AppRef>,
    path: PathBuf,
    session: String,
    id: String,
    at: u64,
    events: Receiver<Event>,
    done: bool,
}

impl Tail {
    async fn next(&mut self) -> Option<String> {
        loop {
            if !sessions::is_live(&self.app, &self.session).await.unwrap_or(false) {
                return None;
            }
            // The phase first: what is written before the end is read after it. Whoever watches comes back by itself
            // when the database did not answer.
            let moving = is_moving(builds::get(&self.app, &self.id).await.ok()?.phase);
            let (text, end) = read_log(self.path.clone(), self.at, LOG_MAX).await;
            if !text.is_empty() {
                self.at = end;
                return Some(event(&text, end));
            }
            if self.done {
                return None;
            }
            if !moving {
                self.done = true;
                return Some("event: done\ndata: done\n\n".to_owned());
            }
            match tokio::time::timeout(KEEP_ALIVE, self.grows()).await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(_) => return Some(": still here\n\n".to_owned()),
            }
        }
    }

    /// Waits until something may have been written.
    async fn grows(&mut self) -> bool {
        loop {
            match self.events.recv().await {
                Ok(Event::Build { id } | Event::BuildLog { id }) if id == self.id => return true,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return true,
                Err(RecvError::Closed) => return false,
            }
        }
    }
}

/// Lines as one event whose data is HTML.
fn event(text: &str, end: u64) -> String {
    let escaped = askama::filters::escape(text, askama::filters::Html).map_or_else(|_| String::new(), |t| t.to_string());
    let data: String = escaped.replace('\r', "\n").split('\n').map(|l| format!("data: {l}\n")).collect();
    format!("id: {end}\n{data}\n")
}
