//! Requests to webhooks: deliveries, and questions to the gates of rollouts. What is sent, to whom and
//! when again decide [`fleeti_control::webhooks`] and [`fleeti_control::rollouts::gate`].

mod gates;
mod sender;

pub use self::sender::Sender;

use fleeti_control::context::Context;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Time between two looks at the outbox.
const LOOK: Duration = Duration::from_secs(2);

/// Sends deliveries and questions until the task is aborted. A gate that is slow delays no delivery.
pub async fn run(cx: Arc<Context>) {
    let sender = Sender::new(&cx);
    tokio::join!(deliver(&sender, &cx), gates::run(&sender, &cx));
}

async fn deliver(sender: &Sender, cx: &Context) {
    let mut clock = tokio::time::interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        if let Err(e) = sender.look(cx).await {
            tracing::error!("webhooks wait: {}", e.for_log());
        }
    }
}
