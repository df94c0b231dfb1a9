//! Webhooks in the HTTP API. Times are Unix seconds.
//!
//! A delivery is a POST as Standard Webhooks describes it: `webhook-id`, `webhook-timestamp` and
//! `webhook-signature` (`v1,` and the base64 of HMAC-SHA256 over `ID.TIMESTAMP.BODY`).

use super::attestation::Secret;
use crate::id::{FleetId, ReleaseName};
use crate::rollout::Counts;
use serde::{Deserialize, Serialize};

/// Maximum number of webhooks.
pub const WEBHOOKS_MAX: usize = 20;
/// Maximum length of the URL of a webhook, bytes.
pub const URL_MAX: usize = 500;
/// Number of attempts of a delivery.
pub const ATTEMPTS_MAX: u32 = 10;
/// Maximum number of deliveries in a list.
pub const DELIVERIES_MAX: u32 = 100;
/// What a secret begins with.
pub const SECRET_PREFIX: &str = "whsec_";

/// Events that a webhook can be sent.
pub const EVENTS: [&str; 8] = [
    "alerts.raised",
    "alerts.resolved",
    "device.appraised",
    "device.reported",
    "device.revoked",
    "release.revoked",
    "rollout.finished",
    GATE_EVENT,
];
/// The event of a webhook that rollouts can name as their gate: the question whether a wave may begin. Its
/// answer decides, so no delivery is stored.
pub const GATE_EVENT: &str = "rollout.gate";
/// The event of `POST /webhooks/{webhook}/test`.
pub const TEST_EVENT: &str = "webhook.test";

/// `POST /webhooks`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateWebhook {
    /// Where events are sent: `https`, without user and password. A private address only if the
    /// server permits it.
    #[schema(max_length = 500)]
    pub url: String,
    /// Events to send, such as `alerts.raised`.
    #[schema(min_items = 1, max_items = 8)]
    pub events: Vec<String>,
}

/// A webhook, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Webhook {
    /// Webhook id.
    pub id: String,
    /// Where events are sent.
    pub url: String,
    /// Events that are sent.
    pub events: Vec<String>,
    /// When it was added.
    pub created_s: u64,
}

/// A new webhook. The server shows its secret once.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedWebhook {
    /// The webhook.
    pub webhook: Webhook,
    /// The key of its signatures: `whsec_` and base64.
    #[schema(value_type = String)]
    pub secret: Secret,
}

/// `data` of a question to the webhook gate of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateQuestion {
    /// The `webhook-id` of the question.
    pub id: String,
    /// The rollout.
    pub rollout: String,
    /// Its release.
    pub release: ReleaseName,
    /// Its fleet.
    pub fleet: FleetId,
    /// Number of the wave that would begin, from 0.
    pub wave: u32,
    /// Number of waves.
    pub waves: usize,
    /// Its devices, by category.
    pub counts: Counts,
}

/// What a webhook gate answers, with status 200 to 299. An answer with another field does not count.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateAnswer {
    /// Whether the wave may begin.
    pub allow: bool,
    /// Why, for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When to ask again, seconds, 15 to 86400; absent for a time that grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// The id of the question. Present, it must be that of the question which is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// State of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// Another attempt follows.
    Waiting,
    /// The receiver accepted it.
    Delivered,
    /// The receiver did not accept it, and no attempt follows.
    Failed,
}

impl DeliveryStatus {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Waiting, Self::Delivered, Self::Failed];

    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// An event on its way to a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Delivery {
    /// The `webhook-id` of all its attempts. A receiver drops an id that it had already.
    pub id: String,
    /// The event.
    pub event: String,
    /// When it happened.
    pub at_s: u64,
    /// State of the delivery.
    pub status: DeliveryStatus,
    /// Number of attempts so far.
    pub attempts: u32,
    /// When the next attempt follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_s: Option<u64>,
    /// When the last attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_s: Option<u64>,
    /// The last answer: a status with the beginning of the body, or why there was none.
    pub answer: String,
}

/// Delay in seconds after an attempt, from 1; `None` after the last one.
#[must_use]
pub const fn delay_s(attempt: u32) -> Option<u64> {
    Some(match attempt {
        0 | 1 => 5,
        2 => 30,
        3 => 120,
        4 => 600,
        5 => 3600,
        6 => 3 * 3600,
        7 => 6 * 3600,
        8 => 12 * 3600,
        9 => 24 * 3600,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_bodies_are_the_api() {
        let webhook = Webhook {
            id: "hook-1".into(),
            url: "https://ops.example/in".into(),
            events: vec!["alerts.raised".into()],
            created_s: 1,
        };
        let delivery = Delivery {
            id: "hook-1.7".into(),
            event: "alerts.raised".into(),
            at_s: 1,
            status: DeliveryStatus::Waiting,
            attempts: 1,
            next_s: Some(2),
            answered_s: Some(3),
            answer: "500 no".into(),
        };
        insta::assert_json_snapshot!(json!({ "webhook": webhook, "delivery": delivery }));
    }

    #[test]
    fn a_question_and_its_answer_are_what_gates_are_written_for() {
        let question = GateQuestion {
            id: "rollout-1.3".into(),
            rollout: "rollout-1".into(),
            release: "kiosk@2".parse().unwrap(),
            fleet: "lobby".parse().unwrap(),
            wave: 1,
            waves: 3,
            counts: Counts { total: 20, succeeded: 1, pending: 19, ..Counts::default() },
        };
        let answer = GateAnswer {
            allow: false,
            reason: Some("change freeze".into()),
            retry_after_s: Some(3600),
            id: Some("rollout-1.3".into()),
        };
        insta::assert_json_snapshot!(json!({ "question": question, "answer": answer }));
    }

    #[test]
    fn attempts_are_bounded_and_their_delays_grow() {
        let delays: Vec<_> = (1..).map_while(delay_s).collect();
        assert_eq!(delays.len() + 1, ATTEMPTS_MAX as usize);
        assert!(delays.is_sorted(), "{delays:?}");
    }
}
