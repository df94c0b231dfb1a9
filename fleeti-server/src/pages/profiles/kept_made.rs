//! Values that a document does not have yet.

use serde_json::{Map, Value};
use toml_edit::{Array, ArrayOfTables, InlineTable, Item, Table};

/// Longest list on one line, bytes.
const LINE_MAX: usize = 80;

/// A value for a table with a header: objects get headers of their own. `None` for what TOML does
/// not have.
pub fn item(from: &Value) -> Option<Item> {
    match from {
        Value::Object(fields) => Some(Item::Table(table(fields)?)),
        Value::Array(list) if !list.is_empty() && list.iter().all(Value::is_object) => {
            let tables = list.iter().filter_map(Value::as_object).map(table);
            Some(Item::ArrayOfTables(tables.collect::<Option<ArrayOfTables>>()?))
        }
        other => {
            let mut made = value(other)?;
            if let Some(array) = made.as_array_mut() {
                on_lines(array);
            }
            Some(Item::Value(made))
        }
    }
}

fn table(fields: &Map<String, Value>) -> Option<Table> {
    let mut table = Table::new();
    for (name, inner) in fields {
        table.insert(name, item(inner)?);
    }
    // A table that only holds tables needs no header.
    table.set_implicit(!fields.is_empty() && table.get_values().is_empty());
    Some(table)
}

/// A value on one line.
pub fn value(from: &Value) -> Option<toml_edit::Value> {
    Some(match from {
        Value::Null => return None,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => integer.into(),
            None => number.as_f64()?.into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(list) => list.iter().map(value).collect::<Option<Array>>()?.into(),
        Value::Object(fields) => {
            let pair = |(name, inner): (&String, &Value)| Some((name.clone(), value(inner)?));
            fields.iter().map(pair).collect::<Option<InlineTable>>()?.into()
        }
    })
}

/// Writes each entry of a long list on a line of its own.
pub fn on_lines(array: &mut Array) {
    if array.len() < 2 || array.to_string().len() <= LINE_MAX {
        return;
    }
    for entry in array.iter_mut() {
        entry.decor_mut().set_prefix("\n    ");
        entry.decor_mut().set_suffix("");
    }
    array.set_trailing("\n");
    array.set_trailing_comma(true);
}
