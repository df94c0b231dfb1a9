//! Log lines as JSON: one object per event.

use fleeti_core::foreign;
use serde_json::{Map, Value};
use std::fmt::Debug;
use tracing::Level;
use tracing::field::{Field, Visit};

/// The fields of an event. Each is escaped and cut as in the text format, by the same function.
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name().starts_with("log.") {
            return;
        }
        let mut text = String::new();
        // As a message, because other fields are written with their names.
        if foreign::log_field(&mut text, "message", value).is_ok() {
            self.0.insert(field.name().to_owned(), text.into());
        }
    }
}

/// The beginning of a line.
fn head(level: Level, target: &str) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("time".into(), jiff::Timestamp::now().to_string().into());
    object.insert("level".into(), level.as_str().into());
    object.insert("target".into(), target.into());
    object
}

/// The line of an event.
pub fn line(level: Level, target: &str, fields: impl FnOnce(&mut dyn Visit)) -> String {
    let mut object = Fields(head(level, target));
    fields(&mut object);
    foreign::json(&Value::Object(object.0).to_string())
}

/// The line of a text, as a warning of the log itself.
pub fn said(text: &str) -> String {
    let mut object = head(Level::WARN, "fleeti_server::log");
    object.insert("message".into(), text.into());
    foreign::json(&Value::Object(object).to_string())
}
