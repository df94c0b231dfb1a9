//! Asks the webhook gates of rollouts. What an answer does decides
//! [`fleeti_control::rollouts::gate`].

use super::sender::{REQUEST, Sender};
use fleeti_control::context::Context;
use fleeti_control::error::Error;
use fleeti_control::rollouts::{Question, gate};
use fleeti_core::rollout::asked::{ANSWER_BYTES_MAX, Answer, Response};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

/// Maximum number of gates that are asked at the same time.
const AT_ONCE: usize = 16;
/// Maximum number of questions to one webhook at the same time: one that is slow holds no other back.
const AT_ONCE_EACH: usize = 2;

/// Asks until the task is aborted.
pub(super) async fn run(sender: &Sender, cx: &Context) {
    let mut asked = FuturesUnordered::new();
    // The webhook of each question that is being asked.
    let mut busy: Vec<String> = Vec::new();
    loop {
        let may_ask =
            |webhook: &str| busy.iter().filter(|of| *of == webhook).count() < AT_ONCE_EACH;
        tokio::select! {
            question = gate::next_question(cx, may_ask), if asked.len() < AT_ONCE => {
                busy.push(question.webhook.clone());
                asked.push(ask(sender, cx, question));
            }
            Some(webhook) = asked.next() => {
                if let Some(at) = busy.iter().position(|of| *of == webhook) {
                    busy.swap_remove(at);
                }
            }
        }
    }
}

/// Returns the webhook.
async fn ask(sender: &Sender, cx: &Context, question: Question) -> String {
    if let Err(e) = asked(sender, cx, &question).await {
        tracing::error!(rollout = question.rollout, "its gate waits: {}", e.for_log());
    }
    question.webhook
}

async fn asked(sender: &Sender, cx: &Context, question: &Question) -> Result<(), Error> {
    let answer = match gate::message(cx, question, REQUEST.as_secs()).await? {
        None => return Ok(()),
        Some(Err(answer)) => answer,
        Some(Ok(message)) => match sender.ask(&message, ANSWER_BYTES_MAX).await {
            Ok((status, body)) => Answer::read(Response { status, body: &body }, &message.id),
            Err(why) => Answer::failed(&why),
        },
    };
    gate::answered(cx, question, answer).await
}
