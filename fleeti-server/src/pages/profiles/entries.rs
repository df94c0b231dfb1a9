//! Renders a list of objects: own entries, inherited ones, and those that are removed.

use super::field::{Entries, Entry, GivenEntry, Kind};
use super::said::{Look, Rendered, Said, Tally, plain};
use super::schema::Place;
use super::sections::{label, singular};
use fleeti_core::profile::{Inherited, InheritedValue, ListRule, list_rule};
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

/// Longest line about an inherited entry, characters.
const BRIEF_MAX: usize = 120;

/// Renders a list of objects, each with `field`.
///
/// # Errors
/// When a template does not render.
pub fn render(
    place: &Place,
    items: &'static RefOr<Schema>,
    said: Said<'_>,
    look: Look<'_>,
    field: impl Fn(&Place, Said<'_>) -> askama::Result<Rendered>,
) -> askama::Result<(Kind, Tally)> {
    let key = match list_rule(&place.path) {
        ListRule::Keyed(field) => field,
        ListRule::Whole | ListRule::Joined => "name",
    };
    let key_of = |own: &Value| own.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut tally = Tally::default();
    let mut own = Vec::new();
    let mut keys = Vec::new();
    for (index, value) in said.list().iter().enumerate() {
        let name = key_of(value);
        let inherited = said.inherited.and_then(|inherited| inherited.entry(key, &name));
        let at = place.entry(items, index);
        let inner = field(&at, Said { own: Some(value), inherited })?;
        tally.own += 1;
        tally.is_broken |= inner.tally.is_broken;
        tally.is_touched |= inner.tally.is_touched;
        let number = format!("{} {}", label(&singular(place.name)), index + 1);
        own.push(Entry {
            title: if name.is_empty() { number } else { name.clone() },
            changes: inherited.map(|inherited| inherited.from.clone()),
            html: inner.html,
            is_touched: look.touched == at.path,
        });
        keys.push(name);
    }
    let inherited = said.inherited.map(Inherited::entries).unwrap_or_default();
    let given: Vec<_> = inherited
        .iter()
        .map(|entry| given(entry, key))
        .filter(|entry| !keys.contains(&entry.key))
        .collect();
    tally.inherited += given.len();
    let entries = Entries {
        own,
        given,
        removed: look.removed(&place.path),
        is_removable: !place.path.contains('['),
        singular: singular(place.name),
    };
    Ok((Kind::Entries(entries), tally))
}

fn given(entry: &Inherited, key: &str) -> GivenEntry {
    let pairs = match &entry.value {
        InheritedValue::Table(fields) => fields.iter().filter(|(name, _)| *name != key).collect(),
        InheritedValue::Plain(_) | InheritedValue::List(_) => Vec::new(),
    };
    let pair = |(name, value): (&String, &Inherited)| format!("{}: {}", label(name), plain(value));
    let brief = pairs.into_iter().map(pair).collect::<Vec<_>>().join(" · ");
    let short: String = brief.chars().take(BRIEF_MAX).collect();
    GivenEntry {
        key: entry.field(key).and_then(Inherited::text).unwrap_or_default().to_owned(),
        from: entry.from.clone(),
        brief: if short.len() < brief.len() { format!("{short}…") } else { brief },
    }
}
