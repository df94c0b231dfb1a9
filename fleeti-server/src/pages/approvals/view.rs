//! What the pages of acts that need a second person show.

use crate::pages::display::{Badge, time};
use crate::pages::page::Page;
use askama::Template;
use fleeti_control::precondition;
use fleeti_core::approval::State;
use fleeti_core::wire::approval::{Approval, ApprovalDetails, ApprovalPolicy, GuardedAct};
use fleeti_core::wire::attestation::Secret;

/// An act.
struct Row {
    id: String,
    act: String,
    requester: String,
    via: String,
    reason: String,
    requested: String,
    expires: String,
    state: Badge,
    decided_by: Option<String>,
    /// HTML.
    decided: String,
    note: String,
    outcome: String,
}

fn badge(state: State) -> Badge {
    let tone = match state {
        State::Waiting | State::Approved => "busy",
        State::Done => "good",
        State::Denied | State::Failed => "bad",
        State::Withdrawn | State::Expired => "warn",
    };
    Badge::new(tone, state.as_str())
}

impl From<&Approval> for Row {
    fn from(of: &Approval) -> Self {
        Self {
            id: of.id.clone(),
            act: of.act.clone(),
            requester: of.requester.to_string(),
            via: of.via.clone(),
            reason: of.reason.clone(),
            requested: time(of.requested_s),
            expires: time(of.expires_s),
            state: badge(of.state),
            decided_by: of.decided_by.as_ref().map(ToString::to_string),
            decided: of.decided_s.map(time).unwrap_or_default(),
            note: of.note.clone(),
            outcome: of.outcome.clone(),
        }
    }
}

/// The policy, as the form has it.
struct PolicyRow {
    revoked_max: String,
    fleets: String,
    recovery_keys: bool,
    urgent_rollouts: bool,
    release_paths: bool,
    is_empty: bool,
    etag: String,
}

impl From<&ApprovalPolicy> for PolicyRow {
    fn from(policy: &ApprovalPolicy) -> Self {
        let fleets = policy.rollout_fleets.iter().map(ToString::to_string).collect::<Vec<_>>();
        Self {
            revoked_max: policy.revoked_max.map(|max| max.to_string()).unwrap_or_default(),
            fleets: fleets.join(" "),
            recovery_keys: policy.recovery_keys,
            urgent_rollouts: policy.urgent_rollouts,
            release_paths: policy.release_paths,
            is_empty: policy.is_empty(),
            etag: precondition::tag(policy).unwrap_or_default(),
        }
    }
}

/// The inbox.
#[derive(Template)]
#[template(path = "approvals.html", blocks = ["main"])]
pub struct ApprovalsPage {
    page: Page,
    waiting: Vec<Row>,
    others: Vec<Row>,
    policy: Option<PolicyRow>,
}

impl ApprovalsPage {
    /// The policy is there for those who may change it.
    pub fn of(page: Page, all: &[Approval], policy: Option<&ApprovalPolicy>) -> Self {
        let (waiting, others): (Vec<_>, Vec<_>) =
            all.iter().partition(|of| !of.state.is_terminal());
        let rows = |all: Vec<&Approval>| all.into_iter().map(Row::from).collect();
        Self {
            page,
            waiting: rows(waiting),
            others: rows(others),
            policy: policy.map(PolicyRow::from),
        }
    }
}

/// The page of an act.
#[derive(Template)]
#[template(path = "approval.html", blocks = ["main"])]
pub struct ApprovalPage {
    page: Page,
    a: Row,
    /// Exactly what is performed, as JSON.
    exactly: String,
    is_waiting: bool,
    may_decide: bool,
    why_not: String,
    is_own: bool,
    may_collect: bool,
}

impl ApprovalPage {
    pub fn of(page: Page, details: &ApprovalDetails) -> Self {
        let ApprovalDetails { approval, act, may_decide, why_not, is_own } = details;
        let is_key = matches!(act, GuardedAct::ShowRecoveryKey { .. });
        Self {
            page,
            a: Row::from(approval),
            exactly: serde_json::to_string_pretty(act).unwrap_or_default(),
            is_waiting: approval.state == State::Waiting,
            may_decide: *may_decide,
            why_not: why_not.clone().unwrap_or_default(),
            is_own: *is_own,
            may_collect: *is_own && is_key && approval.state == State::Approved,
        }
    }
}

/// The page that shows the recovery key of an approved act, once.
#[derive(Template)]
#[template(path = "approval_key.html", blocks = ["main"])]
pub struct KeyPage {
    page: Page,
    id: String,
    key: String,
}

impl KeyPage {
    pub fn of(page: Page, id: &str, key: &Secret) -> Self {
        Self { page, id: id.to_owned(), key: key.expose().to_owned() }
    }
}
