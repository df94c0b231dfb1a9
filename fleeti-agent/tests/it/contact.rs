//! An image is kept only after the device has reached the server with it.

use crate::bench::Bench;
use fleeti_agent::boot::why_failed;
use fleeti_agent::health::{self, HealthRecord};
use fleeti_agent::privileged::{self, Helper};
use fleeti_core::update::RollbackReason;
use std::fs;

async fn with_helper(contact: &str) -> (Bench, Helper) {
    with_checks("[]", contact).await
}

async fn with_checks(checks: &str, contact: &str) -> (Bench, Helper) {
    let bench = Bench::new();
    let facts = format!(
        r#"{{"minimum_version":"1","hostname":"x","health_checks":{checks},"server_contact":{contact}}}"#
    );
    fs::write(bench.paths.lib.join("image.json"), facts).unwrap();
    let paths = bench.paths.clone();
    tokio::spawn(async move { privileged::serve(paths, None).await });
    while !bench.paths.socket().exists() {
        tokio::task::yield_now().await;
    }
    let helper = Helper::at(bench.paths.socket());
    (bench, helper)
}

#[tokio::test]
async fn a_boot_on_trial_is_not_kept_without_the_server_and_says_that_nothing_else_is_wrong() {
    let (bench, helper) = with_helper(r#"{"deadline_s":1}"#).await;
    assert!(
        health::run(&bench.paths, true).await.unwrap(),
        "a device that is not enrolled waits for an operator"
    );
    fs::write(bench.paths.state.join("device.pem"), "").unwrap();
    assert!(health::run(&bench.paths, false).await.unwrap(), "a kept version stays");
    assert!(!health::run(&bench.paths, true).await.unwrap());
    let why = why_failed(&bench.paths, "kiosk", &"1".parse().unwrap()).unwrap();
    let evidence = "the server was not reached in 1 s".to_owned();
    assert_eq!(why, Some(RollbackReason::ServerUnreachable { evidence }));
    helper.reached().await.unwrap();
    assert!(health::run(&bench.paths, true).await.unwrap());
}

#[tokio::test]
async fn a_profile_may_keep_an_image_without_the_server() {
    let (bench, _) = with_helper(r#"{"optional":true}"#).await;
    fs::write(bench.paths.state.join("device.pem"), "").unwrap();
    assert!(health::run(&bench.paths, true).await.unwrap());
}

#[tokio::test]
async fn every_failed_check_is_reported_and_their_weights_decide() {
    let file = |name: &str, weight: u32| {
        format!(r#"{{"name":"{name}","file":"/does/not/exist","timeout_s":1,"weight":{weight}}}"#)
    };
    for (weights, is_healthy) in [([40, 59], true), ([40, 60], false)] {
        let [first, second] = weights;
        let checks = format!("[{},{}]", file("a", first), file("b", second));
        let (bench, _) = with_checks(&checks, "{}").await;
        assert_eq!(health::run(&bench.paths, false).await.unwrap(), is_healthy);
        let record = HealthRecord::read(&bench.paths, &"1".parse().unwrap()).unwrap();
        let names = format!("\"a\" (weight {first}), \"b\" (weight {second})");
        assert!(record.detail.contains(&names), "{}", record.detail);
        assert_eq!(record.detail.starts_with("degraded"), is_healthy, "{}", record.detail);
        assert_eq!(record.healthy, is_healthy);
    }
}
