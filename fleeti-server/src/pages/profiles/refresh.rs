//! When a line is built with refreshed packages: a part of the page of a revision.

use crate::access::By;
use crate::error::AppError;
use crate::pages::display::time;
use crate::pages::page::{Result, see};
use actix_web::HttpResponse;
use actix_web::web::{Data, Form, Path};
use fleeti_control::builds::schedule;
use fleeti_control::context::Context;
use fleeti_control::error::Error;
use fleeti_core::id::Line;
use fleeti_core::windows::WindowError;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::refresh::{RefreshSchedule, SetRefreshSchedule};
use serde::Deserialize;

/// A schedule, as the page shows it.
pub struct ScheduleRow {
    pub window: String,
    pub next: String,
    pub set_by: String,
    pub last: Option<LastRow>,
}

/// What happened the last time.
pub struct LastRow {
    pub at: String,
    /// Id of the newest build; empty before the first.
    pub build: String,
    /// Why none began; empty if one did.
    pub problem: String,
}

impl From<&RefreshSchedule> for ScheduleRow {
    fn from(schedule: &RefreshSchedule) -> Self {
        let last = schedule.last.as_ref().map(|last| LastRow {
            at: time(last.at_s),
            build: last.build.clone().unwrap_or_default(),
            problem: last.problem.clone().unwrap_or_default(),
        });
        Self {
            window: schedule.window.to_string(),
            next: time(schedule.next_s),
            set_by: schedule.set_by.clone(),
            last,
        }
    }
}

/// The form: a window, and the revision whose page it is on.
#[derive(Deserialize)]
pub struct ScheduleForm {
    window: Option<String>,
    revision: u32,
}

pub async fn set(
    cx: Data<Context>,
    by: By,
    line: Path<Line>,
    form: Form<ScheduleForm>,
) -> Result<HttpResponse> {
    let window = form.window.as_deref().unwrap_or_default().parse().map_err(refused)?;
    schedule::set(&cx, &by, &line, &SetRefreshSchedule { window }).await?;
    Ok(see(&format!("/profiles/{line}/{}", form.revision)))
}

fn refused(e: WindowError) -> AppError {
    Error::new(Code::Invalid, e.to_string()).into()
}

pub async fn remove(
    cx: Data<Context>,
    by: By,
    line: Path<Line>,
    form: Form<ScheduleForm>,
) -> Result<HttpResponse> {
    schedule::remove(&cx, &by, &line).await?;
    Ok(see(&format!("/profiles/{line}/{}", form.revision)))
}
