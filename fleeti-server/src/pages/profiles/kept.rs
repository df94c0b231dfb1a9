//! Changes a document so that it says something else, and keeps its comments, order and format.
//!
//! Entries of a list are the same if they say the same, have the same key, or, in a list of the same
//! length, are at the same place. Only what differs is written.

use super::kept_list::{Placed, matched};
use super::kept_made::{item, value};
use fleeti_core::profile::list_rule;
use fleeti_core::strict;
use serde_json::{Map, Value};
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, TableLike};

/// The document that says `new`, changed from `source`, which says `old`; `None` if the result would
/// not say exactly that.
pub fn changed(source: &str, old: &Value, new: &Value) -> Option<String> {
    let mut document: DocumentMut = source.parse().ok()?;
    fields(document.as_table_mut(), "", old.as_object()?, new.as_object()?)?;
    let text = document.to_string();
    (strict::from_toml::<Value>(&text).ok().as_ref() == Some(new)).then_some(text)
}

fn fields(
    at: &mut dyn TableLike,
    path: &str,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Option<()> {
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        at.remove(name);
    }
    for (name, wanted) in new {
        let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (old.get(name), at.get_mut(name)) {
            (Some(known), _) if known == wanted => {}
            (Some(known), Some(place)) => change(place, &inner, known, wanted)?,
            _ => {
                // A table that dotted keys made gets no header.
                let made = if at.is_dotted() { Item::Value(value(wanted)?) } else { item(wanted)? };
                at.insert(name, made);
            }
        }
    }
    Some(())
}

fn change(place: &mut Item, path: &str, old: &Value, new: &Value) -> Option<()> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            return fields(place.as_table_like_mut()?, path, old, new);
        }
        (Value::Array(old), Value::Array(new)) => {
            if let Some(array) = place.as_array_mut() {
                return values(array, path, old, new);
            }
            if let (Some(tables), false) = (place.as_array_of_tables_mut(), new.is_empty()) {
                return entries(tables, path, old, new);
            }
        }
        _ => {}
    }
    match place.as_value_mut() {
        Some(known) => {
            let mut made = value(new)?;
            *made.decor_mut() = known.decor().clone();
            *known = made;
        }
        None => *place = item(new)?,
    }
    Some(())
}

/// Changes a list that is written in brackets.
fn values(array: &mut Array, path: &str, old: &[Value], new: &[Value]) -> Option<()> {
    let mut parts = super::kept_array::Parts::take(array);
    let mut from: Vec<_> = parts.elements.drain(..).map(Some).collect();
    let mut made = Vec::with_capacity(new.len());
    for (wanted, at) in new.iter().zip(matched(list_rule(path), old, new)) {
        made.push(match at {
            Placed::Same(i) => from.get_mut(i)?.take()?,
            Placed::Changed(i) => {
                let mut element = from.get_mut(i)?.take()?;
                let mut place = Item::Value(element.value);
                change(&mut place, &format!("{path}[{i}]"), old.get(i)?, wanted)?;
                element.value = place.into_value().ok()?;
                element
            }
            Placed::New => parts.new_element(value(wanted)?),
        });
    }
    parts.elements = made;
    parts.put(array);
    Some(())
}

/// Changes a list whose entries are tables with headers.
fn entries(tables: &mut ArrayOfTables, path: &str, old: &[Value], new: &[Value]) -> Option<()> {
    let mut from: Vec<_> = std::mem::take(tables).into_iter().map(Some).collect();
    let mut made: Vec<Table> = Vec::with_capacity(new.len());
    for (wanted, at) in new.iter().zip(matched(list_rule(path), old, new)) {
        made.push(match at {
            Placed::Same(i) => from.get_mut(i)?.take()?,
            Placed::Changed(i) => {
                let mut entry = from.get_mut(i)?.take()?;
                let (old, new) = (old.get(i)?.as_object()?, wanted.as_object()?);
                fields(&mut entry, &format!("{path}[{i}]"), old, new)?;
                entry
            }
            Placed::New => item(wanted)?.into_table().ok()?,
        });
    }
    renumber(&mut made);
    tables.extend(made);
    Some(())
}

/// Gives entries, with the tables in them, the places of the document in their new order.
fn renumber(entries: &mut [Table]) {
    let places = |table: &Table| {
        let mut found = Vec::new();
        collect(table, &mut found);
        found.sort_unstable();
        found
    };
    let by_entry: Vec<_> = entries.iter().map(places).collect();
    let mut free = by_entry.concat();
    if free.is_sorted() {
        return;
    }
    free.sort_unstable();
    let mut free = free.as_slice();
    for (entry, before) in entries.iter_mut().zip(&by_entry) {
        let (after, rest) = free.split_at(before.len().min(free.len()));
        free = rest;
        place(entry, before, after);
    }
}

fn collect(table: &Table, found: &mut Vec<isize>) {
    found.extend(table.position());
    for (_, inner) in table {
        match inner {
            Item::Table(table) => collect(table, found),
            Item::ArrayOfTables(tables) => tables.iter().for_each(|table| collect(table, found)),
            Item::Value(_) | Item::None => {}
        }
    }
}

fn place(table: &mut Table, before: &[isize], after: &[isize]) {
    if let Some(at) = table.position().and_then(|position| before.binary_search(&position).ok()) {
        table.set_position(after.get(at).copied());
    }
    for (_, inner) in table.iter_mut() {
        match inner {
            Item::Table(table) => place(table, before, after),
            Item::ArrayOfTables(tables) => {
                tables.iter_mut().for_each(|table| place(table, before, after));
            }
            Item::Value(_) | Item::None => {}
        }
    }
}
