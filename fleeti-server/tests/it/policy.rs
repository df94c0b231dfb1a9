//! Appraisal policies of fleets and their consequences: a device is blocked, must prove what it
//! runs, or fails attestation. The TPM is swtpm.

use crate::gateway::wait_for_ack;
use crate::machine::{Machine, PHASES, level, prove_start as prove, put_log, question, world_with};
use crate::peer::Peer;
use crate::rollout::{
    Measured, next_desired, publish_release, publish_release_that_measures, report, report_of,
    start,
};
use crate::world::{TestDevice, World};
use fleeti_core::attestation::policy::{Firmware, Policy};
use fleeti_core::attestation::{Aspect, Level, Tier};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::rollout::{DevicePhase, Phase};
use fleeti_core::update::State;
use fleeti_core::wire::api::{Event, Rollout};
use fleeti_core::wire::mqtt::Up;
use fleeti_pki::measured::boot::MeasuredBoot;
use fleeti_pki::measured::log::FirmwareLog;
use fleeti_pki::measured::predicted::after_phases;
use fleeti_store::sql;
use fleeti_testkit::tpm::Manufacturer;
use reqwest::StatusCode;
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use std::path::Path;

fn policy(update: Level, success: Level) -> Policy {
    Policy { update: Some(update), success: Some(success), ..Policy::usual() }
}

async fn set(world: &World, policy: &Policy) {
    world.client.set_attestation_policy(&"demo".parse().unwrap(), policy).await.unwrap();
}

fn phase_of(rollout: &Rollout, device: &TestDevice) -> DevicePhase {
    rollout.devices.iter().find(|row| row.device == device.id).unwrap().phase.clone()
}

async fn phase(world: &World, rollout: &str, device: &TestDevice) -> DevicePhase {
    phase_of(&world.client.rollout(rollout).await.unwrap(), device)
}

/// A server that trusts the manufacturer of a machine's TPM, the device with that TPM, and its
/// session.
struct Ready {
    world: World,
    machine: Machine,
    device: TestDevice,
    peer: Peer,
}

async fn ready(machine: impl FnOnce(&Manufacturer) -> Machine) -> Ready {
    let manufacturer = Manufacturer::new().unwrap();
    // With a cache time of 0, an open connection checks its offer at each request.
    let world = world_with(&manufacturer, |config| {
        (config.trusts_hypervisor, config.limits.known_ms) = (true, 0)
    })
    .await;
    let machine = machine(&manufacturer);
    let device = world.enroll().await;
    machine.bind(&world, &device).await.unwrap();
    let peer = Peer::session(&world, &device).await;
    Ready { world, machine, device, peer }
}

/// A device below the minimum level to receive updates is blocked, and is offered the release once
/// it has proved the level.
#[actix_web::test]
async fn a_device_is_blocked_until_it_has_proved_what_its_fleet_requires() {
    let Ready { world, machine, device, mut peer } = ready(Machine::new).await;
    publish_release(&world, "kiosk@2").await;
    // An empty policy offers nothing.
    set(&world, &Policy::default()).await;
    question(&mut peer, &device).await; // of the session; the rollout sends another challenge
    let rollout = world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    assert_eq!(phase(&world, &rollout.id, &device).await, DevicePhase::Blocked);
    set(&world, &policy(Level::ObservedBoot, Level::Token)).await;
    assert_eq!(
        phase(&world, &rollout.id, &device).await,
        DevicePhase::Blocked,
        "it has proved nothing yet"
    );

    prove(&world, &machine, &device, &mut peer, |_| {}).await;
    assert_eq!(level(&world, &device).await, Level::ObservedBoot);
    assert_eq!(phase(&world, &rollout.id, &device).await, DevicePhase::Offered);
    while next_desired(&mut peer).await.release.is_none() {}
    let http = world.https((*device.tls).clone());
    let manifest = world.url("/releases/kiosk/2/manifest.json");
    assert_eq!(http.get(&manifest).send().await.unwrap().status(), 200);

    // The policy requires more: the server withdraws the offer, on open connections too.
    set(&world, &policy(Level::VerifiedBoot, Level::Token)).await;
    assert_eq!(phase(&world, &rollout.id, &device).await, DevicePhase::Blocked);
    while next_desired(&mut peer).await.release.is_some() {}
    assert_eq!(http.get(&manifest).send().await.unwrap().status(), 403);
    set(&world, &policy(Level::ObservedBoot, Level::Token)).await;
    assert_eq!(phase(&world, &rollout.id, &device).await, DevicePhase::Offered);

    // The device was silent for too long: its result has expired until it proves itself again.
    assert_eq!(http.get(&manifest).send().await.unwrap().status(), 200);
    drop(peer);
    let mut tx = world.server.control.db.write().await.unwrap();
    crate::attestation::age_results(&mut tx, |result| {
        result["appraised_s"].as_i64().unwrap() - 3600
    })
    .await;
    tx.commit().await.unwrap();
    assert_eq!(
        http.get(&manifest).send().await.unwrap().status(),
        403,
        "over a connection that was open"
    );
    let http = world.https((*device.tls).clone());
    assert_eq!(http.get(&manifest).send().await.unwrap().status(), 403, "over HTTPS alone");
    let mut peer = Peer::session(&world, &device).await;
    assert_eq!(phase(&world, &rollout.id, &device).await, DevicePhase::Blocked);
    prove(&world, &machine, &device, &mut peer, |_| {}).await;
    assert_eq!(phase(&world, &rollout.id, &device).await, DevicePhase::Offered);
    let audit = world.audit().await;
    assert_eq!(audit.matches("fleet.attestation-policy").count(), 4, "{audit}");
}

/// If the policy requires proof, a report alone does not succeed, and a failed attestation ends the
/// device's part of the rollout.
#[actix_web::test]
async fn where_a_proof_is_asked_a_report_is_none_and_an_attestation_failure_ends_it() {
    let Ready { world, machine, device, mut peer } = ready(Machine::new).await;
    publish_release(&world, "kiosk@2").await;
    set(&world, &policy(Level::Token, Level::VerifiedBoot)).await;
    prove(&world, &machine, &device, &mut peer, |_| {}).await;
    let rollout = world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    // Evidence from before the update.
    prove(&world, &machine, &device, &mut peer, |_| {}).await;
    peer.publish(Up::Report.topic(&device.id), &report_of("kiosk@2", State::Idle), 7).await;
    wait_for_ack(&mut peer, 7, PubAckReason::Success).await;
    assert_eq!(phase(&world, &rollout.id, &device).await, DevicePhase::Proving);
    // Evidence from after the update. Its level is too low, which is not a failure.
    prove(&world, &machine, &device, &mut peer, |_| {}).await;
    assert_eq!(phase(&world, &rollout.id, &device).await, DevicePhase::Proving);
    assert!(world.client.device(&device.id).await.unwrap().attestation_failure.is_none());

    world.client.challenge_device(&device.id).await.unwrap();
    prove(&world, &machine, &device, &mut peer, |e| drop(e.pcrs.insert(4, "00".repeat(32)))).await;
    let ended = world.client.rollout(&rollout.id).await.unwrap();
    assert_eq!(
        (ended.phase, phase_of(&ended, &device)),
        (Phase::Failed, DevicePhase::AttestationFailed)
    );
    let attestation_failure =
        world.client.device(&device.id).await.unwrap().attestation_failure.unwrap();
    assert!(attestation_failure.contains("not those that the TPM quoted"), "{attestation_failure}");
    let page = world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    assert_eq!(
        phase(&world, &page.id, &device).await,
        DevicePhase::Blocked,
        "blocked by the usual policy as well"
    );
    // The same failure again is not reported again; it ends with the next valid evidence.
    for (change, expected) in [(true, true), (false, false)] {
        prove(&world, &machine, &device, &mut peer, |e| {
            if change {
                e.pcrs.insert(4, "00".repeat(32));
            }
        })
        .await;
        assert_eq!(
            world.client.device(&device.id).await.unwrap().attestation_failure.is_some(),
            expected
        );
        world.client.challenge_device(&device.id).await.unwrap();
    }
    let audit = world.audit().await;
    assert_eq!(audit.matches("device.attestation-failed").count(), 1, "{audit}");
}

/// With the default policy, a report is enough to succeed.
#[actix_web::test]
async fn the_usual_policy_takes_a_device_at_its_word() {
    let world = World::new().await;
    let device = world.enroll().await;
    publish_release(&world, "kiosk@2").await;
    let rollout = world.client.start_rollout(&start("kiosk@2")).await.unwrap();
    assert_eq!(phase(&world, &rollout.id, &device).await, DevicePhase::Offered);
    report(&world, &device, "kiosk@2", State::Idle).await;
    assert_eq!(phase(&world, &rollout.id, &device).await, DevicePhase::Succeeded);
}

/// A change of the accepted firmware appraises the stored evidence again; its age stays the same.
#[actix_web::test]
async fn evidence_is_looked_at_anew_when_another_firmware_is_the_right_one() {
    let Ready { world, machine, device, mut peer } = ready(Machine::new).await;
    let mut events = world.client.events().await.unwrap();
    prove(&world, &machine, &device, &mut peer, |_| {}).await;
    let found = world.client.attestation(&device.id).await.unwrap();
    let pcr = |n| found.pcrs.iter().find(|r| r.pcr == n).unwrap().value.clone();
    let mine = [pcr(0), pcr(2)];
    let first = found.result.unwrap();
    for (pcrs, expected) in [(vec![], "firmware-unknown"), (vec![mine], "firmware-known")] {
        set(
            &world,
            &Policy { firmware: Firmware::Known { pcrs, binaries: vec![] }, ..Policy::usual() },
        )
        .await;
        loop {
            let now = world.client.attestation(&device.id).await.unwrap().result.unwrap();
            if now.claims.iter().any(|c| c.code == expected) {
                assert_eq!(
                    (now.evidence, now.appraised_s),
                    (first.evidence.clone(), first.appraised_s),
                    "the same evidence, as old"
                );
                break;
            }
            events.wait_for(|e| matches!(e, Event::Device { .. })).await.unwrap();
        }
    }
    let bad = Policy {
        firmware: Firmware::Known { pcrs: vec![["x".into(), "y".into()]], binaries: vec![] },
        ..Policy::usual()
    };
    let refused =
        world.client.set_attestation_policy(&"demo".parse().unwrap(), &bad).await.unwrap_err();
    assert!(refused.to_string().contains("is not a PCR value"), "{refused}");
    let ear = world.client.ear(&device.id).await.unwrap();
    assert_eq!(
        ear["submods"]["boot"]["ear_trustworthiness_vector"]["instance-identity"], 2,
        "{ear}"
    );
}

/// A firmware log of a boot, and the reference values of the release that booted.
fn boot_of_a_release() -> (Vec<u8>, Measured) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fleeti-pki/tests/fixtures/measured/ovmf-2022.11-systemd-257.log");
    let bytes = std::fs::read(path).unwrap();
    let log = FirmwareLog::parse(&bytes).unwrap();
    let binaries = MeasuredBoot::of(&log).unwrap().binaries;
    let pcr_11 = after_phases(log.replay()[&11], &PHASES.join(":"));
    (bytes, [binaries[0], binaries[1], pcr_11])
}

/// A device succeeds by proving the release after it was offered, also if it proved it in an
/// earlier rollout.
#[actix_web::test]
async fn a_device_that_proves_the_release_succeeds_also_where_it_had_proved_it_before() {
    let (log, measured) = boot_of_a_release();
    let Ready { world, machine, device, mut peer } =
        ready(|manufacturer| Machine::that_measured(manufacturer, &log)).await;
    publish_release_that_measures(&world, "kiosk@2", Some(measured)).await;
    set(&world, &policy(Level::Token, Level::ObservedBoot)).await;
    prove(&world, &machine, &device, &mut peer, |_| {}).await;
    // The device already runs the release. It proves that during the first rollout, and again in
    // the second one.
    for _ in 0..2 {
        let rollout = world.client.start_rollout(&start("kiosk@2")).await.unwrap();
        prove(&world, &machine, &device, &mut peer, |_| {}).await;
        let found = world.client.attestation(&device.id).await.unwrap().result.unwrap();
        assert_eq!(
            (found.level, found.release),
            (Level::ObservedBoot, Some("kiosk@2".parse().unwrap())),
            "{:#?}",
            found.claims
        );
        assert_eq!(
            phase(&world, &rollout.id, &device).await,
            DevicePhase::Offered,
            "it has not said so yet"
        );
        peer.publish(Up::Report.topic(&device.id), &report_of("kiosk@2", State::Idle), 7).await;
        wait_for_ack(&mut peer, 7, PubAckReason::Success).await;
        assert_eq!(
            phase(&world, &rollout.id, &device).await,
            DevicePhase::Proving,
            "what it proved before its word is none"
        );
        // Changes of the policy do not turn old evidence into a proof.
        set(&world, &policy(Level::Token, Level::UnverifiedTpm)).await;
        set(&world, &policy(Level::Token, Level::ObservedBoot)).await;
        assert_eq!(phase(&world, &rollout.id, &device).await, DevicePhase::Proving);
        prove(&world, &machine, &device, &mut peer, |_| {}).await;
        let ended = world.client.rollout(&rollout.id).await.unwrap();
        assert_eq!(
            (ended.phase, phase_of(&ended, &device)),
            (Phase::Succeeded, DevicePhase::Succeeded)
        );
    }

    // A revoked release is not a failed attestation, and the device may leave it.
    publish_release(&world, "kiosk@3").await;
    world.client.revoke_release(&"kiosk@2".parse().unwrap()).await.unwrap();
    set(&world, &policy(Level::ObservedBoot, Level::ObservedBoot)).await;
    let rollout = world.client.start_rollout(&start("kiosk@3")).await.unwrap();
    prove(&world, &machine, &device, &mut peer, |_| {}).await;
    let found = world.client.attestation(&device.id).await.unwrap().result.unwrap();
    assert!(found.claims.iter().any(|c| c.code == "release-revoked"), "{:#?}", found.claims);
    assert_eq!(phase(&world, &rollout.id, &device).await, DevicePhase::Offered);
    assert!(world.client.device(&device.id).await.unwrap().attestation_failure.is_none());
}

/// A device is compared only with releases that it was given, not with any release that it reports.
#[actix_web::test]
async fn no_device_names_the_release_that_it_is_compared_with() {
    let (log, measured) = boot_of_a_release();
    let Ready { world, machine, device, mut peer } =
        ready(|manufacturer| Machine::that_measured(manufacturer, &log)).await;
    publish_release(&world, "kiosk@1").await;
    // A release of another fleet, validly signed.
    publish_release_that_measures(&world, "kiosk@2", Some(measured)).await;
    for (n, running) in [(7, "kiosk@1"), (8, "kiosk@2")] {
        peer.publish(Up::Report.topic(&device.id), &report_of(running, State::Idle), n).await;
        wait_for_ack(&mut peer, n, PubAckReason::Success).await;
    }
    // Repeated evidence does not make the booted release one that the device may run.
    for _ in 0..2 {
        world.client.challenge_device(&device.id).await.unwrap();
        prove(&world, &machine, &device, &mut peer, |_| {}).await;
        let found = world.client.attestation(&device.id).await.unwrap().result.unwrap();
        let started = found.claims.iter().find(|c| c.aspect == Aspect::Executables).unwrap();
        assert_eq!(
            (found.release, started.tier, started.code.as_str()),
            (None, Tier::Warning, "release-not-given"),
            "{started:#?}"
        );
        assert!(started.finding.contains("kiosk@2 was started"), "{started:?}");
    }
    // Once the release was rolled out to the device, the device may run it, also while another
    // release is offered.
    publish_release(&world, "kiosk@3").await;
    for next in ["kiosk@2", "kiosk@3"] {
        let rollout = world.client.start_rollout(&start(next)).await.unwrap();
        prove(&world, &machine, &device, &mut peer, |_| {}).await;
        let found = world.client.attestation(&device.id).await.unwrap().result.unwrap();
        assert_eq!(found.release, Some("kiosk@2".parse().unwrap()), "{:#?}", found.claims);
        world.client.abort_rollout(&rollout.id).await.unwrap();
    }
}

/// Evidence whose firmware log was removed expires at the next appraisal.
#[actix_web::test]
async fn evidence_whose_log_is_gone_is_old_when_it_is_looked_at_anew() {
    let Ready { world, machine, device, mut peer } = ready(Machine::new).await;
    prove(&world, &machine, &device, &mut peer, |_| {}).await;
    assert_eq!(level(&world, &device).await, Level::ObservedBoot);
    // Newer logs of the same device push out the log of its evidence.
    let mut tx = world.server.control.db.write().await.unwrap();
    sql::query("UPDATE evidence_logs SET received_s = received_s - 1")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    for n in 0..4_u8 {
        assert_eq!(
            put_log(&world, &device, &sha256_hex(&[n]), vec![n]).await,
            StatusCode::NO_CONTENT
        );
    }
    let app = &world.server.control;
    fleeti_control::attestation::evidence::reappraise(app, &device.id).await.unwrap();
    let found = world.client.attestation(&device.id).await.unwrap();
    assert_eq!((found.level, found.is_fresh), (Level::Token, false));
}
