//! Reads JSON and TOML of other parties strictly: only what is documented is accepted.
//!
//! serde also reads a struct from a list of its fields in their order, and likewise an internally
//! tagged enum: `[null, null]` would be a policy without requirements. It reads a variant without
//! fields from `{"variant": null}`, and inside a tagged enum also from its number. A map takes the
//! last of two entries with the same key. No document describes these forms, and another reader may
//! see the same bytes differently. Therefore this module serializes the value again. If that gives
//! the input, byte for byte, the input is in its canonical form. Otherwise it compares shapes:
//! where the value has an object, the input must have an object, where it has a list, a list, and
//! where it has a string, a string.
//!
//! `deny_unknown_fields` does not reach a variant without fields of a tagged enum: serde reads
//! `{"type": "idle", "extra": 1}` as `Idle`. [`from_request`] therefore also compares the names of
//! fields.

mod written;

use crate::foreign::Foreign;
use serde::de::value::MapAccessDeserializer;
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess,
    Visitor,
};
use serde::ser::Serialize;
use serde_json::Error;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use written::{Fields, Written};

/// Reads JSON.
///
/// ```
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Point { x: u8, y: u8 }
/// # use fleeti_core::strict;
/// assert!(strict::from_slice::<Point>(br#"{"x": 1, "y": 2}"#).is_ok());
/// assert!(strict::from_slice::<Point>(b"[1, 2]").is_err());
/// ```
///
/// # Errors
/// Errors of serde; a list in place of an object; an object or a number in place of a string; a
/// duplicate key.
pub fn from_slice<'de, T: Deserialize<'de> + Serialize>(bytes: &'de [u8]) -> Result<T, Error> {
    let value = read(bytes)?;
    if !is_canonical(&value, bytes) {
        check(&value, bytes, Unknown::Accepted)?;
    }
    Ok(value)
}

/// Reads the JSON of a request: as [`from_slice`], and with no field that the type does not have.
///
/// ```
/// # use fleeti_core::strict;
/// # use fleeti_core::wire::api::BootKeyChange;
/// let read = |text: &str| strict::from_request::<BootKeyChange>(text.as_bytes());
/// assert!(read(r#"{"type": "begin_epoch"}"#).is_ok());
/// let refused = read(r#"{"type": "begin_epoch", "epoch": 7}"#).unwrap_err();
/// assert!(refused.to_string().contains("unknown field at .epoch"));
/// ```
///
/// # Errors
/// As [`from_slice`]; an unknown field, with its path.
pub fn from_request<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, Error> {
    let value = read(bytes)?;
    if !is_canonical(&value, bytes) {
        check(&value, bytes, Unknown::Refused)?;
    }
    Ok(value)
}

/// Reads JSON in its canonical form: exactly the bytes that this program would write for the value.
/// For programs that are installed together, such as the server and its signing service.
///
/// ```
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Point { x: u8, y: u8 }
/// # use fleeti_core::strict;
/// assert!(strict::from_canonical::<Point>(br#"{"x":1,"y":2}"#).is_ok());
/// assert!(strict::from_canonical::<Point>(br#"{"y":2,"x":1}"#).is_err());
/// ```
///
/// # Errors
/// As [`from_slice`]; any other form.
pub fn from_canonical<'de, T: Deserialize<'de> + Serialize>(bytes: &'de [u8]) -> Result<T, Error> {
    let value = read(bytes)?;
    if is_canonical(&value, bytes) {
        return Ok(value);
    }
    check(&value, bytes, Unknown::Accepted)?;
    Err(Error::custom("not in the form in which this program writes it"))
}

fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).or_else(|e| {
        // The shape first, so that input that is not JSON is reported as such.
        read_shape(bytes, None, &mut Found::new(Unknown::Accepted))?;
        Err(e)
    })
}

/// Whether a value is serialized to exactly these bytes. Stops at the first difference, and keeps
/// no copy: the value may hold a secret.
fn is_canonical(value: &impl Serialize, bytes: &[u8]) -> bool {
    struct Expected<'a>(&'a [u8]);
    impl io::Write for Expected<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            io::Write::write_all(self, bytes)?;
            Ok(bytes.len())
        }
        // The default implementation is a loop around `write`, for each of many small pieces.
        fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0 = self.0.strip_prefix(bytes).ok_or(io::ErrorKind::Other)?;
            Ok(())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut expected = Expected(bytes);
    serde_json::to_writer(&mut expected, value).is_ok() && expected.0.is_empty()
}

/// Reads TOML.
///
/// # Errors
/// As [`from_slice`].
pub fn from_toml<T: DeserializeOwned + Serialize>(text: &str) -> Result<T, toml::de::Error> {
    let value: T = toml::from_str(text)?;
    let meant = Written::of(&value).map_err(toml::de::Error::custom)?;
    let mut found = Found::new(Unknown::Accepted);
    let input = toml::Deserializer::parse(text)?;
    Shape { meant: Some(&meant), place: Place::Top, found: &mut found }.deserialize(input)?;
    found.difference.map_or(Ok(value), |difference| Err(toml::de::Error::custom(difference)))
}

/// Use `#[serde(deserialize_with = "strict::object")]` for a field that is not serialized if it has
/// its default, so that [`from_slice`] has nothing to compare it with. Reads a struct only from an
/// object.
///
/// # Errors
/// Errors of serde; anything other than an object.
pub fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    deserializer.deserialize_map(ObjectVisitor(PhantomData))
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Use `#[serde(deserialize_with = "strict::unique")]` for a map in a type that serde alone may
/// read. It refuses a duplicate key.
///
/// # Errors
/// Errors of serde; a duplicate key.
pub fn unique<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    deserializer.deserialize_map(UniqueVisitor(PhantomData))
}

struct UniqueVisitor<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for UniqueVisitor<K, V> {
    type Value = BTreeMap<K, V>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BTreeMap<K, V>, A::Error> {
        let mut read = BTreeMap::new();
        while let Some((key, value)) = map.next_entry()? {
            if read.insert(key, value).is_some() {
                return Err(A::Error::custom("duplicate field in a map"));
            }
        }
        Ok(read)
    }
}

/// What becomes of a field that the type does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Accepted,
    Refused,
}

/// Compares the shape of the input with what the value is written as.
fn check(value: &impl Serialize, bytes: &[u8], unknown: Unknown) -> Result<(), Error> {
    let mut found = Found::new(unknown);
    read_shape(bytes, Some(&Written::of(value)?), &mut found)?;
    found.difference.map_or(Ok(()), |difference| Err(Error::custom(difference)))
}

fn read_shape(bytes: &[u8], meant: Option<&Written>, found: &mut Found) -> Result<(), Error> {
    let mut input = serde_json::Deserializer::from_slice(bytes);
    Shape { meant, place: Place::Top, found }.deserialize(&mut input)?;
    input.end()
}

/// What was found in the input.
struct Found {
    unknown: Unknown,
    /// The first difference. The rest of the input is still searched for duplicate keys.
    difference: Option<String>,
}

impl Found {
    const fn new(unknown: Unknown) -> Self {
        Self { unknown, difference: None }
    }

    fn differs(&mut self, place: Place<'_>, given: &str, meant: &Written) {
        let text = || {
            let path = place.to_string();
            let here = if path.is_empty() { path } else { format!(" at {path}") };
            format!("{given} where {} is expected{here}", meant.name())
        };
        self.difference.get_or_insert_with(text);
    }

    /// A field that is not written again had its default value, or the type does not have it.
    fn not_written(&mut self, place: Place<'_>, name: &str, meant: &Fields) {
        if self.unknown == Unknown::Refused && !meant.left_out.contains(&name) {
            let text = || format!("unknown field at {place}.{}", Foreign::new(name, 64));
            self.difference.get_or_insert_with(text);
        }
    }
}

/// Where in the input a value is. It becomes text only where there is a difference.
#[derive(Clone, Copy)]
enum Place<'a> {
    Top,
    Field(&'a Self, &'a str),
    Element(&'a Self, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => Ok(()),
            Self::Field(object, name) => write!(f, "{object}.{}", Foreign::new(name, 64)),
            Self::Element(list, i) => write!(f, "{list}[{i}]"),
        }
    }
}

/// A value of the input, of which only the shape is read and nothing is kept.
struct Shape<'a> {
    /// What the value is written as; `None` where it is not written.
    meant: Option<&'a Written>,
    place: Place<'a>,
    found: &'a mut Found,
}

impl Shape<'_> {
    /// Compares a value without parts.
    fn is<E>(self, given: &str, is_meant: impl FnOnce(&Written) -> bool) -> Result<(), E> {
        if let Some(meant) = self.meant.filter(|meant| !is_meant(meant)) {
            self.found.differs(self.place, given, meant);
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Shape<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.is("a boolean", |meant| matches!(meant, Written::Boolean))
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.is("a number", |meant| matches!(meant, Written::Number))
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.is("a number", |meant| matches!(meant, Written::Number))
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.is("a number", |meant| matches!(meant, Written::Number))
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.is("a string", |meant| matches!(meant, Written::Text))
    }
    /// The value of a field that may be null, or its default.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { meant, place, found } = self;
        let elements = match meant {
            Some(Written::List(elements)) => elements.as_slice(),
            Some(other) => {
                found.differs(place, "a list", other);
                &[]
            }
            None => &[],
        };
        for i in 0.. {
            let (meant, place) = (elements.get(i), Place::Element(&place, i));
            if list.next_element_seed(Shape { meant, place, found: &mut *found })?.is_none() {
                break;
            }
        }
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { meant, place, found } = self;
        let fields = match meant {
            Some(Written::Object(fields)) => Some(fields),
            Some(other) => {
                found.differs(place, "an object", other);
                None
            }
            None => None,
        };
        // Sorted, because an attacker may send many.
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key_seed(Name)? {
            if names.contains(&name) {
                return Err(A::Error::custom(format_args!(
                    "duplicate field `{}`",
                    Foreign::new(&name, 64)
                )));
            }
            let meant = fields.and_then(|fields| fields.written.get(&*name));
            if let Some(fields) = fields.filter(|_| meant.is_none()) {
                found.not_written(place, &name, fields);
            }
            let place = Place::Field(&place, &name);
            map.next_value_seed(Shape { meant, place, found: &mut *found })?;
            names.insert(name);
        }
        Ok(())
    }
}

/// The name of a field. It is not copied where the input has it as it is.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }
    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }
    fn visit_str<E>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
mod tests;
