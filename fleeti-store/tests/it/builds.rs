//! Profiles, builds, signing requests, releases.

use crate::databases::on_both;

on_both! {
    a_revision_is_numbered_by_its_content,
    a_build_keeps_the_packages_that_it_refreshes,
    a_build_is_claimable_again_when_its_lease_has_ended,
    a_signature_is_found_while_it_waits,
    a_state_follows_the_one_that_was_loaded,
    old_builds_lose_their_files,
    an_approval_belongs_to_a_request,
    a_release_is_published_once,
}

mod test {
    use crate::databases::Place;
    use crate::devices::{enroll, id};
    use fleeti_core::build::{Files, Holder, Outcome, Signing, State};
    use fleeti_core::wire::api::{
        BuildPhase, CreateBuild, RequestSignature, SignedBootProof, SignedBy,
    };
    use fleeti_store::builds::Texts;
    use fleeti_store::releases::NewRelease;
    use fleeti_store::{Db, Tx, approvals, builds, desired, releases, revisions};

    fn request(motd: &str) -> CreateBuild {
        let text = format!(
            "schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n[[files]]\npath = \"/etc/motd\"\ncontent = \"{motd}\"\n"
        );
        CreateBuild {
            profile: fleeti_core::profile::check(&text).unwrap(),
            version: "1".parse().unwrap(),
            refresh_lock: false,
            refresh_packages: Vec::new(),
        }
    }

    fn holder(worker: &str) -> Holder {
        Holder { worker: worker.into(), lease: "lease-1".into() }
    }

    fn running(worker: &str, until_s: u64, attempt: u8) -> State {
        State::Running { holder: holder(worker), until_s, attempt }
    }

    fn succeeded(signing: Signing) -> State {
        State::Succeeded { files: Files::Kept, signing }
    }

    /// Stores a state of `build-1`, and reads it again.
    async fn set(tx: &mut Tx<'_>, state: State, texts: Texts<'_>) {
        let before = builds::load(tx, "build-1").await.unwrap().unwrap();
        assert!(builds::set(tx, &before, &state, texts).await.unwrap());
        assert_eq!(builds::load(tx, "build-1").await.unwrap().unwrap().state, state);
    }

    async fn queued(db: &Db, id: &str, created_s: u64) {
        let mut tx = db.write().await.unwrap();
        builds::insert(&mut tx, id, 1, &request("a"), created_s).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn built(db: &Db, id: &str) {
        let mut tx = db.write().await.unwrap();
        let before = builds::load(&mut tx, id).await.unwrap().unwrap();
        let texts = Texts { detail: Some("done"), directory: Some("/b"), ..Texts::default() };
        let built = State::from(Outcome::Succeeded);
        assert!(builds::set(&mut tx, &before, &built, texts).await.unwrap());
        tx.commit().await.unwrap();
    }

    pub async fn a_build_keeps_the_packages_that_it_refreshes(place: Place) {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        let packages = vec!["openssl>=3.5".to_owned(), "zlib1g".to_owned()];
        let fix = CreateBuild { refresh_packages: packages.clone(), ..request("a") };
        builds::insert(&mut tx, "build-1", 1, &fix, 1).await.unwrap();
        builds::insert(&mut tx, "build-2", 1, &request("a"), 2).await.unwrap();
        let kept = builds::request(&mut tx, "build-1").await.unwrap().unwrap();
        assert_eq!(kept.request.refresh_packages, packages);
        tx.commit().await.unwrap();
        let all = builds::newest(db.pool(), 9).await.unwrap();
        let refreshed: Vec<_> = all.into_iter().map(|build| build.refreshed).collect();
        assert_eq!(refreshed, [vec![], packages]);
    }

    pub async fn a_revision_is_numbered_by_its_content(place: Place) {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        for (motd, number) in [("a", 1), ("b", 2), ("a", 1), ("c", 3)] {
            let profile = request(motd).profile;
            assert_eq!(revisions::number(&mut tx, &profile, None, 5).await.unwrap(), number);
        }
        tx.commit().await.unwrap();
        let line = "kiosk".parse().unwrap();
        let numbers = |all: &[revisions::Head]| all.iter().map(|h| h.number).collect::<Vec<_>>();
        let heads = revisions::heads_of_line(db.pool(), &line, 2).await.unwrap();
        assert_eq!(numbers(&heads), [3, 2]);
        assert_eq!(numbers(&revisions::heads(db.pool(), 5).await.unwrap()), [3]);
        let one = revisions::get(db.pool(), &line, 1).await.unwrap().unwrap();
        assert_eq!(one.profile, request("a").profile);
        assert_eq!(revisions::of_line(db.pool(), &line, 5).await.unwrap().len(), 3);
        assert_eq!(revisions::newest(db.pool(), 5).await.unwrap()[0].number, 3);
    }

    pub async fn a_build_is_claimable_again_when_its_lease_has_ended(place: Place) {
        let db = place.open().await;
        queued(&db, "build-1", 10).await;
        let mut tx = db.write().await.unwrap();
        let found = builds::claimable(&mut tx, 10).await.unwrap().unwrap();
        assert_eq!((found.id.as_str(), found.state), ("build-1", State::Queued));
        let texts = Texts { detail: Some("started"), ..Texts::default() };
        set(&mut tx, running("w", 70, 1), texts).await;
        assert!(builds::claimable(&mut tx, 70).await.unwrap().is_none());
        assert!(builds::claimable(&mut tx, 71).await.unwrap().is_some());
        let mine = builds::leased_by(&mut tx, &holder("w"), 70).await.unwrap().unwrap();
        assert_eq!(mine.state, running("w", 70, 1));
        assert!(builds::leased_by(&mut tx, &holder("w"), 71).await.unwrap().is_none());
        assert!(builds::leased_by(&mut tx, &holder("x"), 70).await.unwrap().is_none());
        set(&mut tx, running("x", 130, 3), Texts::default()).await;
        assert!(builds::claimable(&mut tx, 300).await.unwrap().is_none(), "three attempts");
        assert!(builds::abandoned(&mut tx, 130).await.unwrap().is_empty());
        let abandoned = builds::abandoned(&mut tx, 131).await.unwrap();
        assert_eq!(abandoned.iter().map(|b| b.id.as_str()).collect::<Vec<_>>(), ["build-1"]);
        tx.commit().await.unwrap();
        let build = builds::get(db.pool(), "build-1").await.unwrap().unwrap();
        assert_eq!((build.phase, build.detail.as_str()), (BuildPhase::Running, "started"));
        let mut reader = db.reader().await.unwrap();
        let again = builds::request(&mut reader, "build-1").await.unwrap().unwrap();
        assert_eq!((again.revision, again.request.profile), (1, request("a").profile));
    }

    pub async fn a_signature_is_found_while_it_waits(place: Place) {
        let db = place.open().await;
        queued(&db, "build-1", 10).await;
        built(&db, "build-1").await;
        let mut tx = db.write().await.unwrap();
        assert!(builds::signable(&mut tx, 10).await.unwrap().is_none(), "not requested");
        set(&mut tx, succeeded(Signing::Queued), Texts::default()).await;
        assert!(builds::signable(&mut tx, 10).await.unwrap().is_some());
        let signing = |attempt| succeeded(Signing::Running { until_s: 70, attempt });
        set(&mut tx, signing(1), Texts::default()).await;
        assert!(builds::signable(&mut tx, 70).await.unwrap().is_none());
        assert!(builds::signable(&mut tx, 71).await.unwrap().is_some());
        set(&mut tx, signing(3), Texts::default()).await;
        assert!(builds::signable(&mut tx, 71).await.unwrap().is_none(), "three attempts");
        assert_eq!(builds::abandoned(&mut tx, 71).await.unwrap().len(), 1);
        let texts = Texts { signing_detail: Some("signed"), ..Texts::default() };
        set(&mut tx, succeeded(Signing::Succeeded), texts).await;
        tx.commit().await.unwrap();
        let build = builds::get(db.pool(), "build-1").await.unwrap().unwrap();
        let signed = (Some(BuildPhase::Succeeded), "signed", "done");
        assert_eq!((build.signing, &*build.signing_detail, &*build.detail), signed);
    }

    /// What two sessions have loaded, one of them stores.
    pub async fn a_state_follows_the_one_that_was_loaded(place: Place) {
        let db = place.open().await;
        queued(&db, "build-1", 10).await;
        let mut tx = db.write().await.unwrap();
        let loaded = builds::load(&mut tx, "build-1").await.unwrap().unwrap();
        for (state, is_stored) in [(running("w", 70, 1), true), (running("x", 70, 1), false)] {
            let texts = Texts { detail: Some("started"), ..Texts::default() };
            assert_eq!(builds::set(&mut tx, &loaded, &state, texts).await.unwrap(), is_stored);
        }
        let now = builds::load(&mut tx, "build-1").await.unwrap().unwrap();
        assert_eq!(now.state, running("w", 70, 1));
        assert!(builds::load(&mut tx, "build-2").await.unwrap().is_none());
    }

    pub async fn old_builds_lose_their_files(place: Place) {
        let db = place.open().await;
        for n in 1..=3 {
            let name = format!("build-{n}");
            queued(&db, &name, n).await;
            built(&db, &name).await;
        }
        assert_eq!(builds::newest(db.pool(), 2).await.unwrap()[0].id, "build-3");
        assert_eq!(builds::beyond(db.pool(), 1).await.unwrap(), ["build-2", "build-1"]);
        assert!(builds::beyond(db.pool(), 3).await.unwrap().is_empty());
        let mut tx = db.write().await.unwrap();
        let removed = State::Succeeded { files: Files::Removed, signing: Signing::NotRequested };
        set(&mut tx, removed, Texts::default()).await;
        tx.commit().await.unwrap();
        let old = builds::beyond(db.pool(), 1).await.unwrap();
        assert_eq!(old, ["build-2", "build-1"], "until the files are deleted");
        builds::files_deleted(db.writer(), "build-1").await.unwrap();
        assert_eq!(builds::beyond(db.pool(), 1).await.unwrap(), ["build-2"]);
        let build = builds::get(db.pool(), "build-1").await.unwrap().unwrap();
        assert_eq!(build.detail, "done; its files were removed to make room");
    }

    pub async fn an_approval_belongs_to_a_request(place: Place) {
        let db = place.open().await;
        let by = |key: &str| SignedBy { key_id: key.into(), signature: "s".into() };
        let request = RequestSignature { intent: "{}".into(), by: by("requester") };
        let mut tx = db.write().await.unwrap();
        assert!(approvals::get(&mut tx, "build-1").await.unwrap().is_none());
        approvals::ask(&mut tx, "build-1", &request, 5).await.unwrap();
        for key in ["b", "a", "b"] {
            approvals::approve(&mut tx, "build-1", &by(key)).await.unwrap();
        }
        let asked = approvals::get(&mut tx, "build-1").await.unwrap().unwrap();
        assert_eq!(asked.request.by.key_id, "requester");
        assert_eq!(
            asked.approvals.iter().map(|a| a.key_id.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        approvals::ask(&mut tx, "build-1", &request, 6).await.unwrap();
        assert!(approvals::get(&mut tx, "build-1").await.unwrap().unwrap().approvals.is_empty());
        tx.commit().await.unwrap();
    }

    fn manifest(release: &str) -> String {
        serde_json::json!({
            "type": fleeti_core::manifest::KIND, "release": release, "architecture": "x86_64",
            "revision_digest": "", "lock_digest": "", "artifacts": [{"path": "raw/kiosk.efi", "size": 1, "sha256": "00"}],
            "root_hash": "",
            "reference_values": fleeti_core::manifest::ReferenceValues::default(),
            "minimum_version": "1", "created_s": 0, "critical": [],
        })
        .to_string()
    }

    pub async fn a_release_is_published_once(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1"]).await;
        let (one, two) = ("kiosk@1".parse().unwrap(), "kiosk@2".parse().unwrap());
        let mut tx = db.write().await.unwrap();
        for (n, name) in [(1, &one), (2, &two)] {
            let text = manifest(&format!("kiosk@{n}"));
            let new = NewRelease {
                name,
                manifest_sha256: "sha",
                manifest: &text,
                signatures: "[]",
                published_s: n,
            };
            assert!(releases::insert(&mut tx, &new).await.unwrap());
            assert!(!releases::insert(&mut tx, &new).await.unwrap());
        }
        assert!(releases::is_good(&mut tx, &one).await.unwrap());
        assert!(!releases::is_proved(&mut tx, &one).await.unwrap());
        let proof = SignedBootProof { proof: "{}".into(), signatures: vec![] };
        releases::set_boot_proof(&mut tx, &one, &proof).await.unwrap();
        assert!(releases::is_proved(&mut tx, &one).await.unwrap());
        releases::set_audit_number(&mut tx, &two, 7).await.unwrap();
        assert!(releases::revoke(&mut tx, &two, 9).await.unwrap());
        assert!(!releases::revoke(&mut tx, &two, 9).await.unwrap());
        assert!(!releases::is_good(&mut tx, &two).await.unwrap());
        desired::set_desired(&mut tx, &[id("dev-1")], Some(&one)).await.unwrap();
        let other = desired::withdraw(&mut tx, &[id("dev-1")], &two).await.unwrap();
        assert!(other.is_empty(), "it has another release");
        tx.commit().await.unwrap();
        let pool = db.pool();
        assert_eq!(releases::audit_number(pool, &two).await.unwrap(), Some(7));
        assert_eq!(releases::audit_number(pool, &one).await.unwrap(), None);
        let without = releases::without_audit_number(pool).await.unwrap();
        assert_eq!(without, [(one.clone(), "sha".to_owned())]);
        assert_eq!(releases::revoked(pool, 5).await.unwrap(), std::slice::from_ref(&two));
        let known = releases::known_to(pool, &id("dev-1"), 1).await.unwrap();
        assert_eq!(known.len(), 2, "the newest, and that of the device");
        assert!(releases::documents(pool, &one).await.unwrap().is_some());
        assert_eq!(releases::newest(pool, 1).await.unwrap()[0].name, two);
    }
}
