//! The bytes of an e-mail (RFC 5322). The same e-mail has the same `Message-ID` in each attempt, so
//! that a mailbox shows a repeat once.

use fleeti_control::email::Outgoing;
use fleeti_core::wire::email::EmailAddress;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, SinglePart};
use lettre::{Address, Message};
use std::error::Error;
use std::time::{Duration, UNIX_EPOCH};

/// The last second of the year 9999: later times have no date in a header.
const DATE_S_MAX: u64 = 253_402_300_799;

/// `Auto-Submitted` (RFC 3834): nobody's out-of-office message answers.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }
    fn parse(_: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self)
    }
    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// An address for SMTP.
///
/// # Errors
/// In words, if the library refuses it.
pub(super) fn address(address: &EmailAddress) -> Result<Address, String> {
    address.as_str().parse().map_err(|e| format!("{address}: {e}"))
}

/// An e-mail as it is sent.
///
/// # Errors
/// In words, if the library refuses an address.
pub(super) fn bytes(from: &EmailAddress, outgoing: &Outgoing) -> Result<Vec<u8>, String> {
    let date = UNIX_EPOCH + Duration::from_secs(outgoing.at_s.min(DATE_S_MAX));
    let message = Message::builder()
        .from(Mailbox::new(Some("Fleeti".to_owned()), address(from)?))
        .to(Mailbox::new(None, address(&outgoing.to)?))
        .subject(&*outgoing.subject)
        .date(date)
        .message_id(Some(format!("<{}@{}>", outgoing.id, from.domain())))
        .header(AutoSubmitted)
        .singlepart(SinglePart::plain(outgoing.body.clone()));
    Ok(message.map_err(|e| e.to_string())?.formatted())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn outgoing(subject: &str, body: &str) -> Outgoing {
        Outgoing {
            receiver: "mail-1".into(),
            number: 7,
            attempt: 1,
            to: "ops@ops.example".parse().unwrap(),
            id: "mail-1.7".into(),
            at_s: 1_796_083_200,
            subject: subject.into(),
            body: body.into(),
        }
    }

    fn text(outgoing: &Outgoing) -> String {
        let from = "fleeti@ops.example".parse().unwrap();
        String::from_utf8(bytes(&from, outgoing).unwrap()).unwrap()
    }

    #[test]
    fn the_same_email_is_the_same_bytes() {
        let one = outgoing("[Fleeti] shop: Device offline, 3 alerts", "Words.\n");
        let again = Outgoing { attempt: 4, ..one.clone() };
        assert_eq!(text(&one), text(&again));
        assert_eq!(
            text(&one),
            "From: Fleeti <fleeti@ops.example>\r\nTo: ops@ops.example\r\n\
             Subject: [Fleeti] shop: Device offline, 3 alerts\r\n\
             Date: Tue, 01 Dec 2026 00:00:00 +0000\r\n\
             Message-ID: <mail-1.7@ops.example>\r\nAuto-Submitted: auto-generated\r\n\
             MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: 7bit\r\n\r\nWords.\r\n\r\n"
        );
    }

    /// The attack: a database that another program wrote.
    #[test]
    fn no_text_makes_a_header_or_ends_the_headers() {
        for evil in
            ["x\r\nBcc: all@ops.example", "x\nBcc: all@ops.example", "x\r\n\r\nBcc: y", "x\rBcc: y"]
        {
            let evil = Outgoing { id: evil.into(), ..outgoing(evil, "Words.\n") };
            let text = text(&evil);
            let (headers, body) = text.split_once("\r\n\r\n").unwrap();
            let mut names: Vec<_> = headers
                .split("\r\n")
                .filter(|line| !line.starts_with([' ', '\t']))
                .map(|line| line.split(':').next().unwrap())
                .collect();
            names.sort_unstable();
            let usual = [
                "Auto-Submitted",
                "Content-Transfer-Encoding",
                "Content-Type",
                "Date",
                "From",
                "MIME-Version",
                "Message-ID",
                "Subject",
                "To",
            ];
            assert_eq!(names, usual, "{text}");
            assert!(!headers.replace("\r\n", "").contains(['\r', '\n']), "{text:?}");
            assert_eq!(body, "Words.\r\n\r\n");
        }
    }

    #[test]
    fn every_text_is_sent_as_short_lines_of_ascii() {
        let long = "ü".repeat(3000);
        let text = text(&outgoing("Größe", &long));
        assert!(text.is_ascii() && text.split("\r\n").all(|line| line.len() <= 998));
        text_of_far_future();
    }

    fn text_of_far_future() {
        let far = Outgoing { at_s: u64::MAX, ..outgoing("s", "b") };
        assert!(text(&far).contains("31 Dec 9999"));
    }
}
