//! Asks the webhook gates of rollouts. What an answer does decides
//! [`fleeti_control::rollouts::gate`].

use super::sender::Sender;
use fleeti_control::context::Context;
use fleeti_control::error::Error;
use fleeti_control::rollouts::{Question, gate};
use fleeti_core::rollout::asked::{ANSWER_BYTES_MAX, Answer, Response};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

/// Maximum number of gates that are asked at the same time.
const AT_ONCE: usize = 16;

/// Asks until the task is aborted.
pub(super) async fn run(sender: &Sender, cx: &Context) {
    let mut asked = FuturesUnordered::new();
    loop {
        tokio::select! {
            question = gate::next_question(cx), if asked.len() < AT_ONCE => {
                asked.push(ask(sender, cx, question));
            }
            Some(()) = asked.next() => {}
        }
    }
}

async fn ask(sender: &Sender, cx: &Context, question: Question) {
    if let Err(e) = asked(sender, cx, &question).await {
        tracing::error!(rollout = question.rollout, "its gate waits: {}", e.for_log());
    }
}

async fn asked(sender: &Sender, cx: &Context, question: &Question) -> Result<(), Error> {
    let answer = match gate::message(cx, question).await? {
        None => return Ok(()),
        Some(Err(answer)) => answer,
        Some(Ok(message)) => match sender.ask(&message, ANSWER_BYTES_MAX).await {
            Ok((status, body)) => Answer::read(Response { status, body: &body }, &message.id),
            Err(why) => Answer::failed(&why),
        },
    };
    gate::answered(cx, question, answer).await
}
