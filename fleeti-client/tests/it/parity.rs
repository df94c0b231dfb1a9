//! Every operation of the OpenAPI document has a method, which sends the request of the document.

use fleeti_client::{Client, ClientError};
use fleeti_core::wire::problem::{Code, Problem};
use fleeti_core::wire::vault::ShowRecoveryKey;
use fleeti_testkit::malformed::HttpPeer;
use fleeti_testkit::operations::{documented, fits};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

type Call = BoxFuture<'static, Result<(), ClientError>>;

fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn id<T: std::str::FromStr>(text: &str) -> T {
    text.parse().ok().unwrap()
}

macro_rules! rows {
    ($client:ident; $($operation:literal => $call:expr,)*) => {
        vec![$(($operation, {
            let $client = $client.clone();
            async move { $call.await.map(drop) }.boxed()
        })),*]
    };
}

fn devices(c: &Client) -> Vec<(&'static str, Call)> {
    rows![c;
        "list_devices" => c.devices(),
        "get_device" => c.device(&id("d")),
        "get_certificate" => c.certificate(&id("d")),
        "revoke_device" => c.revoke_device(&id("d"), of(json!("unspecified"))),
        "release_hold" => c.release_hold(&id("d")),
        "forgive_device" => c.forgive_device(&id("d"), &id("2")),
        "change_boot" => c.change_boot(&id("d"), &of(json!({"change": {"type": "begin_epoch"}}))),
        "get_why" => c.why(&id("d")),
        "order_updates" => c.order_updates(&id("d"), &of(json!({"type": "unhold"}))),
        "create_command" =>
            c.create_command(&id("d"), &of(json!({"kind": {"type": "report"}, "valid_s": 60}))),
        "get_command" => c.command("c"),
        "list_commands" => c.commands(&id("d")),
        "cancel_command" => c.cancel_command("c"),
        "get_command_result" => c.command_result("c"),
        "list_fleets" => c.fleets(),
        "get_channel" => c.channel(&id("f")),
        "get_fixes" => c.fixes(&id("f")),
        "pin_fleet" => c.pin_fleet(&id("f"), &of(json!({"reason": "r"}))),
        "find_package" => c.package_devices(&id("openssl<4"), "", 5),
        "create_enrollment" => c.create_enrollment(&id("f"), 60),
        "provision_device" => c.provision(&id("f"), &of(json!({"valid_s": 60}))),
        "get_record_without_token" => c.enrollment_record(),
        "enter_code" => c.pair(&of(json!({"code": "C", "fleet": "f"}))),
        "readmit_fleet" => c.readmit(&id("f"), &of(json!({"reason": "r", "valid_s": 60}))),
        "get_recovery_key" => c.recovery_key(&id("d")),
        "show_recovery_key" => c.show_recovery_key(&id("d"), &of::<ShowRecoveryKey>(json!({"reason": "r"}))),
        "list_secrets" => c.secrets(&id("f")),
        "set_secret" => c.set_secret(&id("f"), &id("s"), b"value"),
        "remove_secret" => c.remove_secret(&id("f"), &id("s")),
        "get_attestation" => c.attestation(&id("d")),
        "get_ear" => c.ear(&id("d")),
        "get_policy" => c.attestation_policy(&id("f")),
        "set_policy" => c.set_attestation_policy(&id("f"), &of(json!({}))),
        "challenge" => c.challenge_device(&id("d")),
        "challenge_fleet" => c.challenge_fleet(&id("f")),
        "accept_firmware" => c.accept_firmware(&id("d")),
        "list_manufacturers" => c.tpm_manufacturers(),
        "add_manufacturers" =>
            c.add_tpm_manufacturers(&of(json!({"kind": "virtual", "file": "AA=="}))),
        "remove_manufacturer" => c.remove_tpm_manufacturer("00"),
    ]
}

fn labels(c: &Client) -> Vec<(&'static str, Call)> {
    let change = json!({"filter": "a=b", "change": {"type": "unlabel", "key": "a"}});
    let rows = json!({"rows": [{"line": 2, "device": "d"}]});
    rows![c;
        "list_label_keys" => c.label_keys(),
        "declare_label_key" => c.declare_label_key(&id("site"), of(json!({"type": "text"}))),
        "remove_label_key" => c.remove_label_key(&id("site")),
        "describe_device" => c.describe_device(&id("d"), &of(json!({"name": "n"}))),
        "change_labels" => c.change_labels(&id("d"), &of(json!({"remove": ["site"]}))),
        "import_labels" => c.import_labels(&of(rows)),
        "change_devices" => c.change_devices(&of(change)),
        "replace_device" => c.replace_device(&id("d"), &id("e")),
        "list_views" => c.views(),
        "get_view" => c.view(&id("v")),
        "save_view" => c.save_view(&id("v"), "a=b"),
        "remove_view" => c.remove_view(&id("v")),
    ]
}

fn releases(c: &Client) -> Vec<(&'static str, Call)> {
    let profile = json!({"schema": 1, "name": "web", "architecture": "x86_64"});
    let build = json!({"profile": profile.clone(), "version": "1"});
    let by = json!({"key_id": "k", "signature": "s"});
    let ask = json!({"intent": "i", "by": by.clone()});
    rows![c;
        "list_profiles" => c.profiles(),
        "save_profile" => c.save_profile(&of(profile)),
        "save_document" => c.save_profile_text("t"),
        "check_document" => c.check_profile_text("t"),
        "list_library" => c.profile_library(),
        "search_packages" => c.search_packages("nginx", 5),
        "get_changes" => c.profile_changes(&id("web"), 1, 2),
        "list_revisions" => c.revisions(&id("web")),
        "get_revision" => c.revision(&id("web"), 1),
        "get_refresh_schedule" => c.refresh_schedule(&id("web")),
        "set_refresh_schedule" =>
            c.set_refresh_schedule(&id("web"), &"sat 02:00-05:00".parse().unwrap()),
        "remove_refresh_schedule" => c.remove_refresh_schedule(&id("web")),
        "list_builds" => c.builds(),
        "create_build" => c.create_build(&of(build)),
        "get_build" => c.build("b"),
        "sign_build" => c.sign_build("b"),
        "get_record" => c.build_record("b"),
        "get_signature" => c.signature("b"),
        "request_signature" => c.request_signature("b", &of(ask)),
        "approve_signature" => c.approve_signature("b", &of(by)),
        "list_releases" => c.releases(),
        "get_release" => c.release(&id("web@1")),
        "publish_release" => c.publish(&id("web@1")),
        "prove_release" => c.prove_release(&id("web@1"), &of(json!({"proof": "p", "signatures": []}))),
        "revoke_release" => c.revoke_release(&id("web@1")),
        "get_release_evidence" => c.release_evidence(&id("web@1")),
        "get_release_path" => c.release_path(&id("web@1")),
        "set_release_path" => c.set_release_path(&id("web@1"), &of(json!({"blocked": []}))),
        "get_file" => c.release_file(&id("web@1"), "manifest.json"),
        "upload_file" =>
            c.upload(&id("web@1"), "raw/web_1.efi", Path::new("Cargo.toml")),
        "list_rollouts" => c.rollouts(),
        "start_rollout" => c.start_rollout(&of(json!({"release": "web@1", "fleet": "f"}))),
        "plan_rollout" => c.plan_rollout(&of(json!({"release": "web@1", "fleet": "f"}))),
        "supersede_rollout" =>
            c.supersede_rollout("r", &of(json!({"release": "web@1", "fleet": "f"}))),
        "roll_back_rollout" => c.roll_back_rollout("r", "because"),
        "get_rollout" => c.rollout("r"),
        "pause_rollout" => c.pause_rollout("r"),
        "pause_all_rollouts" => c.pause_all_rollouts("because"),
        "resume_rollout" => c.resume_rollout("r"),
        "begin_wave" => c.next_wave("r", "reason"),
        "abort_rollout" => c.abort_rollout("r"),
        "events" => c.events(),
    ]
}

fn administration(c: &Client) -> Vec<(&'static str, Call)> {
    let bundle = json!({"bundle": {"bundle": "b", "signature": "s"}, "transcript": "t", "transcript_signature": "s"});
    let transition = json!({"transition": "t", "signatures": []});
    let ask = json!({"act": {"type": "set_policy", "policy": {}}, "reason": "r"});
    rows![c;
        "get_trust" => c.trust(),
        "get_diagnosis" => c.doctor(),
        "import_bundle" => c.import_bundle(&of(bundle)),
        "switch_issuer" =>
            c.switch_issuer(&of(json!({"purpose": "device", "certificate_sha256": "00"}))),
        "list_transitions" => c.transitions(),
        "import_transition" => c.import_transition(&of(transition)),
        "list_workers" => c.workers(),
        "add_worker" => c.add_worker(&id("w")),
        "remove_worker" => c.remove_worker(&id("w")),
        "list_entries" => c.audit_entries(0),
        "get_proof" => c.audit_proof(0),
        "get_checkpoint" => c.audit_checkpoint(),
        "get_consistency" => c.audit_consistency(1, 2),
        "get_me" => c.me(),
        "list_sessions" => c.sessions(),
        "end_session" => c.end_session("s"),
        "list_passkeys" => c.passkeys(),
        "remove_passkey" => c.remove_passkey("p"),
        "list_tokens" => c.tokens(),
        "create_token" => c.create_token(&of(json!({"label": "l", "valid_s": 60}))),
        "remove_token" => c.remove_token("t"),
        "list_accounts" => c.accounts(),
        "add_account" => c.add_account(&of(json!({"name": "a", "kind": "service"}))),
        "get_account" => c.account(&id("a")),
        "grant_role" => c.grant_role(&id("a"), &of(json!({"role": "viewer"}))),
        "remove_role" => c.remove_role(&id("a"), &of(json!({"role": "viewer"}))),
        "disable_account" => c.disable_account(&id("a")),
        "enable_account" => c.enable_account(&id("a")),
        "offboard_account" => c.offboard_account(&id("a")),
        "create_link" => c.create_link(&id("a")),
        "list_account_sessions" => c.sessions_of(&id("a")),
        "end_account_sessions" => c.end_sessions_of(&id("a")),
        "end_account_session" => c.end_session_of(&id("a"), "s"),
        "list_approvals" => c.approvals(),
        "request_approval" => c.request_approval(&of(ask)),
        "get_approval" => c.approval("x"),
        "approve_act" => c.approve_act("x", ""),
        "deny_act" => c.deny_act("x", ""),
        "collect_recovery_key" => c.collect_recovery_key("x"),
        "get_approval_policy" => c.approval_policy(),
        "set_approval_policy" => c.set_approval_policy(&of(json!({}))),
        "livez" => c.livez(),
        "healthz" => c.healthz(),
        "readyz" => c.readyz(),
        "metrics" => c.metrics(),
        "crl" => c.crl("00"),
        "document" => c.document(),
    ]
}

fn alerts(c: &Client) -> Vec<(&'static str, Call)> {
    let rule = json!({"kind": "disk", "threshold": 80, "severity": "info", "enabled": true});
    let silence = json!({"valid_s": 60, "reason": "r"});
    let receiver = json!({"address": "ops@ops.example", "severity": "info"});
    let webhook = json!({"url": "https://ops.example/", "events": ["alerts.raised"]});
    rows![c;
        "list_alerts" => c.alerts(&of(json!({"fleet": "f"}))),
        "get_alert" => c.alert("a"),
        "acknowledge_alert" => c.acknowledge_alert("a", "note"),
        "list_rules" => c.alert_rules(),
        "get_rule" => c.alert_rule("disk"),
        "set_rule" => c.set_alert_rule("disk", &of(rule)),
        "remove_rule" => c.remove_alert_rule("disk"),
        "list_silences" => c.silences(),
        "add_silence" => c.add_silence(&of(silence)),
        "remove_silence" => c.remove_silence("s"),
        "list_webhooks" => c.webhooks(),
        "add_webhook" => c.add_webhook(&of(webhook)),
        "remove_webhook" => c.remove_webhook("h"),
        "test_webhook" => c.test_webhook("h"),
        "list_deliveries" => c.deliveries("h"),
        "list_receivers" => c.email_receivers(),
        "add_receiver" => c.add_email_receiver(&of(receiver)),
        "remove_receiver" => c.remove_email_receiver("m"),
        "enable_receiver" => c.enable_email_receiver("m"),
        "disable_receiver" => c.disable_email_receiver("m"),
        "test_receiver" => c.test_email_receiver("m"),
        "list_emails" => c.emails("m"),
        "get_drift" => c.drift(&id("d")),
        "get_history" => c.history(&id("d"), &of(json!({"from_s": 1}))),
    ]
}

fn refusing() -> HttpPeer {
    let peer = HttpPeer::start().unwrap();
    let problem = Problem {
        kind: "urn:fleeti:problem:conflict".into(),
        status: 409,
        detail: "recorded".into(),
        hint: None,
        errors: vec![],
    };
    peer.answers(409, &serde_json::to_string(&problem).unwrap());
    peer
}

#[tokio::test]
async fn every_operation_of_the_document_has_a_method_that_sends_its_request() {
    let peer = refusing();
    let client = Client::new(&peer.url, "TOKEN").unwrap();
    let mut rows = devices(&client);
    rows.extend(labels(&client));
    rows.extend(releases(&client));
    rows.extend(administration(&client));
    rows.extend(alerts(&client));
    let documented = documented();
    let have: BTreeSet<&str> = rows.iter().map(|(operation, _)| *operation).collect();
    let wanted: BTreeSet<&str> = documented.keys().map(String::as_str).collect();
    assert_eq!(have, wanted, "left: rows of this test; right: operations of the document");
    for (operation, call) in rows {
        drop(peer.requests());
        let refused = call.await.expect_err(operation);
        assert_eq!(refused.code(), Some(Code::Conflict), "{operation}: {refused:?}");
        let requests = peer.requests();
        assert!(
            requests.iter().any(|line| fits(line, &documented[operation])),
            "{operation}: {requests:?}, documented: {}",
            documented[operation]
        );
    }
}

#[tokio::test]
async fn a_stream_reads_a_page_when_it_is_needed_and_ends_with_the_first_error() {
    let peer = refusing();
    let client = Client::new(&peer.url, "TOKEN").unwrap();
    let mut devices = std::pin::pin!(client.device_stream(Some(id("f"))));
    assert!(peer.requests().is_empty());
    assert_eq!(devices.try_next().await.unwrap_err().code(), Some(Code::Conflict));
    assert!(devices.next().await.is_none());
    assert_eq!(peer.requests(), ["GET /api/v1/devices?limit=500&fleet=f HTTP/1.1"]);
    peer.answers(200, r#"{"lines":[]}"#);
    assert!(client.audit_stream(7).try_collect::<Vec<_>>().await.unwrap().is_empty());
    assert_eq!(peer.requests(), ["GET /api/v1/audit/entries?from=7 HTTP/1.1"]);
}

#[tokio::test]
async fn a_path_that_would_be_another_host_is_refused() {
    let peer = refusing();
    let client = Client::new(&peer.url, "TOKEN").unwrap();
    for path in ["", ".example", "@example/", "1/x"] {
        let refused = client.call("GET", path, fleeti_client::Content::Nothing).await.unwrap_err();
        assert!(matches!(refused, ClientError::Path(_)), "{path}: {refused:?}");
    }
    assert!(peer.requests().is_empty());
}
