//! What a filter is, and how it is written.

use super::FilterError;
use crate::id::{FleetId, LabelKey, Version};
use std::fmt;
use std::str::FromStr;

/// A filter that was parsed. The empty filter matches every device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub(super) root: Node,
    /// The tests of labels, with their columns.
    pub(super) labels: Vec<(usize, LabelKey, LabelTest)>,
}

/// A part of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// All of these; of nothing, true.
    All(Vec<Node>),
    /// At least one of these; of nothing, false.
    Any(Vec<Node>),
    /// Not this.
    Not(Box<Node>),
    /// A test.
    Test(Test),
}

/// A test of one property of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// A text.
    Text(TextField, TextTest),
    /// The version that the device reports. False before the first report.
    Version(Order, Version),
    /// The server heard of the device longer ago than this many seconds.
    SeenBefore(u64),
    /// The server heard of the device within this many seconds.
    SeenWithin(u64),
    /// Yes or no.
    Flag(Flag),
    /// A label.
    Label(LabelKey, LabelTest),
    /// The id or the name contains this text.
    Search(String),
}

/// A text of a device. One that is absent equals nothing and contains nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextField {
    /// The id.
    Id,
    /// The fleet.
    Fleet,
    /// The name.
    Name,
    /// The note.
    Note,
    /// The image line that it reports.
    Line,
    /// The release that it reports.
    Release,
    /// The state of its update.
    State,
}

/// How a text is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextTest {
    /// It is one of these.
    OneOf(Vec<String>),
    /// It contains this, whatever the case of ASCII letters.
    Contains(String),
}

/// How a label is compared. A label that the device does not have fails every test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelTest {
    /// The device has it.
    Present,
    /// Its value is one of these.
    OneOf(Vec<String>),
    /// Its value contains this, whatever the case of ASCII letters.
    Contains(String),
    /// Its value is a number in this order to another.
    Number(Order, i64),
}

/// An order of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
    /// `>`
    Greater,
}

/// What is true of a device or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// Its certificate is revoked.
    Revoked,
    /// It raises an alarm, or its attestation failed.
    Alarm,
}

/// The fields with a text.
pub(super) const TEXT_FIELDS: [(&str, TextField); 7] = [
    ("id", TextField::Id),
    ("fleet", TextField::Fleet),
    ("name", TextField::Name),
    ("note", TextField::Note),
    ("line", TextField::Line),
    ("release", TextField::Release),
    ("state", TextField::State),
];
/// The flags.
pub(super) const FLAGS: [(&str, Flag); 2] = [("revoked", Flag::Revoked), ("alarm", Flag::Alarm)];
/// Every word that has a meaning, but labels.
pub(super) const WORDS: [&str; 15] = [
    "id",
    "fleet",
    "name",
    "note",
    "line",
    "release",
    "state",
    "version",
    "last_seen",
    "revoked",
    "alarm",
    "and",
    "or",
    "not",
    "in",
];

/// Whether a word has a meaning of its own in the language, so that it is no label key.
#[must_use]
pub fn is_taken(word: &str) -> bool {
    WORDS.contains(&word)
}

impl Filter {
    /// The expression.
    #[must_use]
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// The filter for the devices of a fleet.
    #[must_use]
    pub fn of_fleet(fleet: &FleetId) -> Self {
        let test = TextTest::OneOf(vec![fleet.to_string()]);
        Self { root: Node::Test(Test::Text(TextField::Fleet, test)), labels: vec![] }
    }

    /// The filter for devices that both match.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            (false, false) => Self {
                root: Node::All(vec![self.root, other.root]),
                labels: [self.labels, other.labels].concat(),
            },
        }
    }

    /// Whether it matches every device because it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.root, Node::All(all) if all.is_empty())
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self { root: Node::All(vec![]), labels: vec![] }
    }
}

impl FromStr for Filter {
    type Err = FilterError;
    fn from_str(text: &str) -> Result<Self, FilterError> {
        super::parser::parse(text)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl Order {
    /// As it is written, in the language and in SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Equal => "=",
            Self::AtLeast => ">=",
            Self::Greater => ">",
        }
    }

    pub(super) fn holds<T: Ord>(self, a: &T, b: &T) -> bool {
        match self {
            Self::Less => a < b,
            Self::AtMost => a <= b,
            Self::Equal => a == b,
            Self::AtLeast => a >= b,
            Self::Greater => a > b,
        }
    }
}

/// Whether a character needs no quotes.
pub(super) fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | ':' | '/' | '+' | '%' | '#')
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, nodes: &[Self], word: &str| {
            for (n, node) in nodes.iter().enumerate() {
                if n > 0 {
                    write!(f, " {word} ")?;
                }
                node.inner(f)?;
            }
            Ok(())
        };
        match self {
            Self::All(nodes) => list(f, nodes, "and"),
            Self::Any(nodes) => list(f, nodes, "or"),
            Self::Not(node) => {
                f.write_str("not ")?;
                node.inner(f)
            }
            Self::Test(test) => test.fmt(f),
        }
    }
}

impl Node {
    /// With parentheses around a list.
    fn inner(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(_) | Self::Any(_) => write!(f, "({self})"),
            Self::Not(_) | Self::Test(_) => fmt::Display::fmt(self, f),
        }
    }
}

/// A value, in quotes if it needs them.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text) = self;
        let is_word = !text.is_empty() && text.chars().all(is_plain);
        let is_taken =
            WORDS.contains(&text.to_ascii_lowercase().as_str()) || text.starts_with("label.");
        if is_word && !is_taken {
            return f.write_str(text);
        }
        write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

fn one_of(f: &mut fmt::Formatter<'_>, values: &[String]) -> fmt::Result {
    if let [value] = values {
        return write!(f, "={}", Text(value));
    }
    let values: Vec<_> = values.iter().map(|value| Text(value).to_string()).collect();
    write!(f, " in ({})", values.join(", "))
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(field, test) => {
                let name =
                    TEXT_FIELDS.iter().find(|(_, of)| of == field).map_or("", |(name, _)| name);
                f.write_str(name)?;
                match test {
                    TextTest::OneOf(values) => one_of(f, values),
                    TextTest::Contains(text) => write!(f, "~{}", Text(text)),
                }
            }
            Self::Version(order, version) => write!(f, "version{}{version}", order.as_str()),
            Self::SeenBefore(seconds) => write!(f, "last_seen>{}", age(*seconds)),
            Self::SeenWithin(seconds) => write!(f, "last_seen<{}", age(*seconds)),
            Self::Flag(flag) => {
                f.write_str(FLAGS.iter().find(|(_, of)| of == flag).map_or("", |(name, _)| name))
            }
            Self::Label(key, test) => {
                write!(f, "label.{key}")?;
                match test {
                    LabelTest::Present => Ok(()),
                    LabelTest::OneOf(values) => one_of(f, values),
                    LabelTest::Contains(text) => write!(f, "~{}", Text(text)),
                    LabelTest::Number(order, number) => write!(f, "{}{number}", order.as_str()),
                }
            }
            Self::Search(text) => Text(text).fmt(f),
        }
    }
}

/// Units of ages, the largest first.
pub(super) const UNITS: [(char, u64); 5] =
    [('w', 7 * 86_400), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

fn age(seconds: u64) -> String {
    let unit = UNITS.iter().find(|(_, length)| seconds.is_multiple_of(*length));
    let (name, length) = unit.copied().unwrap_or(('s', 1));
    format!("{}{name}", seconds / length)
}
