//! What the pages of profiles show.

use super::changes::Changes;
use super::refresh::ScheduleRow;
use super::sets::{Offer, templates};
use crate::pages::display::{day, time};
use crate::pages::fixes::FixesRow;
use crate::pages::page::{Page, Result};
use askama::Template;
use fleeti_control::profiles::{Details, SUITE, as_toml, line_of};
use fleeti_core::support::{self, Stage, Support};
use fleeti_core::wire::api::ProfileRevision;
use fleeti_core::wire::profile::{MadeOf, ProfileChanges};
use fleeti_core::wire::refresh::RefreshSchedule;
use fleeti_store::revisions::Head;

/// A row of a list of revisions.
pub struct RevisionRow {
    pub line: String,
    pub number: u32,
    pub description: String,
    pub digest: String,
    pub created: String,
}

impl From<&ProfileRevision> for RevisionRow {
    fn from(r: &ProfileRevision) -> Self {
        Self::from(&Head {
            line: r.line.to_string(),
            number: r.number,
            digest: r.digest.clone(),
            created_s: r.created_s,
            description: r.profile.description.clone(),
        })
    }
}

impl From<&Head> for RevisionRow {
    fn from(r: &Head) -> Self {
        Self {
            line: r.line.clone(),
            number: r.number,
            description: r.description.clone(),
            digest: r.digest.clone(),
            created: time(r.created_s),
        }
    }
}

/// The list of profiles.
#[derive(Template)]
#[template(path = "profiles.html", blocks = ["main"])]
pub struct ProfileList {
    page: Page,
    profiles: Vec<RevisionRow>,
}

impl ProfileList {
    pub fn of(page: Page, profiles: &[Head]) -> Self {
        Self { page, profiles: profiles.iter().map(RevisionRow::from).collect() }
    }
}

/// A fragment that a revision was made of.
pub struct MadeOfRow {
    name: String,
    /// The profile that it is; empty for a fragment that is shipped.
    line: String,
    revision: Option<u32>,
    newer: Option<u32>,
    digest: String,
}

impl From<&MadeOf> for MadeOfRow {
    fn from(made_of: &MadeOf) -> Self {
        Self {
            name: made_of.name.clone(),
            line: line_of(&made_of.name).unwrap_or_default().to_owned(),
            revision: made_of.revision,
            newer: made_of.newer,
            digest: made_of.digest.clone(),
        }
    }
}

/// How long the suite of the base gets security updates.
pub struct SupportRow {
    text: String,
    is_ending: bool,
}

impl SupportRow {
    fn of(support: &Support, now_s: u64) -> Self {
        let (full, lts) = (day(support.full_until_s), day(support.lts_until_s));
        let (suite, stage) = (support.suite, support.stage(now_s));
        let text = match stage {
            Stage::Full => format!(
                "Debian {suite} gets security updates until {full}, long-term support until {lts}."
            ),
            Stage::Ending => format!(
                "Security support of Debian {suite} ends on {full}; long-term support, for fewer \
                 packages, ends on {lts}."
            ),
            Stage::Lts => format!(
                "Debian {suite} has long-term support only, for fewer packages, until {lts}."
            ),
            Stage::Ended => format!("Debian {suite} gets no security updates since {lts}."),
        };
        Self { text, is_ending: stage != Stage::Full }
    }
}

/// The page of one revision.
#[derive(Template)]
#[template(path = "profile.html", blocks = ["main"])]
pub struct RevisionPage {
    page: Page,
    line: String,
    number: u32,
    description: String,
    created: String,
    digest: String,
    /// The document as its author wrote it; `None` if the profile came as JSON.
    written: Option<String>,
    /// The profile with everything that it inherits.
    text: String,
    next_version: String,
    support: Option<SupportRow>,
    fixes: Option<FixesRow>,
    schedule: Option<ScheduleRow>,
    revisions: Vec<RevisionRow>,
    made_of: Vec<MadeOfRow>,
}

impl RevisionPage {
    pub fn of(
        page: Page,
        (details, schedule): (&Details, Option<&RefreshSchedule>),
        now_s: u64,
    ) -> Result<Self> {
        let row = RevisionRow::from(&details.revision);
        Ok(Self {
            page,
            line: row.line,
            number: row.number,
            description: row.description,
            created: row.created,
            digest: row.digest,
            written: details.revision.text.clone(),
            text: as_toml(&details.revision.profile)?,
            next_version: details
                .next_version
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            schedule: schedule.map(ScheduleRow::from),
            fixes: details.fixes.as_ref().and_then(FixesRow::of),
            support: support::of(SUITE).map(|support| SupportRow::of(support, now_s)),
            revisions: details.line.iter().map(RevisionRow::from).collect(),
            made_of: details.revision.made_of.iter().map(MadeOfRow::from).collect(),
        })
    }
}

/// The page that compares two revisions.
#[derive(Template)]
#[template(path = "profile_changes.html", blocks = ["main"])]
pub struct ChangesPage {
    page: Page,
    line: String,
    from: u32,
    to: u32,
    changes: Changes,
}

impl ChangesPage {
    pub fn of(page: Page, changes: &ProfileChanges) -> Self {
        Self {
            page,
            line: changes.line.to_string(),
            from: changes.from,
            to: changes.to,
            changes: Changes::of_revisions(changes),
        }
    }
}

/// The first page of a new profile.
#[derive(Template)]
#[template(path = "profile_new.html", blocks = ["main"])]
pub struct StartPage {
    page: Page,
    templates: Vec<Offer>,
}

impl StartPage {
    pub fn of(page: Page) -> Self {
        Self { page, templates: templates() }
    }
}
