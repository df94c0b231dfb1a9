use super::*;
use proptest::prelude::*;

fn read(body: &str) -> Answer {
    Answer::read(Response { status: 200, body: body.as_bytes() }, "rollout-1.1")
}

#[test]
fn only_an_answer_that_allows_the_question_allows_a_wave() {
    for body in [r#"{"allow": true}"#, r#"{"allow":true,"reason":"fine","id":"rollout-1.1"}"#] {
        assert_eq!(read(body).verdict, Verdict::Allows, "{body}");
    }
    let long = format!(r#"{{"allow": true, "reason": "{}"}}"#, "x".repeat(ANSWER_BYTES_MAX));
    for body in [
        "",
        "true",
        "allow",
        "[true]",
        r#""allow""#,
        "{}",
        r#"{"allow": "true"}"#,
        r#"{"allow": 1}"#,
        r#"{"allow": null}"#,
        r#"{"allowed": true}"#,
        r#"{"Allow": true}"#,
        r#"{"allow": true, "allow": false}"#,
        r#"{"allow": false, "allow": true}"#,
        r#"{"allow": true, "deny": false}"#,
        r#"{"allow": true} {"allow": true}"#,
        r#"{"allow": true, "id": "rollout-2.1"}"#,
        r#"{"allow": true, "id": "rollout-1.2"}"#,
        r#"{"allow": true, "id": ""}"#,
        r#"{"allow": true, "retry_after_s": -1}"#,
        &long,
    ] {
        assert_eq!(read(body).verdict, Verdict::Failed, "{body}");
    }
    let denied = read(r#"{"allow": false, "reason": "freeze", "retry_after_s": 60}"#);
    assert_eq!(denied.verdict, Verdict::Denies { retry_after_s: Some(60) });
    assert_eq!(denied.words(), "freeze");
    for status in [100, 199, 300, 301, 307, 401, 404, 500] {
        let response = Response { status, body: br#"{"allow": true}"# };
        assert_eq!(Answer::read(response, "rollout-1.1").verdict, Verdict::Failed, "{status}");
    }
}

#[test]
fn the_text_of_a_gate_is_cut_and_has_no_control_characters() {
    let body = serde_json::json!({
        "allow": false,
        "reason": format!("\u{1b}[2Jno\r\nforged\u{202e}line {}", "x".repeat(500)),
    });
    let reason = read(&body.to_string()).reason;
    assert!(!reason.contains(|c: char| c.is_control() || c == '\u{202e}'), "{reason}");
    assert!(reason.starts_with("\\u{1b}[2Jno\\r\\nforged") && reason.ends_with('…'), "{reason}");
    assert!(reason.chars().count() < REASON_MAX + 50);
    // What serde says of an answer repeats parts of it.
    let reason = read("{\"allow\": true, \"\u{9b}31m\": 1}").reason;
    assert!(!reason.contains('\u{9b}'), "{reason}");
}

#[test]
fn a_gate_is_asked_again_with_a_back_off_or_when_it_says() {
    let mut asked = Asked::default();
    let (mut now_s, mut pauses) = (1000, Vec::new());
    for _ in 0..9 {
        asked.ask(now_s);
        let pause_s = ANSWER_S.max(back_off_s(asked.without_time));
        assert_eq!(asked.again_s, Some(now_s + pause_s));
        asked.answered(asked.question, Answer::failed("500"), now_s).unwrap();
        let again_s = asked.again_s.unwrap();
        asked.ask(again_s - 1);
        assert!(!asked.is_open, "not before its time");
        pauses.push(again_s - now_s);
        now_s = again_s;
    }
    assert_eq!(pauses, [15, 30, 60, 120, 240, 480, 900, 900, 900]);
    for (named, pause_s) in [(0, 15), (20, 20), (3600, 3600), (u64::MAX, RETRY_AFTER_S_MAX)] {
        asked.ask(now_s);
        let verdict = Verdict::Denies { retry_after_s: Some(named) };
        let answer = Answer { verdict, reason: "freeze".into() };
        asked.answered(asked.question, answer, now_s).unwrap();
        assert_eq!(asked.again_s, Some(now_s + pause_s), "{named}");
        now_s += pause_s;
    }
    assert_eq!(back_off_s(u32::MAX), AGAIN_S_MAX);
}

#[test]
fn only_questions_in_a_row_without_a_time_back_off() {
    let mut asked = Asked::default();
    let mut now_s = 1000;
    let says = |verdict| Answer { verdict, reason: String::new() };
    let named = Verdict::Denies { retry_after_s: Some(20) };
    let unnamed = Verdict::Denies { retry_after_s: None };
    let mixed = [
        (unnamed, 15),
        (Verdict::Failed, 30),
        (named, 20),
        (named, 20),
        (unnamed, 15),
        (unnamed, 30),
        (named, 20),
        (Verdict::Failed, 15),
    ];
    for (n, (verdict, pause_s)) in mixed.into_iter().enumerate() {
        asked.ask(now_s);
        asked.answered(asked.question, says(verdict), now_s).unwrap();
        assert_eq!(asked.again_s, Some(now_s + pause_s), "answer {n}");
        now_s += pause_s;
    }
    // A question that expires counts as well.
    let pauses = [60, 60, 60, 120, 240, 480, 900, 900].map(|pause_s| {
        asked.ask(now_s);
        let again_s = asked.again_s.unwrap();
        assert!(asked.is_awaited(again_s - 1) && !asked.is_awaited(again_s));
        now_s = again_s;
        pause_s
    });
    assert_eq!(now_s, 1000 + 165 + pauses.iter().sum::<u64>());
}

#[test]
fn an_operator_hurries_a_question_and_not_one_that_is_open() {
    let mut asked = Asked::default();
    asked.ask(1000);
    asked.hurry(1010);
    asked.ask(1010);
    assert_eq!((asked.question, asked.again_s), (1, Some(1000 + ANSWER_S)));
    asked.answered(1, Answer::failed("500"), 1010).unwrap();
    asked.hurry(1011);
    asked.ask(1011);
    assert_eq!((asked.question, asked.is_open), (2, true));
}

#[test]
fn an_answer_to_another_question_or_a_second_one_changes_nothing() {
    let mut asked = Asked::default();
    assert_eq!(asked.answered(0, Answer::allows(""), 1), None, "nothing was asked");
    asked.ask(1);
    let first = asked.question;
    asked.ask(1 + ANSWER_S);
    let second = asked.question;
    assert_eq!(asked.answered(first, Answer::allows(""), 70), None, "a late answer");
    assert!(!asked.is_allowed());
    asked.answered(second, Answer::failed("x"), 70).unwrap();
    assert_eq!(asked.answered(second, Answer::allows(""), 71), None, "a replayed question");
    assert!(!asked.is_allowed());
    asked.forget();
    asked.ask(100);
    assert!(asked.question > second, "a number is never used twice");
}

proptest! {
    /// Whatever a webhook sends: a wave is allowed only by the word `true`, and nothing is shown that
    /// could forge a line.
    #[test]
    fn no_other_text_allows_a_wave(body in ".{0,200}", status in 0_u16..600) {
        let answer = Answer::read(Response { status, body: body.as_bytes() }, "rollout-1.1");
        let may = body.contains("allow") && body.contains("true") && (200..300).contains(&status);
        prop_assert!(may || answer.verdict != Verdict::Allows);
        prop_assert!(!answer.reason.contains(char::is_control));
    }
}
