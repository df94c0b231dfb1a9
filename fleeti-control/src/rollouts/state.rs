//! State of the area in memory.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Delay between two looks at the clock: waves start, soak and time out to this precision.
const TICK: Duration = Duration::from_secs(2);
/// Maximum number of questions to webhook gates that wait to be sent. One that has no place is asked
/// again after a minute.
const QUESTIONS_MAX: usize = 1000;

/// A question to the webhook gate of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The rollout.
    pub rollout: String,
    /// Number of the question.
    pub number: u32,
    /// Id of the webhook.
    pub webhook: String,
}

impl Question {
    /// The `webhook-id`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}.{}", self.rollout, self.number)
    }
}

/// What the area knows beside the database.
#[derive(Default)]
pub(crate) struct RolloutState {
    /// Wakes the task that works in chunks.
    waiting: Notify,
    /// Questions to webhook gates.
    questions: Mutex<VecDeque<Question>>,
    asked: Notify,
}

impl RolloutState {
    /// Wakes the task that works in chunks. It then waits for the write lock, which the transaction
    /// of the caller holds.
    pub(super) fn has_work(&self) {
        self.waiting.notify_one();
    }

    /// Returns when there may be work: `true` if somebody said so, `false` if time passed.
    pub(super) async fn wait_for_work(&self) -> bool {
        tokio::time::timeout(TICK, self.waiting.notified()).await.is_ok()
    }

    /// Queues questions. Call this after the commit.
    pub(crate) fn ask(&self, new: Vec<Question>) {
        if new.is_empty() {
            return;
        }
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        let places = QUESTIONS_MAX.saturating_sub(questions.len());
        questions.extend(new.into_iter().take(places));
        drop(questions);
        self.asked.notify_one();
    }

    /// Takes the next question to a webhook that may be asked, when there is one. For one task.
    pub(super) async fn next_question(&self, may_ask: impl Fn(&str) -> bool) -> Question {
        loop {
            if let Some(question) = self.waiting_question(&may_ask) {
                return question;
            }
            self.asked.notified().await;
        }
    }

    fn waiting_question(&self, may_ask: impl Fn(&str) -> bool) -> Option<Question> {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        let at = questions.iter().position(|question| may_ask(&question.webhook))?;
        questions.remove(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(webhook: &str, number: u32) -> Question {
        Question { rollout: "rollout-1".into(), number, webhook: webhook.into() }
    }

    #[test]
    fn questions_to_a_webhook_that_is_busy_hold_no_other_back() {
        let state = RolloutState::default();
        state.ask(vec![question("slow", 1), question("slow", 2), question("quick", 3)]);
        let next = |may_ask: fn(&str) -> bool| state.waiting_question(may_ask).map(|q| q.number);
        assert_eq!(next(|webhook| webhook != "slow"), Some(3));
        assert_eq!(next(|webhook| webhook != "slow"), None);
        assert_eq!((next(|_| true), next(|_| true), next(|_| true)), (Some(1), Some(2), None));
    }

    #[test]
    fn more_questions_than_have_a_place_are_dropped() {
        let state = RolloutState::default();
        state.ask((0..2000).map(|number| question("slow", number)).collect());
        assert_eq!(state.questions.lock().unwrap().len(), QUESTIONS_MAX);
    }
}
