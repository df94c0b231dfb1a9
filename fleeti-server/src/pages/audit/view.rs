//! The audit log, newest entries first.

use super::page::{Page, Result, show};
use super::view::{Badge, time};
use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::audit;
use fleeti_control::audit::Excerpt;
use fleeti_control::context::Context;
use fleeti_pki::audit::{Entry, Stage};
use serde::Deserialize;

const ROWS: u64 = 100;

struct Row {
    number: u64,
    at: String,
    actor: String,
    action: String,
    subject: String,
    stage: Option<Badge>,
}

impl From<&Entry> for Row {
    fn from(e: &Entry) -> Self {
        let stage = match &e.stage {
            Stage::Done => None,
            Stage::Intent => Some(Badge::new("", "intent")),
            Stage::Outcome { intent } => {
                Some(Badge::new("good", format!("outcome of intent {intent}")))
            }
            Stage::Failed { intent, reason } => {
                Some(Badge::new("bad", format!("intent {intent} failed: {reason}")))
            }
        };
        let (actor, action, subject) =
            (e.act.actor.clone(), e.act.action.clone(), e.act.subject.clone());
        Self { number: e.number, at: time(e.at_s), actor, action, subject, stage }
    }
}

#[derive(Template)]
#[template(path = "audit.html", blocks = ["main"])]
struct List {
    page: Page,
    size: u64,
    stated: String,
    entries: Vec<Row>,
    older: Option<u64>,
}

#[derive(Deserialize)]
pub struct Selection {
    before: Option<u64>,
}

pub async fn list(
    cx: Data<Context>,
    request: HttpRequest,
    selection: Query<Selection>,
) -> Result<HttpResponse> {
    let excerpt = audit::excerpt(&cx, selection.before, ROWS).await?;
    show!(
        request,
        List::of(
            Page::new("/audit", &request, &["device", "rollout", "build", "release", "profile"]),
            &excerpt
        )
    )
}

impl List {
    fn of(page: Page, excerpt: &Excerpt) -> Self {
        Self {
            page,
            size: excerpt.size,
            stated: time(excerpt.stated_s),
            entries: excerpt.entries.iter().rev().map(Row::from).collect(),
            older: excerpt.entries.first().map(|e| e.number).filter(|n| *n > 0),
        }
    }
}
