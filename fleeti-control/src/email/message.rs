//! Subjects and texts of e-mails.
//!
//! A subject has only names with a fixed form: fleet, title of a kind, and numbers. What a device
//! says is in the text alone, escaped and on one line.

use crate::clock::instant;
use fleeti_core::foreign::Foreign;
use fleeti_core::wire::alerts::{AlertMessage, NAMED_MAX};
use std::fmt::Write;

/// Subject and text.
pub(super) struct Text {
    pub(super) subject: String,
    pub(super) body: String,
}

/// The e-mail about alerts that began or ended. `origin` is where people open the pages.
pub(super) fn of_alerts(message: &AlertMessage, ended: bool, origin: Option<&str>) -> Text {
    let AlertMessage { kind, count, fleet, devices, .. } = message;
    let place = fleet.as_ref().map_or("server", |fleet| fleet.as_str());
    let alerts = if *count == 1 { "alert" } else { "alerts" };
    let state = if ended { "resolved" } else { alerts };
    let subject = format!("[Fleeti] {place}: {}, {count} {state}", kind.title());
    let place =
        fleet.as_ref().map_or("about the server".to_owned(), |fleet| format!("in fleet {fleet}"));
    let end = if ended { if *count == 1 { " has ended" } else { " have ended" } } else { "" };
    let mut body = format!("{}: {count} {alerts} {place}{end}.\n\n", kind.title());
    let mut line = |text: String| {
        body.push_str(&text);
        body.push('\n');
    };
    line(format!("Severity: {}", message.severity));
    line(format!("Rule: {}", Foreign::log(&message.rule)));
    if let Some(since_s) = message.since_s {
        line(format!("Since: {}", instant(since_s)));
    }
    line(format!("Detail: {}", Foreign::log(&message.detail)));
    let named = devices.len().min(NAMED_MAX as usize);
    if named > 0 {
        line("\nDevices:".to_owned());
        devices.iter().take(named).for_each(|device| line(format!("  {device}")));
        let others = count.saturating_sub(named as u64);
        if others > 0 {
            line(format!("  and {others} more"));
        }
    }
    if !ended {
        line(format!("\nWhat to do: {}", kind.advice()));
    }
    if let Some(origin) = origin {
        let query = fleet.as_ref().map_or_else(String::new, |fleet| format!("?fleet={fleet}"));
        line(format!("\n{origin}/alerts{query}"));
    }
    Text { subject, body }
}

/// The test e-mail.
pub(super) fn of_test(by: &str) -> Text {
    let by = Foreign::log(by);
    let body = format!("{by} sent this e-mail to test the receiver. No alert is behind it.\n");
    Text { subject: "[Fleeti] test".to_owned(), body }
}

/// Says at the end of a text why its receiver gets it. `--` begins a signature (RFC 3676, 4.3).
pub(super) fn sign(body: &mut String, receiver: &str) {
    // Writing to a String does not fail.
    write!(
        body,
        "\n-- \nYou get this because an administrator added your address as {receiver}.\n\
         `fleeti email remove {receiver}` ends it.\n"
    )
    .ok();
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use fleeti_core::alert::{Kind, Severity};

    fn message(devices: u32, count: u64) -> AlertMessage {
        AlertMessage {
            rule: "offline".into(),
            kind: Kind::Offline,
            severity: Severity::Warning,
            fleet: Some("shop".parse().unwrap()),
            count,
            devices: (0..devices).map(|n| format!("device-{n}").parse().unwrap()).collect(),
            detail: "offline for more than 60 min".into(),
            since_s: Some(1_796_083_200),
        }
    }

    #[test]
    fn a_text_says_what_where_since_when_and_what_to_do() {
        let text = of_alerts(&message(2, 2), false, Some("https://fleet.example"));
        assert_eq!(text.subject, "[Fleeti] shop: Device offline, 2 alerts");
        assert_eq!(
            text.body,
            "Device offline: 2 alerts in fleet shop.\n\nSeverity: warning\nRule: offline\n\
             Since: 2026-12-01T00:00:00Z\nDetail: offline for more than 60 min\n\n\
             Devices:\n  device-0\n  device-1\n\n\
             What to do: Check power and network of the devices. `fleeti device show DEVICE` has the \
             last report. The alert ends when the device connects.\n\n\
             https://fleet.example/alerts?fleet=shop\n"
        );
        let ended = of_alerts(&message(1, 1), true, None);
        assert_eq!(ended.subject, "[Fleeti] shop: Device offline, 1 resolved");
        assert!(ended.body.starts_with("Device offline: 1 alert in fleet shop has ended.\n"));
        assert!(!ended.body.contains("What to do") && !ended.body.contains("http"));
        let server =
            AlertMessage { fleet: None, devices: vec![], kind: Kind::Crl, ..message(0, 1) };
        let text = of_alerts(&server, false, None);
        assert_eq!(text.subject, "[Fleeti] server: CRL for devices ends, 1 alert");
        assert!(text.body.starts_with("CRL for devices ends: 1 alert about the server.\n"));
        assert!(!text.body.contains("Devices:"), "{}", text.body);
    }

    #[test]
    fn a_text_names_twenty_devices_of_any_number() {
        let text = of_alerts(&message(40, 100_000), false, None);
        assert_eq!(text.body.matches("  device-").count(), 20);
        assert!(text.body.contains("  and 99980 more\n"), "{}", text.body);
    }

    /// The attack: an alarm, which a device words, with line feeds and a header.
    #[test]
    fn what_a_device_says_is_one_line_of_the_text_and_nothing_of_the_subject() {
        let detail = "full\r\n.\r\nMAIL FROM:<a@b>\r\nBcc: all@ops.example\u{202e}\u{2028}\0";
        let rule = "x\r\nBcc: all@ops.example".to_owned();
        let message =
            AlertMessage { detail: detail.into(), rule, kind: Kind::Alarm, ..message(1, 1) };
        let text = of_alerts(&message, false, None);
        assert_eq!(text.subject, "[Fleeti] shop: Alarm of a device, 1 alert");
        let hidden = |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{2028}".contains(c));
        assert!(!text.body.contains(hidden), "{:?}", text.body);
        let begins = |what: &str| text.body.lines().any(|line| line.starts_with(what));
        assert!(!begins("Bcc") && !begins(".") && !begins("MAIL"), "{}", text.body);
        assert!(begins("Detail: full\\r\\n"), "{}", text.body);
    }
}
