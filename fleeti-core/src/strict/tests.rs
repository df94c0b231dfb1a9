#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

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
fn a_request_has_no_field_that_its_type_does_not_have() {
    for (bad, at) in [
        (r#"{"state":{"type":"idle","extra":1}}"#, "unknown field at .state.extra"),
        (r#"{"state":{"extra":{"a":[]},"type":"idle"}}"#, "unknown field at .state.extra"),
        (
            r#"{"state":{"type":"moving","to":{"a":1,"b":2},"by":[]}}"#,
            "unknown field at .state.to.b",
        ),
        (
            r#"{"state":null,"map":{"k":{"a":1,"list":[{"a":1},{"a":2,"b":null}]}}}"#,
            "unknown field at .map.k.list[1].b",
        ),
        (r#"{"state":null,"extra":null}"#, "unknown field at .extra"),
        (r#"{"state":null,"\u001b[1m":null}"#, r"unknown field at .\u{1b}[1m"),
    ] {
        assert!(from_slice::<Outer>(bad.as_bytes()).is_ok(), "without the names: {bad}");
        let said = from_request::<Outer>(bad.as_bytes()).unwrap_err().to_string();
        assert!(said.contains(at), "{bad}: {said}");
    }
    for good in [
        r#"{"state": null}"#,
        r#"{"map": {"k": {"list": [], "a": null}}, "state": {"type": "idle"}}"#,
        r#"{"state": {"by": [["x", 1]], "to": {"a": 1, "list": []}, "type": "moving"}}"#,
    ] {
        from_request::<Outer>(good.as_bytes()).unwrap();
    }
    let list = from_request::<Outer>(br#"{"state": ["idle"]}"#).unwrap_err().to_string();
    assert!(list.contains("a list where an object is expected at .state"), "{list}");
}

#[test]
fn the_shape_of_a_value_is_that_of_its_json() {
    #[derive(Serialize)]
    enum Every {
        Unit,
        Newtype(Option<u8>),
        Tuple(u8, String),
        Struct { a: char, b: f64 },
    }
    #[derive(Serialize)]
    struct Pair(u8, ());
    fn is_same(written: &Written, json: &serde_json::Value) -> bool {
        use serde_json::Value;
        match (written, json) {
            (Written::List(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
            }
            (Written::Object(a), Value::Object(b)) => {
                a.written.keys().eq(b.keys())
                    && a.written.values().zip(b.values()).all(|(a, b)| is_same(a, b))
            }
            (Written::Null, Value::Null)
            | (Written::Boolean, Value::Bool(_))
            | (Written::Number, Value::Number(_))
            | (Written::Text, Value::String(_)) => true,
            _ => false,
        }
    }
    let every = (
        (Every::Unit, Every::Newtype(Some(1)), Every::Newtype(None)),
        (Every::Tuple(1, "x".into()), Every::Struct { a: 'a', b: 0.5 }, Pair(1, ())),
        (BTreeMap::from([(1u8, true)]), [0i64; 2], std::net::Ipv4Addr::LOCALHOST),
    );
    let json = serde_json::to_value(&every).unwrap();
    assert!(is_same(&Written::of(&every).unwrap(), &json), "{json}");
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
fn a_key_is_the_same_however_it_is_written() {
    let twice = br#"{"state": null, "x": {"y": 1, "\u0079": 2}}"#;
    let said = from_slice::<Outer>(twice).unwrap_err().to_string();
    assert!(said.contains("duplicate field `y`"), "{said}");
}

#[test]
fn a_duplicate_key_is_refused_beside_another_difference() {
    let bad = br#"{"state": ["idle"], "x": 1, "x": 2}"#;
    let said = from_slice::<Outer>(bad).unwrap_err().to_string();
    assert!(said.contains("duplicate field `x`"), "{said}");
    // Also where the type does not fit, so that nobody asks which of the two counts.
    let bad = br#"{"state": 5, "x": 1, "x": 2}"#;
    let said = from_slice::<Outer>(bad).unwrap_err().to_string();
    assert!(said.contains("duplicate field `x`"), "{said}");
}

#[test]
fn a_key_of_the_input_is_escaped_in_an_error() {
    let bad = br#"{"state": null, "map": {"\u001b[1m": [1]}}"#;
    let said = from_slice::<Outer>(bad).unwrap_err().to_string();
    assert!(said.ends_with(r"at .map.\u{1b}[1m"), "{said}");
}

#[test]
fn many_keys_are_compared_quickly() {
    let fields: Vec<_> = (0..100_000).map(|n| format!("\"{n}\":0")).collect();
    let many = format!("{{\"state\":null,{}}}", fields.join(","));
    let begun = std::time::Instant::now();
    from_slice::<Outer>(many.as_bytes()).unwrap();
    // Comparing each with each would take minutes.
    assert!(begun.elapsed().as_secs() < 10);
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
    assert!(read(r#"{"inner": [1], "map": {}}"#).unwrap_err().to_string().contains("an object"));
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
