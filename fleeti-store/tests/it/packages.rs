//! Packages of releases, and the devices that have them.

use crate::databases::on_both;

on_both! {
    a_package_is_found_by_its_name_and_by_its_source,
    a_proof_counts_more_than_a_report_until_it_is_old,
    what_is_not_known_of_a_device_is_not_taken_for_safe,
    the_questions_about_all_devices_read_no_wide_row,
}

mod test {
    use crate::databases::Place;
    use crate::devices::test::report;
    use crate::devices::{enroll, id};
    use fleeti_core::id::ReleaseName;
    use fleeti_core::wire::api::RevocationReason;
    use fleeti_core::wire::package::ReleasePackage;
    use fleeti_store::dialect::SQLITE;
    use fleeti_store::packages::{self, Among, Count};
    use fleeti_store::releases::NewRelease;
    use fleeti_store::{Db, devices, releases, reports, sql};

    const ALL: Among<'static> = Among { fresh_after_s: 1000, fleets: None };

    fn name(text: &str) -> ReleaseName {
        text.parse().unwrap()
    }

    fn package(name: &str, version: &str, source: &str) -> ReleasePackage {
        ReleasePackage {
            name: name.into(),
            version: version.into(),
            source: source.into(),
            source_version: version.into(),
        }
    }

    async fn publish(db: &Db, release: &str, listed: &[ReleasePackage]) {
        let mut tx = db.write().await.unwrap();
        let new = NewRelease {
            name: &name(release),
            manifest_sha256: "a",
            manifest: "{}",
            signatures: "[]",
            published_s: 1,
        };
        releases::insert(&mut tx, &new).await.unwrap();
        packages::insert(&mut tx, &name(release), listed).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn reports(db: &Db, device: &str, sequence: u64, release: &str) {
        let mut tx = db.write().await.unwrap();
        reports::report(&mut tx, &id(device), &report(sequence, release), 10).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn proves(db: &Db, device: &str, release: &str, level: i64, appraised_s: i64) {
        let sql = "INSERT INTO attestations (device, level, appraised_s, release_name, update_level, nonce, result, evidence) \
                   VALUES ($1, $2, $3, $4, $2, 'n', '{}', '{}')";
        let query = sql::query(sql).bind(device).bind(level).bind(appraised_s).bind(release);
        let mut tx = db.write().await.unwrap();
        query.execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn counted(db: &Db, among: Among<'_>) -> Vec<(Option<String>, u64, u64)> {
        let mut counts: Vec<_> = packages::counts(db.pool(), among)
            .await
            .unwrap()
            .into_iter()
            .map(|Count { release, proved, reported }| {
                (release.map(|r| r.to_string()), proved, reported)
            })
            .collect();
        counts.sort();
        counts
    }

    async fn paged(db: &Db, releases: &[&str], after: &str, limit: u32) -> Vec<String> {
        let releases: Vec<_> = releases.iter().map(|r| name(r)).collect();
        let releases: Vec<_> = releases.iter().collect();
        let page = packages::page(db.pool(), ALL, &releases, (after, limit)).await.unwrap();
        page.into_iter().map(|runs| runs.id.to_string()).collect()
    }

    pub async fn a_package_is_found_by_its_name_and_by_its_source(place: Place) {
        let db = place.open().await;
        let ssl = [package("libssl3t64", "3.5.1-1", "openssl"), package("bash", "5", "bash")];
        publish(&db, "kiosk@1", &ssl).await;
        publish(&db, "kiosk@2", &[package("openssl", "3.5.2-1", "openssl")]).await;
        let many: Vec<_> =
            (0..2500).map(|n| package(&format!("lib{n}"), "1", "many-sources")).collect();
        publish(&db, "kiosk@3", &many).await;
        let found = packages::named(db.pool(), "openssl").await.unwrap();
        let found: Vec<_> = found.iter().map(|(r, p)| format!("{r} {}", p.name)).collect();
        assert_eq!(found, ["kiosk@1 libssl3t64", "kiosk@2 openssl"]);
        assert_eq!(packages::named(db.pool(), "libssl3t64").await.unwrap().len(), 1);
        assert_eq!(packages::named(db.pool(), "many-sources").await.unwrap().len(), 2500);
        assert_eq!(packages::named(db.pool(), "nothing").await.unwrap(), []);
    }

    pub async fn a_proof_counts_more_than_a_report_until_it_is_old(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1", "dev-2", "dev-3", "dev-4", "dev-5"]).await;
        for release in ["kiosk@1", "kiosk@2"] {
            publish(&db, release, &[package("bash", "5", "bash")]).await;
        }
        // It lies: its TPM proves the old release.
        reports(&db, "dev-1", 1, "kiosk@2").await;
        proves(&db, "dev-1", "kiosk@1", 4, 2000).await;
        reports(&db, "dev-2", 1, "kiosk@1").await;
        // Too old, and of too low a level.
        reports(&db, "dev-3", 1, "kiosk@1").await;
        proves(&db, "dev-3", "kiosk@2", 5, 1000).await;
        reports(&db, "dev-4", 1, "kiosk@1").await;
        proves(&db, "dev-4", "kiosk@2", 3, 2000).await;
        reports(&db, "dev-5", 1, "kiosk@1").await;
        reports(&db, "dev-5", 2, "kiosk@2").await;
        let expected = [(Some("kiosk@1".to_owned()), 1, 3), (Some("kiosk@2".to_owned()), 0, 1)];
        assert_eq!(counted(&db, ALL).await, expected);
        assert_eq!(paged(&db, &["kiosk@1"], "", 10).await, ["dev-1", "dev-2", "dev-3", "dev-4"]);
        assert_eq!(paged(&db, &["kiosk@1"], "dev-2", 1).await, ["dev-3"]);
        // Other fleets are not counted.
        let (bench, other) = ("bench".parse().unwrap(), "other".parse().unwrap());
        for (fleet, found) in [(&bench, &expected[..]), (&other, &[])] {
            let fleets = [fleet];
            assert_eq!(counted(&db, Among { fleets: Some(&fleets), ..ALL }).await, found);
        }
    }

    pub async fn what_is_not_known_of_a_device_is_not_taken_for_safe(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1", "dev-2", "dev-3", "dev-4"]).await;
        publish(&db, "kiosk@1", &[package("bash", "5", "bash")]).await;
        // Without an SBOM.
        publish(&db, "kiosk@2", &[]).await;
        reports(&db, "dev-1", 1, "kiosk@1").await;
        reports(&db, "dev-2", 1, "kiosk@2").await;
        // A release that nobody published.
        reports(&db, "dev-3", 1, "kiosk@9").await;
        let known = packages::known(db.pool()).await.unwrap();
        assert_eq!(known, [name("kiosk@1")]);
        assert_eq!(paged(&db, &[], "", 10).await, ["dev-2", "dev-3", "dev-4"]);
        assert_eq!(counted(&db, ALL).await[0], (None, 0, 1));
        let mut tx = db.write().await.unwrap();
        let reason = RevocationReason::KeyCompromise;
        assert!(devices::revoke(&mut tx, &id("dev-3"), reason, 20).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(paged(&db, &[], "", 10).await, ["dev-2", "dev-4"]);
    }

    /// A row of a device has some kilobytes: 100,000 of them would take seconds.
    pub async fn the_questions_about_all_devices_read_no_wide_row(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1"]).await;
        if place.is_postgres() {
            // Its plans depend on statistics.
            return;
        }
        for in_fleets in [false, true] {
            for text in
                [packages::counts_sql(&SQLITE, in_fleets), packages::page_sql(&SQLITE, in_fleets)]
            {
                let sql = sql::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"));
                let plan: Vec<(i64, i64, i64, String)> =
                    sql::query_as(sql).bind(1i64).fetch_all(db.pool()).await.unwrap();
                let steps: Vec<_> = plan.into_iter().map(|(.., step)| step).collect();
                let of = |table: &str| {
                    steps.iter().find(|s| s.split(' ').nth(1) == Some(table)).unwrap().clone()
                };
                assert!(of("d").contains("USING COVERING INDEX devices_images"), "{steps:?}");
                assert!(of("a").contains("USING COVERING INDEX attestations_images"), "{steps:?}");
            }
        }
    }
}
