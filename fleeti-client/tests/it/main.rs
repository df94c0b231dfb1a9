//! Responses that do not have the documented form: the client reports each as an error and uses
//! nothing of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::too_many_lines, reason = "a scenario or a table is read from its beginning")]

mod events;
mod idempotency;
mod parity;

use fleeti_client::{Client, ClientError, WorkerClient};
use fleeti_core::wire::api::{Event, Fleet, Rollout, SignedBy};
use fleeti_core::wire::audit::AuditProof;
use fleeti_core::wire::enrollment::EnrollmentRecord;
use fleeti_core::wire::problem::{FieldError, Problem};
use fleeti_core::wire::worker::Job;
use fleeti_testkit::malformed::{self, HttpPeer};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::json;

/// Larger than any response may be.
const TOO_LONG: u64 = (256 << 20) + 1;

/// A call, and its documented response.
struct Row {
    route: &'static str,
    good: String,
    call: Box<dyn Fn() -> BoxFuture<'static, Result<(), ClientError>>>,
}

/// A document with its fields in the order of the type.
fn documented<T: serde::Serialize + serde::de::DeserializeOwned>(
    value: serde_json::Value,
) -> String {
    serde_json::to_string(&serde_json::from_value::<T>(value).unwrap()).unwrap()
}

fn rows(url: &str) -> Vec<Row> {
    let client = Client::new(url, "TOKEN").unwrap();
    let worker = WorkerClient::new(url, "TOKEN", None).unwrap();
    macro_rules! row {
        ($route:literal, $of:ident, $good:expr, |$c:ident| $call:expr) => {{
            let made = $of.clone();
            let call = Box::new(move || {
                let $c = made.clone();
                async move { $call.await.map(drop) }.boxed()
            });
            Row { route: $route, good: $good, call }
        }};
    }
    let rollout = json!({"id": "r", "fleet": "demo", "created_s": 1, "release": "kiosk@2", "phase": "running", "next": "dev-b",
        "counts": {"total": 2, "succeeded": 0, "failed": 2, "moving": 0, "unconfirmed": 0}, "devices": [
        {"device": "dev-a", "phase": {"type": "rolled_back", "reason": {"type": "health", "evidence": "x"}}, "since_s": 1},
        {"device": "dev-b", "phase": {"type": "failed", "code": "wrong_image"}, "since_s": 2}]});
    let profile = json!({"schema": 1, "name": "kiosk", "architecture": "x86_64"});
    let job = json!({"build": "b", "revision": 1, "request": {"profile": profile, "version": "2"}, "trust": {"root.pem": "AA=="}, "log_size": 0});
    let proof = json!({"entry": "{}", "hashes": ["AA=="], "checkpoint": "c"});
    let record = json!({"https_url": "https://a", "mqtt_address": "a:1", "root_sha256": "0", "token": "t", "proxy": "http://p:1"});
    vec![
        row!(
            "fleets",
            client,
            documented::<Vec<Fleet>>(json!([{"name": "demo", "devices": 1, "revoked": 0}])),
            |c| c.fleets()
        ),
        row!("rollouts/r", client, documented::<Rollout>(rollout), |c| c.rollout("r")),
        row!("audit/entries/0/proof", client, documented::<AuditProof>(proof), |c| c
            .audit_proof(0)),
        row!("enrollment-record", client, documented::<EnrollmentRecord>(record), |c| c
            .enrollment_record()),
        row!("claim", worker, documented::<Job>(job), |c| c.claim("lease")),
    ]
}

#[tokio::test]
async fn an_answer_in_no_documented_form_is_an_error_and_is_not_used() {
    let peer = HttpPeer::start().unwrap();
    for Row { route, good, call } in rows(&peer.url) {
        peer.answers(200, &good);
        call().await.unwrap_or_else(|e| panic!("{route}: {good}: {e}"));
        for form in malformed::forms(&good).unwrap() {
            peer.answers(200, &form.text);
            let refused =
                call().await.expect_err(&format!("{route}: {}: {}", form.what, form.text));
            assert!(
                matches!(refused, ClientError::Answer(_)),
                "{route}: {}: {refused:?}",
                form.what
            );
            assert!(
                refused
                    .to_string()
                    .starts_with("the server's response does not have the documented form: "),
                "{refused}"
            );
            assert!(refused.hint().unwrap().contains("version"));
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read_to_its_end() {
    let peer = HttpPeer::start().unwrap();
    let too_large = |e: ClientError| {
        assert!(matches!(e, ClientError::TooLarge(_)) && e.to_string().contains("bytes"), "{e:?}")
    };
    // The declared length is sufficient for the error: no body follows.
    peer.answers_bytes(
        format!("HTTP/1.1 200 OK\r\ncontent-length: {TOO_LONG}\r\n\r\n").into_bytes(),
    );
    for Row { call, .. } in rows(&peer.url) {
        too_large(call().await.unwrap_err());
    }
    let client = Client::new(&peer.url, "TOKEN").unwrap();
    too_large(client.audit_checkpoint().await.unwrap_err());
    too_large(client.build_record("b").await.unwrap_err());
    // A refusal with an endless body is reported by its status alone.
    let body = vec![b' '; (1 << 20) + 1];
    peer.answers_bytes([&b"HTTP/1.1 403 Forbidden\r\n\r\n"[..], &body].concat());
    let refused = client.fleets().await.unwrap_err();
    assert!(
        matches!(&refused, ClientError::Refused(p) if p.status == 403 && p.detail.contains("403")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_refusal_in_no_documented_form_is_known_by_its_status_alone() {
    let peer = HttpPeer::start().unwrap();
    let client = Client::new(&peer.url, "TOKEN").unwrap();
    let errors = vec![FieldError {
        path: "a".into(),
        message: "b".into(),
        remedy: "c".into(),
        suggestion: None,
    }];
    let problem = Problem {
        kind: "urn:fleeti:problem:invalid".into(),
        status: 422,
        detail: "d".into(),
        hint: None,
        errors,
    };
    let good = serde_json::to_string(&problem).unwrap();
    peer.answers(422, &good);
    let by = SignedBy { key_id: String::new(), signature: String::new() };
    let said = client.approve_signature("b", &by).await.unwrap_err();
    assert!(matches!(&said, ClientError::Refused(p) if *p == problem), "{said:?}");
    for form in malformed::forms(&good).unwrap() {
        peer.answers(422, &form.text);
        let said = client.approve_signature("b", &by).await.unwrap_err();
        let is_status_alone = matches!(&said, ClientError::Refused(p) if p.detail == "the server answered 422 Unprocessable Entity");
        assert!(is_status_alone, "{}: {said:?}", form.what);
    }
}

/// An event only says that something changed. An unreadable one means that anything may have
/// changed.
#[tokio::test]
async fn an_event_in_no_documented_form_is_none_and_a_line_without_end_is_an_error() {
    let peer = HttpPeer::start().unwrap();
    let client = Client::new(&peer.url, "TOKEN").unwrap();
    let stream =
        |lines: &str| peer.answers_bytes(format!("HTTP/1.1 200 OK\r\n\r\n{lines}").into_bytes());
    let good = serde_json::to_string(&Event::Rollout { id: "r".into() }).unwrap();
    stream(&format!(": welcome\n\ndata: {good}\n\n"));
    let mut events = client.events().await.unwrap();
    assert_eq!(events.next().await.unwrap(), Some(Event::Rollout { id: "r".into() }));
    assert!(matches!(events.next().await, Err(ClientError::StreamEnded)));
    for form in malformed::forms(&good)
        .unwrap()
        .into_iter()
        .filter(|f| !f.text.is_empty() && !f.text.contains('\n'))
    {
        stream(&format!("data: {}\n\n", form.text));
        assert_eq!(client.events().await.unwrap().next().await.unwrap(), None, "{}", form.what);
    }
    stream(&format!("data: {}", "x".repeat(1 << 20)));
    let refused = client.events().await.unwrap().next().await.unwrap_err();
    assert!(matches!(refused, ClientError::TooLarge(_)), "{refused:?}");
}
