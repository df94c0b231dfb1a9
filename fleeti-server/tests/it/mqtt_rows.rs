//! The table of [`crate::mqtt_conformance`]: what is sent, and what has to come.

mod connecting;
mod packets;
mod publishing;
mod subscribing;

use connecting::before;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::mqtt::{Down, Up};
use packets::{flags_and_numbers, others};
use publishing::publishes;
use subscribing::subscriptions;

/// What was done before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Nothing,
    /// CONNECT with Clean Start, Session Expiry Interval 0, Keep Alive 60.
    Session,
}

/// What has to come; PUBLISH packets on the way are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// With 0x80 and above, followed by the end of the connection.
    Connack {
        code: u8,
        session: bool,
    },
    /// And the end of the connection.
    Disconnect(u8),
    /// These bytes.
    Answer(Vec<u8>),
    /// These bytes, then DISCONNECT.
    Answers(Vec<u8>, u8),
    Message,
    /// The end of the connection, and nothing before.
    Closed,
    /// The end, whatever is said before.
    Ended,
}

pub struct Row {
    pub id: &'static str,
    pub what: &'static str,
    pub after: After,
    pub send: Vec<u8>,
    pub expect: Expect,
    /// `None` where it has other limits than ours.
    pub mosquitto: Option<Expect>,
}

/// What the rows speak of.
pub struct Names {
    id: String,
    up: String,
    down: String,
    other: String,
}

impl Names {
    pub fn of(device: &DeviceId) -> Self {
        Self {
            id: device.to_string(),
            up: Up::Telemetry.topic(device),
            down: Down::Desired.topic(device),
            other: Down::Command.topic(device),
        }
    }
}

/// How mosquitto compares.
#[derive(Clone, Copy)]
enum Peer {
    Same,
    /// It ends the connection, with another reason or none.
    Ends,
    /// It has other limits, or says nothing where it may.
    Apart,
}
use Peer::{Apart, Ends, Same};

const MALFORMED: u8 = 0x81;
const PROTOCOL: u8 = 0x82;

pub fn rows(names: &Names) -> Vec<Row> {
    [before(names), flags_and_numbers(names), publishes(names), subscriptions(names), others(names)]
        .into_iter()
        .flatten()
        .collect()
}

/// Id, what it is about, what is sent, and how mosquitto compares.
type What = (&'static str, &'static str, Vec<u8>, Peer);

fn row(after: After, (id, what, send, peer): What, expect: Expect) -> Row {
    let mosquitto = match peer {
        Same => Some(expect.clone()),
        Ends => Some(Expect::Ended),
        Apart => None,
    };
    Row { id, what, after, send, expect, mosquitto }
}

fn ended(rows: Vec<(u8, What)>) -> impl Iterator<Item = Row> {
    rows.into_iter().map(|(code, what)| row(After::Session, what, Expect::Disconnect(code)))
}
