use super::*;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

#[test]
fn a_range_is_read_and_written_in_one_form() {
    for text in ["1.2..1.9", "..1.9", "1.2..", "1.4"] {
        assert_eq!(text.parse::<Versions>().unwrap().to_string(), text);
    }
    for wrong in ["", "..", "2..1", "a..b", "1...2", "1-2"] {
        assert!(wrong.parse::<Versions>().is_err(), "{wrong}");
    }
    let range: Versions = "1.2..1.10".parse().unwrap();
    for (inside, is_in) in [("1.2", true), ("1.9.1", true), ("1.10", true), ("1.11", false)] {
        assert_eq!(range.contain(&version(inside)), is_in, "{inside}");
    }
}

#[test]
fn a_way_that_can_have_no_effect_is_refused() {
    let to = version("5");
    let path = |ranges: &[&str]| ReleasePath {
        floor: None,
        blocked: ranges
            .iter()
            .map(|range| Blocked { from: range.parse().unwrap(), reason: "r".into() })
            .collect(),
    };
    assert_eq!(path(&["1..3", "..4"]).check(&to), Ok(()));
    let refused = |path: ReleasePath| path.check(&to).unwrap_err().to_string();
    assert_eq!(refused(path(&["1..5"])), "the range 1..5 has 5: block lower versions only");
    assert_eq!(refused(path(&["1.."])), "the range 1.. has 5: block lower versions only");
    assert_eq!(refused(path(&["1", "1"])), "the range 1 is given twice");
    let empty = Versions { lowest: Some(version("3")), highest: Some(version("2")) };
    let empty = Blocked { from: empty, reason: "r".into() };
    let empty = ReleasePath { blocked: vec![empty], ..ReleasePath::default() };
    assert_eq!(refused(empty), "the range 3..2 has no version");
    let many: Vec<String> = (0..=BLOCKED_MAX).map(|n| format!("1.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(refused(path(&many)), "21 blocked ways, must be at most 20");
}

#[test]
fn floors_come_in_their_order_whatever_the_order_of_the_list() {
    let floor = |reason: &str| ReleasePath { floor: Some(reason.into()), blocked: vec![] };
    let named = |name: &str| name.parse::<ReleaseName>().unwrap();
    let all = [(named("kiosk@10"), floor("b")), (named("kiosk@9"), floor("a"))];
    let good = |_: &ReleaseName| ReleaseFacts { is_good: true, is_proved: true };
    let paths = Paths::of(all.iter().map(|(name, path)| (name, path)), good);
    let next = |running: Option<&str>, to: &str| {
        let running = running.map(version);
        paths.floor(running.as_ref(), &version(to)).map(|floor| floor.release.to_string())
    };
    assert_eq!(next(Some("8"), "11").as_deref(), Some("kiosk@9"));
    assert_eq!(next(Some("9"), "11").as_deref(), Some("kiosk@10"));
    assert_eq!(next(Some("9.5"), "11").as_deref(), Some("kiosk@10"));
    assert_eq!(next(Some("10"), "11"), None);
    // A floor is no way to itself.
    assert_eq!(next(Some("9"), "10"), None);
    assert_eq!(next(Some("8"), "9"), None);
    assert_eq!(next(None, "11").as_deref(), Some("kiosk@9"));
    assert_eq!(paths.floors(Some(&version("8")), &version("11")), 2);
}
