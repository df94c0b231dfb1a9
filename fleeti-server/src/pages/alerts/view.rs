//! What the pages of alerts show.

use crate::pages::display::{Badge, time};
use crate::pages::page::Page;
use crate::pages::webhooks::view::{DeliveryRow, state as delivery_state};
use askama::Template;
use fleeti_control::details::AlertsDetails;
use fleeti_control::email::EmailOverview;
use fleeti_control::precondition;
use fleeti_core::alert::state::State;
use fleeti_core::alert::{Severity, Subject};
use fleeti_core::foreign::Foreign;
use fleeti_core::wire::alerts::{Alert, AlertDetails, AlertQuery, RuleStatus, Silence};
use fleeti_core::wire::email::{EmailDelivery, EmailReceiver};

/// Maximum number of alerts on a page.
pub const ROWS: u32 = 100;

/// A severity in its color.
pub fn severity(severity: Severity) -> Badge {
    let tone = match severity {
        Severity::Info => "",
        Severity::Warning => "warn",
        Severity::Critical => "bad",
    };
    Badge::new(tone, severity.as_str())
}

fn state(state: State) -> Badge {
    let tone = match state {
        State::Open => "bad",
        State::Acknowledged => "busy",
        State::Resolved => "good",
    };
    Badge::new(tone, state.as_str())
}

/// A row of a list of alerts.
pub struct AlertLine {
    pub id: String,
    pub title: &'static str,
    pub severity: Badge,
    pub state: Badge,
    pub device: Option<String>,
    pub fleet: Option<String>,
    pub detail: String,
    pub since: String,
    pub is_silenced: bool,
    pub is_open: bool,
}

impl From<&Alert> for AlertLine {
    fn from(alert: &Alert) -> Self {
        Self {
            id: alert.id.clone(),
            title: alert.kind.title(),
            severity: severity(alert.severity),
            state: state(alert.state),
            device: alert.device.as_ref().map(ToString::to_string),
            fleet: alert.fleet.as_ref().map(ToString::to_string),
            detail: Foreign::log(&alert.detail).to_string(),
            since: time(alert.since_s),
            is_silenced: alert.silenced_until_s.is_some(),
            is_open: alert.state == State::Open,
        }
    }
}

/// A rule, as a form.
struct RuleRow {
    id: String,
    kind: &'static str,
    title: &'static str,
    unit: String,
    threshold: u64,
    has_threshold: bool,
    has_fleets: bool,
    severities: Vec<(&'static str, bool)>,
    fleets: String,
    enabled: bool,
    is_shipped: bool,
    etag: String,
}

impl From<&RuleStatus> for RuleRow {
    fn from(status: &RuleStatus) -> Self {
        let rule = &status.rule;
        let (min, max) = rule.kind.thresholds();
        let fleets: Vec<_> = rule.fleets.iter().map(ToString::to_string).collect();
        let severities = Severity::ALL.into_iter().map(|s| (s.as_str(), s == rule.severity));
        Self {
            id: rule.id.clone(),
            kind: rule.kind.code(),
            title: rule.kind.title(),
            unit: status.unit.clone(),
            threshold: rule.threshold,
            has_threshold: min != max,
            has_fleets: rule.kind.subject() != Subject::Server,
            severities: severities.collect(),
            fleets: fleets.join(", "),
            enabled: rule.enabled,
            is_shipped: status.is_shipped,
            etag: precondition::tag(status).unwrap_or_default(),
        }
    }
}

/// A receiver of e-mail.
struct ReceiverRow {
    id: String,
    address: String,
    what: String,
    enabled: bool,
    /// State and answer of its newest e-mail.
    last: Option<(Badge, String)>,
}

impl From<&(EmailReceiver, Option<EmailDelivery>)> for ReceiverRow {
    fn from((receiver, newest): &(EmailReceiver, Option<EmailDelivery>)) -> Self {
        let fleets: Vec<_> = receiver.fleets.iter().map(ToString::to_string).collect();
        let place = if fleets.is_empty() { "all fleets".to_owned() } else { fleets.join(", ") };
        let last = newest
            .as_ref()
            .map(|email| (delivery_state(email.status), Foreign::log(&email.answer).to_string()));
        Self {
            id: receiver.id.clone(),
            address: receiver.address.to_string(),
            what: format!("{} and above, {place}", receiver.severity),
            enabled: receiver.enabled,
            last,
        }
    }
}

/// The page of a receiver of e-mail.
#[derive(Template)]
#[template(path = "receiver.html", blocks = ["main"])]
pub struct ReceiverPage {
    page: Page,
    r: ReceiverRow,
    deliveries: Vec<DeliveryRow>,
}

impl ReceiverPage {
    pub fn of(page: Page, (receiver, emails): (EmailReceiver, Vec<EmailDelivery>)) -> Self {
        let row = |email: EmailDelivery| DeliveryRow {
            event: Foreign::log(&email.subject).to_string(),
            at: time(email.at_s),
            state: delivery_state(email.status),
            attempts: email.attempts,
            answer: Foreign::log(&email.answer).to_string(),
            next: email.next_s.map(time),
        };
        let r = ReceiverRow::from(&(receiver, None));
        Self { page, r, deliveries: emails.into_iter().map(row).collect() }
    }
}

/// E-mail, for those who may see its receivers.
struct EmailView {
    relay: Option<String>,
    receivers: Vec<ReceiverRow>,
    severities: [&'static str; 3],
}

impl From<&EmailOverview> for EmailView {
    fn from(found: &EmailOverview) -> Self {
        Self {
            relay: found.relay.clone(),
            receivers: found.receivers.iter().map(ReceiverRow::from).collect(),
            severities: Severity::ALL.map(Severity::as_str),
        }
    }
}

struct SilenceRow {
    id: String,
    what: String,
    from: String,
    until: String,
    reason: String,
    by: String,
}

impl From<&Silence> for SilenceRow {
    fn from(s: &Silence) -> Self {
        let rule = s.rule.as_deref().unwrap_or("every rule");
        let what = match (&s.device, &s.fleet) {
            (Some(device), _) => format!("{rule} of device {device}"),
            (None, Some(fleet)) => format!("{rule} in fleet {fleet}"),
            (None, None) => format!("{rule} everywhere"),
        };
        Self {
            id: s.id.clone(),
            what,
            from: time(s.from_s),
            until: time(s.until_s),
            reason: s.reason.clone(),
            by: s.by.clone(),
        }
    }
}

/// The list of alerts, with rules and silences.
#[derive(Template)]
#[template(path = "alerts.html", blocks = ["main"])]
pub struct AlertsPage {
    page: Page,
    fleet: Option<String>,
    all: bool,
    alerts: Vec<AlertLine>,
    next: Option<String>,
    rules: Vec<RuleRow>,
    silences: Vec<SilenceRow>,
    may_change_rules: bool,
    email: Option<EmailView>,
}

impl AlertsPage {
    pub fn of(page: Page, query: &AlertQuery, details: &AlertsDetails) -> Self {
        let AlertsDetails { alerts: found, email } = details;
        let last = (found.alerts.len() == ROWS as usize).then(|| found.alerts.last()).flatten();
        let fleet = query.fleet.as_ref().map(ToString::to_string);
        let filter = fleet.as_ref().map_or_else(String::new, |fleet| format!("fleet={fleet}&"));
        let all = if query.all { "all=1&" } else { "" };
        Self {
            page,
            all: query.all,
            alerts: found.alerts.iter().map(AlertLine::from).collect(),
            next: last.map(|last| format!("/alerts?{filter}{all}after={}", last.id)),
            fleet,
            rules: found.rules.iter().map(RuleRow::from).collect(),
            silences: found.silences.iter().map(SilenceRow::from).collect(),
            may_change_rules: found.may_change_rules,
            email: email.as_ref().map(EmailView::from),
        }
    }
}

/// One change of an alert.
struct ChangeRow {
    at: String,
    state: Badge,
    by: String,
    note: String,
}

/// The page of one alert.
#[derive(Template)]
#[template(path = "alert.html", blocks = ["main"])]
pub struct AlertPage {
    page: Page,
    a: AlertLine,
    rule: String,
    times: u32,
    history: Vec<ChangeRow>,
}

impl AlertPage {
    pub fn of(page: Page, details: &AlertDetails) -> Self {
        let AlertDetails { alert, history } = details;
        let history = history.iter().map(|change| ChangeRow {
            at: time(change.at_s),
            state: state(change.state),
            by: change.by.clone(),
            note: Foreign::log(&change.note).to_string(),
        });
        Self {
            page,
            a: AlertLine::from(alert),
            rule: alert.rule.clone(),
            times: alert.times,
            history: history.collect(),
        }
    }
}
