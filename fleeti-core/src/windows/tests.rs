use super::*;
use proptest::prelude::*;

fn window(text: &str) -> Window {
    text.parse().unwrap()
}

fn reboot(lines: &[&str]) -> Windows {
    Windows { reboot: lines.iter().map(|l| window(l)).collect(), ..Windows::default() }
}

/// Unix seconds of a time in UTC.
fn utc(text: &str) -> u64 {
    let time: jiff::civil::DateTime = text.parse().unwrap();
    u64::try_from(jiff::tz::TimeZone::UTC.to_timestamp(time).unwrap().as_second()).unwrap()
}

fn at(text: &str, zone: &'static str) -> Local<'static> {
    Local { now_s: utc(text), zone }
}

fn open(until: &str) -> Opening {
    Opening::Open { until_s: Some(utc(until)) }
}

fn closed(opens: &str) -> Opening {
    Opening::Closed { opens_s: Some(utc(opens)) }
}

#[test]
fn a_window_of_the_server_begins_after_a_moment() {
    let nights = window("tue,fri 02:00-05:00 Europe/Berlin");
    for (after, begins) in [
        ("2026-11-30T12:00", "2026-12-01T01:00"),
        // It has begun: the next one counts.
        ("2026-12-01T01:00", "2026-12-04T01:00"),
        ("2026-12-01T02:00", "2026-12-04T01:00"),
        ("2026-03-27T12:00", "2026-03-31T00:00"),
    ] {
        assert_eq!(nights.begins_after(utc(after)), Some(utc(begins)), "{after}");
    }
    // Clocks are set forward from 02:00 to 03:00.
    let sunday = window("sun 02:30-05:00 Europe/Berlin");
    assert_eq!(sunday.begins_after(utc("2026-03-27T12:00")), Some(utc("2026-03-29T01:00")));
    assert!(!nights.is_open(utc("2026-12-01T00:59")) && nights.is_open(utc("2026-12-01T01:00")));
    assert!(nights.is_open(utc("2026-12-01T03:59")) && !nights.is_open(utc("2026-12-01T04:00")));
    assert_eq!(
        window("02:00-05:00").begins_after(utc("2026-12-01T01:00")),
        Some(utc("2026-12-01T02:00"))
    );
    assert_eq!(window("02:00-05:00").begins_after(u64::MAX), None);
}

#[test]
fn a_window_is_written_as_it_is_read() {
    for (text, canonical) in [
        ("02:00-05:00", "02:00-05:00"),
        ("daily 00:00-24:00", "00:00-24:00"),
        ("mon-sun 1:00-2:00", ""),
        (
            "mon-fri 22:00-05:00 Europe/Berlin fits 2h",
            "mon-fri 22:00-05:00 Europe/Berlin fits 120m",
        ),
        ("sat-mon 10:00-11:30", "mon,sat-sun 10:00-11:30"),
        ("  sat,sun   10:00-11:30   fits 30m ", "sat-sun 10:00-11:30 fits 30m"),
        ("mon,wed,fri 22:00-00:00 Etc/UTC", "mon,wed,fri 22:00-00:00 Etc/UTC"),
    ] {
        match text.parse::<Window>() {
            Ok(window) => {
                assert_eq!(window.to_string(), canonical);
                assert_eq!(canonical.parse::<Window>().unwrap(), window);
            }
            Err(e) => assert_eq!(canonical, "", "{e}"),
        }
    }
}

#[test]
fn a_wrong_window_is_refused_with_its_column_and_a_hint() {
    let long = format!("02:00-05:00 {}", "x".repeat(WINDOW_MAX));
    let mut table = String::new();
    for text in [
        "",
        "mon",
        "mon-frei 02:00-05:00",
        "2:00-05:00",
        "25:00-26:00",
        "24:00-02:00",
        "02:60-05:00",
        "02:00",
        "02:00-02:00",
        "mon 02:00-05:00 Europe/Berln",
        "mon 02:00-05:00 europe/berlin",
        "mon 02:00-05:00 Mars/Phobos",
        "02:00-03:00 fits 2h",
        "02:00-03:00 fits",
        "02:00-03:00 fits 0m",
        "02:00-03:00 fits 99999h",
        "02:00-03:00 Etc/UTC 30m",
        "02:00-03:00 Etc/UTC fits 30m more",
        "mön 02:00-03:00 Etc/UTC x",
        long.as_str(),
    ] {
        let refused = text.parse::<Window>().unwrap_err();
        let shown: String = text.chars().take(40).collect();
        table += &format!("{shown}\n  {}: {}; {}\n", refused.column, refused.message, refused.hint);
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_window_opens_at_local_time_in_summer_and_in_winter() {
    let windows = reboot(&["02:00-04:00 Europe/Berlin"]);
    let of = |text| windows.opening(Job::Reboot, at(text, "Asia/Tokyo"));
    assert_eq!(of("2026-01-10T01:00:00"), open("2026-01-10T03:00:00"));
    assert_eq!(of("2026-07-10T00:00:00"), open("2026-07-10T02:00:00"));
    assert_eq!(of("2026-07-10T02:00:00"), closed("2026-07-11T00:00:00"));
    // Without a zone of its own, the device's counts.
    let windows = reboot(&["02:00-04:00"]);
    let of = |zone| windows.opening(Job::Reboot, at("2026-01-10T17:30:00", zone));
    assert_eq!(of("Asia/Tokyo"), open("2026-01-10T19:00:00"));
    assert_eq!(of("Etc/UTC"), closed("2026-01-11T02:00:00"));
    assert_eq!(of("no/zone"), of("Etc/UTC"));
    assert_eq!(
        windows.opening(Job::Install, at("2026-01-10T17:30:00", "Etc/UTC")),
        Opening::Open { until_s: None }
    );
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
    let windows = reboot(&["fri 22:00-05:00"]);
    let of = |text| windows.opening(Job::Reboot, at(text, "Etc/UTC"));
    assert_eq!(of("2026-12-04T23:00:00"), open("2026-12-05T05:00:00"));
    assert_eq!(of("2026-12-05T04:59:59"), open("2026-12-05T05:00:00"));
    assert_eq!(of("2026-12-05T05:00:00"), closed("2026-12-11T22:00:00"));
    assert_eq!(of("2026-12-04T04:00:00"), closed("2026-12-04T22:00:00"));
}

/// Clocks in Berlin go from 02:00 to 03:00 on 2026-03-29.
#[test]
fn a_time_that_does_not_exist_stands_for_the_moment_at_which_clocks_are_set_forward() {
    let of = |line, text| reboot(&[line]).opening(Job::Reboot, at(text, "Europe/Berlin"));
    // Begins in the gap: opens at 03:00 summer time.
    assert_eq!(of("02:30-04:00", "2026-03-29T00:59:59"), closed("2026-03-29T01:00:00"));
    assert_eq!(of("02:30-04:00", "2026-03-29T01:00:00"), open("2026-03-29T02:00:00"));
    // Ends in it.
    assert_eq!(of("01:00-02:30", "2026-03-29T00:30:00"), open("2026-03-29T01:00:00"));
    // All of it: does not open on this day, and opens on the next, or a week later.
    assert_eq!(of("02:15-02:45", "2026-03-29T00:30:00"), closed("2026-03-30T00:15:00"));
    assert_eq!(of("sun 02:15-02:45", "2026-03-29T00:30:00"), closed("2026-04-05T00:15:00"));
    // Fits on every day but this one.
    assert_eq!(of("01:00-04:00 fits 3h", "2026-03-29T00:00:00"), closed("2026-03-29T23:00:00"));
}

/// Clocks in Melbourne go from 03:00 to 02:00 on 2024-04-07: 02:00 to 03:00 happens twice.
#[test]
fn a_window_in_an_hour_that_happens_twice_opens_once_and_lasts_for_both() {
    let of = |text| reboot(&["02:00-03:00"]).opening(Job::Reboot, at(text, "Australia/Melbourne"));
    assert_eq!(of("2024-04-06T14:59:59"), closed("2024-04-06T15:00:00"));
    for inside in
        ["2024-04-06T15:00:00", "2024-04-06T15:30:00", "2024-04-06T16:00:00", "2024-04-06T16:59:59"]
    {
        assert_eq!(of(inside), open("2024-04-06T17:00:00"), "{inside}");
    }
    assert_eq!(of("2024-04-06T17:00:00"), closed("2024-04-07T16:00:00"));
    // Ends within it: at the second 02:30.
    let of = |text| reboot(&["01:00-02:30"]).opening(Job::Reboot, at(text, "Australia/Melbourne"));
    assert_eq!(of("2024-04-06T15:45:00"), open("2024-04-06T16:30:00"));
}

#[test]
fn a_job_begins_only_if_it_fits() {
    let windows = reboot(&["02:00-03:00 fits 20m", "12:00-12:10"]);
    let of = |text| windows.opening(Job::Reboot, at(text, "Etc/UTC"));
    assert_eq!(of("2026-01-10T02:40:00"), open("2026-01-10T02:40:01"));
    assert_eq!(of("2026-01-10T02:40:01"), closed("2026-01-10T12:00:00"));
    // Alerts are silent until the window ends.
    let until_s = windows.lasts_until_s(Job::Reboot, at("2026-01-10T02:50:00", "Etc/UTC"));
    assert_eq!(until_s, Some(utc("2026-01-10T03:00:00")));
    assert_eq!(windows.lasts_until_s(Job::Install, at("2026-01-10T02:50:00", "Etc/UTC")), None);
}

fn device(text: &str) -> Device<'static> {
    Device {
        at: at(text, "Etc/UTC"),
        is_clock_right: true,
        blocked_since_s: None,
        skip_until_s: None,
    }
}

#[test]
fn a_reboot_waits_for_a_user_but_not_for_ever() {
    let windows = Windows { user_delay_min: Some(60), ..Windows::default() };
    let blocked =
        |text| Device { blocked_since_s: Some(utc("2026-01-10T02:00:00")), ..device(text) };
    let until_s = Some(utc("2026-01-10T03:00:00"));
    let wait = Wait { job: Job::Reboot, reason: WaitReason::User, until_s };
    assert_eq!(windows.wait(Job::Reboot, blocked("2026-01-10T02:59:59")), Some(wait));
    assert_eq!(windows.wait(Job::Reboot, blocked("2026-01-10T03:00:00")), None);
    assert_eq!(windows.wait(Job::Reboot, device("2026-01-10T02:30:00")), None);
    assert_eq!(windows.wait(Job::Install, blocked("2026-01-10T02:30:00")), None);
    // Without a limit in the policy, nobody waits for a user.
    assert_eq!(Windows::default().wait(Job::Reboot, blocked("2026-01-10T02:30:00")), None);
    // A closed window closes again before the wait is over: the window decides.
    let both = Windows { user_delay_min: Some(60), ..reboot(&["02:00-02:30"]) };
    let wait = both.wait(Job::Reboot, blocked("2026-01-10T02:45:00")).unwrap();
    assert_eq!((wait.reason, wait.until_s), (WaitReason::Window, Some(utc("2026-01-11T02:00:00"))));
    assert_eq!(both.wait(Job::Reboot, blocked("2026-01-11T02:00:00")), None);
}

#[test]
fn a_device_with_a_clock_in_1970_opens_no_window_and_ends() {
    let windows = reboot(&["00:00-24:00"]);
    let wrong = |now_s| Device {
        at: Local { now_s, zone: "America/Los_Angeles" },
        is_clock_right: false,
        blocked_since_s: None,
        skip_until_s: None,
    };
    for now_s in [0, 1, 86_400, u64::MAX] {
        let wait = windows.wait(Job::Reboot, wrong(now_s)).unwrap();
        assert_eq!((wait.reason, wait.until_s), (WaitReason::Clock, None));
        // What has no window needs no clock.
        assert_eq!(windows.wait(Job::Download, wrong(now_s)), None);
    }
    // A clock that nobody knows to be wrong is read as it is, and never panics.
    for now_s in [0, 1, u64::MAX, i64::MAX as u64, 253_402_300_799] {
        let right = Device { is_clock_right: true, ..wrong(now_s) };
        assert_eq!(windows.may(right).reboot, windows.wait(Job::Reboot, right).is_none());
    }
}

#[test]
fn a_desired_state_that_skips_windows_does_so_until_its_time() {
    let windows = Windows { user_delay_min: Some(60), ..reboot(&["sun 02:00-03:00"]) };
    let skips = |text| Device {
        skip_until_s: Some(utc("2026-01-10T03:00:00")),
        blocked_since_s: Some(utc("2026-01-10T02:59:00")),
        ..device(text)
    };
    assert_eq!(windows.may(skips("2026-01-10T02:59:59")), May::ALL);
    assert!(!windows.may(skips("2026-01-10T03:00:00")).reboot);
}

#[test]
fn numbers_out_of_range_are_refused_with_their_field() {
    let check = |windows: Windows| windows.check().map_err(|e| e.to_string());
    let many =
        Windows { install: vec![window("02:00-03:00"); WINDOWS_MAX + 1], ..Windows::default() };
    assert_eq!(check(many), Err("windows.install: 17 windows, expected at most 16".into()));
    let delay = |m| Windows { user_delay_min: Some(m), ..Windows::default() };
    assert!(check(delay(0)).unwrap_err().contains("user_delay_min is 0"));
    assert_eq!(check(delay(USER_DELAY_MIN_MAX)), Ok(()));
    assert!(check(delay(USER_DELAY_MIN_MAX + 1)).is_err());
    let rate = |rate| Windows { download_kib_s: Some(rate), ..Windows::default() };
    assert!(check(rate(DOWNLOAD_KIB_S_MIN - 1)).unwrap_err().contains("download_kib_s is 127"));
    assert_eq!(check(rate(DOWNLOAD_KIB_S_MIN)), Ok(()));
    assert!(check(rate(DOWNLOAD_KIB_S_MAX + 1)).is_err());
}

#[test]
fn windows_are_read_strictly() {
    let read = |json: &str| {
        crate::strict::from_slice::<Windows>(json.as_bytes()).map_err(|e| e.to_string())
    };
    assert!(read(r#"{"reboot":["sun 02:00-03:00"]}"#).is_ok());
    assert!(read(r#"{"reboots":[]}"#).is_err());
    let refused = read(r#"{"reboot":["sun 02:00-03:00 Europe/Berln"]}"#).unwrap_err();
    assert!(refused.contains("column 17") && refused.contains("Europe/Berlin"), "{refused}");
    assert_eq!(serde_json::to_string(&Windows::default()).unwrap(), "{}");
}

fn any_line() -> impl Strategy<Value = String> {
    let zone = prop::sample::select(vec![
        "",
        " Europe/Berlin",
        " America/New_York",
        " Australia/Lord_Howe",
        " Pacific/Apia",
        " Africa/Casablanca",
        " Asia/Kathmandu",
        " Etc/UTC",
        " America/Sao_Paulo",
    ]);
    let day = prop::sample::select(vec!["", "mon ", "sun ", "sat-mon ", "tue,thu "]);
    (day, 0_u16..1440, 0_u16..=1440, zone, 0_u16..200).prop_map(|(day, from, until, zone, fits)| {
        let fits = if fits > 100 { String::new() } else { format!(" fits {}m", fits + 1) };
        let (fh, fm, uh, um) = (from / 60, from % 60, until / 60, until % 60);
        format!("{day}{fh:02}:{fm:02}-{uh:02}:{um:02}{zone}{fits}")
    })
}

proptest! {
    /// Over fifty years, with every change of clocks: what opens next is open then, and not before;
    /// and in an open window, local time is between its two times or clocks were changed.
    #[test]
    fn a_window_opens_when_it_says(line in any_line(), now_s in 0_u64..3_000_000_000) {
        let Ok(window) = line.parse::<Window>() else { return Ok(()) };
        prop_assert_eq!(window.to_string().parse::<Window>().unwrap(), window.clone());
        let windows = Windows { reboot: vec![window], ..Windows::default() };
        let opening = |now_s| windows.opening(Job::Reboot, Local { now_s, zone: "Europe/London" });
        match opening(now_s) {
            Opening::Open { until_s } => {
                let until_s = until_s.unwrap();
                prop_assert!(until_s > now_s);
                let is_open = matches!(opening(until_s - 1), Opening::Open { .. });
                prop_assert!(is_open);
                prop_assert!(until_s - now_s <= 86_400 + 7200, "{} s", until_s - now_s);
            }
            Opening::Closed { opens_s } => {
                let opens_s = opens_s.unwrap();
                prop_assert!(opens_s > now_s);
                let is_open = matches!(opening(opens_s), Opening::Open { .. });
                prop_assert!(is_open);
                prop_assert_eq!(opening(opens_s - 1), Opening::Closed { opens_s: Some(opens_s) });
            }
        }
    }
}
