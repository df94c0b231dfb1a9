//! Alerts, their rules and groups, webhooks, and the history of devices.

use crate::databases::on_both;

on_both! {
    an_alert_is_active_once_and_has_a_history,
    a_fleet_and_the_server_have_alerts_of_their_own,
    alerts_of_a_group_wait_for_one_message,
    devices_are_due_by_time_and_a_change_of_rules_marks_them_all,
    rules_and_silences_are_kept_as_they_are,
    a_delivery_is_taken_once_and_repeated_when_it_is_lost,
    an_email_is_taken_once_and_repeated_when_it_is_lost,
    a_state_is_a_row_only_if_it_changed,
    metrics_become_smaller_as_they_grow_old,
}

mod test {
    use crate::databases::Place;
    use crate::devices::{enroll, id};
    use fleeti_core::alert::state::State;
    use fleeti_core::alert::{Kind, Rule, Severity};
    use fleeti_core::attestation::Level;
    use fleeti_core::wire::alerts::{Alert, AlertChange, HISTORY_MAX, Silence};
    use fleeti_core::wire::email::EmailReceiver;
    use fleeti_core::wire::history::{SAMPLES_MAX, Sample};
    use fleeti_core::wire::webhook::{DeliveryStatus, Webhook};
    use fleeti_store::alert_rules::{self, Watch};
    use fleeti_store::alerts::{self, AlertRow, Counted, Pace, Page};
    use fleeti_store::domain_events;
    use fleeti_store::emails::{self, Email};
    use fleeti_store::history::{self, Known, Span};
    use fleeti_store::webhooks::{self, Answered, Event};

    fn alert(name: &str, device: &str, rule: &str) -> AlertRow {
        let alert = Alert {
            id: name.into(),
            rule: rule.into(),
            kind: Kind::Offline,
            severity: Severity::Warning,
            device: Some(id(device)),
            fleet: Some("bench".parse().unwrap()),
            state: State::Open,
            detail: "d".into(),
            since_s: 1,
            changed_s: 2,
            times: 1,
            silenced_until_s: None,
        };
        AlertRow { alert, level: Some(3) }
    }

    pub async fn an_alert_is_active_once_and_has_a_history(place: Place) {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        for (name, device) in [("alert-1", "a"), ("alert-2", "b"), ("alert-3", "c")] {
            alerts::insert(&mut tx, &alert(name, device, "offline")).await.unwrap();
        }
        tx.commit().await.unwrap();
        let mut tx = db.write().await.unwrap();
        let twice = alerts::insert(&mut tx, &alert("alert-4", "a", "offline")).await;
        assert!(twice.is_err(), "a rule has one alert of a device that holds");
        drop(tx);
        let mut tx = db.write().await.unwrap();
        let (a, b) = (id("a"), id("b"));
        assert_eq!(alerts::active(&mut tx, &a).await.unwrap().len(), 1);
        assert_eq!(alerts::active_of_fleet(&mut tx, None).await.unwrap(), []);
        assert_eq!(alerts::active_of(&mut tx, &[&a, &b]).await.unwrap().len(), 2);
        let mut first = alerts::get(&mut tx, "alert-1").await.unwrap().unwrap();
        assert_eq!(first, alert("alert-1", "a", "offline"));
        (first.alert.state, first.alert.changed_s) = (State::Resolved, 50);
        alerts::update(&mut tx, &first.alert).await.unwrap();
        assert_eq!(alerts::active(&mut tx, &a).await.unwrap(), []);
        let newest = alerts::newest(&mut tx, "offline", (None, Some(&a))).await.unwrap().unwrap();
        assert_eq!(newest.alert.changed_s, 50);
        for n in 0..u64::from(HISTORY_MAX) + 5 {
            let note = n.to_string();
            let change = AlertChange { at_s: n, state: State::Open, by: "server".into(), note };
            alerts::add_change(&mut tx, "alert-1", &change).await.unwrap();
        }
        let changes = alerts::changes(&mut tx, "alert-1").await.unwrap();
        assert_eq!(changes.len(), HISTORY_MAX as usize);
        assert_eq!(changes[0].note, "5", "the oldest are removed first");
        let fleet = "bench".parse().unwrap();
        let mut page = Page { fleet: Some(&fleet), all: false, after: "", limit: 1 };
        let ids = |rows: Vec<AlertRow>| rows.into_iter().map(|r| r.alert.id).collect::<Vec<_>>();
        assert_eq!(ids(alerts::page(&mut tx, page).await.unwrap()), ["alert-3"]);
        (page.after, page.limit) = ("alert-3", 9);
        assert_eq!(ids(alerts::page(&mut tx, page).await.unwrap()), ["alert-2"]);
        page.all = true;
        assert_eq!(ids(alerts::page(&mut tx, page).await.unwrap()), ["alert-2", "alert-1"]);
        assert_eq!(alerts::counts(&mut tx).await.unwrap(), [(Severity::Warning, 2)]);
        assert_eq!(alerts::prune(&mut tx, 51, 10).await.unwrap(), 1);
        assert_eq!(alerts::changes(&mut tx, "alert-1").await.unwrap(), []);
    }

    pub async fn a_fleet_and_the_server_have_alerts_of_their_own(place: Place) {
        let db = place.open().await;
        let about = |name: &str, fleet: Option<&str>| {
            let mut row = alert(name, "a", "fixes");
            row.alert.device = None;
            row.alert.fleet = fleet.map(|fleet| fleet.parse().unwrap());
            row
        };
        let mut tx = db.write().await.unwrap();
        for (name, fleet) in
            [("alert-1", None), ("alert-2", Some("lab")), ("alert-3", Some("shop"))]
        {
            alerts::insert(&mut tx, &about(name, fleet)).await.unwrap();
        }
        alerts::insert(&mut tx, &alert("alert-4", "a", "fixes")).await.unwrap();
        let lab = "lab".parse().unwrap();
        for (fleet, name) in [(None, "alert-1"), (Some(&lab), "alert-2")] {
            let found = alerts::active_of_fleet(&mut tx, fleet).await.unwrap();
            assert_eq!(found.iter().map(|row| &*row.alert.id).collect::<Vec<_>>(), [name]);
            let newest = alerts::newest(&mut tx, "fixes", (fleet, None)).await.unwrap().unwrap();
            assert_eq!(newest.alert.id, name);
        }
        assert_eq!(alerts::active(&mut tx, &id("a")).await.unwrap().len(), 1);
        let twice = alerts::insert(&mut tx, &about("alert-5", Some("lab"))).await;
        assert!(twice.is_err(), "a rule has one alert of a fleet that holds");
    }

    pub async fn alerts_of_a_group_wait_for_one_message(place: Place) {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        let fleet = "bench".parse().unwrap();
        let pace = |now_s| Pace { now_s, wait_s: 30, interval_s: 300 };
        let one = Counted { raised: 1, resolved: 0 };
        for now_s in [100, 110] {
            let group = ("offline", Some(&fleet));
            alerts::add_to_group(&mut tx, group, one, pace(now_s)).await.unwrap();
        }
        alerts::add_to_group(&mut tx, ("crl", None), one, pace(110)).await.unwrap();
        assert_eq!(alerts::due_groups(&mut tx, 129, 9).await.unwrap(), []);
        let due = alerts::due_groups(&mut tx, 130, 9).await.unwrap();
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].counted.raised, due[0].fleet.as_ref()), (2, Some(&fleet)));
        alerts::insert(&mut tx, &alert("alert-1", "a", "offline")).await.unwrap();
        let newest = alerts::newest_of_group(&mut tx, &due[0], false, 9).await.unwrap();
        assert_eq!(newest.len(), 1);
        alerts::group_sent(&mut tx, &due[0], 130).await.unwrap();
        let group = ("offline", Some(&fleet));
        alerts::add_to_group(&mut tx, group, one, pace(131)).await.unwrap();
        let rules = |due: Vec<alerts::Group>| due.into_iter().map(|g| g.rule).collect::<Vec<_>>();
        assert_eq!(rules(alerts::due_groups(&mut tx, 429, 9).await.unwrap()), ["crl"]);
        assert_eq!(rules(alerts::due_groups(&mut tx, 430, 9).await.unwrap()), ["crl", "offline"]);
    }

    pub async fn devices_are_due_by_time_and_a_change_of_rules_marks_them_all(place: Place) {
        let db = place.open().await;
        enroll(&db, &["a", "b", "c"]).await;
        let mut tx = db.write().await.unwrap();
        let due = |rows: Vec<alert_rules::Watched>| {
            rows.into_iter().map(|row| row.device.to_string()).collect::<Vec<_>>()
        };
        let all = alert_rules::watched(&mut tx, 5, 9).await.unwrap();
        assert_eq!(all.len(), 3, "a new device is due at once");
        assert_eq!((all[0].last_seen_s, all[0].certificate_not_after_s), (10, 1001));
        let watch = |device: &str, watch_s, drift_since_s| Watch {
            device: id(device),
            watch_s,
            drift_since_s,
        };
        let watches = [watch("a", 100, None), watch("b", 50, Some(7)), watch("c", 200, None)];
        alert_rules::set_watches(&mut tx, &watches).await.unwrap();
        assert_eq!(due(alert_rules::watched(&mut tx, 100, 9).await.unwrap()), ["b", "a"]);
        let b = alert_rules::watched(&mut tx, 50, 9).await.unwrap();
        assert_eq!(b[0].drift_since_s, Some(7));
        alert_rules::watch_now(&mut tx, &id("c")).await.unwrap();
        assert_eq!(due(alert_rules::watched(&mut tx, 0, 9).await.unwrap()), ["c"]);
        alert_rules::begin_sweep(&mut tx).await.unwrap();
        assert!(alert_rules::is_sweeping(&mut tx).await.unwrap());
        assert_eq!(alert_rules::sweep(&mut tx, 2).await.unwrap(), 2);
        assert_eq!(alert_rules::sweep(&mut tx, 2).await.unwrap(), 1);
        assert_eq!(alert_rules::sweep(&mut tx, 2).await.unwrap(), 0);
        assert!(!alert_rules::is_sweeping(&mut tx).await.unwrap());
        assert_eq!(alert_rules::watched(&mut tx, 0, 9).await.unwrap().len(), 3);
    }

    pub async fn rules_and_silences_are_kept_as_they_are(place: Place) {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        let mut rule = Rule::shipped().remove(0);
        rule.fleets = vec!["bench".parse().unwrap()];
        alert_rules::put(&mut tx, &rule).await.unwrap();
        (rule.enabled, rule.threshold) = (false, 500);
        alert_rules::put(&mut tx, &rule).await.unwrap();
        assert_eq!(alert_rules::rules(&mut tx).await.unwrap(), [rule.clone()]);
        assert!(alert_rules::remove(&mut tx, &rule.id).await.unwrap());
        assert!(!alert_rules::remove(&mut tx, &rule.id).await.unwrap());
        let silence = |name: &str, until_s| Silence {
            id: name.into(),
            rule: None,
            fleet: Some("bench".parse().unwrap()),
            device: Some(id("a")),
            from_s: 1,
            until_s,
            reason: "r".into(),
            by: "alice".into(),
        };
        alert_rules::add_silence(&mut tx, &silence("s-1", 50), 10).await.unwrap();
        alert_rules::add_silence(&mut tx, &silence("s-2", 99), 60).await.unwrap();
        let kept = alert_rules::silences(&mut tx, 0).await.unwrap();
        assert_eq!(kept, [silence("s-2", 99)], "what has ended is deleted");
        assert!(alert_rules::remove_silence(&mut tx, "s-2").await.unwrap());
        assert!(!alert_rules::remove_silence(&mut tx, "s-2").await.unwrap());
    }

    pub async fn an_email_is_taken_once_and_repeated_when_it_is_lost(place: Place) {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        domain_events::insert(&mut tx, 1, &[("x", "{}".into())]).await.unwrap();
        let receiver = |id: &str| EmailReceiver {
            id: id.into(),
            address: "ops@ops.example".parse().unwrap(),
            fleets: vec!["bench".parse().unwrap()],
            severity: Severity::Warning,
            enabled: true,
            created_s: 1,
        };
        for id in ["mail-1", "mail-2"] {
            emails::insert(&mut tx, &receiver(id), "sealed").await.unwrap();
        }
        let row = emails::get(&mut tx, "mail-1").await.unwrap().unwrap();
        assert_eq!((row.receiver, row.position), (receiver("mail-1"), 1), "from now on");
        assert_eq!(row.seal, "sealed");
        let email =
            |number| Email { number, at_s: 1, subject: "s".into(), body: "three\nlines\n".into() };
        for number in [2, 3, 2] {
            emails::add(&mut tx, "mail-1", &email(number), 100).await.unwrap();
        }
        emails::add(&mut tx, "mail-2", &email(2), 101).await.unwrap();
        assert_eq!(emails::waiting(&mut tx, "mail-1").await.unwrap(), 2);
        assert_eq!(emails::due(&mut tx, 100).await.unwrap(), ["mail-1"]);
        assert_eq!(emails::due(&mut tx, 101).await.unwrap(), ["mail-1", "mail-2"]);
        let first = emails::take(&mut tx, "mail-1", 100, 160).await.unwrap().unwrap();
        assert_eq!(first, (email(2), 1));
        let second = emails::take(&mut tx, "mail-1", 100, 160).await.unwrap().unwrap();
        assert_eq!(second, (email(3), 1));
        assert_eq!(emails::take(&mut tx, "mail-1", 159, 200).await.unwrap(), None);
        let again = emails::take(&mut tx, "mail-1", 160, 220).await.unwrap().unwrap();
        assert_eq!(again, (email(2), 2));
        let done =
            Answered { status: DeliveryStatus::Delivered, next_s: None, answer: "250".into() };
        emails::answered(&mut tx, ("mail-1", 2), &done, 161).await.unwrap();
        emails::give_up(&mut tx, "mail-1", "disabled", 162).await.unwrap();
        let found = emails::newest(&mut tx, "mail-1", 9).await.unwrap();
        let told: Vec<_> = found.iter().map(|d| (d.id.as_str(), d.status, d.next_s)).collect();
        let failed = DeliveryStatus::Failed;
        assert_eq!(told, [("mail-1.3.1", failed, None), ("mail-1.2.1", done.status, None)]);
        assert_eq!((found[0].answer.as_str(), found[1].answer.as_str()), ("disabled", "250"));
        emails::prune(&mut tx, "mail-1", 1).await.unwrap();
        assert_eq!(emails::newest(&mut tx, "mail-1", 9).await.unwrap().len(), 1);
        assert!(emails::set_enabled(&mut tx, "mail-2", false).await.unwrap());
        assert!(!emails::set_enabled(&mut tx, "mail-3", false).await.unwrap());
        emails::set_position(&mut tx, "mail-2", 7).await.unwrap();
        let row = emails::get(&mut tx, "mail-2").await.unwrap().unwrap();
        assert_eq!((row.receiver.enabled, row.position), (false, 7));
        assert!(emails::remove(&mut tx, "mail-1").await.unwrap());
        assert!(!emails::remove(&mut tx, "mail-1").await.unwrap());
        assert_eq!(emails::all(&mut tx).await.unwrap().len(), 1);
        assert_eq!(emails::waiting(&mut tx, "mail-2").await.unwrap(), 1, "of another receiver");
        assert_eq!(emails::unreachable(&mut tx, "down", 100, 9).await.unwrap(), 0, "none is due");
        assert_eq!(emails::unreachable(&mut tx, "down", 101, 1).await.unwrap(), 0, "none is old");
        let waits = emails::newest(&mut tx, "mail-2", 9).await.unwrap().remove(0);
        assert_eq!((waits.attempts, waits.next_s, &*waits.answer), (0, Some(101), "down"));
        assert_eq!(emails::unreachable(&mut tx, "down", 101, 2).await.unwrap(), 1);
        let ended = emails::newest(&mut tx, "mail-2", 9).await.unwrap().remove(0);
        assert_eq!((ended.status, ended.next_s), (failed, None));
    }

    pub async fn a_delivery_is_taken_once_and_repeated_when_it_is_lost(place: Place) {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        domain_events::insert(&mut tx, 1, &[("x", "{}".into())]).await.unwrap();
        let webhook = Webhook {
            id: "hook-1".into(),
            url: "https://ops.example/".into(),
            events: vec!["x".into()],
            created_s: 1,
        };
        webhooks::insert(&mut tx, &webhook, "sealed").await.unwrap();
        let row = webhooks::all(&mut tx).await.unwrap().remove(0);
        assert_eq!((row.webhook.clone(), row.position), (webhook, 1), "from now on");
        let event = |number| Event { number, at_s: 1, kind: "x".into(), body: "{}".into() };
        for number in [2, 3, 2] {
            webhooks::add_delivery(&mut tx, "hook-1", &event(number), 100).await.unwrap();
        }
        assert_eq!(webhooks::waiting(&mut tx, "hook-1").await.unwrap(), 2);
        let first = webhooks::take(&mut tx, "hook-1", 100, 160).await.unwrap().unwrap();
        assert_eq!((first.event.number, first.attempts), (2, 1));
        let second = webhooks::take(&mut tx, "hook-1", 100, 160).await.unwrap().unwrap();
        assert_eq!(second.event.number, 3);
        assert_eq!(webhooks::take(&mut tx, "hook-1", 159, 200).await.unwrap(), None);
        let again = webhooks::take(&mut tx, "hook-1", 160, 220).await.unwrap().unwrap();
        assert_eq!((again.event.number, again.attempts), (2, 2));
        let done =
            Answered { status: DeliveryStatus::Delivered, next_s: None, answer: "200".into() };
        webhooks::answered(&mut tx, ("hook-1", 2), &done, 161).await.unwrap();
        let deliveries = webhooks::deliveries(&mut tx, "hook-1", 9).await.unwrap();
        assert_eq!(deliveries[1].id, "hook-1.2");
        assert_eq!((deliveries[1].status, deliveries[1].answered_s), (done.status, Some(161)));
        webhooks::prune(&mut tx, "hook-1", 1).await.unwrap();
        assert_eq!(webhooks::deliveries(&mut tx, "hook-1", 9).await.unwrap().len(), 1);
        assert!(webhooks::remove(&mut tx, "hook-1").await.unwrap());
        assert!(!webhooks::remove(&mut tx, "hook-1").await.unwrap());
        assert_eq!(webhooks::waiting(&mut tx, "hook-1").await.unwrap(), 0);
    }

    pub async fn a_state_is_a_row_only_if_it_changed(place: Place) {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        let (a, fleet) = (id("a"), "bench".parse().unwrap());
        let boot =
            |running, boot| Known { fleet: &fleet, boot: Some((running, boot)), level: None };
        let level = |level| Known { fleet: &fleet, boot: None, level: Some(level) };
        for (known, at_s, changes) in [
            (boot("kiosk@1", "b1"), 10, true),
            (boot("kiosk@1", "b1"), 20, false),
            (level(Level::VerifiedBoot), 30, true),
            (level(Level::VerifiedBoot), 40, false),
            (boot("kiosk@1", "b2"), 50, true),
            (boot("kiosk@2", "b3"), 60, true),
            (boot("kiosk@2", "b4"), 60, true),
        ] {
            let changed = history::record(&mut tx, &a, known, at_s).await.unwrap();
            assert_eq!(changed, changes, "{known:?} at {at_s}");
        }
        let states = |from_s, until_s| Span { from_s, until_s };
        let all = history::states(&mut tx, &a, states(0, 100)).await.unwrap();
        let boots: Vec<_> = all.iter().map(|s| (s.at_s, s.boot_id.as_str())).collect();
        assert_eq!(boots, [(60, "b4"), (50, "b2"), (30, "b1"), (10, "b1")]);
        assert_eq!((all[0].level.as_str(), all[3].level.as_str()), ("L4", "L1"));
        let then = history::states(&mut tx, &a, states(45, 49)).await.unwrap();
        assert_eq!(then.len(), 1);
        assert_eq!(then[0].at_s, 30, "the state with which the time began");
        assert_eq!(history::states(&mut tx, &id("b"), states(0, 100)).await.unwrap(), []);
    }

    pub async fn metrics_become_smaller_as_they_grow_old(place: Place) {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        let a = id("a");
        let sample = |at_s, memory_percent| Sample {
            at_s,
            load_milli: 100,
            memory_percent,
            data_percent: 5,
        };
        for n in 0..u64::from(SAMPLES_MAX) + 10 {
            history::add_sample(&mut tx, &a, &sample(7200 + n, n % 3)).await.unwrap();
        }
        history::add_sample(&mut tx, &a, &sample(10_800, 90)).await.unwrap();
        let span = Span { from_s: 0, until_s: 1_000_000 };
        let hours = history::metrics(&mut tx, &a, span).await.unwrap();
        assert_eq!(hours.len(), 2);
        assert_eq!(hours[0].samples, u64::from(SAMPLES_MAX), "an hour has a limit");
        assert_eq!((hours[0].memory_percent, hours[0].memory_percent_max), (1, 2));
        assert_eq!(hours[1].points, [sample(10_800, 90)]);
        assert_eq!(history::drop_samples(&mut tx, 10_800, 9).await.unwrap(), 1);
        assert_eq!(history::drop_samples(&mut tx, 10_801, 9).await.unwrap(), 1);
        assert_eq!(history::drop_samples(&mut tx, 10_801, 9).await.unwrap(), 0);
        assert_eq!(history::roll_up(&mut tx, 10_800, 9).await.unwrap(), 1);
        assert_eq!(history::roll_up(&mut tx, 10_801, 9).await.unwrap(), 1);
        let days = history::metrics(&mut tx, &a, span).await.unwrap();
        assert_eq!(days.len(), 1);
        assert_eq!((days[0].at_s, days[0].span_s), (0, 86_400));
        assert_eq!(days[0].samples, u64::from(SAMPLES_MAX) + 1);
        assert_eq!((days[0].memory_percent_max, days[0].data_percent), (90, 5));
        assert_eq!(history::drop_days(&mut tx, 0, 9).await.unwrap(), 0);
        assert_eq!(history::drop_days(&mut tx, 1, 9).await.unwrap(), 1);
        assert_eq!(history::metrics(&mut tx, &a, span).await.unwrap(), []);
    }
}
