//! What a session sends: news for the device, and again what the device has not acknowledged.

use super::connection::Ended;
use super::session_state::Session;
use super::sessions::{InFlight, Sent};
use bytes::Bytes;
use fleeti_control::attestation::challenge;
use fleeti_control::releases::offers;
use fleeti_control::trust::notice;
use fleeti_control::{commands, devices, secrets};
use fleeti_core::wire::command::CommandKind;
use fleeti_core::wire::mqtt::Down;
use fleeti_core::wire::packet::write;
use fleeti_store::commands::Message;

impl Session<'_> {
    /// Reads from the database everything that was not pushed to this session.
    pub(super) async fn look_into_the_mailbox(&mut self) -> Result<(), Ended> {
        if !std::mem::replace(&mut self.knows_desired, false) {
            self.desired =
                Some(Box::new(devices::desired(&self.gateway.control, &self.device).await?));
        }
        self.commands = true;
        self.notice = true;
        // Request evidence once at the start of a session, not again when the device subscribes
        // again.
        self.challenge |= !std::mem::replace(&mut self.was_asked, true);
        Ok(())
    }

    /// Resends, in their order, messages that an earlier connection sent and the device did not
    /// acknowledge (MQTT-4.4.0-1, MQTT-4.6.0-1).
    pub(super) fn redeliver(&mut self) {
        for message in std::mem::take(&mut self.window.in_flight) {
            let topic = message.kind.topic(&self.device);
            match &message.sent {
                Sent::Generation(generation) => self.sent_generation = Some(*generation),
                Sent::Command(id) => drop(self.sent_commands.insert(id.clone())),
                Sent::Other => {}
            }
            if self.connection.queue(write::publish(
                &topic,
                Some(message.id),
                true,
                &message.payload,
            )) {
                self.window.in_flight.push(message);
            }
        }
    }

    /// Sends news that was not sent in this session yet.
    pub(super) async fn deliver(&mut self) -> Result<(), Ended> {
        self.is_waiting_for_room = false;
        if self.may_send(Down::Desired, self.desired.is_some())
            && let Some(desired) = self.desired.take()
            && self.sent_generation.is_none_or(|sent| sent < desired.generation)
        {
            // Its release may have been revoked while it waited here.
            let desired = offers::permitted(&self.gateway.control, *desired);
            self.sent_generation = Some(desired.generation);
            self.send(
                Down::Desired,
                serde_json::to_vec(&desired)?.into(),
                Sent::Generation(desired.generation),
            );
        }
        if self.may_send(Down::Notice, self.notice) {
            self.notice = false;
            let notice = notice::current(&self.gateway.control);
            self.send(Down::Notice, notice, Sent::Other);
        }
        self.deliver_challenge().await?;
        if self.may_send(Down::Secrets, self.has_proved) {
            self.has_proved = false;
            if let Some(ticket) = secrets::ticket(&self.gateway.control, &self.device).await? {
                self.send(Down::Secrets, serde_json::to_vec(&ticket)?.into(), Sent::Other);
            }
        }
        if self.deliver_commands().await? {
            // The command is answered with the evidence for this challenge.
            self.challenge = true;
            self.deliver_challenge().await?;
        }
        Ok(())
    }

    async fn deliver_challenge(&mut self) -> Result<(), Ended> {
        if self.may_send(Down::Challenge, self.challenge) {
            self.challenge = false;
            if let Some((asked, challenge)) =
                challenge::ask(&self.gateway.control, &self.device, self.firmware_log.as_deref())
                    .await?
            {
                self.asked = Some(asked);
                self.send(Down::Challenge, serde_json::to_vec(&challenge)?.into(), Sent::Other);
            }
        }
        Ok(())
    }

    /// Sends commands, and cancellations of commands. Whether one of them needs a challenge.
    async fn deliver_commands(&mut self) -> Result<bool, Ended> {
        let mut needs_challenge = false;
        if !self.may_send(Down::Command, self.commands) {
            return Ok(needs_challenge);
        }
        self.commands = false;
        for message in commands::pending(&self.gateway.control, &self.device).await? {
            if !self.may_send(Down::Command, true) {
                self.commands = true;
                break;
            }
            let (id, payload) = match message {
                Message::Command(command) => {
                    let payload = serde_json::to_vec(&command)?;
                    if !self.sent_commands.contains(&command.id) {
                        needs_challenge |= command.kind == CommandKind::Attest;
                    }
                    (command.id, payload)
                }
                Message::Cancellation(cancellation) => {
                    let payload = serde_json::to_vec(&cancellation)?;
                    // No id has a space: the command itself is another message.
                    (format!("cancel {}", cancellation.cancel), payload)
                }
            };
            if self.sent_commands.insert(id.clone()) {
                self.send(Down::Command, payload.into(), Sent::Command(id));
            }
            if self.connection.is_full() {
                self.connection.flush().await?;
            }
        }
        Ok(needs_challenge)
    }

    /// Whether a waiting message can be sent: the device has subscribed its topic, and the window
    /// of unacknowledged messages has room.
    fn may_send(&mut self, kind: Down, waits: bool) -> bool {
        let Some(qos) = self.subscriptions.get(kind).filter(|_| waits) else { return false };
        let has_room = qos == 0 || self.window.in_flight.len() < self.receive_max;
        self.is_waiting_for_room |= !has_room;
        has_room
    }

    fn send(&mut self, kind: Down, payload: Bytes, sent: Sent) {
        let topic = kind.topic(&self.device);
        if self.subscriptions.get(kind) == Some(0) {
            self.connection.queue(write::publish(&topic, None, false, &payload));
            return;
        }
        let id = self.window.free();
        if self.connection.queue(write::publish(&topic, Some(id), false, &payload)) {
            self.window.in_flight.push(InFlight { id, kind, payload, sent });
        }
    }
}
