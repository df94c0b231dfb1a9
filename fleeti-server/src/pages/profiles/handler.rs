//! Requests to the pages of profiles.

use super::edit::changed;
use super::editor::{Checked, Editor, Opened, new_profile};
use super::found::{Found, SHOWN_MAX};
use super::posted::Posted;
use super::read::{FormError, one};
use super::view::{ChangesPage, ProfileList, RevisionPage, StartPage};
use crate::access::By;
use crate::error::AppError;
use crate::pages::page::{Page, Refused, Result, html, refused, see, show, wants_fragment};
use actix_web::http::StatusCode;
use actix_web::web::{Data, Form, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use fleeti_control::builds::schedule;
use fleeti_control::context::Context;
use fleeti_control::error::Error;
use fleeti_control::precondition::Expected;
use fleeti_control::profiles::{self, Preview};
use fleeti_control::suites;
use fleeti_core::id::Line;
use fleeti_core::profile::{Draft, IndexedKind, Inherited};
use fleeti_core::wire::problem::Code;
use fleeti_store::revisions::Head;
use serde::Deserialize;

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
    let page = Page::new("/profiles", &request, &["profile"]);
    let schedule = schedule::find(&cx, &path.0).await?;
    show!(request, RevisionPage::of(page, (&details, schedule.as_ref()), cx.now_s())?)
}

/// Compares two revisions of a profile.
pub async fn changes(
    cx: Data<Context>,
    request: HttpRequest,
    path: Path<(Line, u32, u32)>,
) -> Result<HttpResponse> {
    let changes = profiles::changes(&cx, &path.0, path.1, path.2).await?;
    show!(request, ChangesPage::of(Page::new("/profiles", &request, &["profile"]), &changes))
}

/// The name and the template of a new profile.
#[derive(Deserialize)]
pub struct Start {
    name: Option<String>,
    template: Option<String>,
}

/// The first page of a new profile; with a name, the editor.
pub async fn new(
    cx: Data<Context>,
    request: HttpRequest,
    start: Query<Start>,
) -> Result<HttpResponse> {
    let Some(name) = &start.name else {
        return show!(request, StartPage::of(Page::new("/profiles", &request, &[])));
    };
    let value = new_profile(name.trim(), start.template.as_deref());
    let posted = Posted::Form { value, source: String::new() };
    Work::open(&cx, posted).await?.page(&request, StatusCode::OK)
}

pub async fn edit(
    cx: Data<Context>,
    request: HttpRequest,
    path: Path<(Line, u32)>,
) -> Result<HttpResponse> {
    let text = profiles::document(&cx, &path.0, path.1).await?;
    let etag = profiles::tag(&cx, &path.0).await?;
    let work = Work { etag, ..Work::open(&cx, Posted::Text(text)).await? };
    work.into_form().page(&request, StatusCode::OK)
}

/// Changes the form by one of its buttons, or shows the form as text or the text as a form. Saves
/// nothing.
pub async fn change_form(
    cx: Data<Context>,
    request: HttpRequest,
    fields: Form<Fields>,
) -> Result<HttpResponse> {
    let posted = Posted::read(&fields)?;
    let work = match one(&fields, "view") {
        Some("text") => Work::open(&cx, posted).await?.into_text()?,
        Some("form") => Work::open(&cx, posted).await?.into_form(),
        _ => Work::changed(&cx, posted, &fields).await?,
    };
    let work = Work { etag: etag(&fields), ..work };
    work.page(&request, StatusCode::OK)
}

/// Checks the form or the text, and shows what saving would change. Saves nothing.
pub async fn check(cx: Data<Context>, fields: Form<Fields>) -> Result<HttpResponse> {
    let work = Work::open(&cx, Posted::read(&fields)?).await?;
    let is_text = matches!(work.posted, Posted::Text(_));
    let checked = Checked::of(&work.draft, work.preview.as_ref(), is_text);
    Ok(html(StatusCode::OK, checked.render()))
}

/// Text that is typed in a field, and what the field names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    of: IndexedKind,
    q: String,
}

/// Names of the suite that fit what is typed in a field.
pub async fn search(cx: Data<Context>, search: Query<Search>) -> Result<HttpResponse> {
    let Search { of, q } = search.into_inner();
    let names = suites::names(&cx, of, q, SHOWN_MAX + 1).await?;
    Ok(html(StatusCode::OK, Found::of(of, &names).render()))
}

pub async fn save(
    cx: Data<Context>,
    by: By,
    request: HttpRequest,
    fields: Form<Fields>,
) -> Result<HttpResponse> {
    let posted = Posted::read(&fields)?;
    let expected = Expected::of_form(&etag(&fields));
    match profiles::save_text(&cx, &by, &posted.text()?, &expected).await {
        Ok(saved) => Ok(see(&format!("/profiles/{}/{}", saved.line, saved.number))),
        Err(e) if e.code() == Code::Invalid => {
            let work = Work { etag: etag(&fields), ..Work::refused(&cx, posted, e).await? };
            work.page(&request, StatusCode::UNPROCESSABLE_ENTITY)
        }
        Err(e) => Err(e.into()),
    }
}

/// The tag of the profile that the editor was opened with.
fn etag(fields: &Fields) -> String {
    one(fields, "etag").unwrap_or_default().to_owned()
}

impl From<FormError> for Refused {
    fn from(e: FormError) -> Self {
        match e {
            FormError::Toml(e) => AppError::internal(e).into(),
            e => refused(e),
        }
    }
}

/// What the user edits, and what is known of it.
struct Work {
    posted: Posted,
    draft: Draft,
    preview: Option<Preview>,
    profiles: Vec<Head>,
    touched: String,
    /// The tag of the profile when the editor was opened.
    etag: String,
    is_refused: bool,
}

impl Work {
    async fn open(cx: &Context, posted: Posted) -> Result<Self> {
        let draft = profiles::draft(cx, &posted.text()?).await?;
        let preview = match &draft.profile {
            Some(profile) => Some(profiles::preview(cx, profile).await?),
            None => None,
        };
        let profiles = profiles::heads(cx, ROWS).await?;
        let (touched, etag) = (String::new(), String::new());
        Ok(Self { posted, draft, preview, profiles, touched, etag, is_refused: false })
    }

    /// What was refused, for the page that shows its errors.
    async fn refused(cx: &Context, posted: Posted, why: Error) -> Result<Self> {
        let work = Self { is_refused: true, ..Self::open(cx, posted).await? };
        // The page has errors of the document only.
        if work.draft.profile.is_some() { Err(why.into()) } else { Ok(work) }
    }

    /// Does what the pressed button says.
    async fn changed(cx: &Context, posted: Posted, fields: &Fields) -> Result<Self> {
        // No other button needs what is inherited.
        let inherited = match one(fields, "override") {
            Some(_) => profiles::draft(cx, &posted.text()?).await?.inherited,
            None => Inherited::default(),
        };
        match posted {
            Posted::Form { value, source } => {
                let edited = changed(value, fields, &inherited)?;
                let posted = Posted::Form { value: edited.value, source };
                Ok(Self { touched: edited.touched, ..Self::open(cx, posted).await? })
            }
            text @ Posted::Text(_) => Self::open(cx, text).await,
        }
    }

    /// The text view.
    fn into_text(self) -> Result<Self> {
        Ok(Self { posted: Posted::Text(self.posted.text()?), ..self })
    }

    /// The form, if it can show everything that the text says.
    fn into_form(mut self) -> Self {
        if let (Posted::Text(text), Some(own), true) =
            (&self.posted, &self.draft.own, self.draft.is_whole)
        {
            self.posted = Posted::Form { value: own.clone(), source: text.clone() };
        }
        self
    }

    fn page(&self, request: &HttpRequest, status: StatusCode) -> Result<HttpResponse> {
        let opened = Opened {
            posted: &self.posted,
            draft: &self.draft,
            preview: self.preview.as_ref(),
            profiles: &self.profiles,
            touched: &self.touched,
            etag: &self.etag,
            is_refused: self.is_refused,
        };
        let editor = Editor::of(Page::new("/profiles", request, &[]), &opened)?;
        let is_fragment = wants_fragment(request);
        let body = if is_fragment { editor.as_form().render() } else { editor.render() };
        Ok(html(status, body))
    }
}
