//! Profiles and their revisions under `/api/v1`.

use crate::access::By;
use crate::error::AppError;
use crate::http::extract::Json;
use crate::http::tags::{IfMatch, Tagged};
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, Responder, delete, get, post, put};
use fleeti_control::builds::schedule;
use fleeti_control::context::Context;
use fleeti_control::{profiles, suites};
use fleeti_core::id::Line;
use fleeti_core::profile::Profile;
use fleeti_core::wire::api::ProfileRevision;
use fleeti_core::wire::profile::{CheckedProfile, LibraryEntry, ProfileChanges, ProfileText};
use fleeti_core::wire::refresh::{RefreshSchedule, SetRefreshSchedule};
use fleeti_core::wire::suite::SuiteSearch;
use serde::Deserialize;
use utoipa::IntoParams;

use super::LIST_MAX;

type Result<T> = std::result::Result<T, AppError>;

/// List the newest revision of each profile.
#[utoipa::path(tag = "profiles", responses((status = 200, description = "Revisions", body = Vec<ProfileRevision>)))]
#[get("/profiles")]
pub async fn list_profiles(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(profiles::newest(&cx, LIST_MAX).await?))
}

/// Save a profile as the next revision of its line. An unchanged profile keeps its revision.
#[utoipa::path(tag = "profiles", responses((status = 201, description = "The revision", body = ProfileRevision)))]
#[post("/profiles")]
pub async fn save_profile(
    cx: Data<Context>,
    by: By,
    expected: IfMatch,
    body: Json<Profile>,
) -> Result<impl Responder> {
    created(profiles::save(&cx, &by, &body, &expected).await?)
}

/// Save a document as the next revision of its profile. The document is TOML and may extend
/// fragments. An unchanged document keeps its revision.
#[utoipa::path(tag = "profiles", responses((status = 201, description = "The revision", body = ProfileRevision)))]
#[post("/profiles/documents")]
pub async fn save_document(
    cx: Data<Context>,
    by: By,
    expected: IfMatch,
    body: Json<ProfileText>,
) -> Result<impl Responder> {
    created(profiles::save_text(&cx, &by, &body.text, &expected).await?)
}

fn tagged(revision: ProfileRevision) -> Result<Tagged<ProfileRevision>> {
    let line = revision.line.clone();
    let version = profiles::version(&line, revision.number);
    Tagged::by(revision, &version)
}

fn created(revision: ProfileRevision) -> Result<impl Responder> {
    Ok(tagged(revision)?.customize().with_status(StatusCode::CREATED))
}

/// Check a document. Saves nothing.
#[utoipa::path(tag = "profiles", responses((status = 200, description = "Errors and warnings, and the resolved profile", body = CheckedProfile)))]
#[post("/profiles/check")]
pub async fn check_document(cx: Data<Context>, body: Json<ProfileText>) -> Result<impl Responder> {
    Ok(Json(profiles::check_text(&cx, &body.text).await?))
}

/// A search in the suite.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Search {
    /// Words, separated by spaces.
    #[param(max_length = 200)]
    q: String,
    /// Maximum number of packages, and of units, 1 to 100; default 20.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// Search the packages and units of the suite that images are made from. Without words the answer
/// only says which suite is searched.
#[utoipa::path(tag = "profiles", params(Search), responses((status = 200, description = "Packages and units", body = SuiteSearch)))]
#[get("/profiles/packages")]
pub async fn search_packages(cx: Data<Context>, search: Query<Search>) -> Result<impl Responder> {
    let Search { q, limit } = search.into_inner();
    Ok(Json(suites::search(&cx, q, limit).await?))
}

/// List the fragments that profiles can extend: package sets, user sets, service sets, baselines,
/// templates and profiles of this server.
#[utoipa::path(tag = "profiles", responses((status = 200, description = "Fragments", body = Vec<LibraryEntry>)))]
#[get("/profiles/library")]
pub async fn list_library(cx: Data<Context>) -> Result<impl Responder> {
    Ok(Json(profiles::library(&cx).await?))
}

/// Get what differs between two revisions of a profile, and what that changes on a device.
#[utoipa::path(tag = "profiles", responses((status = 200, description = "The difference", body = ProfileChanges)))]
#[get("/profiles/{line}/revisions/{number}/changes/{to}")]
pub async fn get_changes(
    cx: Data<Context>,
    path: Path<(Line, u32, u32)>,
) -> Result<impl Responder> {
    Ok(Json(profiles::changes(&cx, &path.0, path.1, path.2).await?))
}

/// List the newest revisions of a profile.
#[utoipa::path(tag = "profiles", responses((status = 200, description = "Revisions", body = Vec<ProfileRevision>)))]
#[get("/profiles/{line}/revisions")]
pub async fn list_revisions(cx: Data<Context>, line: Path<Line>) -> Result<impl Responder> {
    Ok(Json(profiles::of_line(&cx, &line, LIST_MAX).await?))
}

/// Get a revision of a profile.
#[utoipa::path(tag = "profiles", responses((status = 200, description = "The revision", body = ProfileRevision)))]
#[get("/profiles/{line}/revisions/{number}")]
pub async fn get_revision(cx: Data<Context>, path: Path<(Line, u32)>) -> Result<impl Responder> {
    tagged(profiles::get(&cx, &path.0, path.1).await?)
}

/// Get when a line is built with refreshed packages, and what happened the last time.
#[utoipa::path(tag = "profiles", responses((status = 200, description = "The schedule", body = RefreshSchedule)))]
#[get("/profiles/{line}/refresh-schedule")]
pub async fn get_refresh_schedule(cx: Data<Context>, line: Path<Line>) -> Result<impl Responder> {
    Ok(Json(schedule::get(&cx, &line).await?))
}

/// Set when a line is built with refreshed packages: once each time that the window opens, from the
/// newest revision of its profile.
#[utoipa::path(tag = "profiles", responses((status = 200, description = "The schedule", body = RefreshSchedule)))]
#[put("/profiles/{line}/refresh-schedule")]
pub async fn set_refresh_schedule(
    cx: Data<Context>,
    by: By,
    line: Path<Line>,
    body: Json<SetRefreshSchedule>,
) -> Result<impl Responder> {
    Ok(Json(schedule::set(&cx, &by, &line, &body).await?))
}

/// Stop building a line with refreshed packages by a schedule.
#[utoipa::path(tag = "profiles", responses((status = 204, description = "Removed")))]
#[delete("/profiles/{line}/refresh-schedule")]
pub async fn remove_refresh_schedule(
    cx: Data<Context>,
    by: By,
    line: Path<Line>,
) -> Result<impl Responder> {
    schedule::remove(&cx, &by, &line).await?;
    Ok(HttpResponse::NoContent())
}
