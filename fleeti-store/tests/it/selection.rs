//! Filters of devices: the database finds the devices that `fleeti_core::filter` matches.

use crate::databases::on_both;

on_both! {
    the_database_finds_what_the_filter_matches,
    pages_of_a_filter_go_on_after_the_last_id,
    a_reader_of_some_fleets_finds_no_device_of_others,
    labels_are_set_and_removed_for_many_devices,
    a_replacement_takes_the_name_and_the_labels,
    a_page_of_a_filter_reads_no_row_of_other_devices,
}

mod test {
    use crate::databases::Place;
    use crate::devices::{certified, id, test::report};
    use fleeti_core::filter::{DeviceFacts, Filter};
    use fleeti_core::id::{DeviceId, FleetId, LabelKey};
    use fleeti_core::update::State;
    use fleeti_core::wire::api::{Device, RevocationReason};
    use fleeti_core::wire::device::Report;
    use fleeti_core::wire::labels::{LabelKeyInfo, LabelType};
    use fleeti_store::devices::{self, WithCertificate};
    use fleeti_store::labels::{self, Described, Label};
    use fleeti_store::selection::{self, Selection};
    use fleeti_store::{Db, Tx, reports};

    const NOW_S: u64 = 1_800_000_000;

    fn key(text: &str) -> LabelKey {
        text.parse().unwrap()
    }

    async fn enroll(tx: &mut Tx<'_>, device: &DeviceId, fleet: &FleetId, seen_s: u64) {
        let certificate = certified(device.as_str(), 1);
        let row = WithCertificate { device, fleet, certificate: &certificate };
        devices::upsert(tx, &[row], seen_s).await.unwrap();
    }

    async fn label(tx: &mut Tx<'_>, device: &DeviceId, name: &str, value: &str) {
        let (key, number) = (key(name), if name == "floor" { value.parse().ok() } else { None });
        labels::set(tx, &[Label { device, key: &key, value, number }]).await.unwrap();
    }

    async fn declare(tx: &mut Tx<'_>) {
        for (name, of) in [("site", LabelType::Text), ("floor", LabelType::Number)] {
            labels::declare(tx, &LabelKeyInfo { key: key(name), of }, 1).await.unwrap();
        }
    }

    /// Forty devices that differ in everything that a filter looks at.
    async fn filled(place: &Place) -> Db {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        declare(&mut tx).await;
        for n in 0..40_u64 {
            let device = id(&format!("dev-{n:02}"));
            let fleet = ["shops", "depots"][n as usize % 2].parse().unwrap();
            enroll(&mut tx, &device, &fleet, NOW_S - n * 7200).await;
            if n % 3 != 0 {
                let running = ["kiosk@1", "kiosk@2.1", "till@2.10", "kiosk-x@10"][n as usize % 4];
                let update = if n % 5 == 0 { failed() } else { State::Idle };
                let alarm = (n % 7 == 0).then(|| "clock_wrong: 5 s".to_owned());
                let report = Report { update, alarm, ..report(1, running) };
                reports::report(&mut tx, &device, &report, NOW_S - n * 7200).await.unwrap();
            }
            if n % 4 != 0 {
                let name = ["Front Desk", "front desk", "Ädesk 100%_"][n as usize % 3];
                let note = (n % 8 == 1).then_some("Broken Screen");
                let about = Described { device: &device, name: Some(name), note };
                assert!(labels::describe(&mut tx, about).await.unwrap());
            }
            if n % 3 != 1 {
                label(&mut tx, &device, "site", ["berlin", "Bonn", "x y"][n as usize % 3]).await;
            }
            if n % 5 != 1 {
                label(&mut tx, &device, "floor", &(n as i64 - 20).to_string()).await;
            }
            if n % 11 == 3 {
                let reason = RevocationReason::Unspecified;
                devices::revoke(&mut tx, &device, reason, NOW_S).await.unwrap();
            }
            if n % 13 == 2 {
                assert!(reports::refuse_report(&mut tx, &device, "refused").await.unwrap());
            }
            if n == 17 {
                devices::set_clone_alarm(&mut tx, &device, "two").await.unwrap();
            }
        }
        tx.commit().await.unwrap();
        db
    }

    fn failed() -> State {
        let code = fleeti_core::update::FailureCode::TooOld;
        State::Failed { target: "9".parse().unwrap(), code }
    }

    const TESTS: [&str; 44] = [
        "site=berlin",
        "site=Berlin",
        "site in (berlin, Bonn)",
        "site!=berlin",
        "site~B",
        "label.site",
        "not label.floor",
        "floor<0",
        "floor>=15",
        "floor=-3",
        "floor<=-100",
        "version<2.1",
        "version<=2.1",
        "version=2.10",
        "version!=2.1",
        "version>2.9",
        "version in (1, 10)",
        "line=kiosk",
        "line in (till, Kiosk)",
        "line~OSK",
        "line~k@",
        "release=kiosk@1",
        "release~@2",
        "fleet=shops",
        "fleet!=shops",
        "fleet~sho",
        "name=\"Front Desk\"",
        "name in (\"front desk\", x)",
        "name~DESK",
        "name~\"100%_\"",
        "name!~front",
        "name=\"\"",
        "note~screen",
        "note=\"Broken Screen\"",
        "note!=x",
        "state=failed",
        "state in (idle, staging)",
        "revoked",
        "alarm",
        "last_seen>1d",
        "last_seen<5h",
        "id=dev-07",
        "dev-1",
        "desk",
    ];

    async fn all(db: &Db) -> Vec<Device> {
        devices::page(db.pool(), None, "", 500).await.unwrap()
    }

    fn selection(filter: &Filter) -> Selection<'_> {
        Selection { filter, fleets: None, is_drifting: false, now_s: NOW_S }
    }

    async fn compare(db: &Db, devices: &[Device], text: &str) -> usize {
        let filter: Filter = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        let matches = |device: &&Device| filter.matches(&DeviceFacts::from(*device), NOW_S);
        let expected: Vec<_> = devices.iter().filter(matches).map(|d| d.id.clone()).collect();
        let found = selection::page(db.pool(), selection(&filter), "", 500).await.unwrap();
        assert_eq!(found, expected, "{text}");
        let mut tx = db.write().await.unwrap();
        let found = selection::page_in(&mut tx, selection(&filter), "", 500).await.unwrap();
        assert_eq!(found, expected, "{text}");
        drop(tx);
        let count = selection::count(db.pool(), selection(&filter)).await.unwrap();
        assert_eq!(count, expected.len() as u64, "{text}");
        expected.len()
    }

    pub async fn the_database_finds_what_the_filter_matches(place: Place) {
        let db = filled(&place).await;
        let devices = all(&db).await;
        assert_eq!(devices.len(), 40);
        let mut nothing = 0;
        for (n, a) in TESTS.iter().enumerate() {
            let found = compare(&db, &devices, a).await;
            nothing += usize::from(found == 0 || found == 40);
            let b = TESTS[(n * 7 + 3) % TESTS.len()];
            let c = TESTS[(n * 11 + 5) % TESTS.len()];
            for text in [
                format!("not ({a})"),
                format!("{a} and {b}"),
                format!("{a} and not {b} and {c}"),
                format!("{a} or {b} and {c}"),
                format!("not ({a} or not ({b} and {c}))"),
            ] {
                compare(&db, &devices, &text).await;
            }
        }
        // Most tests tell devices apart.
        assert!(nothing <= 7, "{nothing}");
    }

    pub async fn pages_of_a_filter_go_on_after_the_last_id(place: Place) {
        let db = filled(&place).await;
        for text in ["site=berlin", "site=\"x y\" and version>0", "name~desk", "floor<100"] {
            let filter: Filter = text.parse().unwrap();
            let whole = selection::page(db.pool(), selection(&filter), "", 500).await.unwrap();
            let (mut pages, mut after) = (Vec::new(), String::new());
            loop {
                let page = selection::page(db.pool(), selection(&filter), &after, 3).await.unwrap();
                let Some(last) = page.last() else { break };
                after = last.to_string();
                pages.extend(page);
            }
            assert_eq!(pages, whole, "{text}");
            assert!(whole.len() > 6, "{text}");
        }
    }

    pub async fn a_reader_of_some_fleets_finds_no_device_of_others(place: Place) {
        let db = filled(&place).await;
        let shops: FleetId = "shops".parse().unwrap();
        for text in ["", "site=berlin", "fleet=depots", "not fleet=shops", "desk or fleet=depots"] {
            let filter: Filter = text.parse().unwrap();
            for fleets in [&[&shops][..], &[]] {
                let within = Selection { fleets: Some(fleets), ..selection(&filter) };
                let found = selection::page(db.pool(), within, "", 500).await.unwrap();
                let count = selection::count(db.pool(), within).await.unwrap();
                assert_eq!(found.len() as u64, count, "{text}");
                let found = devices::listed(db.pool(), &found).await.unwrap();
                assert!(found.iter().all(|d| fleets.contains(&&d.fleet)), "{text}");
            }
        }
    }

    pub async fn labels_are_set_and_removed_for_many_devices(place: Place) {
        let db = filled(&place).await;
        let ids: Vec<_> = all(&db).await.into_iter().map(|device| device.id).collect();
        let site = key("site");
        let label = |device| Label { device, key: &site, value: "ulm", number: None };
        let rows: Vec<_> = ids.iter().map(label).collect();
        let devices: Vec<_> = ids.iter().collect();
        let mut tx = db.write().await.unwrap();
        labels::set(&mut tx, &rows).await.unwrap();
        assert_eq!(labels::used_values(&mut tx, &site, 9).await.unwrap(), ["ulm"]);
        assert_eq!(labels::over_full(&mut tx, &devices, 2).await.unwrap(), None);
        let full = labels::over_full(&mut tx, &devices, 1).await.unwrap();
        assert_eq!(full.as_deref(), Some("dev-00"));
        labels::unset(&mut tx, &site, &devices[1..]).await.unwrap();
        tx.commit().await.unwrap();
        let found = labels::of_devices(db.pool(), ids.iter()).await.unwrap();
        let with_site = found.values().filter(|labels| labels.contains_key(&site)).count();
        assert_eq!(with_site, 1);
        // A key that a device has stays.
        let mut tx = db.write().await.unwrap();
        labels::remove_key(&mut tx, &site).await.unwrap_err();
    }

    pub async fn a_replacement_takes_the_name_and_the_labels(place: Place) {
        let db = filled(&place).await;
        let (old, new) = (id("dev-09"), id("dev-08"));
        let before = devices::get(db.pool(), "dev-09").await.unwrap().unwrap();
        let mut tx = db.write().await.unwrap();
        labels::hand_over(&mut tx, &old, &new).await.unwrap();
        tx.commit().await.unwrap();
        let [new, old] = devices::listed(db.pool(), &[new, old]).await.unwrap().try_into().unwrap();
        assert_eq!((new.name, new.note, new.labels), (before.name, before.note, before.labels));
        assert_eq!((old.name, old.note, old.labels.len()), (None, None, 0));
        assert_eq!(old.replaced_by, Some(new.id));
        let named: Filter = "name=\"Front Desk\"".parse().unwrap();
        let found = selection::page(db.pool(), selection(&named), "", 500).await.unwrap();
        assert!(found.contains(&id("dev-08")) && !found.contains(&id("dev-09")));
    }

    /// The index has each column that a filter looks at in every device.
    pub async fn a_page_of_a_filter_reads_no_row_of_other_devices(place: Place) {
        if place.is_postgres() {
            // It plans by statistics, which a small table does not have.
            return;
        }
        let db = filled(&place).await;
        for text in [
            "desk",
            "name~a and version<2",
            "last_seen>1d",
            "fleet=a and state=idle",
            "not revoked",
        ] {
            let filter: Filter = text.parse().unwrap();
            let query = selection::explained("EXPLAIN QUERY PLAN ", selection(&filter));
            let plan: Vec<(i64, i64, i64, String)> = query.fetch_all(db.pool()).await.unwrap();
            let plan: Vec<_> = plan.into_iter().map(|(.., step)| step).collect();
            assert_eq!(plan, ["SEARCH d USING COVERING INDEX devices_searched (id>?)"], "{text}");
        }
    }
}
