//! Requests to the pages of profiles.

use super::form;
use super::view::{Editor, ProfileList, RevisionPage, new_profile};
use crate::error::AppError;
use crate::pages::page::{Page, Result, html, refused, see, show, wants_fragment};
use actix_web::http::StatusCode;
use actix_web::web::{Data, Form, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::context::Context;
use fleeti_control::profiles;
use fleeti_core::id::Line;

/// Maximum number of rows of a list.
const ROWS: u32 = 200;

/// The fields of a form, in its order.
type Fields = Vec<(String, String)>;

pub async fn list(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse> {
    let profiles = profiles::heads(&cx, ROWS).await?;
    show!(request, ProfileList::of(Page::new("/profiles", &request, &["profile"]), &profiles))
}

pub async fn show(
    cx: Data<Context>,
    request: HttpRequest,
    path: Path<(Line, u32)>,
) -> Result<HttpResponse> {
    let details = profiles::details(&cx, &path.0, path.1, ROWS).await?;
    show!(request, RevisionPage::of(Page::new("/profiles", &request, &["profile"]), &details)?)
}

pub async fn new(request: HttpRequest) -> Result<HttpResponse> {
    let page = Page::new("/profiles", &request, &[]);
    Ok(html(StatusCode::OK, Editor::of(page, &new_profile(), &[])?.render()))
}

pub async fn edit(
    cx: Data<Context>,
    request: HttpRequest,
    path: Path<(Line, u32)>,
) -> Result<HttpResponse> {
    let (line, number) = path.into_inner();
    let revision = profiles::get(&cx, &line, number).await?;
    let value = serde_json::to_value(&revision.profile).map_err(AppError::internal)?;
    let page = Page::new("/profiles", &request, &[]);
    Ok(html(StatusCode::OK, Editor::of(page, &value, &[])?.render()))
}

/// Adds or removes one entry of the form. Saves nothing.
pub async fn change_form(request: HttpRequest, fields: Form<Fields>) -> Result<HttpResponse> {
    let value = form::changed(&fields).map_err(refused)?;
    let editor = Editor::of(Page::new("/profiles", &request, &[]), &value, &[])?;
    let is_fragment = wants_fragment(&request);
    let body = if is_fragment { editor.as_form().render() } else { editor.render() };
    Ok(html(StatusCode::OK, body))
}

pub async fn save(
    cx: Data<Context>,
    request: HttpRequest,
    fields: Form<Fields>,
) -> Result<HttpResponse> {
    let value = form::read(&fields).map_err(refused)?;
    match form::check(&value).map_err(AppError::internal)? {
        Ok(profile) => {
            let saved = profiles::save(&cx, &profile).await?;
            Ok(see(&format!("/profiles/{}/{}", saved.line, saved.number)))
        }
        Err(findings) => {
            let editor = Editor::of(Page::new("/profiles", &request, &[]), &value, &findings)?;
            Ok(html(StatusCode::UNPROCESSABLE_ENTITY, editor.render()))
        }
    }
}
