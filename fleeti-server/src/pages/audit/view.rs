//! What the page of the audit log shows: the newest entries first.

use crate::pages::display::{Badge, time};
use crate::pages::page::Page;
use askama::Template;
use fleeti_control::audit::Excerpt;
use fleeti_pki::audit::{Entry, Stage};

/// Maximum number of entries on a page.
pub const ROWS: u64 = 100;

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
        Self {
            number: e.number,
            at: time(e.at_s),
            actor: e.act.actor.clone(),
            action: e.act.action.clone(),
            subject: e.act.subject.clone(),
            stage,
        }
    }
}

/// The page of the audit log.
#[derive(Template)]
#[template(path = "audit.html", blocks = ["main"])]
pub struct AuditPage {
    page: Page,
    size: u64,
    /// Time of the last checkpoint.
    checkpoint: String,
    entries: Vec<Row>,
    older: Option<u64>,
}

impl AuditPage {
    pub fn of(page: Page, excerpt: &Excerpt) -> Self {
        Self {
            page,
            size: excerpt.size,
            checkpoint: time(excerpt.stated_s),
            entries: excerpt.entries.iter().rev().map(Row::from).collect(),
            older: excerpt.entries.first().map(|e| e.number).filter(|n| *n > 0),
        }
    }
}
