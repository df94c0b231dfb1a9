//! Pages of profiles and their revisions.

use super::form::{self, Finding};
use super::page::{Page, Result, html, refused, see, show};
use super::view::RevisionRow;
use crate::error::AppError;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Form, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::context::Context;
use fleeti_control::profiles;
use fleeti_control::profiles::Details;
use fleeti_core::id::Line;
use fleeti_core::profile;
use serde_json::{Value, json};

const ROWS: u32 = 200;

#[derive(Template)]
#[template(path = "profiles.html", blocks = ["main"])]
struct List {
    page: Page,
    profiles: Vec<RevisionRow>,
}

pub async fn list(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse> {
    let profiles = profiles::heads(&cx, ROWS).await?.iter().map(RevisionRow::from).collect();
    show!(request, List { page: Page::new("/profiles", &request, &["profile"]), profiles })
}

#[derive(Template)]
#[template(path = "profile.html", blocks = ["main"])]
struct One {
    page: Page,
    line: String,
    number: u32,
    description: String,
    created: String,
    digest: String,
    text: String,
    next_version: String,
    revisions: Vec<RevisionRow>,
}

pub async fn show(
    cx: Data<Context>,
    request: HttpRequest,
    path: Path<(Line, u32)>,
) -> Result<HttpResponse> {
    let details = profiles::details(&cx, &path.0, path.1, ROWS).await?;
    show!(request, One::of(Page::new("/profiles", &request, &["profile"]), &details)?)
}

impl One {
    fn of(page: Page, details: &Details) -> Result<Self> {
        let shown = RevisionRow::from(&details.revision);
        Ok(Self {
            page,
            line: shown.line,
            number: shown.number,
            description: shown.description,
            created: shown.created,
            digest: shown.digest,
            text: toml::to_string_pretty(&details.revision.profile).map_err(AppError::internal)?,
            next_version: details.next_version.to_string(),
            revisions: details.line.iter().map(RevisionRow::from).collect(),
        })
    }
}

#[derive(Template)]
#[template(path = "profile_form.html", blocks = ["form"])]
struct Editor {
    page: Page,
    heading: String,
    general: Vec<Finding>,
    fields: String,
}

fn editor(request: &HttpRequest, value: &Value, findings: &[Finding]) -> Result<Editor> {
    let name = value.get("name").and_then(Value::as_str).filter(|n| !n.is_empty());
    Ok(Editor {
        page: Page::new("/profiles", request, &[]),
        heading: name.map_or_else(|| "New profile".to_owned(), |n| format!("Profile {n}")),
        general: findings.iter().filter(|f| f.path.is_empty()).cloned().collect(),
        fields: form::render(value, findings).map_err(AppError::internal)?,
    })
}

pub async fn new(request: HttpRequest) -> Result<HttpResponse> {
    let start = json!({ "schema": profile::SCHEMA, "architecture": "x86_64" });
    Ok(html(StatusCode::OK, editor(&request, &start, &[])?.render()))
}

pub async fn edit(
    cx: Data<Context>,
    request: HttpRequest,
    path: Path<(Line, u32)>,
) -> Result<HttpResponse> {
    let (line, number) = path.into_inner();
    let revision = profiles::get(&cx, &line, number).await?;
    let value = serde_json::to_value(&revision.profile).map_err(AppError::internal)?;
    Ok(html(StatusCode::OK, editor(&request, &value, &[])?.render()))
}

/// Adds or removes one entry of the form. Saves nothing.
pub async fn change_form(
    request: HttpRequest,
    fields: Form<Vec<(String, String)>>,
) -> Result<HttpResponse> {
    let value = form::changed(&fields).map_err(refused)?;
    let editor = editor(&request, &value, &[])?;
    let body = if super::page::wants_fragment(&request) {
        editor.as_form().render()
    } else {
        editor.render()
    };
    Ok(html(StatusCode::OK, body))
}

pub async fn save(
    cx: Data<Context>,
    request: HttpRequest,
    fields: Form<Vec<(String, String)>>,
) -> Result<HttpResponse> {
    let value = form::read(&fields).map_err(refused)?;
    match form::check(&value).map_err(AppError::internal)? {
        Ok(profile) => {
            let saved = profiles::save(&cx, &profile).await?;
            Ok(see(&format!("/profiles/{}/{}", saved.line, saved.number)))
        }
        Err(findings) => Ok(html(
            StatusCode::UNPROCESSABLE_ENTITY,
            editor(&request, &value, &findings)?.render(),
        )),
    }
}
