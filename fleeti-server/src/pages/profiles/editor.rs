//! The editor of a profile.

use super::changes::Changes;
use super::finding::{Answer, anchor};
use super::form;
use super::posted::Posted;
use super::said::{Look, Rendered, Said, Tally};
use super::schema::Place;
use super::sections::{SECTIONS, Section};
use super::sets::Sets;
use crate::error::AppError;
use crate::pages::page::{Page, Result};
use askama::Template;
use fleeti_control::profiles::Preview;
use fleeti_core::profile::{self, Draft, Finding};
use fleeti_store::revisions::Head;
use serde_json::Value;

/// A section with its fields.
pub struct SectionView {
    pub id: &'static str,
    pub title: &'static str,
    pub html: String,
    /// Numbers of own and of inherited values.
    pub note: String,
    pub is_open: bool,
    pub is_broken: bool,
}

/// What was found in the document, and what saving it would change.
#[derive(Template)]
#[template(path = "_checked.html")]
pub struct Checked {
    pub answers: Vec<Answer>,
    /// Errors and changes in a few words.
    pub status: String,
    pub is_broken: bool,
    pub is_text: bool,
    pub changes: Option<Changes>,
}

impl Checked {
    /// Of a document.
    pub fn of(draft: &Draft, preview: Option<&Preview>, is_text: bool) -> Self {
        let answers: Vec<_> = draft.findings.iter().map(Answer::from).collect();
        let errors = answers.iter().filter(|answer| !answer.is_warning).count();
        let changes = preview.map(Changes::of_preview);
        let status = match (errors, &changes) {
            (0, Some(changes)) if changes.is_first => "Ready to save as revision 1".to_owned(),
            (0, Some(changes)) => match changes.changes.len() + changes.hidden {
                0 => "No changes".to_owned(),
                1 => "1 change".to_owned(),
                n => format!("{n} changes"),
            },
            (1, _) => "1 error".to_owned(),
            (n, _) => format!("{n} errors"),
        };
        Self { answers, status, is_broken: errors > 0, is_text, changes }
    }

    /// Leads each answer to the nearest element of a page.
    fn anchored(mut self, page: &str) -> Self {
        let exists = |path: &str| page.contains(&format!("id=\"{path}\""));
        for answer in &mut self.answers {
            answer.anchor = anchor(&answer.path, exists);
        }
        self
    }
}

/// What the editor shows.
pub struct Opened<'a> {
    pub posted: &'a Posted,
    pub draft: &'a Draft,
    pub preview: Option<&'a Preview>,
    /// Profiles of this server, which can be extended.
    pub profiles: &'a [Head],
    /// Path of the field or entry that the user works on; empty if there is none.
    pub touched: &'a str,
    /// The tag of the profile when the editor was opened; empty for a new one.
    pub etag: &'a str,
    /// The document was not saved.
    pub is_refused: bool,
}

/// The page of the editor.
#[derive(Template)]
#[template(path = "profile_form.html", blocks = ["form"])]
pub struct Editor {
    page: Page,
    heading: String,
    is_text: bool,
    is_refused: bool,
    etag: String,
    text: String,
    removed: String,
    sets: Sets,
    sections: Vec<SectionView>,
    checked: Checked,
}

impl Editor {
    pub fn of(page: Page, opened: &Opened<'_>) -> Result<Self> {
        let nothing = Value::Null;
        let (value, source, is_text) = match opened.posted {
            Posted::Form { value, source } => (value, source.as_str(), false),
            Posted::Text(text) => {
                (opened.draft.own.as_ref().unwrap_or(&nothing), text.as_str(), true)
            }
        };
        let sections = if is_text { Vec::new() } else { sections(value, opened)? };
        let name = value.get("name").and_then(Value::as_str).filter(|n| !n.is_empty());
        let all: String = sections.iter().map(|section| section.html.as_str()).collect();
        // A browser changes line ends: such a text is written anew.
        let source = if is_text || !source.contains('\r') { source } else { "" };
        Ok(Self {
            page,
            heading: name.map_or_else(|| "New profile".to_owned(), |n| format!("Profile {n}")),
            is_text,
            is_refused: opened.is_refused,
            etag: opened.etag.to_owned(),
            text: source.to_owned(),
            removed: value.get("remove").map_or_else(String::new, Value::to_string),
            sets: Sets::of(value, opened.draft, opened.profiles),
            sections,
            checked: Checked::of(opened.draft, opened.preview, is_text).anchored(&all),
        })
    }
}

fn sections(value: &Value, opened: &Opened<'_>) -> Result<Vec<SectionView>> {
    let is_new = |finding: &&Finding| {
        // An entry that was just added is not wrong yet.
        let below = finding.path.strip_prefix(opened.touched);
        opened.touched.is_empty() || !below.is_some_and(|rest| rest.starts_with(['.', '[']))
    };
    let findings: Vec<_> = opened.draft.findings.iter().filter(is_new).cloned().collect();
    let look = Look { findings: &findings, touched: opened.touched, removed: value.get("remove") };
    let said = Said { own: Some(value), inherited: Some(&opened.draft.inherited) };
    let sections = SECTIONS.iter().map(|section| section_view(section, said, look));
    Ok(sections.collect::<askama::Result<Vec<_>>>().map_err(AppError::internal)?)
}

fn section_view(
    section: &'static Section,
    said: Said<'_>,
    look: Look<'_>,
) -> askama::Result<SectionView> {
    let mut all = Rendered { html: String::new(), tally: Tally::default() };
    for name in section.fields {
        let Some(place) = Place::at(name) else { continue };
        let is_bare = section.fields.len() == 1;
        let rendered = form::field(&place, said.property(name), look, is_bare)?;
        all.html.push_str(&rendered.html);
        all.tally.add(rendered.tally);
    }
    let Tally { own, inherited, is_broken, is_touched } = all.tally;
    let is_general = section.id == "general";
    Ok(SectionView {
        id: section.id,
        title: section.title,
        html: all.html,
        note: match (own, inherited) {
            _ if is_general => String::new(),
            (0, 0) => "nothing set".to_owned(),
            (own, 0) => format!("{own} set here"),
            (0, inherited) => format!("{inherited} inherited"),
            (own, inherited) => format!("{own} set here, {inherited} inherited"),
        },
        is_open: is_general || own > 0 || inherited > 0 || is_broken || is_touched,
        is_broken,
    })
}

/// What a new profile says.
pub fn new_profile(name: &str, template: Option<&str>) -> Value {
    let mut value = serde_json::json!({
        "schema": profile::SCHEMA, "name": name, "architecture": "x86_64",
    });
    if let Some(template) = template.filter(|template| !template.is_empty()) {
        value["extends"] = serde_json::json!([template]);
    }
    value
}
