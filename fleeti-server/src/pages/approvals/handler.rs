//! Requests to the pages of acts that need a second person.

use super::form::PolicyForm;
use super::view::{ApprovalPage, ApprovalsPage, KeyPage};
use crate::access::By;
use crate::pages::page::{Page, Result, html, see, show};
use actix_web::http::StatusCode;
use actix_web::web::{Data, Form, Path};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::context::Context;
use fleeti_control::precondition::Expected;
use fleeti_control::second_person::{self, Submitted};
use fleeti_control::{details, guard};
use fleeti_core::wire::approval::{AskedAct, Decide};

fn page(request: &HttpRequest) -> Page {
    Page::new("/approvals", request, &[])
}

pub async fn list(cx: Data<Context>, by: By, request: HttpRequest) -> Result<HttpResponse> {
    let (all, policy) = details::approvals(&cx, &by).await?;
    show!(request, ApprovalsPage::of(page(&request), &all, policy.as_ref()))
}

pub async fn show(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse> {
    let details = second_person::get(&cx, &by, &id).await?;
    show!(request, ApprovalPage::of(page(&request), &details))
}

pub async fn approve(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
    form: Form<Decide>,
) -> Result<HttpResponse> {
    second_person::approve(&cx, &by, &id, &form).await?;
    Ok(see(&format!("/approvals/{id}")))
}

pub async fn deny(
    cx: Data<Context>,
    by: By,
    id: Path<String>,
    form: Form<Decide>,
) -> Result<HttpResponse> {
    second_person::deny(&cx, &by, &id, &form).await?;
    Ok(see(&format!("/approvals/{id}")))
}

/// Answers directly, without a redirect, so that the user cannot return to the key.
pub async fn collect(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse> {
    let key = second_person::collect(&cx, &by, &id).await?;
    Ok(html(StatusCode::OK, KeyPage::of(page(&request), &id, &key).render()))
}

pub async fn set_policy(cx: Data<Context>, by: By, form: Form<PolicyForm>) -> Result<HttpResponse> {
    let policy = form.policy()?;
    let act = AskedAct::SetPolicy { policy: policy.clone() };
    let expected = Expected::of_form(&form.etag);
    let set = guard::set_policy(&cx, &by, &policy, &expected);
    Ok(match second_person::or_request(&cx, &by, (act, &form.ask), set).await? {
        Submitted::Done(_) => see("/approvals"),
        Submitted::Waits(waits) => see(&format!("/approvals/{}", waits.id)),
    })
}
