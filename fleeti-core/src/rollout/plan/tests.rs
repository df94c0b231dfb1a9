use super::*;

fn wave(size: &str) -> Wave {
    Wave { size: size.parse().unwrap(), start: Start::AfterSuccess, soak_s: 0 }
}

fn plan(sizes: &[&str]) -> Plan {
    Plan::of(sizes.iter().map(|size| wave(size)).collect())
}

#[test]
fn a_plan_that_never_ends_or_goes_backwards_is_refused_with_the_reason() {
    for sizes in [&["100%"][..], &["1", "10%", "100%"], &["devices:a,b", "5", "100%"]] {
        plan(sizes).check().unwrap();
    }
    let refused = |sizes: &[&str]| plan(sizes).check().unwrap_err().to_string();
    insta::assert_snapshot!(
        [
            refused(&[]),
            refused(&["1", "10%"]),
            refused(&["10%", "5%", "100%"]),
            refused(&["3", "3", "100%"]),
            refused(&["0", "100%"]),
            refused(&["101%", "100%"]),
            refused(&["devices:a", "devices:b,a", "100%"]),
        ]
        .join("\n"),
        @r"
    number of waves is 0, must be 1 to 20
    the last wave must be 100%: a wave that starts by hand leaves the rest to you
    wave 2 is not larger than an earlier one: sizes include the waves before them
    wave 2 is not larger than an earlier one: sizes include the waves before them
    devices of a wave is 0, must be 1 to 100000
    percent of a wave is 101, must be 1 to 100
    a is listed twice
    "
    );
}

#[test]
fn numbers_out_of_bounds_are_refused_by_name() {
    let base = plan(&["100%"]);
    let broken = [
        Plan { silent_s: 59, ..base.clone() },
        Plan { unreached_s: SECONDS_MAX + 1, ..base.clone() },
        Plan { sample_min: 0, ..base.clone() },
        Plan { moving_max: Some(0), ..base.clone() },
        Plan { rate: Some(Rate { devices: 1, per_s: 0 }), ..base.clone() },
        Plan { errors_max: ErrorsMax::Percent { percent: 100 }, ..base.clone() },
    ];
    for plan in broken {
        let refused = plan.check().unwrap_err();
        assert!(matches!(refused, PlanError::Bounds { .. }), "{refused}");
    }
    let many: Vec<_> = (0..=LISTED_MAX).map(|n| format!("d{n}")).collect();
    assert!(plan(&[&format!("devices:{}", many.join(",")), "100%"]).check().is_err());
}

#[test]
fn sizes_are_read_as_people_write_them() {
    assert_eq!("5".parse(), Ok(Size::Count { devices: 5 }));
    assert_eq!("10%".parse(), Ok(Size::Percent { percent: 10 }));
    let listed = Size::List { devices: vec!["a".parse().unwrap(), "b-1".parse().unwrap()] };
    assert_eq!("devices:a,b-1".parse(), Ok(listed));
    for wrong in ["", "%", "10 %", "-1", "devices:", "devices:a,,b", "300%", "ten"] {
        let refused = wrong.parse::<Size>().unwrap_err().to_string();
        assert!(refused.contains("10%"), "{refused}");
    }
    assert_eq!("2%".parse(), Ok(ErrorsMax::Percent { percent: 2 }));
    assert_eq!("3".parse(), Ok(ErrorsMax::Count { devices: 3 }));
}

#[test]
fn a_plan_of_waves_alone_has_the_defaults() {
    let json = r#"{"waves": [{"size": {"type": "percent", "percent": 100}}]}"#;
    assert_eq!(crate::strict::from_slice::<Plan>(json.as_bytes()).unwrap(), plan(&["100%"]));
    assert!(crate::strict::from_slice::<Plan>(br#"{"waves": [], "wave": 1}"#).is_err());
}
