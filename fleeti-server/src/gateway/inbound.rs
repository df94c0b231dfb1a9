//! The loop of a session: reads the packets that a device sends and handles them, takes what is
//! pushed to the session, and looks at the clock.

use super::conduct::Rate;
use super::connection::Ended;
use super::session_state::{Session, next_time};
use fleeti_control::attestation::challenge;
use fleeti_control::devices;
use fleeti_control::hub::Handle;
use fleeti_core::wire::mqtt::{Down, Up};
use fleeti_core::wire::packet::{
    self, Kind, Packet, Publish, Reason, Subscribe, Subscription, Unsubscribe, write,
};
use fleeti_core::wire::problem::Code;
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;
use tokio::time::Instant;

/// Maximum number of filters in a SUBSCRIBE or UNSUBSCRIBE.
const FILTERS_MAX: usize = 8;
/// Allowed interval of invalid messages: a newer agent may send some that an older server does not
/// understand, and they must not end the session.
const INVALID_INTERVAL: Duration = Duration::from_secs(30);

impl Session<'_> {
    /// Serves the device until the session ends.
    pub(super) async fn serve(&mut self, handle: &Handle) -> Ended {
        match self.served(handle).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn served(&mut self, handle: &Handle) -> Result<Infallible, Ended> {
        if !self.subscriptions.is_empty() {
            self.look_into_the_mailbox().await?;
            self.deliver().await?;
        }
        let mut clock = pin!(tokio::time::sleep_until(self.next_date()));
        loop {
            self.connection.flush().await?;
            let ready_at = self.quotas.messages.ready_at(self.rate());
            let next = async {
                // Beyond its quota, do not read from the device.
                let waited = ready_at.filter(|at| *at > Instant::now());
                if let Some(at) = waited {
                    tokio::time::sleep_until(at).await;
                }
                self.connection.next().await
            };
            tokio::select! {
                biased;
                () = handle.mail.arrived.notified() => {
                    if handle.kicked.is_cancelled() {
                        return Err(Ended::Kicked);
                    }
                    self.arrived(handle).await?;
                }
                bytes = next => {
                    let bytes = bytes?;
                    self.received_at = Instant::now();
                    if bytes.first().is_some_and(|b| b >> 4 == 1) {
                        return Ended::closed(Reason::ProtocolError, "a second CONNECT (MQTT-3.1.0-2)");
                    }
                    let packet = packet::read(&bytes)?;
                    // PUBACKs answer messages of the server, so their number is bounded: do not
                    // count them.
                    if !matches!(packet, Packet::PubAck { .. }) {
                        let rate = self.rate();
                        self.quotas.messages.take(rate, self.received_at);
                    }
                    self.handle(packet).await?;
                }
                () = &mut clock => {
                    self.look_at_the_clock(ready_at).await?;
                    clock.as_mut().reset(self.next_date());
                }
            }
        }
    }

    async fn handle(&mut self, packet: Packet<'_>) -> Result<(), Ended> {
        match packet {
            // Boxed: the session of a device that says nothing needs no room for it.
            Packet::Publish(publish) => Box::pin(self.published(publish)).await,
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe).await,
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe),
            Packet::PubAck { id, .. } => {
                if !self.window.acknowledged(id) {
                    return Ended::closed(
                        Reason::ProtocolError,
                        format!("PUBACK {id} for an unknown packet identifier"),
                    );
                }
                if self.is_waiting_for_room { self.deliver().await } else { Ok(()) }
            }
            Packet::PingReq => {
                self.connection.queue(write::pingresp());
                Ok(())
            }
            Packet::Disconnect { session_expiry_s, .. } => {
                match session_expiry_s {
                    Some(1..) if self.session_expiry_s == 0 => {
                        return Ended::closed(
                            Reason::ProtocolError,
                            "DISCONNECT sets an expiry on a session that had none (3.14.2.2.2)",
                        );
                    }
                    Some(expiry) => self.session_expiry_s = expiry,
                    None => {}
                }
                Err(Ended::Left)
            }
            Packet::Connect(_) => {
                Ended::closed(Reason::ProtocolError, "a second CONNECT (MQTT-3.1.0-2)")
            }
        }
    }

    async fn published(&mut self, publish: Publish<'_>) -> Result<(), Ended> {
        if publish.qos > 1 {
            return Ended::closed(Reason::QosNotSupported, "QoS 2 (MQTT-3.2.2-11)");
        }
        if publish.retain {
            return Ended::closed(Reason::RetainNotSupported, "a retained message (MQTT-3.2.2-14)");
        }
        let Some(kind) = Up::of(publish.topic, &self.device) else {
            return Ended::closed(Reason::NotAuthorized, format!("publish to {}", publish.topic));
        };
        let received = match kind {
            // The challenge belongs to this connection, and can be answered once.
            Up::Evidence => {
                let received = challenge::received(
                    &self.gateway.control,
                    &self.device,
                    &mut self.asked,
                    publish.payload,
                )
                .await;
                received.map(|log| {
                    self.firmware_log = Some(log);
                    self.has_proved = self.subscriptions.get(Down::Secrets).is_some();
                })
            }
            Up::Report | Up::Telemetry | Up::Acknowledgement => {
                devices::received(&self.gateway.control, &self.device, kind, publish.payload).await
            }
        };
        let reason = match received {
            Ok(()) => Reason::Success,
            // Acknowledge with a reason code, so that the device does not send the invalid message
            // forever.
            Err(e) if e.code() == Code::Invalid => {
                let now = Instant::now();
                self.gateway.conducts.say(&self.device, &e.to_string(), now);
                let rate = Rate {
                    interval: INVALID_INTERVAL,
                    burst: self.gateway.limits.invalid_messages,
                };
                if !self.quotas.invalid.take(rate, now) {
                    self.gateway.conducts.punish(
                        &self.device,
                        Duration::from_millis(self.gateway.limits.penalty_ms),
                        now,
                    );
                    return Ended::closed(
                        Reason::PayloadFormatInvalid,
                        "too many invalid messages",
                    );
                }
                Reason::PayloadFormatInvalid
            }
            // Do not acknowledge: the device keeps the message and sends it again.
            Err(e) => return Err(e.into()),
        };
        if publish.qos == 1 {
            self.connection.queue(write::puback(publish.id, reason));
        }
        if self.has_proved { self.deliver().await } else { Ok(()) }
    }

    async fn subscribe(&mut self, subscribe: &Subscribe<'_>) -> Result<(), Ended> {
        if subscribe.subscriptions.len() > FILTERS_MAX {
            return Ended::closed(Reason::QuotaExceeded, "too many filters");
        }
        if subscribe.has_subscription_id {
            return Ended::closed(
                Reason::SubscriptionIdentifiersNotSupported,
                "a subscription identifier (3.2.2.3.12)",
            );
        }
        let is = |kind| subscribe.subscriptions.iter().any(|s| s.kind == kind);
        if is(Kind::Shared) {
            return Ended::closed(
                Reason::SharedSubscriptionsNotSupported,
                "a shared subscription (3.2.2.3.13)",
            );
        }
        if is(Kind::Wildcard) {
            return Ended::closed(
                Reason::WildcardSubscriptionsNotSupported,
                "a wildcard (3.2.2.3.11)",
            );
        }
        let reasons: Vec<_> =
            subscribe.subscriptions.iter().map(|s| self.subscribe_one(*s)).collect();
        self.connection.queue(write::suback(subscribe.id, &reasons));
        // Refuse unknown topics of the device itself, which a newer agent may have, but keep the
        // session.
        let own = Down::prefix(&self.device);
        let is_foreign = |s: &&Subscription<'_>| {
            s.filter
                .strip_prefix(&own)
                .is_none_or(|leaf| !leaf.bytes().all(|b| b.is_ascii_lowercase()))
        };
        if let Some(foreign) = subscribe.subscriptions.iter().find(is_foreign) {
            return Ended::closed(Reason::NotAuthorized, format!("subscribed {}", foreign.filter));
        }
        self.remember();
        self.look_into_the_mailbox().await?;
        self.deliver().await
    }

    fn subscribe_one(&mut self, subscription: Subscription<'_>) -> Reason {
        let Some(kind) = Down::of(subscription.filter, &self.device) else {
            return Reason::NotAuthorized;
        };
        self.subscriptions.set(kind, Some(subscription.qos.min(1)));
        if subscription.qos == 0 { Reason::Success } else { Reason::GrantedQos1 }
    }

    fn unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>) -> Result<(), Ended> {
        if unsubscribe.filters.len() > FILTERS_MAX {
            return Ended::closed(Reason::QuotaExceeded, "too many filters");
        }
        let mut reasons = Vec::new();
        for filter in &unsubscribe.filters {
            let known = Down::of(filter, &self.device)
                .is_some_and(|kind| self.subscriptions.set(kind, None).is_some());
            reasons.push(if known { Reason::Success } else { Reason::NoSubscriptionExisted });
        }
        self.connection.queue(write::unsuback(unsubscribe.id, &reasons));
        self.remember();
        Ok(())
    }

    async fn arrived(&mut self, handle: &Handle) -> Result<(), Ended> {
        let arrived = handle.mail.take();
        // Desired states may arrive in another order than they were committed.
        if let Some(desired) = arrived.desired
            && self.desired.as_ref().is_none_or(|waiting| waiting.generation < desired.generation)
        {
            self.desired = Some(desired);
        }
        self.commands |= arrived.commands;
        self.notice |= arrived.notice;
        self.challenge |= arrived.challenge;
        self.deliver().await
    }

    /// The next time at which something is due. One timer serves all; it is set again only when it
    /// fires.
    fn next_date(&self) -> Instant {
        (self.received_at + self.keep_alive).min(self.ask_at).min(self.certificate_ends)
    }

    async fn look_at_the_clock(&mut self, ready_at: Option<Instant>) -> Result<(), Ended> {
        let now = Instant::now();
        if self.certificate_ends <= now {
            return Ended::closed(Reason::NotAuthorized, "its certificate has expired");
        }
        if ready_at.is_some_and(|at| at > self.received_at + self.keep_alive) {
            // The server did not read, so the device has not missed its keep alive.
            self.received_at = now;
        }
        if self.received_at + self.keep_alive <= now {
            return Ended::closed(Reason::KeepAliveTimeout, "silent");
        }
        if self.ask_at <= now {
            self.ask_at = next_time();
            self.challenge = true;
            self.deliver().await?;
        }
        Ok(())
    }
}
