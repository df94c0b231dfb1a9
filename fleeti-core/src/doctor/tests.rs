use super::*;

fn ending(kind: EndingKind, ends_s: u64, renewal: Renewal) -> Ending {
    Ending { kind, subject: "it".into(), ends_s, renewal, remedy: "renew it".into() }
}

fn people() -> Renewal {
    Renewal::People { who: "operators".into() }
}

fn facts(now_s: u64, endings: Vec<Ending>) -> Facts {
    Facts {
        now_s,
        clock: Clock { not_before_s: now_s, stated_s: Some(now_s), is_synchronized: Some(true) },
        database: Ok(()),
        disk: Some(Disk { free: 100 << 30, floor: 512 << 20 }),
        audit_disk: None,
        signer: SignerFacts::Answers,
        waiting_acts: 0,
        waiting_many: 1000,
        index_s: Some(now_s),
        backup_s: Some(now_s),
        restore_open: 0,
        ports: vec![],
        endings,
    }
}

/// The only check that is not good.
fn bad(facts: Facts) -> Check {
    let all = diagnose(facts).checks;
    let mut bad: Vec<_> = all.into_iter().filter(|c| c.result != CheckResult::Ok).collect();
    assert_eq!(bad.len(), 1, "{bad:#?}");
    bad.remove(0)
}

const NOW_S: u64 = 1_000 * DAY_S;

#[test]
fn people_are_told_sixty_thirty_and_seven_days_before_an_end() {
    let at = |left_s: u64| stage(&ending(EndingKind::Root, NOW_S + left_s, people()), NOW_S);
    assert_eq!(at(60 * DAY_S), None);
    for (days, next) in [(60, 30), (30, 7), (7, 0)] {
        assert_eq!(at(days * DAY_S - 1), Some(Stage::Within { days }));
        if next > 0 {
            assert_eq!(at(next * DAY_S), Some(Stage::Within { days }));
        }
    }
    assert_eq!(at(1), Some(Stage::Within { days: 7 }));
    assert_eq!(at(0), Some(Stage::Ended));
    let ended = ending(EndingKind::Root, NOW_S - 1, people());
    assert_eq!(stage(&ended, NOW_S), Some(Stage::Ended));
    assert_eq!(stage(&ended, u64::MAX), Some(Stage::Ended));
}

#[test]
fn what_the_server_renews_is_told_only_when_it_did_not() {
    let renewal = Renewal::Server { left_s: 12 * 3600 };
    let crl = |left_s| ending(EndingKind::DeviceCrl, NOW_S + left_s, renewal.clone());
    assert_eq!(stage(&crl(DAY_S), NOW_S), None);
    assert_eq!(stage(&crl(12 * 3600 - 1), NOW_S), Some(Stage::Within { days: 1 }));
    assert_eq!(stage(&crl(0), NOW_S), Some(Stage::Ended));
}

#[test]
fn an_end_that_is_intended_is_told_to_nobody() {
    let former = ending(EndingKind::FormerCa, NOW_S - 1, Renewal::Nobody);
    assert_eq!(stage(&former, NOW_S), None);
    assert_eq!(worst(&diagnose(facts(NOW_S, vec![former])).checks), CheckResult::Ok);
}

#[test]
fn a_server_that_lacks_nothing_has_only_good_lines() {
    let found = diagnose(facts(NOW_S, vec![ending(EndingKind::Root, u64::MAX, people())]));
    assert_eq!(worst(&found.checks), CheckResult::Ok, "{:#?}", found.checks);
    assert!(found.checks.iter().all(|c| c.remedy.is_none()), "{:#?}", found.checks);
}

#[test]
fn each_lack_is_one_line_with_its_remedy() {
    type Change = fn(&mut Facts);
    let rows: [(Change, &str, CheckResult); 15] = [
        (|f| f.clock.not_before_s = NOW_S + 1, "clock", CheckResult::Failed),
        (|f| f.clock.stated_s = Some(NOW_S + 301), "clock", CheckResult::Failed),
        (|f| f.clock.is_synchronized = Some(false), "clock", CheckResult::Warning),
        (|f| f.database = Err("locked".into()), "database", CheckResult::Failed),
        (|f| f.disk = Some(Disk { free: 1, floor: 2 }), "disk", CheckResult::Failed),
        (|f| f.disk = Some(Disk { free: 3, floor: 2 }), "disk", CheckResult::Warning),
        (|f| f.disk = None, "disk", CheckResult::Failed),
        (|f| f.audit_disk = Some("full".into()), "audit disk", CheckResult::Warning),
        (
            |f| f.signer = SignerFacts::Away { since_s: Some(0) },
            "signing service",
            CheckResult::Failed,
        ),
        (|f| f.waiting_acts = 1000, "audit log", CheckResult::Warning),
        (|f| f.index_s = None, "mirror", CheckResult::Warning),
        (|f| f.index_s = Some(NOW_S - INDEX_S_MAX - 1), "mirror", CheckResult::Warning),
        (|f| f.restore_open = 2, "restore", CheckResult::Warning),
        (|f| f.backup_s = None, "backup", CheckResult::Warning),
        (|f| f.backup_s = Some(NOW_S - BACKUP_S_MAX - 1), "backup", CheckResult::Warning),
    ];
    for (change, name, result) in rows {
        let mut facts = facts(NOW_S, vec![]);
        change(&mut facts);
        let check = bad(facts);
        assert_eq!((check.name.as_str(), check.result), (name, result), "{check:?}");
        assert!(check.remedy.is_some_and(|remedy| !remedy.is_empty()));
    }
    let mut refused = facts(NOW_S, vec![]);
    refused.ports = vec![Port {
        name: "devices".into(),
        address: "127.0.0.1:8443".into(),
        refused: Some("connection refused".into()),
    }];
    let check = bad(refused);
    assert_eq!((check.name.as_str(), check.result), ("port of devices", CheckResult::Failed));
}

#[test]
fn what_will_have_ended_is_listed_in_order() {
    let all = vec![
        ending(EndingKind::Root, 30, people()),
        ending(EndingKind::RootCrl, 10, people()),
        ending(EndingKind::DeviceCrl, 20, Renewal::Server { left_s: 1 }),
    ];
    let found = diagnose(facts(0, all)).endings;
    let kinds: Vec<_> = by(&found, 20).into_iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EndingKind::RootCrl, EndingKind::DeviceCrl]);
}
