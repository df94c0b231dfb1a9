//! A POST request whose connection breaks is repeated with its key, and no other request is.

use crate::events::Scripted;
use fleeti_client::{Client, ClientError};
use fleeti_core::wire::problem::Code;

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn problem(code: &str, status: u16) -> String {
    let body = format!(
        "{{\"type\":\"urn:fleeti:problem:{code}\",\"status\":{status},\"detail\":\"because\"}}"
    );
    answer(&format!("{status} X"), &body)
}

const SUMMARY: &str = r#"{"asked":3}"#;

#[tokio::test]
async fn a_request_is_repeated_with_its_key_until_it_is_answered() {
    // Nothing; then half an answer; then it is still worked on.
    let half = "HTTP/1.1 200 X\r\ncontent-length: 11\r\n\r\n{\"ask".to_owned();
    let peer =
        Scripted::start(&["", &half, &problem("in_progress", 409), &answer("200 X", SUMMARY)]);
    let client = Client::new(&peer.url, "TOKEN").unwrap();
    assert_eq!(client.challenge_fleet(&"demo".parse().unwrap()).await.unwrap(), 3);
    let keys = peer.headers("idempotency-key: ");
    assert_eq!(keys.len(), 4);
    let key = keys[0].clone().unwrap();
    assert!(key.len() == 34 && key.starts_with('"') && key.ends_with('"'), "{key}");
    assert!(keys.iter().all(|other| other.as_ref() == Some(&key)), "{keys:?}");
}

#[tokio::test]
async fn a_refused_request_and_one_that_only_reads_are_not_repeated() {
    let peer = Scripted::start(&[&problem("conflict", 409), ""]);
    let client = Client::new(&peer.url, "TOKEN").unwrap();
    let refused = client.challenge_fleet(&"demo".parse().unwrap()).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Conflict));
    let broken = client.fleets().await.unwrap_err();
    assert!(matches!(broken, ClientError::Transport(_)), "{broken:?}");
    let keys = peer.headers("idempotency-key: ");
    assert!(keys.len() == 2 && keys[0].is_some() && keys[1].is_none(), "{keys:?}");
}

#[tokio::test]
async fn each_request_has_a_key_of_its_own_that_follows_from_a_chosen_one() {
    let two = [answer("200 X", SUMMARY), answer("200 X", SUMMARY)];
    let two = [two[0].as_str(), two[1].as_str()];
    for (chosen, expected) in [(None, None), (Some("job"), Some(["\"job\"", "\"job.2\""]))] {
        let peer = Scripted::start(&two);
        let client = Client::new(&peer.url, "TOKEN").unwrap();
        let client = chosen.map_or_else(|| client.clone(), |key| client.with_idempotency_key(key));
        for _ in 0..2 {
            client.challenge_fleet(&"demo".parse().unwrap()).await.unwrap();
        }
        let keys: Vec<_> = peer.headers("idempotency-key: ").into_iter().flatten().collect();
        assert_eq!(keys.len(), 2);
        assert_ne!(keys[0], keys[1]);
        assert!(expected.is_none_or(|expected| keys == expected), "{keys:?}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_not_asked_again() {
    let client = Client::new("http://127.0.0.1:1", "TOKEN").unwrap();
    let begun = std::time::Instant::now();
    let broken = client.challenge_fleet(&"demo".parse().unwrap()).await.unwrap_err();
    assert!(broken.hint().is_some_and(|hint| hint.contains("running")), "{broken:?}");
    assert!(begun.elapsed().as_millis() < 200);
}
