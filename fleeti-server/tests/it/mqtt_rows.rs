//! The table of [`crate::mqtt_conformance`]: packets that are sent, and the expected responses.

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

/// What precedes the row's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Nothing,
    /// CONNECT with Clean Start, Session Expiry Interval 0, Keep Alive 60.
    Session,
}

/// The expected response; PUBLISH packets before it are skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// CONNACK; from 0x80 on, the connection then ends.
    Connack {
        code: u8,
        session: bool,
    },
    /// DISCONNECT with this reason, then the end of the connection.
    Disconnect(u8),
    /// Exactly these bytes.
    Answer(Vec<u8>),
    /// These bytes, then DISCONNECT.
    Answers(Vec<u8>, u8),
    Message,
    /// The end of the connection, without any packet before.
    Closed,
    /// The end of the connection, whatever precedes it.
    Ended,
}

pub struct Row {
    pub id: &'static str,
    pub what: &'static str,
    pub after: After,
    pub send: Vec<u8>,
    pub expect: Expect,
    /// The response expected from mosquitto; `None` where its limits differ from ours.
    pub mosquitto: Option<Expect>,
}

/// Names that the rows use.
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

/// How mosquitto responds, compared with our server.
#[derive(Clone, Copy)]
enum Peer {
    Same,
    /// It ends the connection, with another reason or none.
    Ends,
    /// It has other limits, or sends nothing where it may.
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

/// Id, title, bytes to send, and how mosquitto compares.
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
