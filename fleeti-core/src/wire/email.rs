//! E-mail about alerts in the HTTP API. Times are Unix seconds.

use super::webhook::DeliveryStatus;
use crate::alert::Severity;
use crate::id::FleetId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Maximum number of receivers.
pub const RECEIVERS_MAX: usize = 50;
/// Maximum number of fleets of a receiver.
pub const RECEIVER_FLEETS_MAX: usize = 100;
/// Maximum number of e-mails in a list.
pub const EMAILS_MAX: u32 = 100;
/// Longest address, bytes (RFC 5321, 4.5.3.1.3, without the angle brackets).
pub const ADDRESS_MAX: usize = 254;
/// Longest part before the `@` (RFC 5321, 4.5.3.1.1).
const LOCAL_MAX: usize = 64;
/// Longest part of a name between two dots (RFC 1035, 2.3.4).
const LABEL_MAX: usize = 63;
/// The event of `POST /email-receivers/{receiver}/test`.
pub const TEST_EVENT: &str = "email.test";

/// What every [`EmailAddress`] matches. It says less than the rules, so that programs can make
/// examples of it.
const ADDRESS: &str = "^[A-Za-z0-9_+=.'-]{1,64}@[A-Za-z0-9.-]{1,252}$";

/// An e-mail address: letters, digits and `._+='-`, `@`, and a DNS name. RFC 5321 permits more, such
/// as spaces and line feeds in quotes, and comments; nothing of that is accepted, so an address is one
/// word in a header and in a command of SMTP.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailAddress(String);

/// A text that is no [`EmailAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an e-mail address: letters, digits and ._+='- before one @, and a DNS name after it"
)]
pub struct NoAddress(String);

impl EmailAddress {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The DNS name after the `@`.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

fn is_local(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let is_good = |b: u8| is_word(b) || matches!(b, b'+' | b'=' | b'\'' | b'-');
    text.len() <= LOCAL_MAX
        && text.bytes().next().is_some_and(is_word)
        && text.split('.').all(|part| !part.is_empty() && part.bytes().all(is_good))
}

fn is_label(text: &str) -> bool {
    (1..=LABEL_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

impl FromStr for EmailAddress {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let is_address = text.len() <= ADDRESS_MAX
            && text
                .split_once('@')
                .is_some_and(|(local, domain)| is_local(local) && domain.split('.').all(is_label));
        if is_address { Ok(Self(text.to_owned())) } else { Err(NoAddress(text.to_owned())) }
    }
}

impl TryFrom<String> for EmailAddress {
    type Error = NoAddress;
    fn try_from(text: String) -> Result<Self, NoAddress> {
        text.parse()
    }
}

impl From<EmailAddress> for String {
    fn from(address: EmailAddress) -> Self {
        address.0
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl utoipa::PartialSchema for EmailAddress {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("An e-mail address."))
            .pattern(Some(ADDRESS))
            .max_length(Some(ADDRESS_MAX))
            .into()
    }
}
impl utoipa::ToSchema for EmailAddress {}

/// `POST /email-receivers`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddReceiver {
    /// Where e-mail is sent.
    pub address: EmailAddress,
    /// Only alerts about these fleets; empty for all fleets and the server itself.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub fleets: Vec<FleetId>,
    /// Lowest severity of alerts that are sent.
    pub severity: Severity,
}

/// A receiver of e-mail about alerts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EmailReceiver {
    /// Receiver id.
    pub id: String,
    /// Where e-mail is sent.
    pub address: EmailAddress,
    /// Only alerts about these fleets; empty for all fleets and the server itself.
    pub fleets: Vec<FleetId>,
    /// Lowest severity of alerts that are sent.
    pub severity: Severity,
    /// Whether it gets e-mail.
    pub enabled: bool,
    /// When it was added.
    pub created_s: u64,
}

impl EmailReceiver {
    /// Whether it is sent alerts of this severity about a fleet; `None` stands for the server, which
    /// concerns all fleets.
    #[must_use]
    pub fn wants(&self, fleet: Option<&FleetId>, severity: Severity) -> bool {
        let is_its_fleet =
            self.fleets.is_empty() || fleet.is_some_and(|fleet| self.fleets.contains(fleet));
        self.enabled && is_its_fleet && severity >= self.severity
    }
}

/// An e-mail on its way to a receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EmailDelivery {
    /// Its id: the part of its `Message-ID` before the `@`, the same for each attempt.
    pub id: String,
    /// Its subject.
    pub subject: String,
    /// When the event happened.
    pub at_s: u64,
    /// State of the delivery.
    pub status: DeliveryStatus,
    /// Number of attempts so far.
    pub attempts: u32,
    /// When the next attempt follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_s: Option<u64>,
    /// When the last attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_s: Option<u64>,
    /// The last answer of the relay, or why there was none.
    pub answer: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn an_address_is_one_word_that_no_header_and_no_command_reads_otherwise() {
        let (long, label) = ("a".repeat(LOCAL_MAX + 1), "a".repeat(LABEL_MAX + 1));
        for text in [
            "",
            "@",
            "ops",
            "ops@",
            "@ops.example",
            "ops@ops@ops.example",
            "ops@ops.example\r\nBcc: all@ops.example",
            "ops@ops.example\nRCPT TO:<all@ops.example>",
            "ops\r\n@ops.example",
            "ops@ops.example\0",
            "<ops@ops.example>",
            "Ops <ops@ops.example>",
            "ops@ops.example, all@ops.example",
            "ops@ops.example;all@ops.example",
            "ops@ops.example ",
            " ops@ops.example",
            "ops (comment)@ops.example",
            "\"ops ops\"@ops.example",
            "\"a\r\nb\"@ops.example",
            "@relay:ops@ops.example",
            "ops%all@ops.example",
            "relay!ops@ops.example",
            "ops@[127.0.0.1]",
            "ops@-ops.example",
            "ops@ops-.example",
            "ops@ops..example",
            "ops@ops.example.",
            "ops@.example",
            ".ops@ops.example",
            "ops.@ops.example",
            "o..ps@ops.example",
            "-oX@ops.example",
            "öps@ops.example",
            "ops@öps.example",
            "ops@ops.example\u{202e}",
            &format!("{long}@ops.example"),
            &format!("ops@{label}.example"),
            &format!("ops@{}example", "ops.".repeat(64)),
        ] {
            assert!(text.parse::<EmailAddress>().is_err(), "{text:?}");
        }
        for text in ["ops@ops.example", "o'neil.a+b=c_d-e@a-b.xn--p-0ga.example", "root@localhost"]
        {
            let address: EmailAddress = text.parse().unwrap();
            assert_eq!(Some(address.domain()), text.split('@').nth(1));
        }
    }

    proptest! {
        #[test]
        fn no_address_has_a_character_with_a_meaning_in_headers_or_commands(text in "\\PC{0,8}@?[a-z.\\r\\n<>, -]{0,12}") {
            if let Ok(address) = text.parse::<EmailAddress>() {
                let has = |c: char| "\r\n\t <>()[]\\,;:\"@".contains(c) || !c.is_ascii_graphic();
                prop_assert_eq!(address.as_str().chars().filter(|c| has(*c)).collect::<String>(), "@");
            }
        }
    }

    #[test]
    fn a_receiver_gets_what_it_named_and_nothing_else() {
        let (shop, lab): (FleetId, FleetId) = ("shop".parse().unwrap(), "lab".parse().unwrap());
        let of_shop = EmailReceiver {
            id: "mail-1".into(),
            address: "ops@ops.example".parse().unwrap(),
            fleets: vec![shop.clone()],
            severity: Severity::Warning,
            enabled: true,
            created_s: 1,
        };
        assert!(of_shop.wants(Some(&shop), Severity::Warning));
        assert!(of_shop.wants(Some(&shop), Severity::Critical));
        assert!(!of_shop.wants(Some(&shop), Severity::Info));
        assert!(!of_shop.wants(Some(&lab), Severity::Critical), "of another fleet");
        assert!(!of_shop.wants(None, Severity::Critical), "the server concerns all fleets");
        let of_all = EmailReceiver { fleets: vec![], ..of_shop.clone() };
        assert!(of_all.wants(Some(&lab), Severity::Critical));
        assert!(of_all.wants(None, Severity::Critical));
        let disabled = EmailReceiver { enabled: false, ..of_all };
        assert!(!disabled.wants(Some(&lab), Severity::Critical));
    }

    #[test]
    fn the_bodies_are_the_api() {
        let receiver = EmailReceiver {
            id: "mail-1".into(),
            address: "ops@ops.example".parse().unwrap(),
            fleets: vec!["shop".parse().unwrap()],
            severity: Severity::Warning,
            enabled: true,
            created_s: 1,
        };
        let delivery = EmailDelivery {
            id: "mail-1.7".into(),
            subject: "[Fleeti] shop: Device offline, 3 alerts".into(),
            at_s: 1,
            status: DeliveryStatus::Waiting,
            attempts: 1,
            next_s: Some(2),
            answered_s: Some(3),
            answer: "451 later".into(),
        };
        insta::assert_json_snapshot!(json!({ "receiver": receiver, "delivery": delivery }));
        let add = json!({"address": "ops@ops.example", "severity": "info"});
        assert!(serde_json::from_value::<AddReceiver>(add).unwrap().fleets.is_empty());
    }
}
