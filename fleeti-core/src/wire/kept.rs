//! The messages between devices and server as the previous release wrote them
//! (`compat/messages.json`), read as agents and servers read them today.

use crate::strict;
use crate::wire::attestation::{
    Challenge, Evidence, TpmEnrollRequest, TpmIdentity, TpmProof, TpmSecret,
};
use crate::wire::boot::{BootChange, BootSignatures};
use crate::wire::command::{Acknowledgement, Cancellation, Command};
use crate::wire::device::{
    DesiredState, LogConsistency, Notice, ReleaseProof, Report, SignedBundle, Telemetry,
};
use crate::wire::enrollment::{
    EnrollRequest, EnrollResponse, EnrollmentRecord, PairRequest, PairResponse, PairWait,
    PairWaited, ProvedRenewRequest, RenewRequest, RenewResponse,
};
use crate::wire::mqtt::{Down, Up};
use crate::wire::problem::Problem;
use crate::wire::readmission::{ReadmitRequest, SignedTransition};
use crate::wire::vault::{FetchSecrets, RecoveryKey, Secrets, SecretsTicket};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;

/// Topics that are new since the previous release, such as `down/colour`.
const NEW: &[&str] = &[];

const KEPT: &str = include_str!("../../../compat/messages.json");

/// Reads a message and writes it again.
type Again = fn(&[u8]) -> Result<Value, String>;

/// A message whose reader passes fields that it does not know.
fn lenient<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<Value, String> {
    written(&strict::from_slice::<T>(bytes).map_err(|e| e.to_string())?)
}

/// The body of a request, whose reader refuses fields that it does not know.
fn request<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<Value, String> {
    written(&strict::from_request::<T>(bytes).map_err(|e| e.to_string())?)
}

fn desired(bytes: &[u8]) -> Result<Value, String> {
    written(&DesiredState::parse(bytes).map_err(|e| e.to_string())?)
}

fn written<T: Serialize>(message: &T) -> Result<Value, String> {
    serde_json::to_value(message).map_err(|e| e.to_string())
}

/// Name of each message, and how it is read.
const READERS: &[(&str, Again)] = &[
    ("down/desired", desired),
    ("down/command", lenient::<Command>),
    ("down/command, cancel", lenient::<Cancellation>),
    ("down/notice", lenient::<Notice>),
    ("down/challenge", lenient::<Challenge>),
    ("down/secrets", lenient::<SecretsTicket>),
    ("up/report", lenient::<Report>),
    ("up/ack", lenient::<Acknowledgement>),
    ("up/telemetry", lenient::<Telemetry>),
    ("up/evidence", lenient::<Evidence>),
    ("POST /enroll", request::<EnrollRequest>),
    ("POST /enroll, response", lenient::<EnrollResponse>),
    ("POST /enroll/tpm", request::<TpmEnrollRequest>),
    ("POST /tpm", request::<TpmIdentity>),
    ("POST /tpm, response", lenient::<TpmSecret>),
    ("POST /tpm/proved", request::<TpmProof>),
    ("POST /renew", request::<RenewRequest>),
    ("POST /renew, response", lenient::<RenewResponse>),
    ("POST /renew/proved", request::<ProvedRenewRequest>),
    ("POST /renew/readmitted", request::<ReadmitRequest>),
    ("POST /pair", request::<PairRequest>),
    ("POST /pair, response", lenient::<PairResponse>),
    ("POST /pair/wait", request::<PairWait>),
    ("POST /pair/wait, response", lenient::<PairWaited>),
    ("PUT /recovery-key", request::<RecoveryKey>),
    ("POST /secrets", request::<FetchSecrets>),
    ("POST /secrets, response", lenient::<Secrets>),
    ("GET /trust-bundle.json, response", lenient::<SignedBundle>),
    ("GET /transitions.json, response", lenient::<Vec<SignedTransition>>),
    ("GET /log/consistency.json, response", lenient::<LogConsistency>),
    ("GET /releases/{line}/{version}/proof.json, response", lenient::<ReleaseProof>),
    ("GET /releases/{line}/{version}/boot.json, response", lenient::<BootSignatures>),
    ("GET /boot/change.json, response", lenient::<BootChange>),
    ("enrollment record", lenient::<EnrollmentRecord>),
    ("a refusal", lenient::<Problem>),
];

fn kept() -> Vec<(String, Value)> {
    let all: Vec<Value> = strict::from_slice(KEPT.as_bytes()).unwrap();
    let pair = |one: Value| (one["message"].as_str().unwrap().to_owned(), one["payload"].clone());
    all.into_iter().map(pair).collect()
}

/// What is in `old` and not, or otherwise, in `new`. An absent field is as good as null.
fn lost(at: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, value) in old.iter().filter(|(_, value)| !value.is_null()) {
                let again = new.get(name).unwrap_or(&Value::Null);
                lost(&format!("{at}.{name}"), value, again, found);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (number, (old, new)) in old.iter().zip(new).enumerate() {
                lost(&format!("{at}[{number}]"), old, new, found);
            }
        }
        (old, new) if old == new => {}
        (old, new) => found.push(format!("{at}: {old} became {new}")),
    }
}

#[test]
fn messages_of_the_previous_release_are_read_and_lose_no_field() {
    let mut wrong = Vec::new();
    for (name, payload) in kept() {
        let (_, again) = READERS.iter().find(|(known, _)| *known == name).unwrap();
        match again(payload.to_string().as_bytes()) {
            Ok(new) => lost(&name, &payload, &new, &mut wrong),
            Err(e) => wrong.push(format!("{name}: {e}: {payload}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A server of the previous release refuses a field that it does not know: a new one must be absent
/// unless the device needs it.
#[test]
fn a_request_has_no_field_that_a_server_of_the_previous_release_refuses() {
    for (name, payload) in kept() {
        let is_request =
            (name.starts_with("POST ") || name.starts_with("PUT ")) && !name.contains("response");
        if is_request {
            let (_, again) = READERS.iter().find(|(known, _)| *known == name).unwrap();
            assert_eq!(again(payload.to_string().as_bytes()).unwrap(), payload, "{name}");
        }
    }
}

#[test]
fn every_topic_and_every_reader_has_a_kept_message() {
    let kept: BTreeSet<String> = kept().into_iter().map(|(name, _)| name).collect();
    let readers: BTreeSet<String> = READERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(kept, readers);
    let up = Up::ALL.map(|kind| format!("up/{}", kind.name()));
    let down = Down::ALL.map(|kind| format!("down/{}", kind.name()));
    for topic in up.iter().chain(&down) {
        assert!(kept.contains(topic) || NEW.contains(&topic.as_str()), "{topic}");
    }
}

#[test]
fn a_lost_a_renamed_and_a_changed_field_are_named() {
    let old = serde_json::json!({"a": 1, "b": [{"c": "x"}], "d": null});
    let named = |new: &Value| {
        let mut found = Vec::new();
        lost("m", &old, new, &mut found);
        found
    };
    assert!(named(&serde_json::json!({"a": 1, "b": [{"c": "x", "more": 1}], "e": 2})).is_empty());
    assert_eq!(named(&serde_json::json!({"b": [{"c": "x"}]})), ["m.a: 1 became null"]);
    assert_eq!(
        named(&serde_json::json!({"a": 1, "b": [{"k": "x"}]})),
        ["m.b[0].c: \"x\" became null"]
    );
    assert_eq!(named(&serde_json::json!({"a": 1, "b": []})), ["m.b: [{\"c\":\"x\"}] became []"]);
}
