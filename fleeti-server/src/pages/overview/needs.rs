//! What needs a person, each with its next act.

use crate::pages::alerts::severity;
use crate::pages::display::{Badge, query_value, time};
use crate::pages::page::Page;
use fleeti_control::overview::Overview;
use fleeti_core::doctor::Stage;
use fleeti_core::foreign::Foreign;
use fleeti_core::rollout::Phase;
use fleeti_core::wire::alerts::Alert;
use fleeti_core::wire::api::{Build, Release, RolloutSummary};
use fleeti_core::wire::labels::devices_in_words;

/// A form with one button, which the caller may send.
pub struct Button {
    pub action: String,
    pub label: &'static str,
    /// What the browser asks first; empty for nothing.
    pub confirm: String,
}

/// Something that needs a person.
pub struct Need {
    pub tone: Badge,
    pub title: String,
    pub detail: String,
    /// HTML: since when, or until when.
    pub when: String,
    /// The next act as a link: path and text.
    pub link: Option<(String, String)>,
    /// The next act as a button.
    pub button: Option<Button>,
}

impl Need {
    fn new(tone: &'static str, kind: &str, title: impl Into<String>) -> Self {
        Self {
            tone: Badge::new(tone, kind),
            title: title.into(),
            detail: String::new(),
            when: String::new(),
            link: None,
            button: None,
        }
    }
    fn link(self, path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { link: Some((path.into(), text.into())), ..self }
    }
    fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }
    fn when(self, when: String) -> Self {
        Self { when, ..self }
    }
}

/// All of them, the most severe kinds first.
pub fn needs(page: &Page, o: &Overview) -> Vec<Need> {
    let mut all = Vec::new();
    if let Some(problem) = &o.problem {
        let hint = problem.what_to_do().unwrap_or_default();
        let need = Need::new("bad", "server", problem.to_string()).detail(hint);
        all.push(need.link("/trust", "Open trust"));
    }
    all.extend(o.endings.iter().map(|(ending, stage)| {
        let (tone, title) = match stage {
            Stage::Ended => ("bad", format!("{} has ended", ending.subject)),
            Stage::Within { days } => {
                ("warn", format!("{} ends within {days} days", ending.subject))
            }
        };
        let need = Need::new(tone, "validity", title).detail(&ending.remedy);
        need.when(time(ending.ends_s)).link("/trust", "Open trust")
    }));
    all.extend(o.alerts.iter().map(|alert| of_alert(page, alert)));
    all.extend(troubled(o));
    all.extend(o.active.iter().filter(|r| r.phase == Phase::Paused).map(|r| paused(page, r)));
    all.extend(o.unsigned.iter().map(unsigned));
    all.extend(o.idle_release.as_ref().map(|release| idle(o, release)));
    all.extend(first_steps(page, o));
    all
}

fn of_alert(page: &Page, alert: &Alert) -> Need {
    let tone = severity(alert.severity).tone;
    let fleet = alert.fleet.as_ref().map(ToString::to_string).unwrap_or_default();
    let title = alert.kind.title();
    let (title, link) = match (&alert.device, &alert.fleet) {
        (Some(device), _) => {
            (format!("{title}: {device}"), (format!("/devices/{device}"), "Open device"))
        }
        (None, Some(fleet)) => {
            (format!("{title}: {fleet}"), (format!("/fleets/{fleet}"), "Open fleet"))
        }
        (None, None) => (title.to_owned(), (format!("/alerts/{}", alert.id), "Open alert")),
    };
    let link = (link.0, link.1.to_owned());
    let acknowledges = page.may_in("/alerts/{alert}/acknowledge", &fleet);
    Need {
        link: Some(link),
        button: acknowledges.then(|| Button {
            action: format!("/alerts/{}/acknowledge", alert.id),
            label: "Acknowledge",
            confirm: String::new(),
        }),
        ..Need::new(tone, "alert", title)
            .detail(Foreign::log(&alert.detail).to_string())
            .when(time(alert.since_s))
    }
}

fn troubled(o: &Overview) -> Vec<Need> {
    let list = |filter: &str| format!("/devices?filter={}", query_value(filter));
    let words = |n: u64, what: &str| format!("{} {what}", devices_in_words(n));
    let mut all = Vec::new();
    if o.board.total.alarms > 0 {
        let title = words(o.board.total.alarms, "with an alarm or without trust");
        let need = Need::new("bad", "devices", title);
        all.push(need.link(list("alarm and not revoked"), "Show devices"));
    }
    if o.board.total.failed > 0 {
        let title = words(o.board.total.failed, "whose last update failed or was rolled back");
        let filter = list("state in (failed, rolled_back) and not revoked");
        all.push(Need::new("warn", "devices", title).link(filter, "Show devices"));
    }
    all
}

fn paused(page: &Page, r: &RolloutSummary) -> Need {
    let resumes = page.may_in("/rollouts/{rollout}/resume", r.fleet.as_str());
    Need {
        link: Some((format!("/rollouts/{}", r.id), "Open rollout".to_owned())),
        button: resumes.then(|| Button {
            action: format!("/rollouts/{}/resume", r.id),
            label: "Resume",
            confirm: format!(
                "Resume {} to {}? The errors so far are accepted.",
                r.release, r.fleet
            ),
        }),
        ..Need::new("warn", "rollout", format!("{} to fleet {} is paused", r.release, r.fleet))
            .detail(
                "By an operator, or because of too many errors. No device is offered the release.",
            )
    }
}

fn unsigned(build: &Build) -> Need {
    Need::new("busy", "build", format!("{} is built and waits for signatures", build.release))
        .when(time(build.created_s))
        .link(format!("/builds/{}", build.id), "Sign or approve")
}

/// The release goes to the only fleet, or to one that is chosen on its page.
fn idle(o: &Overview, release: &Release) -> Need {
    let path = match o.board.fleets.as_slice() {
        [(fleet, _)] => format!(
            "/rollouts/plan?release={}&fleet={fleet}&waves=1%2C+10%25%2C+100%25&soak_minutes=60&errors_max=0",
            query_value(&release.name.to_string())
        ),
        _ => format!("/releases/{}", release.name),
    };
    Need::new("busy", "release", format!("{} is published and in no rollout", release.name))
        .when(release.published_s.map(time).unwrap_or_default())
        .link(path, "Plan rollout")
}

/// What an empty server needs first.
fn first_steps(page: &Page, o: &Overview) -> Vec<Need> {
    let mut all = Vec::new();
    if o.builds.is_empty() && o.releases.is_empty() && page.may("/profiles") {
        let need = Need::new("", "start", "No release yet: write a profile and build it");
        all.push(need.link("/profiles/new", "New profile"));
    }
    if o.board.total.devices == 0 && page.may("/enroll") {
        let need = Need::new("", "start", "No device has enrolled yet");
        all.push(need.link("/enroll", "Enroll a device"));
    }
    all
}
