use super::state::{Alert, DAMP_S, Effect, Event, State, step};
use super::*;
use crate::attestation::Level;
use std::fmt::Write as _;

fn shipped(kind: Kind) -> Rule {
    Rule::shipped().into_iter().find(|rule| rule.kind == kind).unwrap()
}

fn says(kind: Kind, observation: Observation<'_>) -> Verdict {
    shipped(kind).judge(&observation).unwrap()
}

#[test]
fn the_transition_table_of_an_alert_is_the_diagram() {
    let mut table = String::new();
    for state in State::ALL {
        for event in [Event::Holds, Event::Ended, Event::Acknowledged] {
            for (after_s, times) in [(1, 1), (1, 2), (DAMP_S, 2)] {
                let alert = Alert { state, changed_s: 1000, times };
                let to = match step(alert, event, 1000 + after_s) {
                    Ok((to, effect)) => format!("{:?} times {} {effect:?}", to.state, to.times),
                    Err(refused) => format!("refused: {refused}"),
                };
                writeln!(table, "{state:?} times {times} + {after_s} s {event:?} -> {to}").unwrap();
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn what_begins_and_ends_all_the_time_tells_people_once() {
    let (mut alert, mut told) = (Alert::new(0), 1);
    for now_s in (10..7200).step_by(10) {
        let event = if (now_s / 10) % 2 == 1 { Event::Ended } else { Event::Holds };
        let (next, effect) = step(alert, event, now_s).unwrap();
        told += u32::from(effect == Effect::Tell || effect == Effect::Another);
        alert = next;
    }
    assert_eq!(told, 2, "its first beginning and its first end");
    assert!(alert.times > 300);
}

#[test]
fn every_shipped_rule_is_valid_and_an_operator_may_change_it() {
    let rules = Rule::shipped();
    assert_eq!(rules.len(), Kind::ALL.len());
    for rule in &rules {
        rule.check().unwrap();
        assert_eq!(rule.kind.code().parse(), Ok(rule.kind));
    }
    let off = Rule { enabled: false, ..shipped(Kind::Disk) };
    let own = Rule { id: "lab-disk".into(), threshold: 50, ..shipped(Kind::Disk) };
    let effective = Rule::effective(vec![off.clone(), own.clone()]);
    assert_eq!(effective.len(), rules.len() + 1);
    assert!(effective.contains(&off) && effective.contains(&own));
    assert!(!off.watches(Subject::Device, Some(&"lab".parse().unwrap())));
}

#[test]
fn a_rule_that_cannot_be_is_refused_with_its_field() {
    let disk = shipped(Kind::Disk);
    let fleets = |n| vec!["lab".parse().unwrap(); n];
    for (rule, says) in [
        (Rule { id: "Disk".into(), ..disk.clone() }, "id \"Disk\""),
        (Rule { id: String::new(), ..disk.clone() }, "id \"\""),
        (
            Rule { threshold: 100, ..disk.clone() },
            "threshold is 100, must be 10 to 99 (percent) for disk",
        ),
        (Rule { kind: Kind::Offline, ..disk.clone() }, "the shipped rule disk watches disk"),
        (Rule { fleets: fleets(1), ..shipped(Kind::Crl) }, "fleets: crl is about the server"),
        (Rule { fleets: fleets(RULE_FLEETS_MAX + 1), ..disk }, "fleets: 201 are too many"),
    ] {
        let refused = rule.check().unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }
}

#[test]
fn a_rule_watches_its_fleets_and_its_subject_alone() {
    let (lab, shop): (FleetId, FleetId) = ("lab".parse().unwrap(), "shop".parse().unwrap());
    for (kind, subject) in [(Kind::Disk, Subject::Device), (Kind::Fixes, Subject::Fleet)] {
        let rule = Rule { fleets: vec![lab.clone()], ..shipped(kind) };
        rule.check().unwrap();
        assert!(rule.watches(subject, Some(&lab)) && !rule.watches(subject, Some(&shop)));
        assert!(!rule.watches(Subject::Server, None) && !rule.watches(subject, None));
        assert!(shipped(kind).watches(subject, Some(&shop)));
    }
    assert!(!shipped(Kind::Fixes).watches(Subject::Device, Some(&lab)), "nothing of a device");
    assert!(!shipped(Kind::Disk).watches(Subject::Fleet, Some(&lab)));
    assert!(shipped(Kind::Crl).watches(Subject::Server, None));
    assert!(!shipped(Kind::Crl).watches(Subject::Device, Some(&shop)));
    assert_eq!(shipped(Kind::Disk).judge(&Observation::Crl(0)), None);
}

#[test]
fn security_fixes_may_wait_for_a_time() {
    let release = "kiosk@2".parse().unwrap();
    let of = |since_s, now_s, is_open| {
        let (release, count) = (&release, 2);
        says(Kind::Fixes, Observation::Fixes { release, count, since_s, is_open, now_s })
    };
    let at = |since_s, now_s| of(since_s, now_s, false);
    let limit = shipped(Kind::Fixes).threshold;
    assert_eq!(at(None, 1), Verdict::Ends);
    assert_eq!(at(Some(100), 100 + limit - 1), Verdict::EndsUntil(100 + limit));
    let words = "kiosk@2 lacks 2 security fixes, the oldest for 3 days";
    assert_eq!(at(Some(100), 100 + limit), Verdict::Holds(words.into()));
    // A newer fix of the same package is not what the alert waits for.
    let words = "kiosk@2 lacks 2 security fixes";
    assert_eq!(of(Some(100), 101, true), Verdict::Holds(words.into()));
    assert_eq!(of(None, 101, true), Verdict::Ends);
}

#[test]
fn a_rule_about_time_says_when_to_look_again() {
    let limit = shipped(Kind::Offline).threshold;
    let at = |now_s| says(Kind::Offline, Observation::LastSeen { seen_s: 100, now_s });
    assert_eq!(at(100 + limit - 1), Verdict::EndsUntil(100 + limit));
    assert_eq!(at(100 + limit), Verdict::Holds("offline for more than 60 min".into()));
    // A clock that went back.
    assert_eq!(at(0), Verdict::EndsUntil(100 + limit));
    let drift = |since_s| says(Kind::Drift, Observation::Drift { since_s, now_s: 8 * 86_400 });
    assert_eq!(drift(None), Verdict::Ends);
    assert_eq!(drift(Some(2 * 86_400)), Verdict::EndsUntil(9 * 86_400));
    assert!(matches!(drift(Some(0)), Verdict::Holds(_)));
    let ends =
        |ends_s| says(Kind::Certificate, Observation::Certificate { ends_s, now_s: 10 * 86_400 });
    assert_eq!(ends(20 * 86_400), Verdict::EndsUntil(15 * 86_400));
    assert_eq!(ends(12 * 86_400), Verdict::Holds("certificate ends in 2 days".into()));
    assert_eq!(ends(1), Verdict::Holds("certificate has ended".into()));
}

#[test]
fn a_full_disk_alert_ends_below_its_threshold_and_not_at_it() {
    assert_eq!(
        says(Kind::Disk, Observation::Disk(90)),
        Verdict::Holds("data partition is 90 % full".into())
    );
    assert_eq!(says(Kind::Disk, Observation::Disk(89)), Verdict::Unchanged);
    assert_eq!(says(Kind::Disk, Observation::Disk(86)), Verdict::Unchanged);
    assert_eq!(says(Kind::Disk, Observation::Disk(85)), Verdict::Ends);
}

#[test]
fn a_level_that_fell_holds_until_it_is_back() {
    use Level::{ObservedBoot, SelfReported, VerifiedBoot};
    let level = |before, now| says(Kind::TrustDrop, Observation::Level { before, now });
    assert_eq!(
        level(VerifiedBoot, SelfReported),
        Verdict::Holds("level fell from L4 to L0".into())
    );
    assert_eq!(level(VerifiedBoot, VerifiedBoot), Verdict::Ends);
    assert_eq!(level(SelfReported, ObservedBoot), Verdict::Ends);
    let by_two = Rule { threshold: 2, ..shipped(Kind::TrustDrop) };
    let fallen = Observation::Level { before: VerifiedBoot, now: ObservedBoot };
    assert_eq!(by_two.judge(&fallen), Some(Verdict::Unchanged));
}

#[test]
fn texts_and_counts_hold_from_their_threshold_on() {
    assert_eq!(says(Kind::Alarm, Observation::Alarm(Some("x"))), Verdict::Holds("x".into()));
    assert_eq!(says(Kind::Alarm, Observation::Alarm(None)), Verdict::Ends);
    assert_eq!(says(Kind::FailedUpdate, Observation::Update(None)), Verdict::Ends);
    for (kind, below, at) in [
        (Kind::Flapping, Observation::Connections(11), Observation::Connections(12)),
        (Kind::AuditGap, Observation::WaitingActs(999), Observation::WaitingActs(1000)),
        (Kind::Crl, Observation::Crl(43_200), Observation::Crl(43_199)),
    ] {
        assert_eq!(says(kind, below), Verdict::Ends);
        assert!(matches!(says(kind, at), Verdict::Holds(_)), "{kind}");
    }
}
