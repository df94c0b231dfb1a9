use super::*;
use crate::id::{DeviceId, FleetId, LabelKey, ReleaseName};
use crate::wire::labels::LabelType;
use proptest::prelude::*;
use std::collections::BTreeMap;

const NOW_S: u64 = 100 * 86_400;

struct Sample {
    id: DeviceId,
    fleet: FleetId,
    running: Option<ReleaseName>,
    labels: BTreeMap<LabelKey, String>,
}

fn sample(running: Option<&str>, labels: &[(&str, &str)]) -> Sample {
    let label = |(key, value): &(&str, &str)| (key.parse().unwrap(), (*value).to_owned());
    Sample {
        id: "dev-1".parse().unwrap(),
        fleet: "shops".parse().unwrap(),
        running: running.map(|name| name.parse().unwrap()),
        labels: labels.iter().map(label).collect(),
    }
}

impl Sample {
    fn facts(&self) -> DeviceFacts<'_> {
        DeviceFacts {
            id: &self.id,
            fleet: &self.fleet,
            name: Some("Front Desk"),
            note: None,
            running: self.running.as_ref(),
            state: "rolled_back",
            is_revoked: false,
            has_alarm: true,
            last_seen_s: NOW_S - 8 * 86_400,
            labels: &self.labels,
        }
    }

    fn is(&self, filter: &str) -> bool {
        let filter = filter.parse::<Filter>().unwrap_or_else(|e| panic!("{filter}: {e}"));
        filter.matches(&self.facts(), NOW_S)
    }
}

#[test]
fn a_filter_says_what_it_reads_like() {
    let device = sample(Some("kiosk@2.1"), &[("site", "berlin"), ("floor", "12")]);
    for yes in [
        "",
        "site=berlin and version<2.2 and not revoked",
        "label.site in (bonn, berlin)",
        "site not in (bonn, cologne)",
        "name~desk",
        "name=\"Front Desk\"",
        "\"front d\"",
        "DEV-1",
        "last_seen>7d and last_seen<9d",
        "floor>9",
        "floor=12",
        "label.floor",
        "not label.room",
        "room!=a",
        "version in (1, 2.1)",
        "version!=2",
        "release=kiosk@2.1 and line=kiosk",
        "state=rolled_back or revoked",
        "alarm",
        "fleet=shops and (site=bonn or site=berlin)",
        "not (site=bonn and alarm)",
        "site!~bonn",
        "NOT revoked AND alarm",
    ] {
        assert!(device.is(yes), "{yes}");
    }
    for no in [
        "site=bonn",
        "version>2.1",
        "room=a",
        "room~a",
        "note~a",
        "revoked",
        "last_seen>9d",
        "floor<9",
        "site<9",
        "desks",
        "site=berlin and (revoked or version=2)",
        "state in (failed, idle)",
    ] {
        assert!(!device.is(no), "{no}");
    }
}

#[test]
fn a_device_that_never_reported_has_no_version() {
    let device = sample(None, &[]);
    assert!(!device.is("version<2") && !device.is("version>=2") && !device.is("line=kiosk"));
    assert!(device.is("not version<2") && device.is("version!=2"));
}

#[test]
fn and_binds_more_tightly_than_or() {
    let device = sample(None, &[]);
    assert!(device.is("alarm or revoked and revoked"));
    assert!(!device.is("(alarm or revoked) and revoked"));
}

/// Each line: the filter, its pointer, the error and the hint.
#[test]
fn every_error_points_at_its_column_and_says_what_to_write() {
    let wrong = [
        "site=",
        "site berlin",
        "site=berlin version<2",
        "site=berlin and",
        "and site=berlin",
        "(site=berlin",
        "site=berlin)",
        "site in berlin",
        "site in (berlin",
        "site in ()",
        "site in (a b)",
        "name<a",
        "name~\"\"",
        "version=1.x",
        "version~1",
        "last_seen>7",
        "last_seen>1m",
        "last_seen=7d",
        "state=rolledback",
        "revoked=true",
        "online=true",
        "Site=berlin",
        "label.=a",
        "site='a'",
        "site=a && alarm",
        "!revoked",
        "name=\"a",
        "name=\"a\\n\"",
        "floor<high",
        "version",
        "\"\"",
        "a or (b and (c or d=))",
    ];
    let shown = wrong.map(|filter| {
        let e = filter.parse::<Filter>().unwrap_err();
        format!("{filter}\n{}\n{}\n  {}\n", e.pointer(), e.message, e.hint)
    });
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn a_filter_is_bounded() {
    let refused = |filter: &str| filter.parse::<Filter>().unwrap_err().message;
    assert!(refused(&"a".repeat(FILTER_MAX + 1)).contains("at most 1000"));
    assert!(refused(&vec!["a"; TESTS_MAX + 1].join(" or ")).contains("32 tests"));
    assert!(vec!["a"; TESTS_MAX].join(" or ").parse::<Filter>().is_ok());
    assert!(refused(&format!("a in ({})", vec!["b"; VALUES_MAX + 1].join(","))).contains("100"));
    assert!(refused(&format!("{}a", "not ".repeat(DEPTH_MAX))).contains("16 levels"));
    assert!(refused(&"(".repeat(FILTER_MAX)).contains("16 levels"));
}

#[test]
fn labels_are_compared_with_their_declared_keys() {
    let choice = LabelType::Choice { values: vec!["berlin".into(), "bonn".into()] };
    let keys = [("site", choice), ("floor", LabelType::Number), ("demo", LabelType::Boolean)];
    let keys: BTreeMap<LabelKey, _> =
        keys.into_iter().map(|(key, of)| (key.parse().unwrap(), of)).collect();
    let check = |filter: &str| filter.parse::<Filter>().unwrap().check(&keys);
    for good in
        ["site=berlin", "site~ber", "floor<3", "floor=3", "demo=true", "label.site", "berlin"]
    {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    let wrong = [
        "alarm and sitee=berlin",
        "versoin=2",
        "colour=red",
        "site=berln",
        "site in (berlin, x)",
        "site<3",
        "floor=03",
        "demo=yes",
    ];
    let shown = wrong.map(|filter| {
        let e = check(filter).unwrap_err();
        format!("{filter}\n{}\n{}\n  {}\n", e.pointer(), e.message, e.hint)
    });
    insta::assert_snapshot!(shown.join("\n"));
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9._-]{1,6}", "[ -~äß\\\\\"]{1,8}", Just("and".to_owned())]
}

fn order() -> impl Strategy<Value = Order> {
    use Order::{AtLeast, AtMost, Equal, Greater, Less};
    prop_oneof![Just(Less), Just(AtMost), Just(Equal), Just(AtLeast), Just(Greater)]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 1..4)
}

fn test() -> impl Strategy<Value = Test> {
    use TextField::{Fleet, Id, Line, Name, Note, Release};
    let field =
        prop_oneof![Just(Id), Just(Fleet), Just(Name), Just(Note), Just(Line), Just(Release)];
    let number = order().prop_filter("= is a text", |order| *order != Order::Equal);
    let label = prop_oneof![
        Just(LabelTest::Present),
        texts().prop_map(LabelTest::OneOf),
        text().prop_map(LabelTest::Contains),
        (number, any::<i32>()).prop_map(|(order, n)| LabelTest::Number(order, n.into())),
    ];
    prop_oneof![
        (field.clone(), texts()).prop_map(|(field, all)| Test::Text(field, TextTest::OneOf(all))),
        (field, text()).prop_map(|(field, part)| Test::Text(field, TextTest::Contains(part))),
        (order(), "(0|[1-9][0-9]?)(\\.(0|[1-9])){0,2}")
            .prop_map(|(order, version)| Test::Version(order, version.parse().unwrap())),
        (SEEN_STEP_S..1_000_000_u64).prop_map(Test::SeenBefore),
        (SEEN_STEP_S..1_000_000_u64).prop_map(Test::SeenWithin),
        prop_oneof![Just(Flag::Alarm), Just(Flag::Revoked)].prop_map(Test::Flag),
        ("[a-z][a-z0-9_-]{0,5}", label)
            .prop_map(|(key, test)| Test::Label(key.parse().unwrap(), test)),
        text().prop_map(Test::Search),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    test().prop_map(Node::Test).prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Node::All),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Node::Any),
            inner.prop_map(|node| Node::Not(Box::new(node))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again_as_the_same(node in node()) {
        let written = node.to_string();
        let read = written.parse::<Filter>();
        prop_assume!(written.chars().count() <= FILTER_MAX);
        let tests = read.as_ref().is_err_and(|e| e.message.contains("more than"));
        prop_assume!(!tests);
        prop_assert_eq!(read.map(|filter| filter.root), Ok(node), "{}", written);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
        let pointed = text.parse::<Filter>().map_err(|e| e.column);
        prop_assert!(pointed.is_ok() || pointed.is_err_and(|c| (1..=61).contains(&c)));
    }

    #[test]
    fn no_mixture_of_tokens_makes_the_parser_panic(
        parts in prop::collection::vec(prop_oneof![
            Just("("), Just(")"), Just("and"), Just("or"), Just("not"), Just("in"), Just(","), Just("="),
            Just("<"), Just("version"), Just("1"), Just("label.x"), Just("\"a\""), Just("alarm"),
        ], 0..20)
    ) {
        let text = parts.join(" ");
        if let Ok(filter) = text.parse::<Filter>() {
            let again = filter.to_string().parse::<Filter>();
            prop_assert_eq!(again.map(|f| f.root), Ok(filter.root));
        }
    }
}
