//! The webhook gate of a rollout: what it was asked about the current wave, and what it said.
//!
//! A plan names a webhook, which the server asks before each wave begins. Everything but an answer that
//! allows the wave means that the wave waits: no answer, an error, an answer that is malformed, too
//! long, or about another question. A gate never moves a device and opens no other gate.

use crate::foreign::Foreign;
use crate::strict;
use crate::wire::webhook::GateAnswer;
use serde::{Deserialize, Serialize};

/// A question without an answer is asked again after this time at the earliest, seconds: the server was
/// killed, or the question did not get through.
pub const ANSWER_S: u64 = 60;
/// Shortest time between an answer and the next question, seconds.
pub const AGAIN_S_MIN: u64 = 15;
/// Longest time between two questions if the answer names none, seconds.
pub const AGAIN_S_MAX: u64 = 900;
/// Longest time that an answer may name, seconds.
pub const RETRY_AFTER_S_MAX: u64 = 24 * 3600;
/// Largest number of characters of a reason that are shown.
pub const REASON_MAX: usize = 200;
/// Largest answer, bytes.
pub const ANSWER_BYTES_MAX: usize = 4096;

/// What the webhook gate of a rollout was asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RolloutGateAsked)]
pub struct Asked {
    /// Number of the last question of this rollout, from 1.
    pub question: u32,
    /// Whether that question has no answer yet.
    pub is_open: bool,
    /// When the server asks again, Unix seconds; absent if no wave waits for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_s: Option<u64>,
    /// Number of the last questions about the current wave, in a row, without an answer that names the
    /// time of the next one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub without_time: u32,
    /// The last answer about the current wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// What a webhook gate said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RolloutGateAnswer)]
pub struct Answer {
    /// Whether the wave may begin.
    pub verdict: Verdict,
    /// Why, at most 200 characters of the webhook's text, without control characters.
    pub reason: String,
}

/// Whether a wave may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = RolloutGateVerdict)]
pub enum Verdict {
    /// It may.
    Allows,
    /// It waits.
    Denies {
        /// When to ask again, seconds after the answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_s: Option<u64>,
    },
    /// There is no answer that counts: it waits.
    Failed,
}

/// A response of the webhook.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// HTTP status.
    pub status: u16,
    /// The body, up to [`ANSWER_BYTES_MAX`] bytes and one more.
    pub body: &'a [u8],
}

fn shown(text: &str) -> String {
    Foreign::new(text.trim(), REASON_MAX).to_string()
}

impl Answer {
    /// A wave that may begin.
    #[must_use]
    pub fn allows(reason: &str) -> Self {
        Self { verdict: Verdict::Allows, reason: shown(reason) }
    }

    /// No answer that counts, for this reason.
    #[must_use]
    pub fn failed(reason: &str) -> Self {
        Self { verdict: Verdict::Failed, reason: shown(reason) }
    }

    /// Reads the response to a question with this id.
    #[must_use]
    pub fn read(response: Response<'_>, id: &str) -> Self {
        let Response { status, body } = response;
        if !(200..300).contains(&status) {
            return Self::failed(&format!("status {status}"));
        }
        if body.len() > ANSWER_BYTES_MAX {
            return Self::failed(&format!("an answer of more than {ANSWER_BYTES_MAX} bytes"));
        }
        let answer: GateAnswer = match strict::from_request(body) {
            Ok(answer) => answer,
            Err(e) => return Self::failed(&format!("not an answer: {e}")),
        };
        if answer.id.is_some_and(|of| of != id) {
            return Self::failed("an answer to another question");
        }
        let reason = shown(answer.reason.as_deref().unwrap_or_default());
        let retry_after_s = answer.retry_after_s;
        let verdict =
            if answer.allow { Verdict::Allows } else { Verdict::Denies { retry_after_s } };
        Self { verdict, reason }
    }

    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        match (self.verdict, self.reason.as_str()) {
            (Verdict::Allows, "") => "it allows the wave".to_owned(),
            (Verdict::Allows, reason) => format!("it allows the wave: {reason}"),
            (Verdict::Denies { .. }, "") => "it says no, and not why".to_owned(),
            (Verdict::Denies { .. }, reason) => reason.to_owned(),
            (Verdict::Failed, reason) => format!("no answer that counts: {reason}"),
        }
    }
}

impl Asked {
    /// Whether the gate has allowed the current wave.
    pub(super) fn is_allowed(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.verdict == Verdict::Allows)
    }

    /// Whether an answer is awaited: the time of the question is not over.
    pub(super) fn is_awaited(&self, now_s: u64) -> bool {
        self.is_open && self.again_s.is_some_and(|again_s| again_s > now_s)
    }

    /// Asks, unless that has been done and its time is not over.
    pub(super) fn ask(&mut self, now_s: u64) {
        if self.again_s.is_none_or(|again_s| again_s <= now_s) {
            if self.is_open {
                self.without_time = self.without_time.saturating_add(1);
            }
            self.question = self.question.saturating_add(1);
            self.is_open = true;
            let pause_s = back_off_s(self.without_time).max(ANSWER_S);
            self.again_s = Some(now_s.saturating_add(pause_s));
        }
    }

    /// Asks without waiting for the time of the next question, because an operator says so.
    pub(super) fn hurry(&mut self, now_s: u64) {
        if !self.is_open {
            self.again_s = Some(now_s);
        }
    }

    /// Takes an answer. `None` if it is not to the question that is open.
    pub(super) fn answered(&mut self, question: u32, answer: Answer, now_s: u64) -> Option<()> {
        if !self.is_open || self.question != question {
            return None;
        }
        self.is_open = false;
        let pause_s = match answer.verdict {
            Verdict::Denies { retry_after_s: Some(pause_s) } => {
                self.without_time = 0;
                pause_s.clamp(AGAIN_S_MIN, RETRY_AFTER_S_MAX)
            }
            Verdict::Allows | Verdict::Failed | Verdict::Denies { retry_after_s: None } => {
                self.without_time = self.without_time.saturating_add(1);
                back_off_s(self.without_time)
            }
        };
        self.again_s = Some(now_s.saturating_add(pause_s));
        self.answer = Some(answer);
        Some(())
    }

    /// Forgets question and answer, because another wave is current or the wave has begun. The number
    /// stays, so that an answer that comes late has no question.
    pub(super) fn forget(&mut self) {
        *self = Self { question: self.question, ..Self::default() };
    }

    /// What the gate said of the current wave.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.answer {
            Some(answer) => answer.words(),
            None => "it has not answered yet".to_owned(),
        }
    }
}

/// Time until the next question after so many in a row without an answer that names it, seconds.
fn back_off_s(without_time: u32) -> u64 {
    let doubled = AGAIN_S_MIN << without_time.saturating_sub(1).min(16);
    doubled.min(AGAIN_S_MAX)
}

#[cfg(test)]
mod tests;
