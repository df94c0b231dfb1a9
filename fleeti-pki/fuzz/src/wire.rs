//! Network input without signatures: MQTT packets, and JSON of devices and operators.

use fleeti_core::wire::mqtt::PACKET_MAX;
use fleeti_core::wire::packet::{self, Packet, write};
use fleeti_core::wire::{api, attestation, device, enrollment, trust, vault};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The bytes of a connection, packet by packet, as a session reads them.
pub fn packets(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some(length)) = packet::frame(rest, PACKET_MAX) {
        assert!((2..=PACKET_MAX).contains(&length));
        let (one, behind) = rest.split_at(length);
        assert_eq!(packet::frame(&one[..length - 1], PACKET_MAX), Ok(None), "less of it is not enough");
        match packet::read(one) {
            Ok(Packet::Publish(publish)) => {
                assert!((publish.id == 0) == (publish.qos == 0) && !publish.topic.is_empty());
                let id = (publish.qos > 0).then_some(publish.id);
                let written = write::publish(publish.topic, id, publish.is_duplicate, publish.payload);
                let expected = packet::Publish { qos: publish.qos.min(1), retain: false, ..publish };
                assert_eq!(packet::read(&written), Ok(Packet::Publish(expected)));
            }
            Ok(Packet::Subscribe(subscribe)) => assert!(subscribe.id > 0 && !subscribe.subscriptions.is_empty()),
            Ok(Packet::Unsubscribe(unsubscribe)) => assert!(unsubscribe.id > 0 && !unsubscribe.filters.is_empty()),
            Ok(Packet::PubAck { id, .. }) => assert!(id > 0),
            Ok(Packet::Connect(_) | Packet::PingReq | Packet::Disconnect { .. }) | Err(_) => {}
        }
        rest = behind;
    }
}

/// Parsed values can be encoded, and parse to the same values again.
fn again<T: Serialize + DeserializeOwned>(data: &[u8]) {
    if let Ok(read) = serde_json::from_slice::<T>(data) {
        let written = serde_json::to_vec(&read).expect("what was read can be written");
        let again: T = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(serde_json::to_vec(&again).ok().as_ref(), Some(&written));
    }
}

/// Bodies of requests and payloads of messages.
pub fn bodies(data: &[u8]) {
    assert!(device::longest_text(data) <= data.len());
    // From devices.
    again::<enrollment::EnrollRequest>(data);
    again::<enrollment::RenewRequest>(data);
    again::<enrollment::ProvedRenewRequest>(data);
    again::<enrollment::PairRequest>(data);
    again::<enrollment::PairWait>(data);
    again::<device::Report>(data);
    again::<device::Telemetry>(data);
    again::<device::Acknowledgement>(data);
    again::<attestation::TpmEnrollRequest>(data);
    again::<attestation::Evidence>(data);
    again::<vault::RecoveryKey>(data);
    again::<vault::FetchSecrets>(data);
    // From operators and automation.
    again::<api::Provision>(data);
    again::<api::ChangeBoot>(data);
    again::<api::Revoke>(data);
    again::<api::SignedBootProof>(data);
    again::<api::CreateEnrollment>(data);
    again::<api::Pair>(data);
    again::<api::CreateRollout>(data);
    again::<api::CreateCommand>(data);
    again::<api::Forgive>(data);
    again::<api::CreateBuild>(data);
    again::<trust::ImportBundle>(data);
    again::<trust::SwitchIssuer>(data);
    again::<trust::SignedBy>(data);
    again::<trust::RequestSignature>(data);
    again::<vault::SetSecret>(data);
    again::<vault::ShowRecoveryKey>(data);
    // From a server, read by an agent.
    again::<enrollment::EnrollmentRecord>(data);
    again::<device::DesiredState>(data);
    again::<device::Command>(data);
    again::<device::Notice>(data);
    again::<attestation::Challenge>(data);
    again::<vault::SecretsTicket>(data);
}
