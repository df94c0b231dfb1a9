//! The examination of a server: by its API, on its machine, and after months without anybody.

use crate::dead_signer::{is_served, then};
use crate::lifetimes;
use crate::process::start_with;
use crate::world::{TestDevice, World, write_keys};
use fleeti_control::doctor;
use fleeti_control::trust::upkeep;
use fleeti_core::doctor::{DAY_S, Stage, stage};
use fleeti_core::wire::doctor::{CheckResult, Diagnosis, EndingKind, Examined};
use fleeti_core::wire::enrollment::RenewResponse;
use fleeti_pki::signer::{Algorithm, SoftKey};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::Ordering;

/// The result of the check with this name.
fn result(found: &Diagnosis, name: &str) -> CheckResult {
    let check = found.checks.iter().find(|check| check.name == name);
    check.unwrap_or_else(|| panic!("no {name}: {:#?}", found.checks)).result
}

#[actix_web::test]
async fn the_examination_names_everything_that_ends_and_who_renews_it() {
    let (world, ahead) = lifetimes::world().await;
    let found = world.client.doctor().await.unwrap();
    for name in ["clock", "database", "disk", "signing service", "audit log"] {
        assert_eq!(result(&found, name), CheckResult::Ok, "{name}");
    }
    assert_eq!(result(&found, "backup"), CheckResult::Warning);
    let kinds: Vec<_> = found.endings.iter().map(|e| e.kind).collect();
    let expected = [
        EndingKind::DeviceCrl,
        EndingKind::ServerCertificate,
        EndingKind::IntermediateCa,
        EndingKind::IntermediateCa,
        EndingKind::Root,
        EndingKind::BootCertificate,
    ];
    for kind in expected {
        assert!(kinds.contains(&kind), "{kind:?}: {kinds:?}");
    }
    assert!(found.endings.is_sorted_by_key(|e| e.ends_s));
    // Sixty, thirty and seven days before the end of the intermediate CAs, and after it.
    let ends_s =
        found.endings.iter().find(|e| e.kind == EndingKind::IntermediateCa).unwrap().ends_s;
    for (left, expected) in [(61, None), (59, Some(60)), (29, Some(30)), (6, Some(7))] {
        ahead.store(ends_s - left * DAY_S - found.now_s, Ordering::SeqCst);
        let now_s = world.server.control.now_s();
        let all = doctor::endings(&world.server.control);
        let ca = all.iter().find(|e| e.kind == EndingKind::IntermediateCa).unwrap();
        let days = stage(ca, now_s).map(|stage| match stage {
            Stage::Within { days } => days,
            Stage::Ended => 0,
        });
        assert_eq!(days, expected, "{left} days left");
    }
    ahead.store(ends_s + 1 - found.now_s, Ordering::SeqCst);
    let ended = world.client.doctor().await.unwrap();
    let failed = ended.checks.iter().find(|c| c.name.starts_with("intermediate CA")).unwrap();
    assert_eq!(failed.result, CheckResult::Failed);
    assert!(failed.remedy.as_ref().unwrap().contains("fleeti pki root sign"), "{failed:?}");
}

fn examined(data: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleeti-server"));
    command.arg("doctor").arg("--data").arg(data).args(more);
    if let Some(url) = crate::world::database_url(data) {
        command.args(["--database", &url]);
    }
    command.output().unwrap()
}

#[actix_web::test]
async fn a_server_is_examined_on_its_machine_whether_or_not_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let mut process = start_with(dir.path(), "exec \"$0\" \"$@\"");
    let ports = |api: &str, https: &str, mqtt: &str| {
        ["--api", api, "--https", https, "--mqtt", mqtt].map(str::to_owned)
    };
    let running = ports(
        process.api.trim_start_matches("http://"),
        &process.https.to_string(),
        &process.mqtt.to_string(),
    );
    let running: Vec<_> = running.iter().map(String::as_str).collect();
    let with = |more: &[&'static str]| examined(dir.path(), &[running.as_slice(), more].concat());
    let found = with(&["--at", "2100-01-01"]);
    let text = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.status.code(), Some(0), "{text}");
    assert!(
        text.contains("ok       port of MQTT") && text.contains("\nwarning  backup: none"),
        "{text}"
    );
    assert!(text.contains("remedy: fleeti-server backup FILE"), "{text}");
    assert!(text.contains("operators with shares of the root: fleeti pki"), "{text}");
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    let found = with(&["--json"]);
    assert_eq!(found.status.code(), Some(3), "{}", String::from_utf8_lossy(&found.stderr));
    let examined: Examined = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(result(&examined.diagnosis, "port of MQTT"), CheckResult::Failed);
    assert_eq!(result(&examined.diagnosis, "database"), CheckResult::Ok);
    assert!(examined.diagnosis.endings.iter().any(|e| e.kind == EndingKind::ServerCertificate));
}

#[test]
fn without_keys_the_examination_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let found = examined(dir.path(), &[]);
    let said = String::from_utf8(found.stderr).unwrap();
    assert!(found.status.code() == Some(1) && said.contains("fleeti pki init"), "{said}");
    assert!(!dir.path().join("fleeti.db").exists(), "an examination makes nothing");
}

/// Renews as an agent does, and returns the device with its new certificate.
pub async fn renewed(world: &World, device: &TestDevice) -> TestDevice {
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let request = serde_json::json!({"csr_pem": fleeti_pki::csr::create(&key).unwrap()});
    let http = world.https((*device.tls).clone());
    let response = http.post(world.url("/renew")).json(&request).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let renewed: RenewResponse = response.json().await.unwrap();
    let enrolled = serde_json::json!({"device": device.id, "fleet": "demo",
        "certificate_chain_pem": renewed.certificate_chain_pem, "renewal": renewed.renewal});
    world.device_of(enrolled, &key)
}

#[actix_web::test]
async fn nobody_acts_for_ninety_days_and_every_device_still_connects() {
    let (world, ahead) = lifetimes::world().await;
    let mut devices = [world.enroll().await, world.enroll().await];
    for day in 1..=90 {
        ahead.store(day * DAY_S, Ordering::SeqCst);
        // What the server does every six hours.
        upkeep::once(&world.server.control).await.unwrap();
        for (number, device) in devices.iter_mut().enumerate() {
            let now = then(device, &ahead);
            let renews = day % [11, 14][number] == 0;
            if renews || day % 6 == 0 {
                assert!(is_served(&world, &now).await, "device {number} on day {day}");
            }
            // One at the beginning of its window, one at its end.
            if renews {
                *device = renewed(&world, &now).await;
            }
        }
    }
    let now_s = world.server.control.now_s();
    let all = doctor::endings(&world.server.control);
    assert!(all.iter().all(|ending| stage(ending, now_s).is_none()), "{all:#?}");
    let found = world.client.doctor().await.unwrap();
    let failed: Vec<_> = found.checks.iter().filter(|c| c.result == CheckResult::Failed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
