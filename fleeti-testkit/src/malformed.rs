//! Malformed variants of documents, and a peer that sends them over HTTP.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A malformed variant of a document.
#[derive(Debug)]
pub struct Malformed {
    /// The defect and its place.
    pub what: String,
    /// The document.
    pub text: String,
}

/// Malformed variants of a document that is an object or a list: each object as a list of its
/// values, in their order, which is how serde reads a struct from a list; each object with its
/// first key twice; each text as an object with that key, which is how serde reads a variant from
/// an object, and as a number, which is how it reads a tag; the document truncated, followed by
/// more, and missing.
///
/// # Errors
/// If the document is not JSON.
pub fn forms(good: &str) -> serde_json::Result<Vec<Malformed>> {
    let document: Ordered = serde_json::from_str(good)?;
    let mut forms = vec![
        ("nothing".to_owned(), String::new()),
        ("truncated".to_owned(), good[..good.len() - 1].to_owned()),
        ("followed by another document".to_owned(), format!("{good}\n{good}")),
        ("followed by a bracket".to_owned(), format!("{good}]")),
    ];
    for how in [How::List, How::Twice, How::TextAsKey, How::TextAsNumber] {
        for (number, at) in document.places(how, "").into_iter().enumerate() {
            let mut left = Some(number);
            forms.push((format!("{how:?} at {at:?}"), document.written(how, &mut left)));
        }
    }
    Ok(forms.into_iter().map(|(what, text)| Malformed { what, text }).collect())
}

/// Variants of a document with one value of another type: each text as a number, each number as a
/// text, negative, above 64 bits and beyond a double, each list and object as a text. Keys are
/// sorted.
///
/// # Errors
/// If the document is not JSON.
pub fn values(good: &str) -> serde_json::Result<Vec<Malformed>> {
    let document: Value = serde_json::from_str(good)?;
    let mut found = Vec::new();
    collect_values(&document, String::new(), &mut found);
    let variants = found.into_iter().map(|(at, value)| {
        let mut changed = document.clone();
        if let Some(place) = changed.pointer_mut(&at) {
            *place = PLACE.into();
        }
        let text = changed.to_string().replace(&format!("\"{PLACE}\""), value);
        Malformed { what: format!("{value} at {at:?}"), text }
    });
    Ok(variants.collect())
}

/// Variants of a document with one more field, `unknown`: in each of its objects.
#[must_use]
pub fn unknown_fields(good: &Value) -> Vec<Value> {
    let mut objects = Vec::new();
    collect_objects(good, String::new(), &mut objects);
    let variant = |at: String| {
        let mut changed = good.clone();
        if let Some(Value::Object(fields)) = changed.pointer_mut(&at) {
            fields.insert("unknown".to_owned(), Value::Array(vec![1.into()]));
        }
        changed
    };
    objects.into_iter().map(variant).collect()
}

/// The path of each object.
fn collect_objects(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Array(list) => {
            for (number, value) in list.iter().enumerate() {
                collect_objects(value, format!("{at}/{number}"), found);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                collect_objects(value, below(&at, name), found);
            }
            found.push(at);
        }
        _ => {}
    }
}

/// The path of a field (RFC 6901).
fn below(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Stands for a value that a [`Value`] cannot have.
const PLACE: &str = "the place of the value";

/// The path and the wrong value of each variant.
fn collect_values(value: &Value, at: String, found: &mut Vec<(String, &'static str)>) {
    let wrong: &[&str] = match value {
        Value::Null => &[],
        Value::String(_) | Value::Bool(_) => &["7"],
        Value::Number(_) => &["\"7\"", "-7", "1.5", "18446744073709551616", "1e400"],
        Value::Array(_) | Value::Object(_) => &["\"7\"", "7"],
    };
    found.extend(wrong.iter().map(|wrong| (at.clone(), *wrong)));
    match value {
        Value::Array(list) => {
            for (number, value) in list.iter().enumerate() {
                collect_values(value, format!("{at}/{number}"), found);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                collect_values(value, below(&at, name), found);
            }
        }
        _ => {}
    }
}

/// How an object or a text is changed.
#[derive(Debug, Clone, Copy)]
enum How {
    List,
    Twice,
    TextAsKey,
    TextAsNumber,
}

/// JSON whose keys keep their order.
enum Ordered {
    Plain(Value),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Ordered {
    fn is_changed(&self, how: How) -> bool {
        match (self, how) {
            (Self::Object(fields), How::List | How::Twice) => !fields.is_empty(),
            (Self::Plain(value), How::TextAsKey | How::TextAsNumber) => value.is_string(),
            _ => false,
        }
    }

    /// Paths of what can be changed, outer ones first.
    fn places(&self, how: How, at: &str) -> Vec<String> {
        let here = self.is_changed(how).then(|| at.to_owned()).into_iter();
        match self {
            Self::Plain(_) => here.collect(),
            Self::List(list) => {
                let inner = list.iter().enumerate();
                here.chain(inner.flat_map(|(i, v)| v.places(how, &format!("{at}/{i}")))).collect()
            }
            Self::Object(fields) => {
                let inner = fields.iter();
                here.chain(inner.flat_map(|(name, v)| v.places(how, &format!("{at}/{name}"))))
                    .collect()
            }
        }
    }

    /// The document, with the place of this number changed.
    fn written(&self, how: How, left: &mut Option<usize>) -> String {
        let is_this = self.is_changed(how) && *left == Some(0);
        if self.is_changed(how) {
            *left = left.and_then(|n| n.checked_sub(1));
        }
        match self {
            Self::Plain(value) => match how {
                How::TextAsKey if is_this => format!("{{{value}:null}}"),
                How::TextAsNumber if is_this => "0".to_owned(),
                _ => value.to_string(),
            },
            Self::List(list) => bracketed(list.iter().map(|v| v.written(how, left))),
            Self::Object(fields) if is_this && matches!(how, How::List) => {
                bracketed(fields.iter().map(|(_, v)| v.written(how, left)))
            }
            Self::Object(fields) => {
                let mut written: Vec<_> = fields
                    .iter()
                    .map(|(name, v)| {
                        format!("{}:{}", Value::from(name.as_str()), v.written(how, left))
                    })
                    .collect();
                if is_this {
                    written.extend(written.first().cloned());
                }
                format!("{{{}}}", written.join(","))
            }
        }
    }
}

fn bracketed(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(","))
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(OrderedVisitor)
    }
}

struct OrderedVisitor;

impl<'de> Visitor<'de> for OrderedVisitor {
    type Value = Ordered;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E>(self, value: bool) -> std::result::Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }
    fn visit_i64<E>(self, value: i64) -> std::result::Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> std::result::Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> std::result::Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }
    fn visit_str<E>(self, value: &str) -> std::result::Result<Ordered, E> {
        Ok(Ordered::Plain(value.into()))
    }
    fn visit_unit<E>(self) -> std::result::Result<Ordered, E> {
        Ok(Ordered::Plain(Value::Null))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Ordered, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Ordered::List(values))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Ordered, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Ordered::Object(fields))
    }
}

/// Sends the same bytes in response to every HTTP request, from its own thread, until the process
/// ends.
#[derive(Debug)]
pub struct HttpPeer {
    /// Address, `http://127.0.0.1:PORT`.
    pub url: String,
    answer: Arc<Mutex<Vec<u8>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl HttpPeer {
    /// Listens on loopback.
    ///
    /// # Errors
    /// If no port is free.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let answer: Arc<Mutex<Vec<u8>>> = Arc::default();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (shared, seen) = (Arc::clone(&answer), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // One connection at a time: a client that closes one early opens the next.
                answer_once(stream, &answer, &seen).ok();
            }
        });
        Ok(Self { url, answer, requests })
    }

    /// Sets this document as the response.
    pub fn answers(&self, status: u16, document: &str) {
        let length = document.len();
        // Closes the connection: a client that reuses it would send its next request too early.
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close");
        let text = format!("{head}\r\ncontent-length: {length}\r\n\r\n{document}");
        self.answers_bytes(text.into_bytes());
    }

    /// The first line of each request since the last call.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets this head and body as the response, which ends the connection.
    pub fn answers_bytes(&self, bytes: Vec<u8>) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
    }
}

fn answer_once(stream: TcpStream, answer: &[u8], seen: &Mutex<Vec<String>>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(first.trim_end().to_owned());
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    // Read the request to its end, or the close would discard the response.
    std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
    let mut stream = reader.into_inner();
    stream.write_all(answer)?;
    stream.shutdown(Shutdown::Write)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn each_value_of_a_document_is_given_with_another_type() {
        let values = values(r#"{"a/b":{"c":[1]},"d":"e","f":null}"#).unwrap();
        let texts: Vec<_> = values.iter().map(|v| v.text.as_str()).collect();
        for text in [
            r#""7""#,
            r#"{"a/b":7,"d":"e","f":null}"#,
            r#"{"a/b":{"c":"7"},"d":"e","f":null}"#,
            r#"{"a/b":{"c":[1e400]},"d":"e","f":null}"#,
            r#"{"a/b":{"c":[18446744073709551616]},"d":"e","f":null}"#,
            r#"{"a/b":{"c":[1]},"d":7,"f":null}"#,
        ] {
            assert!(texts.contains(&text), "{text}: {texts:#?}");
        }
    }

    #[test]
    fn each_object_and_text_of_a_document_is_given_in_wrong_forms() {
        let mut forms = forms(r#"{"z":{"b/c":[{"d":1}]},"a":{}}"#).unwrap();
        forms.extend(super::forms(r#"{"z":["x",1,"y"]}"#).unwrap());
        let texts: Vec<_> = forms.iter().map(|f| f.text.as_str()).collect();
        for text in [
            r#"{"z":{"b/c":[[1]]},"a":{}}"#,
            r#"{"z":{"b/c":[{"d":1,"d":1}]},"a":{}}"#,
            r#"{"z":[[{"d":1}]],"a":{}}"#,
            r#"[{"b/c":[{"d":1}]},{}]"#,
            r#"{"z":{"b/c":[{"d":1}]},"a":{},"z":{"b/c":[{"d":1}]}}"#,
            r#"{"z":{"b/c":[{"d":1}]},"a":{}}]"#,
            r#"{"z":[{"x":null},1,"y"]}"#,
            r#"{"z":["x",1,{"y":null}]}"#,
            r#"{"z":["x",1,0]}"#,
        ] {
            assert!(texts.contains(&text), "{text}: {texts:#?}");
        }
    }
}
