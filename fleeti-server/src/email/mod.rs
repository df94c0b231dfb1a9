//! Gives e-mails to the relay. What is sent, to whom and when again decides
//! [`fleeti_control::email`]; here is SMTP.
//!
//! A relay is somebody else's program: every step has a time limit, an answer a size, and without
//! the TLS that is configured it gets nothing. `session` is one connection, `reach` finds the way to
//! it, `stream` limits what is read of it, `starttls` comes before TLS, `trust` is that TLS,
//! `letter` makes the bytes of an e-mail. `health` says when a relay that failed is asked again.

mod health;
mod letter;
mod reach;
mod session;
mod starttls;
mod stream;
mod trust;

pub use self::trust::{Trust, trust};

use self::health::Health;
use self::session::{ATTEMPT, Session};
use fleeti_control::context::Context;
use fleeti_control::email::{self, Answer};
use fleeti_control::email_relay::EmailRelay;
use fleeti_control::error::Error;
use futures::StreamExt;
use futures::stream::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// Time between two looks at the outbox.
const LOOK: Duration = Duration::from_secs(2);
/// Maximum number of e-mails to one receiver in one look.
const BATCH: usize = 20;
/// A receiver gets no further e-mail in a look after this time: others wait for the slowest.
const TURN: Duration = Duration::from_secs(15);
/// Maximum number of connections to the relay.
const CONNECTIONS: usize = 5;

const _: () = assert!(ATTEMPT.as_secs() * 2 < email::LOST_S);

/// Sends e-mails.
pub struct Sender {
    relay: EmailRelay,
    health: Health,
}

impl Sender {
    /// A sender for a control plane; `None` if e-mail is not configured.
    #[must_use]
    pub fn new(cx: &Context) -> Option<Self> {
        cx.settings.email.clone().map(|relay| Self { relay, health: Health::default() })
    }

    /// Makes e-mails of new events, and sends what is due, to several receivers at the same time.
    /// One connection shows that the relay works, before there are others: no e-mail counts an attempt
    /// by a relay that does not.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn look(&self, cx: &Context) -> Result<(), Error> {
        while email::fan_out(cx).await? {}
        let due = email::due(cx).await?;
        let Some((first, others)) = due.split_first() else { return Ok(()) };
        if self.health.waits() {
            return Ok(());
        }
        // Read for each look, so that a new CA counts without a restart.
        let trust = trust(&self.relay);
        let session = match self.open(&trust).await {
            Ok(session) => session,
            Err(why) => return email::unreachable(cx, &why).await,
        };
        let mut sent = vec![self.send_due(cx, first, Some(session), &trust)];
        sent.extend(others.iter().map(|one| self.send_due(cx, one, None, &trust)));
        let sent: Vec<_> = iter(sent).buffer_unordered(CONNECTIONS).collect().await;
        sent.into_iter().collect()
    }

    /// Sends what is due to one receiver, until something is not accepted.
    async fn send_due(
        &self,
        cx: &Context,
        receiver: &str,
        session: Option<Session>,
        trust: &Result<Trust, String>,
    ) -> Result<(), Error> {
        let mut session = match session {
            Some(session) => session,
            None if self.health.waits() => return Ok(()),
            None => match self.open(trust).await {
                Ok(session) => session,
                Err(why) => return email::unreachable(cx, &why).await,
            },
        };
        let began = Instant::now();
        for _ in 0..BATCH {
            if began.elapsed() >= TURN {
                break;
            }
            let Some(outgoing) = email::next(cx, receiver).await? else { break };
            let answer = session.send(&self.relay.from, &outgoing).await;
            email::answered(cx, &outgoing, &answer).await?;
            if !matches!(answer, Answer::Accepted(_)) {
                break;
            }
        }
        session.quit().await;
        Ok(())
    }

    async fn open(&self, trust: &Result<Trust, String>) -> Result<Session, String> {
        let opened = match trust {
            Ok(trust) => Session::open(&self.relay, trust).await,
            Err(why) => Err(why.clone()),
        };
        match &opened {
            Ok(_) => self.health.works(),
            Err(why) => self.health.failed(why),
        }
        opened
    }
}

/// Sends e-mails until the task is aborted.
pub async fn run(sender: Sender, cx: Arc<Context>) {
    let mut clock = tokio::time::interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        if let Err(e) = sender.look(&cx).await {
            tracing::error!("e-mails wait: {}", e.for_log());
        }
    }
}
