//! TPMs, evidence, Secure Boot keys, and what only the signing service opens.

use crate::databases::on_both;

on_both! {
    a_tpm_belongs_to_one_device,
    evidence_and_its_result_are_read_as_they_were_stored,
    the_newest_firmware_logs_are_kept,
    policies_differ_by_fleet,
    secure_boot_keys_change_one_after_another,
    recovery_keys_keep_the_previous_one,
    secrets_of_a_fleet_are_counted,
}

mod test {
    use crate::databases::Place;
    use crate::devices::{enroll, id};
    use fleeti_core::attestation::Level;
    use fleeti_core::attestation::policy::Policy;
    use fleeti_core::secure_boot::BootState;
    use fleeti_core::wire::attestation::AttestationResult;
    use fleeti_core::wire::boot::{BootSignatures, FirmwareKeys};
    use fleeti_core::wire::vault::SecretChange;
    use fleeti_store::attestations::{self, AttestationRow, FirmwareCodeRow, SentEvidence};
    use fleeti_store::boot::{self, BootKeysRow, SignedForDevice};
    use fleeti_store::known;
    use fleeti_store::tpms::{self, Bound, Manufacturer, TpmKeys, TpmRow};
    use fleeti_store::{devices, policies, vault};

    fn tpm(ek: &str, ak: &str) -> TpmRow {
        let manufacturer = Manufacturer {
            kind: None,
            description: "no certificate".into(),
            judged_by: String::new(),
        };
        let keys = TpmKeys {
            ek_sha256: ek.into(),
            endorsement_key: "EK".into(),
            attestation_key: ak.into(),
        };
        TpmRow::new(keys, vec![0, 1, 255], manufacturer, 5)
    }

    pub async fn a_tpm_belongs_to_one_device(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1", "dev-2"]).await;
        let mut tx = db.write().await.unwrap();
        let (one, two, row) = (id("dev-1"), id("dev-2"), tpm("ek-1", "ak-1"));
        assert_eq!(tpms::bind(&mut tx, &one, &row).await.unwrap(), Bound::New);
        assert_eq!(tpms::bind(&mut tx, &one, &row).await.unwrap(), Bound::Same);
        assert_eq!(tpms::bind(&mut tx, &two, &row).await.unwrap(), Bound::Refused);
        assert!(tpms::is_taken(&mut tx, &two, &row).await.unwrap());
        assert!(!tpms::is_taken(&mut tx, &one, &row).await.unwrap());
        assert!(tpms::is_taken(&mut tx, &one, &tpm("ek-2", "ak-1")).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(tpms::get(db.pool(), &one).await.unwrap(), Some(row.clone()));
        assert_eq!(tpms::get(db.pool(), &two).await.unwrap(), None);
        assert_eq!(tpms::to_be_asked(db.pool(), &one).await.unwrap(), Some(None));
        assert_eq!(tpms::to_be_asked(db.pool(), &two).await.unwrap(), None);
        let fleet = "bench".parse().unwrap();
        assert_eq!(tpms::of_fleet(db.pool(), &fleet).await.unwrap(), std::slice::from_ref(&one));

        let mut tx = db.write().await.unwrap();
        tpms::set_judged(&mut tx, "digest-1").await.unwrap();
        tx.commit().await.unwrap();
        assert!(tpms::judged_by_others(db.pool(), "digest-1", 5).await.unwrap().is_empty());
        let others = tpms::judged_by_others(db.pool(), "digest-2", 5).await.unwrap();
        assert_eq!(others.len(), 1);
        let mut tx = db.write().await.unwrap();
        let judged = Manufacturer {
            kind: Some("hardware".into()),
            description: "a chip".into(),
            judged_by: "digest-2".into(),
        };
        assert!(tpms::set_manufacturer(&mut tx, &one, &others[0].1, &judged).await.unwrap());
        assert!(!tpms::set_manufacturer(&mut tx, &one, &others[0].1, &judged).await.unwrap());
        // The machine of a device that is revoked for good enrolls again.
        let gone = fleeti_core::wire::api::RevocationReason::CessationOfOperation;
        assert!(devices::revoke(&mut tx, &one, gone, 50).await.unwrap());
        assert_eq!(tpms::bind(&mut tx, &two, &row).await.unwrap(), Bound::New);
        tx.commit().await.unwrap();
    }

    fn evidence() -> SentEvidence {
        let text = serde_json::json!({
            "challenge": "challenge-1", "quote": "q", "signature": "s", "pcrs": {"0": "00"},
            "firmware_log": "sha-1", "phases_log": "p",
        });
        SentEvidence::read(text.to_string()).unwrap()
    }

    fn code(is_accepted: bool) -> FirmwareCodeRow {
        FirmwareCodeRow { pcrs: ["00".into(), "02".into()], binaries: vec![], is_accepted }
    }

    fn appraised(appraised_s: u64) -> AttestationRow {
        let result = AttestationResult {
            level: Level::ObservedBoot,
            claims: vec![],
            release: Some("kiosk@1".parse().unwrap()),
            appraised_s,
            evidence: "sha".into(),
        };
        AttestationRow {
            nonce: "nonce".into(),
            evidence: evidence(),
            accepted: None,
            firmware_code: Some(code(false)),
            result,
        }
    }

    pub async fn evidence_and_its_result_are_read_as_they_were_stored(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1", "dev-2", "dev-3"]).await;
        let ids = ["dev-1", "dev-2", "dev-3"].map(id);
        let fleet = "bench".parse().unwrap();
        let mut tx = db.write().await.unwrap();
        for (n, device) in ids[..2].iter().enumerate() {
            let row = tpm(&format!("ek-{n}"), &format!("ak-{n}"));
            assert_eq!(tpms::bind(&mut tx, device, &row).await.unwrap(), Bound::New);
        }
        let first = appraised(100);
        attestations::keep(&mut tx, &[(&ids[0], &first), (&ids[1], &first)]).await.unwrap();
        // Only an operator replaces the firmware's code.
        let changed = AttestationRow { firmware_code: Some(code(true)), ..appraised(200) };
        attestations::keep(&mut tx, &[(&ids[0], &changed)]).await.unwrap();
        assert!(!attestations::is_last(&mut tx, &ids[0], &first.result).await.unwrap());
        assert!(attestations::is_last(&mut tx, &ids[0], &changed.result).await.unwrap());
        assert!(
            !attestations::accept_firmware(&mut tx, &ids[0], &first.result, &code(true))
                .await
                .unwrap()
        );
        tx.commit().await.unwrap();
        let kept = attestations::get(db.pool(), &ids[0]).await.unwrap().unwrap();
        assert_eq!(kept, AttestationRow { firmware_code: Some(code(false)), ..changed.clone() });
        let mut tx = db.write().await.unwrap();
        assert!(
            attestations::accept_firmware(&mut tx, &ids[0], &changed.result, &code(true))
                .await
                .unwrap()
        );
        attestations::set_attestation_failure(&mut tx, &ids[1], Some("wrong")).await.unwrap();
        let all: Vec<_> = ids.iter().collect();
        let subjects = attestations::subjects(&mut tx, &all).await.unwrap();
        assert_eq!(subjects.len(), 2, "the third has no TPM");
        assert_eq!(subjects[&ids[0]].firmware_code, Some(code(true)));
        assert_eq!(subjects[&ids[1]].attestation_failure.as_deref(), Some("wrong"));
        assert_eq!(subjects[&ids[0]].running, None, "it has not reported");
        let found = known::of(&mut tx, &all, 201).await.unwrap();
        assert_eq!(found.len(), 3);
        assert!(known::of(&mut tx, &[], 201).await.unwrap().is_empty());
        let in_fleet = known::after(&mut tx, &fleet, ("", 100), 201).await.unwrap();
        assert_eq!(in_fleet.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), ids);
        assert_eq!(in_fleet[0].1.found.level_at(201), Level::ObservedBoot);
        assert_eq!(in_fleet[2].1.found, attestations::Found::NOTHING);
        let nobody = "nobody".parse().unwrap();
        assert!(known::after(&mut tx, &nobody, ("", 100), 201).await.unwrap().is_empty());
        let (of, _) = attestations::found(&mut tx, &ids[0]).await.unwrap().unwrap();
        assert_eq!(of, fleet);
        tx.commit().await.unwrap();
        let with = attestations::with_evidence(db.pool(), &fleet, "dev-1", 5).await.unwrap();
        assert_eq!(with, ids[1..2]);
        let on = attestations::on_release(db.pool(), &"kiosk@1".parse().unwrap()).await.unwrap();
        assert_eq!(on.len(), 2);
    }

    pub async fn the_newest_firmware_logs_are_kept(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1", "dev-2"]).await;
        let (one, two) = (id("dev-1"), id("dev-2"));
        let mut tx = db.write().await.unwrap();
        for n in 0..6_u8 {
            let sha256 = format!("sha-{n}");
            attestations::keep_log(&mut tx, &one, &sha256, &[n, 0, 255], 10).await.unwrap();
        }
        attestations::keep_log(&mut tx, &two, "sha-0", b"two", 10).await.unwrap();
        let named = [(&one, "sha-5"), (&one, "unknown"), (&two, "sha-0")];
        let logs = attestations::logs(&mut tx, &named).await.unwrap();
        assert_eq!((logs[&one].as_slice(), logs[&two].as_slice()), (&[5, 0, 255][..], &b"two"[..]));
        let count: i64 =
            fleeti_store::sql::query_scalar("SELECT COUNT(*) FROM evidence_logs WHERE device = $1")
                .bind("dev-1")
                .fetch_one(&mut *tx)
                .await
                .unwrap();
        assert_eq!(count, 4);
    }

    pub async fn policies_differ_by_fleet(place: Place) {
        let db = place.open().await;
        let fleet = "bench".parse().unwrap();
        let strict = Policy { update: Some(Level::VerifiedBoot), ..Policy::default() };
        for policy in [Policy::default(), strict.clone()] {
            let mut tx = db.write().await.unwrap();
            policies::set(&mut tx, &fleet, &policy).await.unwrap();
            tx.commit().await.unwrap();
        }
        let policies = policies::all(db.pool()).await.unwrap();
        assert_eq!(policies.into_iter().collect::<Vec<_>>(), [(fleet, strict)]);
    }

    fn keys(epoch: u32, change: u64) -> BootState {
        let expected = FirmwareKeys {
            setup_mode: false,
            pk: Some("pk".into()),
            kek: vec![],
            db: vec![],
            dbx: vec![],
            change,
            refused: None,
        };
        BootState { wrapped: "wrapped".into(), epoch, expected }
    }

    pub async fn secure_boot_keys_change_one_after_another(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1", "dev-2"]).await;
        let (device, fleet) = (id("dev-1"), "bench".parse().unwrap());
        let release = "kiosk@1".parse().unwrap();
        let mut tx = db.write().await.unwrap();
        boot::insert(&mut tx, &device, &keys(1, 0), Some(&release), 5).await.unwrap();
        let row = BootKeysRow {
            state: keys(2, 1),
            loader_release: None,
            change_writes: vec![],
            may_end_fallback: true,
        };
        let changed = boot::change(&mut tx, &device, 0, &row).await.unwrap().unwrap().unwrap();
        assert_eq!(changed.boot_change, Some(1));
        assert!(boot::change(&mut tx, &device, 0, &row).await.unwrap().is_none());
        tx.commit().await.unwrap();
        let found = boot::get(db.pool(), &device).await.unwrap().unwrap();
        assert_eq!((found.state.epoch, found.may_end_fallback), (2, true));
        assert_eq!(found.loader_release, Some(release.clone()));
        let unsigned = boot::unsigned(db.pool(), &fleet, &release, "", 5).await.unwrap();
        assert_eq!((unsigned.len(), unsigned[0].epoch), (1, 2));
        let signatures = BootSignatures::default();
        let signed = [SignedForDevice { device: device.clone(), epoch: 2, signatures }];
        let mut tx = db.write().await.unwrap();
        boot::keep_signatures(&mut tx, &release, &[]).await.unwrap();
        for _ in 0..2 {
            boot::keep_signatures(&mut tx, &release, &signed).await.unwrap();
        }
        tx.commit().await.unwrap();
        assert!(boot::unsigned(db.pool(), &fleet, &release, "", 5).await.unwrap().is_empty());
        assert!(boot::signatures(db.pool(), &device, &release, 2).await.unwrap().is_some());
        assert!(boot::signatures(db.pool(), &device, &release, 1).await.unwrap().is_none());
    }

    pub async fn recovery_keys_keep_the_previous_one(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1"]).await;
        let device = id("dev-1");
        let mut tx = db.write().await.unwrap();
        vault::keep_recovery_key(&mut tx, &device, "first", "sha-1", 5).await.unwrap();
        vault::set_shown(&mut tx, &device, "first", 6).await.unwrap();
        tx.commit().await.unwrap();
        let shown = vault::shown(db.pool()).await.unwrap();
        assert_eq!(shown.into_iter().collect::<Vec<_>>(), std::slice::from_ref(&device));
        let mut tx = db.write().await.unwrap();
        vault::keep_recovery_key(&mut tx, &device, "second", "sha-2", 7).await.unwrap();
        tx.commit().await.unwrap();
        let row = vault::recovery_key(db.pool(), &device).await.unwrap().unwrap();
        assert_eq!((row.wrapped.as_str(), row.previous.as_deref()), ("second", Some("first")));
        assert_eq!((row.status.kept_s, row.status.shown_s), (7, None));
        assert!(vault::shown(db.pool()).await.unwrap().is_empty());
    }

    pub async fn secrets_of_a_fleet_are_counted(place: Place) {
        let db = place.open().await;
        let (fleet, name) = ("bench".parse().unwrap(), "wifi".parse().unwrap());
        assert_eq!(vault::wrapped_secrets(db.pool(), &fleet).await.unwrap().version, 0);
        let mut tx = db.write().await.unwrap();
        let changes = [1, 2].map(|version| SecretChange { version, changed_s: 5 });
        for (wrapped, change) in ["one", "two"].into_iter().zip(changes) {
            vault::set_secret(&mut tx, &fleet, &name, wrapped, change).await.unwrap();
        }
        assert_eq!(vault::changed(&mut tx, &fleet).await.unwrap(), 1);
        assert_eq!(vault::changed(&mut tx, &fleet).await.unwrap(), 2);
        assert_eq!(vault::count_besides(&mut tx, &fleet, &name).await.unwrap(), 0);
        let other = "other".parse().unwrap();
        assert_eq!(vault::count_besides(&mut tx, &fleet, &other).await.unwrap(), 1);
        tx.commit().await.unwrap();
        let found = vault::wrapped_secrets(db.pool(), &fleet).await.unwrap();
        assert_eq!((found.version, found.wrapped[&name].as_str()), (2, "two"));
        assert_eq!(found.changes[&name], changes[1]);
        let listed = vault::secrets(db.pool(), &fleet).await.unwrap();
        assert_eq!((listed.len(), listed[0].version, listed[0].changed_s), (1, 2, 5));
        assert_eq!(vault::versions(db.pool()).await.unwrap()[&fleet], 2);
        let mut tx = db.write().await.unwrap();
        assert!(vault::remove_secret(&mut tx, &fleet, &name).await.unwrap());
        assert!(!vault::remove_secret(&mut tx, &fleet, &name).await.unwrap());
        tx.commit().await.unwrap();
        let found = vault::wrapped_secrets(db.pool(), &fleet).await.unwrap();
        assert_eq!((found.version, found.wrapped.len()), (2, 0), "the count stays");
    }
}
