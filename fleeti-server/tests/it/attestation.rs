//! A device with a real TPM (swtpm), driven by the agent's own code, against a server; then
//! attackers who claim to be that device.

use crate::machine::{
    Machine, PHASES, captured_log, level, prove, prove_start, put_log, question, send, world,
    world_with,
};
use crate::peer::Peer;
use crate::trust::until;
use crate::world::{TestDevice, World, write_keys};
use base64::Engine;
use fleeti_control::attestation::tpm::reappraise_manufacturers;
use fleeti_core::alert::Kind;
use fleeti_core::attestation::{Level, Tier};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::wire::alerts::AlertQuery;
use fleeti_core::wire::api::RevocationReason;
use fleeti_core::wire::attestation::{Challenge, Evidence, Secret, TpmProof};
use fleeti_core::wire::problem::Code;
use fleeti_store::sql;
use fleeti_testkit::agent::privileged::measured;
use fleeti_testkit::tpm::{Manufacturer, phases_log};
use reqwest::StatusCode;
use rumqttc::v5::mqttbytes::v5::PubAckReason;

/// Codes of the claims by which attestation fails.
async fn wrong(world: &World, device: &TestDevice) -> Vec<String> {
    let found = world.client.attestation(&device.id).await.unwrap().result.unwrap();
    found.claims.into_iter().filter(|c| c.tier == Tier::Contraindicated).map(|c| c.code).collect()
}

/// The server challenges a device once its TPM is bound. The level follows from what the server
/// trusts of that TPM.
#[actix_web::test]
async fn a_device_is_asked_as_soon_as_its_tpm_is_known_and_reaches_what_is_known_of_it() {
    let manufacturer = Manufacturer::new().unwrap();
    let machine = Machine::new(&manufacturer);
    for (trusts_hypervisor, expected) in
        [(false, Level::UnverifiedTpm), (true, Level::ObservedBoot)]
    {
        let world = world(&manufacturer, trusts_hypervisor).await;
        let device = world.enroll().await;
        let mut peer = Peer::session(&world, &device).await;
        assert_eq!(level(&world, &device).await, Level::Token, "nothing was shown");
        assert!(
            world
                .client
                .challenge_device(&device.id)
                .await
                .unwrap_err()
                .to_string()
                .contains("not shown a TPM")
        );
        machine.bind(&world, &device).await.unwrap();
        let asked = question(&mut peer, &device).await;
        let evidence = machine.answer(&world, &device, &asked).await;
        assert_eq!(send(&mut peer, &device, &evidence).await, PubAckReason::Success);
        let found = world.client.attestation(&device.id).await.unwrap();
        assert_eq!((found.level, found.is_fresh), (expected, true), "{:#?}", found.result);
        assert_eq!(found.tpm.unwrap().manufacturer.as_deref(), Some("virtual"));
        let binaries = found.pcrs.iter().find(|r| r.pcr == 4).unwrap();
        assert!(
            binaries.events.iter().any(|e| e.starts_with("an EFI binary of no release")),
            "{:?}",
            binaries.events
        );
        let phases = found.pcrs.iter().find(|r| r.pcr == 11).unwrap();
        assert_eq!(phases.events.last().unwrap(), "user space: ready");

        // An operator requests evidence. The previous answer does not count for the new challenge.
        world.client.challenge_device(&device.id).await.unwrap();
        let again = question(&mut peer, &device).await;
        assert_ne!(again.id, asked.id);
        assert_ne!(again.nonce, asked.nonce, "nobody knows it before");
        assert!(again.nonce.len() == 64 && asked.nonce.len() == 64, "32 bytes");
        assert_eq!(send(&mut peer, &device, &evidence).await, PubAckReason::PayloadFormatInvalid);
        assert_eq!(level(&world, &device).await, expected, "what was no answer changed nothing");
        world.client.accept_firmware(&device.id).await.unwrap();
        let audit = world.audit().await;
        assert_eq!(
            (
                audit.matches("device.tpm-bound").count(),
                audit.matches("device.accept-firmware").count()
            ),
            (1, 1),
            "{audit}"
        );

        // A device that is not connected is not challenged.
        let refusal = async |device| {
            world
                .client
                .challenge_device(device)
                .await
                .err()
                .map_or(String::new(), |e| e.to_string())
        };
        let nobody = "dev-nobody".parse().unwrap();
        assert!(refusal(&nobody).await.contains("there is no device"));
        drop(peer);
        until("the server has noticed that it is gone", async || {
            refusal(&device.id).await.contains("is not connected")
        })
        .await;
        assert_eq!(world.client.challenge_fleet(&"demo".parse().unwrap()).await.unwrap(), 0);
    }
}

/// Two devices show the same TPM while it is bound to neither. The first to prove it gets it.
#[actix_web::test]
async fn a_tpm_that_two_devices_show_at_once_is_that_of_the_first_to_prove_it() {
    let manufacturer = Manufacturer::new().unwrap();
    let world = world(&manufacturer, false).await;
    let (a, b) = (world.enroll().await, world.enroll().await);
    let machine = Machine::new(&manufacturer);
    let of_another_question = TpmProof {
        id: "tpm-other".into(),
        ..machine.proof(&machine.show(&world, &a).await.unwrap())
    };
    assert_eq!(prove(&world, &a, &of_another_question).await, Err(StatusCode::FORBIDDEN));
    let (of_a, of_b) =
        (machine.show(&world, &a).await.unwrap(), machine.show(&world, &b).await.unwrap());
    prove(&world, &a, &machine.proof(&of_a)).await.unwrap();
    assert_eq!(prove(&world, &b, &machine.proof(&of_b)).await, Err(StatusCode::FORBIDDEN));
    assert!(world.client.attestation(&b.id).await.unwrap().tpm.is_none());
}

#[actix_web::test]
async fn a_device_has_one_tpm_and_a_tpm_one_device() {
    let manufacturer = Manufacturer::new().unwrap();
    let world = world(&manufacturer, false).await;
    let (a, b) = (world.enroll().await, world.enroll().await);
    let (machine, other) = (Machine::new(&manufacturer), Machine::new(&manufacturer));
    let forbidden = Err(StatusCode::FORBIDDEN);

    let mut many = measured::identity(&machine.paths).unwrap().unwrap();
    many.certificates = vec![many.certificates[0].clone(); 10];
    let http = world.https(a.tls.as_ref().clone());
    let refused = http.post(world.url("/tpm")).json(&many).send().await.unwrap();
    assert_eq!(
        refused.status(),
        StatusCode::UNPROCESSABLE_ENTITY,
        "more certificates than a chain has"
    );
    // A TPM that was shown, but not proved, is not bound.
    machine.show(&world, &a).await.unwrap();
    assert!(world.client.attestation(&a.id).await.unwrap().tpm.is_none());
    assert!(
        world
            .client
            .challenge_device(&a.id)
            .await
            .unwrap_err()
            .to_string()
            .contains("not shown a TPM")
    );
    // A wrong secret is refused, and ends the attempt.
    let secret = machine.show(&world, &a).await.unwrap();
    let good = machine.proof(&secret);
    let guessed =
        TpmProof { secret: Secret::new(fleeti_pki::base64_text(&[0; 32])), ..good.clone() };
    let http = world.https(a.tls.as_ref().clone());
    let refused = http.post(world.url("/tpm/proved")).json(&guessed).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let problem = refused.text().await.unwrap();
    let wanted = base64::engine::general_purpose::STANDARD.decode(good.secret.expose()).unwrap();
    assert!(
        !problem.contains(good.secret.expose()) && !problem.contains(&hex::encode(wanted)),
        "{problem}"
    );
    assert_eq!(
        prove(&world, &a, &good).await,
        forbidden,
        "the record of a failed proof is of no more use"
    );
    // A secret counts only for the device that it was made for.
    let secret = machine.show(&world, &a).await.unwrap();
    assert_eq!(prove(&world, &b, &machine.proof(&secret)).await, forbidden);
    assert_eq!(prove(&world, &a, &machine.proof(&secret)).await, Ok(()));

    assert_eq!(machine.bind(&world, &a).await, Ok(()), "the same again is no change");
    assert_eq!(other.bind(&world, &a).await, forbidden, "another TPM");
    assert_eq!(machine.bind(&world, &b).await, forbidden, "another device's");
    assert_eq!(other.bind(&world, &b).await, Ok(()));
    // A TPM with the attestation key of another TPM is refused.
    let shown = measured::identity(&machine.paths).unwrap().unwrap();
    let theirs = measured::identity(&other.paths).unwrap().unwrap();
    let mixed = fleeti_core::wire::attestation::TpmIdentity {
        attestation_key: theirs.attestation_key,
        ..shown
    };
    let http = world.https(a.tls.as_ref().clone());
    assert_eq!(
        http.post(world.url("/tpm")).json(&mixed).send().await.unwrap().status(),
        StatusCode::FORBIDDEN
    );
    // The same endorsement key, with other attributes in its public area, is the same TPM.
    let mut disguised = measured::identity(&machine.paths).unwrap().unwrap();
    let mut area =
        base64::engine::general_purpose::STANDARD.decode(&disguised.endorsement_key).unwrap();
    area[6] ^= 0x04; // noDA
    disguised.endorsement_key = fleeti_pki::base64_text(&area);
    let c = world.enroll().await;
    let http = world.https(c.tls.as_ref().clone());
    assert_eq!(
        http.post(world.url("/tpm")).json(&disguised).send().await.unwrap().status(),
        StatusCode::FORBIDDEN
    );
    // A machine whose device was revoked may enroll as a new device.
    world.client.revoke_device(&a.id, RevocationReason::CessationOfOperation).await.unwrap();
    assert_eq!(machine.bind(&world, &c).await, Ok(()));
    let a = c;
    // Without a client certificate, no TPM is accepted.
    let shown = measured::identity(&machine.paths).unwrap().unwrap();
    let anonymous =
        world.https(world.anonymous()).post(world.url("/tpm")).json(&shown).send().await.unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    // A key that its holder may use for any purpose is refused as attestation key.
    let bad = fleeti_core::wire::attestation::TpmIdentity {
        attestation_key: shown.endorsement_key.clone(),
        ..shown
    };
    let http = world.https(a.tls.as_ref().clone());
    assert_eq!(
        http.post(world.url("/tpm")).json(&bad).send().await.unwrap().status(),
        StatusCode::UNPROCESSABLE_ENTITY
    );
}

/// Evidence counts only for the device, the challenge and the session that it was requested for,
/// and only unchanged.
#[actix_web::test]
async fn evidence_is_the_answer_of_one_device_to_one_question_in_one_session() {
    let manufacturer = Manufacturer::new().unwrap();
    let world = world(&manufacturer, false).await;
    let (a, b) = (world.enroll().await, world.enroll().await);
    let (machine, other) = (Machine::new(&manufacturer), Machine::new(&manufacturer));
    machine.bind(&world, &a).await.unwrap();
    other.bind(&world, &b).await.unwrap();
    let (mut of_a, mut of_b) = (Peer::session(&world, &a).await, Peer::session(&world, &b).await);
    let (asked_a, asked_b) = (question(&mut of_a, &a).await, question(&mut of_b, &b).await);

    // B sends A's answer. It is refused, under its own challenge id and under that of B.
    let answer = machine.answer(&world, &a, &asked_a).await;
    assert_eq!(send(&mut of_b, &b, &answer).await, PubAckReason::PayloadFormatInvalid);
    world.client.challenge_device(&b.id).await.unwrap();
    let asked_b = Challenge { nonce: asked_b.nonce, ..question(&mut of_b, &b).await };
    put_log(&world, &b, &answer.firmware_log, captured_log()).await;
    let renamed = Evidence { challenge: asked_b.id, ..answer.clone() };
    assert_eq!(
        send(&mut of_b, &b, &renamed).await,
        PubAckReason::Success,
        "it is kept as what it is"
    );
    assert_eq!(wrong(&world, &b).await, ["quote-signature"]);
    assert_eq!(level(&world, &b).await, Level::SelfReported);
    let alerts = world.client.alerts(&AlertQuery::default()).await.unwrap();
    let fell = alerts.iter().find(|alert| alert.kind == Kind::TrustDrop).unwrap();
    assert_eq!(fell.device.as_ref(), Some(&b.id));
    assert!(fell.detail.ends_with("to L0"), "{fell:?}");

    // The answer to a challenge of a session that has ended is refused.
    drop(of_a);
    let mut of_a = Peer::session(&world, &a).await;
    let asked_again = question(&mut of_a, &a).await;
    assert_eq!(send(&mut of_a, &a, &answer).await, PubAckReason::PayloadFormatInvalid);
    // The challenge of this session is still open; one answer uses it up.
    let late = machine.answer(&world, &a, &asked_again).await;
    assert_eq!(send(&mut of_a, &a, &late).await, PubAckReason::Success);
    assert_eq!(send(&mut of_a, &a, &late).await, PubAckReason::PayloadFormatInvalid);

    world.client.challenge_device(&a.id).await.unwrap();
    let asked = question(&mut of_a, &a).await;
    let answer = machine.answer(&world, &a, &asked).await;
    assert_eq!(send(&mut of_a, &a, &answer).await, PubAckReason::Success);
    assert_eq!(level(&world, &a).await, Level::UnverifiedTpm);
    // PCR values that were changed on the way fail the attestation. The next good answer counts
    // again.
    world.client.challenge_device(&a.id).await.unwrap();
    let asked = question(&mut of_a, &a).await;
    let mut changed = machine.answer(&world, &a, &asked).await;
    changed.pcrs.insert(4, "00".repeat(32));
    assert_eq!(send(&mut of_a, &a, &changed).await, PubAckReason::Success);
    assert_eq!(wrong(&world, &a).await, ["pcr-digest"]);
    assert!(
        world.client.accept_firmware(&a.id).await.is_err(),
        "nobody accepts what does not hold"
    );
    // One alarm does not suppress another one.
    assert_eq!(other.bind(&world, &a).await, Err(StatusCode::FORBIDDEN));
    let audit = world.audit().await;
    for alarm in ["device.attestation-failed", "device.tpm-refused"] {
        assert!(
            audit.lines().any(|l| l.contains(a.id.as_str()) && l.contains(alarm)),
            "no {alarm}: {audit}"
        );
    }
    // PCR values have exactly one accepted form.
    let ways: [fn(&str) -> String; 2] =
        [|value| format!("0x{value}"), |value| value[2..].to_owned()];
    for written in ways {
        world.client.challenge_device(&a.id).await.unwrap();
        let asked = question(&mut of_a, &a).await;
        let mut answer = machine.answer(&world, &a, &asked).await;
        answer.pcrs.entry(4).and_modify(|value| *value = written(value));
        assert_eq!(
            send(&mut of_a, &a, &answer).await,
            PubAckReason::PayloadFormatInvalid,
            "{}",
            answer.pcrs[&4]
        );
    }
    world.client.challenge_device(&a.id).await.unwrap();
    let asked = question(&mut of_a, &a).await;
    let answer = machine.answer(&world, &a, &asked).await;
    send(&mut of_a, &a, &answer).await;
    assert_eq!(level(&world, &a).await, Level::UnverifiedTpm);

    assert_eq!(
        put_log(&world, &a, &sha256_hex(b"x"), b"y".to_vec()).await,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let large = put_log(&world, &a, &sha256_hex(b"x"), vec![0; (512 << 10) + 1]).await;
    assert_eq!(large, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        world
            .client
            .attestation(&"dev-nobody".parse().unwrap())
            .await
            .unwrap_err()
            .to_string()
            .contains("no device")
    );
    let much = vec![0; (512 << 10) + 1];
    let kept = fleeti_control::attestation::challenge::keep_log(
        &world.server.control,
        &a.id,
        &sha256_hex(&much),
        &much,
    )
    .await;
    assert_eq!(kept.unwrap_err().code(), Code::TooLarge, "for every caller");
}

/// After a restart the device gets a new challenge. A log with events that this boot did not measure
/// fails the attestation.
#[actix_web::test]
async fn a_device_that_starts_anew_is_asked_anew_and_an_answer_from_before_is_refused() {
    let manufacturer = Manufacturer::new().unwrap();
    let world = world(&manufacturer, false).await;
    let device = world.enroll().await;
    let mut machine = Machine::new(&manufacturer);
    machine.bind(&world, &device).await.unwrap();
    let mut peer = Peer::session(&world, &device).await;
    prove_start(&world, &machine, &device, &mut peer, |_| {}).await;
    drop(peer);
    machine.tpm.cut_power().unwrap();
    machine.tpm.measure(&captured_log(), &PHASES[..3]).unwrap();
    machine.paths = machine.tpm.paths(&captured_log(), &phases_log(&PHASES)).unwrap();
    let mut peer = Peer::session(&world, &device).await;
    prove_start(&world, &machine, &device, &mut peer, |_| {}).await;
    assert_eq!(wrong(&world, &device).await, ["log-replay"], "its log tells of more than it did");
}

/// The last accepted PCRs survive a restart of the server, and a result expires with time.
#[actix_web::test]
async fn what_was_accepted_last_outlives_the_server_and_a_result_grows_old() {
    let manufacturer = Manufacturer::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path());
    let manufacturers = dir.path().join("pki/tpm-manufacturers/virtual");
    std::fs::create_dir_all(&manufacturers).unwrap();
    std::fs::write(manufacturers.join("manufacturer.pem"), manufacturer.certificate_pem().unwrap())
        .unwrap();
    let world = World::start(dir, |config| config.trusts_hypervisor = true).await;
    let device = world.enroll().await;
    let machine = Machine::new(&manufacturer);
    machine.bind(&world, &device).await.unwrap();
    let mut peer = Peer::session(&world, &device).await;
    prove_start(&world, &machine, &device, &mut peer, |_| {}).await;
    assert_eq!(level(&world, &device).await, Level::ObservedBoot);
    drop(peer);
    let World { dir, server, .. } = world;
    server.stop().await;

    let world = World::start(dir, |config| config.trusts_hypervisor = true).await;
    assert_eq!(level(&world, &device).await, Level::ObservedBoot);
    // PCRs of the firmware do not change while a system runs, also for a server that has just
    // started.
    machine.tpm.tool(&format!("tpm2_pcrextend 5:sha256={}", "11".repeat(32))).unwrap();
    let mut peer = Peer::session(&world, &device).await;
    prove_start(&world, &machine, &device, &mut peer, |_| {}).await;
    assert_eq!(wrong(&world, &device).await, ["pcr-moved"]);

    let mut tx = world.server.control.db.write().await.unwrap();
    age_results(&mut tx, |result| {
        result["level"] = "observed_boot".into();
        1
    })
    .await;
    tx.commit().await.unwrap();
    let old = world.client.attestation(&device.id).await.unwrap();
    assert_eq!((old.level, old.is_fresh), (Level::Token, false));
    assert!(
        world.client.accept_firmware(&device.id).await.unwrap_err().to_string().contains("is old")
    );
}

/// Changes stored results; `change` returns when they are to have been appraised.
pub async fn age_results(
    tx: &mut fleeti_store::Tx<'_>,
    change: impl Fn(&mut serde_json::Value) -> i64,
) {
    let all: Vec<(String, String)> = sql::query_as("SELECT device, result FROM attestations")
        .fetch_all(&mut **tx)
        .await
        .unwrap();
    for (device, text) in all {
        let mut result: serde_json::Value = serde_json::from_str(&text).unwrap();
        let appraised_s = change(&mut result);
        result["appraised_s"] = appraised_s.into();
        let sql = "UPDATE attestations SET appraised_s = $2, result = $3 WHERE device = $1";
        let query = sql::query(sql).bind(&device).bind(appraised_s).bind(result.to_string());
        query.execute(&mut **tx).await.unwrap();
    }
}

/// What the server knows about a device's TPM, as text.
async fn known(world: &World, device: &TestDevice) -> String {
    world.client.attestation(&device.id).await.unwrap().tpm.unwrap().description
}

/// Certificates that the TPM's manufacturer revokes, or restores, count at once for a device that
/// is already bound and does not show its TPM again.
#[actix_web::test]
async fn what_its_manufacturer_took_back_counts_for_a_device_that_does_not_show_its_tpm_again() {
    let manufacturer = Manufacturer::with_lists().unwrap();
    let world = world_with(&manufacturer, |config| config.trusts_hypervisor = true).await;
    let device = world.enroll().await;
    let machine = Machine::new(&manufacturer);
    machine.bind(&world, &device).await.unwrap();
    let mut peer = Peer::session(&world, &device).await;
    prove_start(&world, &machine, &device, &mut peer, |_| {}).await;
    drop(peer);

    let endorsement = ["0x1c00002", "0x1c00016"].map(|at| {
        machine.tpm.tool(&format!("tpm2_nvread {at} -o ek.crt")).unwrap();
        machine.tpm.file("ek.crt").unwrap()
    });
    let mut world = world;
    let (nothing, both) =
        (manufacturer.list(&[]).unwrap(), manufacturer.list(&endorsement).unwrap());
    let steps: [(&str, Option<&[u8]>, Level); 4] = [
        ("taken back", Some(&both), Level::UnverifiedTpm),
        ("and given back", Some(&nothing), Level::ObservedBoot),
        ("taken back once more", Some(&both), Level::UnverifiedTpm),
        ("nobody believes the manufacturer", None, Level::UnverifiedTpm),
    ];
    for (step, list, expected) in steps {
        let before = known(&world, &device).await;
        let entered = world.audit().await.matches("device.tpm-manufacturer").count();
        let World { dir, server, .. } = world;
        server.stop().await;
        let manufacturers = dir.path().join("pki/tpm-manufacturers/virtual");
        match list {
            Some(list) => std::fs::write(manufacturers.join("list.crl"), list).unwrap(),
            None => std::fs::remove_file(manufacturers.join("manufacturer.pem")).unwrap(),
        }
        world = World::start(dir, |config| config.trusts_hypervisor = true).await;
        until(step, async || {
            known(&world, &device).await != before && level(&world, &device).await == expected
        })
        .await;
        let changed = usize::from(step != "nobody believes the manufacturer");
        assert_eq!(
            world.audit().await.matches("device.tpm-manufacturer").count(),
            entered + changed,
            "{step}"
        );
    }
    assert!(known(&world, &device).await.contains("does not chain to a trusted manufacturer"));

    // The same without a restart of the server. If a file cannot be read, what was read before
    // counts.
    let manufacturers = world.dir.path().join("pki/tpm-manufacturers/virtual");
    std::fs::write(manufacturers.join("manufacturer.pem"), manufacturer.certificate_pem().unwrap())
        .unwrap();
    std::fs::write(manufacturers.join("list.crl"), nothing).unwrap();
    reappraise_manufacturers(&world.server.control).await.unwrap();
    assert_eq!(level(&world, &device).await, Level::ObservedBoot);
    std::fs::write(manufacturers.join("list.crl"), "no list").unwrap();
    let unread = reappraise_manufacturers(&world.server.control).await.unwrap_err();
    assert!(format!("{unread:#}").contains("list.crl"), "{unread:#}");
    assert_eq!(level(&world, &device).await, Level::ObservedBoot);
}

/// Evidence after the challenge's timeout, and a proof of a TPM after its timeout, change nothing.
#[actix_web::test]
async fn what_comes_after_its_time_is_nobodys_answer() {
    let manufacturer = Manufacturer::new().unwrap();
    let machine = Machine::new(&manufacturer);
    let late = world_with(&manufacturer, |c| c.limits.challenge_ms = 1).await;
    let device = late.enroll().await;
    machine.bind(&late, &device).await.unwrap();
    let mut peer = Peer::session(&late, &device).await;
    let asked = question(&mut peer, &device).await;
    let evidence = machine.answer(&late, &device, &asked).await;
    assert_eq!(send(&mut peer, &device, &evidence).await, PubAckReason::PayloadFormatInvalid);
    assert_eq!(level(&late, &device).await, Level::Token, "it changed nothing");

    let late = world_with(&manufacturer, |c| c.limits.proving_ms = 0).await;
    let device = late.enroll().await;
    assert_eq!(machine.bind(&late, &device).await, Err(StatusCode::FORBIDDEN));
    assert_eq!(level(&late, &device).await, Level::Token);
    assert!(late.client.attestation(&device.id).await.unwrap().tpm.is_none());
}
