//! Numbers of all devices, and the timeline of one.

use crate::databases::on_both;

on_both! {
    devices_are_counted_by_release_level_and_trouble,
    the_counts_read_no_wide_row,
    a_timeline_has_what_happened_before_a_time,
}

mod test {
    use crate::databases::Place;
    use crate::devices::test::report;
    use crate::devices::{enroll, id};
    use fleeti_core::attestation::Level;
    use fleeti_core::wire::api::RevocationReason;
    use fleeti_core::wire::device::{Command, CommandKind};
    use fleeti_store::timeline::{self, Part};
    use fleeti_store::{Db, board, commands, devices, history, reports, sql};

    async fn run(db: &Db, sql: &'static str) {
        let mut tx = db.write().await.unwrap();
        sql::query(sql).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn devices_are_counted_by_release_level_and_trouble(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1", "dev-2", "dev-3", "dev-4"]).await;
        let mut tx = db.write().await.unwrap();
        for device in ["dev-1", "dev-2"] {
            reports::report(&mut tx, &id(device), &report(1, "kiosk@1"), 10).await.unwrap();
        }
        let reason = RevocationReason::KeyCompromise;
        assert!(devices::revoke(&mut tx, &id("dev-4"), reason, 20).await.unwrap());
        tx.commit().await.unwrap();
        run(&db, "UPDATE devices SET update_kind = 'failed', alarm = 'a', clone_alarm = 'b' WHERE id = 'dev-2'").await;
        run(&db, "UPDATE devices SET drift_since_s = 5 WHERE id <> 'dev-1'").await;
        run(&db, "INSERT INTO attestations (device, level, appraised_s, update_level, nonce, result, evidence) \
                  VALUES ('dev-1', 4, 2000, 4, 'n', '{}', '{}'), ('dev-2', 4, 1000, 4, 'n', '{}', '{}'), ('dev-3', 0, 1, 0, 'n', '{}', '{}')").await;
        let bench = || "bench".parse().unwrap();
        let mut found = board::releases(db.pool()).await.unwrap();
        found.sort_by_key(|row| row.update.clone() + &format!("{:?}", row.release));
        let found: Vec<_> = found
            .into_iter()
            .map(|r| (r.release.map(|r| r.to_string()), r.update, r.devices))
            .collect();
        let kiosk = Some("kiosk@1".to_owned());
        let expected = [
            (kiosk.clone(), "failed".to_owned(), 1),
            (None, "idle".to_owned(), 1),
            (kiosk, "idle".to_owned(), 1),
        ];
        assert_eq!(found, expected);
        // Two alarms of one device are one device.
        let alarms = board::alarms(db.pool()).await.unwrap();
        assert_eq!(alarms, [(bench(), "failed".to_owned(), 1)]);
        assert_eq!(board::drifting(db.pool()).await.unwrap(), [(bench(), 2)]);
        assert_eq!(board::revoked(db.pool()).await.unwrap(), [(bench(), 1)]);
        let mut levels = board::levels(db.pool(), 1000).await.unwrap();
        levels.sort_by_key(|(_, level, _)| *level);
        let expected = [Level::SelfReported, Level::Token, Level::VerifiedBoot];
        assert_eq!(levels, expected.map(|level| (bench(), level, 1)), "old evidence counts less");
    }

    /// A row of a device has some kilobytes.
    pub async fn the_counts_read_no_wide_row(place: Place) {
        let db = place.open().await;
        if place.is_postgres() {
            // Its plans depend on statistics.
            return;
        }
        for (text, indexes) in [
            (board::RELEASES, &["devices_searched"][..]),
            (board::LEVELS, &["devices_images", "attestations_images"][..]),
        ] {
            let sql = sql::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"));
            let plan: Vec<(i64, i64, i64, String)> =
                sql::query_as(sql).bind(1i64).fetch_all(db.pool()).await.unwrap();
            let steps: Vec<_> = plan.into_iter().map(|(.., step)| step).collect();
            for index in indexes {
                let covers = format!("USING COVERING INDEX {index}");
                assert!(steps.iter().any(|step| step.contains(&covers)), "{steps:?}");
            }
        }
    }

    pub async fn a_timeline_has_what_happened_before_a_time(place: Place) {
        let db = place.open().await;
        enroll(&db, &["dev-1", "dev-2"]).await;
        let (device, fleet) = (id("dev-1"), "bench".parse().unwrap());
        let mut tx = db.write().await.unwrap();
        for (at_s, running) in [(10, "kiosk@1"), (20, "kiosk@2"), (30, "kiosk@3")] {
            let known = history::Known { fleet: &fleet, boot: Some((running, "b")), level: None };
            assert!(history::record(&mut tx, &device, known, at_s).await.unwrap());
        }
        for (at_s, of) in [(15, &device), (25, &device), (15, &id("dev-2"))] {
            let command =
                Command { id: format!("{of}-{at_s}"), kind: CommandKind::Reboot, deadline_s: 99 };
            let new = commands::New { device: of, command: &command, sent_by: "alice" };
            commands::insert(&mut tx, new, at_s).await.unwrap();
        }
        tx.commit().await.unwrap();
        run(&db, "INSERT INTO alerts (id, rule, kind, severity, device, fleet, state, since_s, changed_s, times, detail) \
                  VALUES ('alert-1', 'offline', 'offline', 'warning', 'dev-1', 'bench', 'resolved', 11, 22, 1, 'd')").await;
        run(&db, "INSERT INTO alert_changes (alert, at_s, state, actor, note) \
                  VALUES ('alert-1', 11, 'open', 'server', ''), ('alert-1', 22, 'resolved', 'server', '')").await;
        run(
            &db,
            "INSERT INTO rollouts (id, fleet, created_s, active, release_name, phase) \
                  VALUES ('rollout-1', 'bench', 5, 0, 'kiosk@2', 'succeeded')",
        )
        .await;
        run(&db, "INSERT INTO rollout_devices (rollout, device, phase, category, since_s) \
                  VALUES ('rollout-1', 'dev-1', 'succeeded', 'succeeded', 21), ('rollout-1', 'dev-2', 'succeeded', 'succeeded', 22)").await;
        let mut connection = db.reader().await.unwrap();
        let part = |before_s, limit| Part { device: &device, before_s, limit };
        let states = timeline::states(&mut connection, part(30, 9)).await.unwrap();
        assert_eq!(states.iter().map(|s| s.at_s).collect::<Vec<_>>(), [20, 10]);
        let found = timeline::commands(&mut connection, part(99, 1), 99).await.unwrap();
        assert_eq!(
            (found.len(), found[0].at_s, found[0].kind.as_str()),
            (1, 25, "{\"type\":\"reboot\"}")
        );
        let alerts = timeline::alerts(&mut connection, part(99, 9)).await.unwrap();
        assert_eq!(alerts.iter().map(|a| a.at_s).collect::<Vec<_>>(), [22, 11]);
        let rollouts = timeline::rollouts(&mut connection, part(99, 9)).await.unwrap();
        assert_eq!((rollouts.len(), rollouts[0].at_s), (1, 21));
        assert_eq!(timeline::rollouts(&mut connection, part(5, 9)).await.unwrap(), []);
    }
}
