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
    Deserialize, DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
};
use serde::ser::Serialize;
use serde_json::Error;
use std::collections::BTreeMap;
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
pub fn from_slice<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, Error> {
    let value = read(bytes)?;
    if !is_canonical(&value, bytes) {
        check(&value, &serde_json::from_slice(bytes)?, Unknown::Accepted)?;
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
        check(&value, &serde_json::from_slice(bytes)?, Unknown::Refused)?;
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
pub fn from_canonical<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, Error> {
    let value = read(bytes)?;
    if is_canonical(&value, bytes) {
        return Ok(value);
    }
    check(&value, &serde_json::from_slice(bytes)?, Unknown::Accepted)?;
    Err(Error::custom("not in the form in which this program writes it"))
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).or_else(|e| {
        // The shape first, so that input that is not JSON is reported as such.
        serde_json::from_slice::<Shape>(bytes)?;
        Err(e)
    })
}

/// Whether a value is serialized to exactly these bytes. Stops at the first difference, and keeps
/// no copy: the value may hold a secret.
fn is_canonical(value: &impl Serialize, bytes: &[u8]) -> bool {
    struct Expected<'a>(&'a [u8]);
    impl io::Write for Expected<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.strip_prefix(bytes).ok_or(io::ErrorKind::Other)?;
            Ok(bytes.len())
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
    check(&value, &toml::from_str(text)?, Unknown::Accepted).map_err(toml::de::Error::custom)?;
    Ok(value)
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

fn check(value: &impl Serialize, given: &Shape, unknown: Unknown) -> Result<(), Error> {
    let mut place = Place { path: String::new(), unknown };
    place.compare(given, &Written::of(value)?).map_err(Error::custom)
}

/// The shape of the input, without its values.
enum Shape {
    Null,
    Boolean,
    Number,
    Text,
    List(Vec<Self>),
    Object(BTreeMap<String, Self>),
}

impl Shape {
    const fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// Where in the input the comparison is.
struct Place {
    path: String,
    unknown: Unknown,
}

impl Place {
    fn compare(&mut self, given: &Shape, meant: &Written) -> Result<(), String> {
        match (given, meant) {
            // The value of a field that may be null, or its default.
            (Shape::Null, _)
            | (Shape::Boolean, Written::Boolean)
            | (Shape::Number, Written::Number)
            | (Shape::Text, Written::Text) => Ok(()),
            (Shape::List(given), Written::List(meant)) => given
                .iter()
                .zip(meant)
                .enumerate()
                .try_for_each(|(i, (given, meant))| self.below(&format!("[{i}]"), given, meant)),
            (Shape::Object(given), Written::Object(meant)) => {
                given.iter().try_for_each(|(name, given)| match meant.written.get(name) {
                    Some(meant) => self.below(&format!(".{name}"), given, meant),
                    None => self.not_written(name, meant),
                })
            }
            (given, meant) => {
                let path = &self.path;
                let here = if path.is_empty() { String::new() } else { format!(" at {path}") };
                Err(format!("{} where {} is expected{here}", given.name(), meant.name()))
            }
        }
    }

    /// A field that is not written again had its default value, or the type does not have it.
    fn not_written(&self, name: &str, meant: &Fields) -> Result<(), String> {
        if self.unknown == Unknown::Accepted || meant.left_out.contains(&name) {
            return Ok(());
        }
        Err(format!("unknown field at {}.{}", self.path, Foreign::new(name, 64)))
    }

    fn below(&mut self, step: &str, given: &Shape, meant: &Written) -> Result<(), String> {
        let length = self.path.len();
        self.path.push_str(step);
        let result = self.compare(given, meant);
        self.path.truncate(length);
        result
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Boolean)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Number)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Number)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Number)
    }
    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Text)
    }
    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
        let mut shapes = Vec::new();
        while let Some(shape) = list.next_element()? {
            shapes.push(shape);
        }
        Ok(Shape::List(shapes))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut shapes = BTreeMap::new();
        while let Some((name, shape)) = map.next_entry::<String, Shape>()? {
            if let Some(name) = shapes.contains_key(&name).then_some(&name) {
                return Err(A::Error::custom(format_args!(
                    "duplicate field `{}`",
                    Foreign::new(name, 64)
                )));
            }
            shapes.insert(name, shape);
        }
        Ok(Shape::Object(shapes))
    }
}

#[cfg(test)]
mod tests;
