//! The webhook gate of rollouts: what is asked, and what an answer does. The server sends the
//! questions. A question that is lost on the way is asked again after a minute.

use super::change::Change;
use super::chunks;
use super::state::Question;
use crate::attestation::policy;
use crate::context::Context;
use crate::error::Error;
use crate::webhooks::{self, Message};
use fleeti_core::rollout::asked::{ANSWER_S, Answer};
use fleeti_core::rollout::{Phase, header};
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::webhook::GateQuestion;
use fleeti_store as store;
use fleeti_store::rollouts::StoredRollout;

/// A question without an answer is asked again after this time, seconds.
pub const LOST_S: u64 = ANSWER_S;

/// Waits for a question that must be sent, to a webhook that may be asked.
pub async fn next_question(cx: &Context, may_ask: impl Fn(&str) -> bool) -> Question {
    cx.rollouts.next_question(may_ask).await
}

/// The message of a question, or what the answer is without one. `None` if nothing waits for an answer
/// any more, or would not when it comes, `takes_s` seconds from now.
///
/// # Errors
/// When the database does not answer. The question is then asked again.
pub async fn message(
    cx: &Context,
    question: &Question,
    takes_s: u64,
) -> Result<Option<Result<Message, Answer>>, Error> {
    let found = store::rollouts::get(cx.db.pool(), &question.rollout).await?;
    let by_s = cx.now_s().saturating_add(takes_s);
    let Some(rollout) = found.filter(|rollout| waits_for(rollout, question, by_s)) else {
        return Ok(None);
    };
    let StoredRollout { release, fleet, header, plan, .. } = rollout;
    let Some(plan) = plan else { return Ok(None) };
    let data = GateQuestion {
        id: question.id(),
        rollout: rollout.id,
        release,
        fleet,
        wave: header.waves.as_ref().map_or(0, |waves| waves.current),
        waves: plan.waves.len(),
        counts: header.counts,
    };
    let webhook = plan.gate.unwrap_or_default();
    match webhooks::question(cx, &webhook, &data).await {
        Ok(message) => Ok(Some(Ok(message))),
        // What a person must mend. Other errors are of this server, and no answer of the gate.
        Err(e) if matches!(e.code(), Code::Invalid | Code::Conflict) => {
            Ok(Some(Err(Answer::failed(&e.to_string()))))
        }
        Err(e) => Err(e),
    }
}

fn waits_for(rollout: &StoredRollout, question: &Question, by_s: u64) -> bool {
    let asked = rollout.header.waves.as_ref().and_then(|waves| waves.waits_for_gate());
    let is_it = asked.is_some_and(|asked| {
        let is_late = asked.again_s.is_some_and(|again_s| again_s < by_s);
        asked.is_open && !is_late && asked.question == question.number
    });
    rollout.header.phase == Phase::Running && is_it
}

/// Takes the answer to a question. One that nothing waits for changes nothing.
///
/// # Errors
/// When the database does not answer.
pub async fn answered(cx: &Context, question: &Question, answer: Answer) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    let Some(rollout) = store::rollouts::load(&mut tx, &question.rollout).await? else {
        return Ok(());
    };
    let policy = policy::of(cx, &rollout.fleet);
    let mut change = Change::of(rollout, cx.now_s());
    let event = header::Event::Answered { question: question.number, answer };
    if let Err(e) = change.header(event) {
        tracing::debug!(rollout = question.rollout, "{e}");
        return Ok(());
    }
    chunks::work(&mut tx, &mut change, &policy).await?;
    let caused = change.store(cx, &mut tx).await?;
    let after = cx.emit_all(&mut tx, cx.now_s(), caused).await?;
    tx.commit().await?;
    cx.dispatch(after);
    Ok(())
}
