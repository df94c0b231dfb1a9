//! Enrollment tokens, pairing, certificates and their keys, sessions, workers, trust.

use crate::databases::on_both;

on_both! {
    a_token_belongs_to_the_device_that_used_it,
    a_reader_cannot_write,
    a_pairing_is_found_by_its_code_and_key_until_it_is_removed,
    certificates_follow_the_key_of_a_device,
    a_key_stays_with_its_device,
    a_device_that_enrolls_twice_at_once_keeps_both_keys,
    expired_certificates_are_deleted_except_the_newest,
    sessions_end,
    passkeys_end_with_their_sessions,
    accounts_tokens_and_links_are_kept,
    workers_are_known_by_their_token,
    trust_documents_are_read_as_they_were_stored,
    a_readmission_is_for_the_devices_of_its_fleet,
}

mod test {
    use crate::databases::Place;
    use crate::devices::{certified, enroll, id, key};
    use fleeti_core::enrollment::certificate::{KeyPlace, State as Keys, Successors};
    use fleeti_core::enrollment::pairing::State as Pairing;
    use fleeti_core::enrollment::token::{State, Terms, Token};
    use fleeti_core::wire::accounts::{AccountKind, ApiToken, Grant, Passkey, Permission, Role};
    use fleeti_core::wire::api::RevocationReason;
    use fleeti_core::wire::device::SignedBundle;
    use fleeti_core::wire::readmission::SignedTransition;
    use fleeti_store::accounts::{AccountRow, LinkRow, TokenRow};
    use fleeti_store::devices::WithCertificate;
    use fleeti_store::pairings::PairingRow;
    use fleeti_store::passkeys::PasskeyRow;
    use fleeti_store::sessions::SessionRow;
    use fleeti_store::trust::{BundleCoverage, NewBundle};
    use fleeti_store::{
        StoreError, accounts, certificates, device_keys, devices, enrollments, pairings, passkeys,
        readmissions, sessions, sql, trust, workers,
    };

    pub async fn a_token_belongs_to_the_device_that_used_it(place: Place) {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        let fleet = "bench".parse().unwrap();
        for token in ["old", "new"] {
            enrollments::insert(&mut tx, token, &fleet, &Terms::until(7)).await.unwrap();
        }
        let reserved = Terms {
            reserved: Some(id("dev-2")),
            ek_sha256: Some("ek".into()),
            for_key_sha256: Some("only".into()),
            ..Terms::until(7)
        };
        enrollments::insert(&mut tx, "reserved", &fleet, &reserved).await.unwrap();
        let (device, token_sha256, key_sha256) = (&id("dev-1"), "old", "key");
        let uses = [enrollments::Use { token_sha256, device, key_sha256 }];
        enrollments::consume(&mut tx, &uses).await.unwrap();
        let used = enrollments::used(&mut tx, &["old", "new", "unknown"]).await.unwrap();
        assert_eq!(used.into_keys().collect::<Vec<_>>(), ["old"]);
        tx.commit().await.unwrap();
        let mut reader = db.reader().await.unwrap();
        let found = enrollments::find(&mut reader, &["old", "new", "reserved"]).await.unwrap();
        let by = State::Used { device: id("dev-1"), key_sha256: "key".into() };
        assert_eq!((found.len(), &found["old"].token.state), (3, &by));
        let new = Token { state: State::Unused, terms: Terms::until(7) };
        assert_eq!((&found["new"].token, &found["new"].fleet), (&new, &fleet));
        assert_eq!(found["reserved"].token.terms, reserved);
    }

    pub async fn a_reader_cannot_write(place: Place) {
        let db = place.open().await;
        let refused = sql::query("DELETE FROM enrollments").execute(db.pool()).await.unwrap_err();
        let words = if place.is_postgres() { "read-only" } else { "readonly" };
        assert!(refused.to_string().contains(words), "{refused}");
    }

    pub async fn a_pairing_is_found_by_its_code_and_key_until_it_is_removed(place: Place) {
        let db = place.open().await;
        let row = |token: &str, key: &str| PairingRow {
            token_sha256: token.into(),
            key_sha256: key.into(),
            running: "kiosk@1".into(),
        };
        let mut tx = db.write().await.unwrap();
        let pending = Pairing::Pending { expires_s: 200 };
        pairings::insert(&mut tx, &row("t-1", "k-1"), "c-1", 200).await.unwrap();
        // A restarted device has the same key.
        let before = pairings::of_key(&mut tx, "k-1").await.unwrap();
        assert_eq!(before.iter().map(|p| p.row.token_sha256.as_str()).collect::<Vec<_>>(), ["t-1"]);
        assert!(pairings::remove(&mut tx, "t-1").await.unwrap());
        pairings::insert(&mut tx, &row("t-2", "k-1"), "c-2", 200).await.unwrap();
        assert_eq!(pairings::state(&mut tx, "t-1").await.unwrap(), Pairing::Gone);
        assert_eq!(pairings::state(&mut tx, "t-2").await.unwrap(), pending);
        pairings::prune(&mut tx, 200).await.unwrap();
        assert!(pairings::by_code(&mut tx, "c-1").await.unwrap().is_none());
        let found = pairings::by_code(&mut tx, "c-2").await.unwrap().unwrap();
        assert_eq!((found.row.running.as_str(), found.state), ("kiosk@1", pending));
        assert!(pairings::remove(&mut tx, "t-2").await.unwrap());
        assert!(!pairings::remove(&mut tx, "t-2").await.unwrap());
        assert!(pairings::by_code(&mut tx, "c-2").await.unwrap().is_none());
        let fleet = "bench".parse().unwrap();
        enrollments::insert(&mut tx, "t-2", &fleet, &Terms::until(300)).await.unwrap();
        let paired = Pairing::Paired { expires_s: 300 };
        assert_eq!(pairings::state(&mut tx, "t-2").await.unwrap(), paired);
        pairings::insert(&mut tx, &row("t-3", "k-3"), "c-3", 200).await.unwrap();
        pairings::prune(&mut tx, 201).await.unwrap();
        assert_eq!(pairings::state(&mut tx, "t-3").await.unwrap(), Pairing::Gone);
        tx.commit().await.unwrap();
    }

    /// `dev-1` with a second key that it has not used.
    fn renewed() -> Keys {
        Keys::Renewed { key_sha256: key("dev-1", 1).into(), next_sha256: key("dev-1", 2).into() }
    }

    pub async fn certificates_follow_the_key_of_a_device(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1"]).await;
        let device = id("dev-1");
        let pem = certificates::newest(db.pool(), &device).await.unwrap();
        assert_eq!(pem.as_deref(), Some("PEM of serial-dev-1-1"));
        let mut tx = db.write().await.unwrap();
        let first = certificates::load(&mut tx, &device).await.unwrap().unwrap();
        assert_eq!(first.certificates.place, KeyPlace::Tpm);
        let fleet = "bench".parse().unwrap();
        let second = certified("dev-1", 2);
        let row = WithCertificate { device: &device, fleet: &fleet, certificate: &second };
        devices::upsert(&mut tx, &[row], 20).await.unwrap();
        let now = certificates::load(&mut tx, &device).await.unwrap().unwrap();
        assert_eq!((now.certificates.state, now.fleet), (renewed(), fleet));
        let found = certificates::of_key(&mut tx, &device, key("dev-1", 2), 20).await.unwrap();
        assert_eq!(found.unwrap().serial, "serial-dev-1-2");
        assert!(
            certificates::of_key(&mut tx, &device, key("dev-1", 2), 2000).await.unwrap().is_none()
        );
        let successors = Successors { count: 3, last_s: 21 };
        certificates::set_successors(&mut tx, &device, successors).await.unwrap();
        assert!(devices::promote_key(&mut tx, &device, key("dev-1", 2)).await.unwrap());
        assert!(!devices::promote_key(&mut tx, &device, key("dev-1", 2)).await.unwrap());
        let now = certificates::load(&mut tx, &device).await.unwrap().unwrap().certificates;
        assert_eq!(now.state, Keys::Current { key_sha256: key("dev-1", 2).into() });
        assert_eq!((now.successors, now.not_after_s), (successors, 1002));
        certificates::supersede(&mut tx, &device, key("dev-1", 1)).await.unwrap();
        certificates::supersede(&mut tx, &device, key("dev-1", 1)).await.unwrap();
        let owners =
            device_keys::owners(&mut tx, &[key("dev-1", 1), key("dev-1", 2)]).await.unwrap();
        assert_eq!(
            owners.into_iter().collect::<Vec<_>>(),
            [(key("dev-1", 2).into(), "dev-1".into())]
        );
        assert!(device_keys::owners(&mut tx, &[]).await.unwrap().is_empty());
        let reason = RevocationReason::KeyCompromise;
        assert!(devices::revoke(&mut tx, &device, reason, 30).await.unwrap());
        let now = certificates::load(&mut tx, &device).await.unwrap().unwrap().certificates;
        assert_eq!((now.state, now.place), (Keys::Revoked, KeyPlace::Tpm));
        tx.commit().await.unwrap();
        let listed = certificates::revoked(db.pool(), "issuer", 100).await.unwrap();
        let row = |serial: &str| certificates::RevokedCertificate {
            serial: serial.to_owned(),
            revoked_s: 30,
            reason,
        };
        assert_eq!(listed, [row("serial-dev-1-1"), row("serial-dev-1-2")]);
        assert!(certificates::revoked(db.pool(), "another", 100).await.unwrap().is_empty());
    }

    pub async fn a_key_stays_with_its_device(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1"]).await;
        let mut tx = db.write().await.unwrap();
        let stolen = devices::Certified { serial: "other".into(), ..certified("dev-1", 1) };
        let (device, fleet) = (id("dev-2"), "bench".parse().unwrap());
        let row = WithCertificate { device: &device, fleet: &fleet, certificate: &stolen };
        let refused = devices::upsert(&mut tx, &[row], 20).await.unwrap_err();
        assert!(matches!(refused, StoreError::Check { .. }), "{refused}");
    }

    pub async fn a_device_that_enrolls_twice_at_once_keeps_both_keys(place: Place) {
        let db = place.open().await;
        let (device, fleet) = (id("dev-1"), "bench".parse().unwrap());
        let all = [1, 2].map(|number| certified("dev-1", number));
        let mut tx = db.write().await.unwrap();
        let rows = all.each_ref().map(|certificate| WithCertificate {
            device: &device,
            fleet: &fleet,
            certificate,
        });
        devices::upsert(&mut tx, &rows, 20).await.unwrap();
        let now = certificates::load(&mut tx, &device).await.unwrap().unwrap();
        assert_eq!(now.certificates.state, renewed());
    }

    pub async fn expired_certificates_are_deleted_except_the_newest(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1", "dev-2"]).await;
        let mut tx = db.write().await.unwrap();
        let (device, fleet) = (id("dev-1"), "bench".parse().unwrap());
        for number in 2..=4 {
            let next = certified("dev-1", number);
            let row = WithCertificate { device: &device, fleet: &fleet, certificate: &next };
            devices::upsert(&mut tx, &[row], 20).await.unwrap();
        }
        certificates::supersede(&mut tx, &device, key("dev-1", 3)).await.unwrap();
        assert_eq!(certificates::prune(&mut tx, 900, 10).await.unwrap(), 0);
        // The key of the first is the one that the device uses, and the fourth is the newest.
        assert_eq!(certificates::prune(&mut tx, 2000, 10).await.unwrap(), 4);
        tx.commit().await.unwrap();
        let left: Vec<String> = sql::query_scalar("SELECT serial FROM issued ORDER BY serial")
            .fetch_all(db.pool())
            .await
            .unwrap();
        assert_eq!(left, ["serial-dev-1-4", "serial-dev-2-1"]);
    }

    pub async fn sessions_end(place: Place) {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        let row = |token: &str, account: &str, created_s, expires_s| SessionRow {
            token_sha256: token.to_owned(),
            account: account.parse().unwrap(),
            created_s,
            used_s: created_s,
            expires_s,
            credential: "credential".into(),
            passkey: None,
        };
        let alice = "alice".parse().unwrap();
        sessions::insert(&mut tx, &row("old", "alice", 1, 5)).await.unwrap();
        sessions::insert(&mut tx, &row("token", "alice", 10, 20)).await.unwrap();
        sessions::insert(&mut tx, &row("other", "bob", 11, 20)).await.unwrap();
        sessions::used(&mut tx, "token", 15).await.unwrap();
        assert!(sessions::get(&mut tx, "old").await.unwrap().is_none(), "it has expired");
        let kept = SessionRow { used_s: 15, ..row("token", "alice", 10, 20) };
        assert_eq!(sessions::get(&mut tx, "token").await.unwrap(), Some(kept.clone()));
        assert_eq!(sessions::of(&mut tx, &alice).await.unwrap(), [kept]);
        sessions::delete(&mut tx, "token").await.unwrap();
        assert!(sessions::get(&mut tx, "token").await.unwrap().is_none());
        sessions::insert(&mut tx, &row("token", "alice", 10, 20)).await.unwrap();
        assert_eq!(sessions::delete_all(&mut tx, &alice).await.unwrap(), 1);
        assert!(sessions::get(&mut tx, "other").await.unwrap().is_some());
    }

    pub async fn passkeys_end_with_their_sessions(place: Place) {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        for name in ["alice", "bob"] {
            let row = AccountRow {
                name: name.parse().unwrap(),
                kind: AccountKind::Person,
                created_s: 1,
                disabled_s: None,
                password: None,
                grants: vec![],
                seal: "seal".into(),
            };
            assert!(accounts::insert(&mut tx, &row).await.unwrap());
        }
        let alice = "alice".parse().unwrap();
        let row = |id: &str, credential: &str, account: &str| PasskeyRow {
            about: Passkey {
                id: id.into(),
                account: account.parse().unwrap(),
                label: "a key".into(),
                is_synced: true,
                created_s: 1,
                used_s: None,
            },
            credential_id: credential.into(),
            public_key: "a5".into(),
            counter: 0,
            seal: "seal".into(),
        };
        assert!(passkeys::insert(&mut tx, &row("pk-1", "aa", "alice")).await.unwrap());
        assert!(passkeys::insert(&mut tx, &row("pk-2", "bb", "alice")).await.unwrap());
        let taken = passkeys::insert(&mut tx, &row("pk-3", "aa", "bob")).await.unwrap();
        assert!(!taken, "a credential is of one account");
        assert!(passkeys::insert(&mut tx, &row("pk-4", "cc", "bob")).await.unwrap());

        let mut used = row("pk-1", "aa", "alice");
        (used.counter, used.about.used_s, used.seal) = (u32::MAX, Some(7), "new".into());
        passkeys::used(&mut tx, &used).await.unwrap();
        assert_eq!(passkeys::by_credential(&mut tx, "aa").await.unwrap(), Some(used.clone()));
        assert_eq!(passkeys::by_id(&mut tx, "pk-1").await.unwrap(), Some(used.clone()));
        let all = passkeys::of(&mut tx, &alice).await.unwrap();
        assert_eq!(all, [used, row("pk-2", "bb", "alice")]);

        let session = |token: &str, passkey: Option<&str>| SessionRow {
            token_sha256: token.into(),
            account: "alice".parse().unwrap(),
            created_s: 1,
            used_s: 1,
            expires_s: 9,
            credential: "credential".into(),
            passkey: passkey.map(str::to_owned),
        };
        for (token, passkey) in [("a", Some("pk-1")), ("b", Some("pk-2")), ("c", None)] {
            sessions::insert(&mut tx, &session(token, passkey)).await.unwrap();
        }
        passkeys::remove(&mut tx, "pk-1").await.unwrap();
        let left = sessions::of(&mut tx, &alice).await.unwrap();
        assert_eq!(left, [session("b", Some("pk-2")), session("c", None)]);
        assert!(passkeys::by_id(&mut tx, "pk-1").await.unwrap().is_none());
        assert_eq!(passkeys::remove_all(&mut tx, &alice).await.unwrap(), 1);
        assert!(passkeys::by_id(&mut tx, "pk-4").await.unwrap().is_some(), "another account");
    }

    pub async fn accounts_tokens_and_links_are_kept(place: Place) {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        let mut alice = AccountRow {
            name: "alice".parse().unwrap(),
            kind: AccountKind::Person,
            created_s: 1,
            disabled_s: None,
            password: None,
            grants: vec![Grant { role: Role::Viewer, fleet: Some("demo".parse().unwrap()) }],
            seal: "seal".into(),
        };
        assert!(accounts::insert(&mut tx, &alice).await.unwrap());
        assert!(!accounts::insert(&mut tx, &alice).await.unwrap(), "the name is taken");
        alice.disabled_s = Some(2);
        alice.password = Some("hash".into());
        alice.grants.clear();
        accounts::update(&mut tx, &alice).await.unwrap();
        assert_eq!(accounts::get(&mut tx, &alice.name).await.unwrap(), Some(alice.clone()));
        assert_eq!(accounts::all(&mut tx).await.unwrap(), [alice.clone()]);

        let token = |id: &str, expires_s| TokenRow {
            about: ApiToken {
                id: id.into(),
                account: alice.name.clone(),
                label: "ci".into(),
                permissions: Some(vec![Permission::View]),
                created_s: 1,
                expires_s,
                used_s: None,
            },
            token_sha256: format!("digest of {id}"),
            seal: "seal".into(),
        };
        accounts::insert_token(&mut tx, &token("old", 5), 1).await.unwrap();
        accounts::insert_token(&mut tx, &token("tok-1", 20), 10).await.unwrap();
        assert_eq!(accounts::tokens_of(&mut tx, &alice.name).await.unwrap(), [token("tok-1", 20)]);
        accounts::token_used(&mut tx, "tok-1", 12).await.unwrap();
        let found = accounts::token_by_digest(&mut tx, "digest of tok-1").await.unwrap().unwrap();
        assert_eq!(found.about.used_s, Some(12));
        assert!(accounts::token_by_id(&mut tx, "old").await.unwrap().is_none(), "it has expired");
        assert_eq!(accounts::remove_tokens(&mut tx, &alice.name).await.unwrap(), 1);

        let link = |digest: &str| LinkRow {
            account: None,
            token_sha256: digest.into(),
            expires_s: 9,
            seal: "seal".into(),
        };
        accounts::put_link(&mut tx, &link("a")).await.unwrap();
        accounts::put_link(&mut tx, &link("b")).await.unwrap();
        assert!(accounts::link(&mut tx, "a").await.unwrap().is_none(), "it was replaced");
        assert_eq!(accounts::link(&mut tx, "b").await.unwrap(), Some(link("b")));
        accounts::remove_link(&mut tx, None).await.unwrap();
        assert!(accounts::link(&mut tx, "b").await.unwrap().is_none());

        let terms = Terms::until(20);
        let fleet = "demo".parse().unwrap();
        for digest in ["made by alice", "made by nobody"] {
            fleeti_store::enrollments::insert(&mut tx, digest, &fleet, &terms).await.unwrap();
        }
        accounts::made_enrollment(&mut tx, "made by alice", "alice").await.unwrap();
        tx.commit().await.unwrap();
        let open =
            async |now_s| accounts::open_enrollments(db.pool(), &alice.name, now_s).await.unwrap();
        assert_eq!((open(20).await, open(21).await), (1, 0));
        let mut tx = db.write().await.unwrap();
        assert_eq!(accounts::end_enrollments(&mut tx, &alice.name, 20).await.unwrap(), 1);
        tx.commit().await.unwrap();
        assert_eq!(open(20).await, 0);
    }

    pub async fn workers_are_known_by_their_token(place: Place) {
        let db = place.open().await;
        let name = |text: &str| text.parse().unwrap();
        let mut tx = db.write().await.unwrap();
        assert!(workers::insert(&mut tx, &name("b-2"), "token-2", 1).await.unwrap());
        assert!(workers::insert(&mut tx, &name("b1"), "token-1", 1).await.unwrap());
        assert!(!workers::insert(&mut tx, &name("b1"), "token-3", 1).await.unwrap());
        workers::seen(&mut tx, &name("b1"), 9).await.unwrap();
        tx.commit().await.unwrap();
        let all = workers::all(db.pool()).await.unwrap();
        let all: Vec<_> = all.iter().map(|w| (w.name.as_str(), w.seen_s)).collect();
        assert_eq!(all, [("b-2", None), ("b1", Some(9))]);
        assert_eq!(workers::by_token(db.pool(), "token-1").await.unwrap(), Some(name("b1")));
        let mut tx = db.write().await.unwrap();
        assert!(workers::delete(&mut tx, &name("b1")).await.unwrap());
        assert!(!workers::delete(&mut tx, &name("b1")).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(workers::by_token(db.pool(), "token-1").await.unwrap(), None);
    }

    pub async fn trust_documents_are_read_as_they_were_stored(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1", "dev-2"]).await;
        let mut tx = db.write().await.unwrap();
        for version in [9, 10] {
            let bundle =
                SignedBundle { bundle: format!("bundle {version}"), signature: "s".into() };
            let transcript = format!("transcript {version}");
            let new = NewBundle {
                root_sha256: "root",
                version,
                bundle: &bundle,
                transcript: &transcript,
            };
            trust::insert(&mut tx, new, 5).await.unwrap();
        }
        let signed = SignedTransition {
            transition: "{}".into(),
            signatures: vec![("key".into(), "signature".into())],
        };
        trust::keep_transition(&mut tx, "sha", &signed, 5).await.unwrap();
        trust::keep_transition(&mut tx, "sha", &signed, 6).await.unwrap();
        trust::switch(&mut tx, "device", "first").await.unwrap();
        trust::switch(&mut tx, "device", "second").await.unwrap();
        tx.commit().await.unwrap();
        let newest = trust::newest(db.pool(), "root").await.unwrap().unwrap();
        assert_eq!(newest.bundle, "bundle 10");
        let transcript = trust::transcript(db.pool(), "root").await.unwrap();
        assert_eq!(transcript.as_deref(), Some("transcript 10"));
        assert_eq!(trust::transitions(db.pool()).await.unwrap(), [signed]);
        assert_eq!(trust::issuing(db.pool()).await.unwrap()["device"], "second");
        assert_eq!(trust::devices_of(db.pool(), "issuer", "first").await.unwrap(), 2);
        assert_eq!(trust::devices_of(db.pool(), "first", "first").await.unwrap(), 0);
        for (version, with_bundle) in [(1, 0), (0, 2)] {
            let coverage = trust::coverage(db.pool(), version).await.unwrap();
            assert_eq!(coverage, BundleCoverage { devices: 2, with_bundle });
        }
    }

    pub async fn a_readmission_is_for_the_devices_of_its_fleet(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1"]).await;
        let (device, fleet) = (id("dev-1"), "bench".parse().unwrap());
        let mut tx = db.write().await.unwrap();
        sql::query("UPDATE devices SET is_in_tpm = 0").execute(&mut *tx).await.unwrap();
        let opened = |until_s| readmissions::Opened { fleet: &fleet, until_s, reason: "flood" };
        assert_eq!(readmissions::until_s(&mut tx, &device).await.unwrap(), None);
        assert_eq!(readmissions::open(&mut tx, &opened(50), 10).await.unwrap(), 0);
        assert_eq!(readmissions::open(&mut tx, &opened(60), 5000).await.unwrap(), 1);
        assert_eq!(readmissions::until_s(&mut tx, &device).await.unwrap(), Some(60));
        assert_eq!(readmissions::until_s(&mut tx, &id("dev-2")).await.unwrap(), None);
        tx.commit().await.unwrap();
    }
}
