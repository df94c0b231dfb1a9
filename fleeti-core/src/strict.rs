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

use crate::foreign::Foreign;
use serde::de::value::MapAccessDeserializer;
use serde::de::{
    Deserialize, DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
};
use serde::ser::Serialize;
use serde_json::{Error, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::marker::PhantomData;

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
        check(&value, &serde_json::from_slice(bytes)?)?;
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
    check(&value, &serde_json::from_slice(bytes)?)?;
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
    check(&value, &toml::from_str(text)?).map_err(toml::de::Error::custom)?;
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

fn check(value: &impl Serialize, given: &Shape) -> Result<(), Error> {
    compare(given, &serde_json::to_value(value)?, &mut String::new()).map_err(Error::custom)
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

const fn name(meant: &Value) -> &'static str {
    match meant {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn compare(given: &Shape, meant: &Value, path: &mut String) -> Result<(), String> {
    match (given, meant) {
        // The value of a field that may be null, or its default.
        (Shape::Null, _)
        | (Shape::Boolean, Value::Bool(_))
        | (Shape::Number, Value::Number(_))
        | (Shape::Text, Value::String(_)) => Ok(()),
        (Shape::List(given), Value::Array(meant)) => given
            .iter()
            .zip(meant)
            .enumerate()
            .try_for_each(|(i, (given, meant))| below(path, &format!("[{i}]"), given, meant)),
        // A field that is not serialized again had its default value, or this reader does not know
        // it.
        (Shape::Object(given), Value::Object(meant)) => given
            .iter()
            .filter_map(|(name, given)| Some((name, given, meant.get(name)?)))
            .try_for_each(|(name, given, meant)| below(path, &format!(".{name}"), given, meant)),
        (given, meant) => {
            let here = if path.is_empty() { String::new() } else { format!(" at {path}") };
            Err(format!("{} where {} is expected{here}", given.name(), name(meant)))
        }
    }
}

fn below(path: &mut String, step: &str, given: &Shape, meant: &Value) -> Result<(), String> {
    let length = path.len();
    path.push_str(step);
    let result = compare(given, meant, path);
    path.truncate(length);
    result
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
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        a: Option<u8>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        list: Vec<Inner>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type", rename_all = "snake_case")]
    enum Tagged {
        Idle,
        Moving { to: Inner, by: Vec<(String, u8)> },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Outer {
        state: Option<Tagged>,
        #[serde(default)]
        map: BTreeMap<String, Inner>,
    }

    #[test]
    fn what_is_written_as_documented_is_read() {
        for good in [
            r#"{"state": null}"#,
            r#"{"state": {"type": "idle"}, "unknown": [1, {"b": []}]}"#,
            r#"{"state": {"type": "moving", "to": {"a": 1}, "by": [["x", 1]]}, "map": {"k": {"a": null, "list": [{"a": 1, "list": []}]}}}"#,
        ] {
            from_slice::<Outer>(good.as_bytes()).unwrap();
        }
    }

    #[test]
    fn a_list_is_no_struct_wherever_it_is() {
        for (bad, at) in [
            ("[null, {}]", "a list where an object is expected"),
            (r#"{"state": ["idle"]}"#, "at .state"),
            (r#"{"state": {"type": "moving", "to": [1, []], "by": []}}"#, "at .state.to"),
            (r#"{"state": null, "map": {"k": [1]}}"#, "at .map.k"),
            (
                r#"{"state": null, "map": {"k": {"a": 1, "list": [{"a": 1}, [2, []]]}}}"#,
                "at .map.k.list[1]",
            ),
        ] {
            assert!(serde_json::from_str::<Outer>(bad).is_ok(), "serde reads it: {bad}");
            let said = from_slice::<Outer>(bad.as_bytes()).unwrap_err().to_string();
            assert!(said.contains(at), "{bad}: {said}");
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Plain {
        Here,
        There,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type", rename_all = "snake_case")]
    enum Placed {
        Inside { place: Plain, state: Tagged },
    }

    #[test]
    fn a_variant_is_read_from_its_name_only() {
        for (bad, why) in [
            (
                r#"{"type":"inside","place":{"here":null},"state":{"type":"idle"}}"#,
                "an object where a string is expected at .place",
            ),
            (
                r#"{"type":"inside","place":"here","state":{"type":0}}"#,
                "a number where a string is expected at .state.type",
            ),
        ] {
            assert!(serde_json::from_str::<Placed>(bad).is_ok(), "serde reads it: {bad}");
            let said = from_slice::<Placed>(bad.as_bytes()).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
            let said = from_canonical::<Placed>(bad.as_bytes()).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
        let bad = br#"{"here": null}"#;
        assert!(serde_json::from_slice::<Plain>(bad).is_ok(), "serde reads it");
        let said = from_slice::<Plain>(bad).unwrap_err().to_string();
        assert!(said.contains("an object where a string is expected"), "{said}");
        assert_eq!(from_slice::<Plain>(br#""there""#).unwrap(), Plain::There);
    }

    #[test]
    fn the_canonical_form_is_what_is_written_byte_for_byte() {
        let value = Outer {
            state: Some(Tagged::Moving {
                to: Inner { a: None, list: vec![] },
                by: vec![("x".into(), 1)],
            }),
            map: BTreeMap::from([("k".to_owned(), Inner { a: Some(1), list: vec![] })]),
        };
        let written = serde_json::to_string(&value).unwrap();
        assert_eq!(from_canonical::<Outer>(written.as_bytes()).unwrap(), value);
        for other in [
            format!("{written} "),
            written.replace(':', ": "),
            written.replace(r#""a":null"#, r#""a":null,"list":[]"#),
            written.replace(r#""type":"moving""#, r#""type":"moving","unknown":1"#),
            written.replace(r#""x""#, r#""\u0078""#),
        ] {
            assert_ne!(other, written);
            assert_eq!(from_slice::<Outer>(other.as_bytes()).unwrap(), value, "{other}");
            let said = from_canonical::<Outer>(other.as_bytes()).unwrap_err().to_string();
            assert!(said.contains("not in the form"), "{other}: {said}");
        }
        // A variant without fields takes unknown ones from serde, whatever the enum says.
        let more = br#"{"type":"idle","to":{"a":1}}"#;
        assert!(from_slice::<Tagged>(more).is_ok());
        assert!(from_canonical::<Tagged>(more).is_err());
    }

    #[test]
    fn a_key_is_there_once_also_in_a_map() {
        for twice in [
            r#"{"state": null, "state": null}"#,
            r#"{"state": null, "map": {"k": {"a": 1}, "k": {"a": 2}}}"#,
            r#"{"state": null, "x": {"y": 1, "y": 2}}"#,
        ] {
            let said = from_slice::<Outer>(twice.as_bytes()).unwrap_err().to_string();
            assert!(said.contains("duplicate field"), "{twice}: {said}");
        }
    }

    #[test]
    fn fields_say_of_themselves_that_they_are_objects() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Message {
            #[serde(deserialize_with = "object")]
            inner: Inner,
            #[serde(deserialize_with = "unique")]
            map: BTreeMap<u8, u8>,
        }
        let read = |text: &str| serde_json::from_str::<Message>(text);
        assert_eq!(read(r#"{"inner": {"a": 1}, "map": {"1": 2}}"#).unwrap().map[&1], 2);
        assert!(
            read(r#"{"inner": [1], "map": {}}"#).unwrap_err().to_string().contains("an object")
        );
        assert!(
            read(r#"{"inner": {"a": 1}, "map": {"1": 2, "1": 3}}"#)
                .unwrap_err()
                .to_string()
                .contains("duplicate")
        );
    }

    #[test]
    fn toml_is_read_as_strictly() {
        assert!(from_toml::<Outer>("[state]\ntype = \"idle\"\n[map.k]\na = 1\n").is_ok());
        let said = from_toml::<Outer>("state = [\"idle\"]\n").unwrap_err().to_string();
        assert!(said.contains("a list where an object is expected at .state"), "{said}");
    }
}
