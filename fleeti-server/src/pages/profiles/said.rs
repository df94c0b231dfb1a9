//! What a profile says itself and what it inherits, place by place.

use super::field::Given;
use super::schema::{Place, Shape, shape};
use fleeti_core::profile::{Finding, Inherited, InheritedValue, ListRule, list_rule};
use serde_json::Value;

/// What is said at a place.
#[derive(Clone, Copy)]
pub struct Said<'a> {
    /// By the profile itself.
    pub own: Option<&'a Value>,
    /// By what it extends.
    pub inherited: Option<&'a Inherited>,
}

impl<'a> Said<'a> {
    /// What is said of a property.
    pub fn property(self, name: &str) -> Self {
        Self {
            own: self.own.and_then(|own| own.get(name)),
            inherited: self.inherited.and_then(|inherited| inherited.field(name)),
        }
    }

    /// The own values of a list.
    pub fn list(self) -> &'a [Value] {
        self.own.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }
}

/// What is the same for all fields.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// What is shown at the fields.
    pub findings: &'a [Finding],
    /// Path of the field or entry that the user works on; empty if there is none.
    pub touched: &'a str,
    /// What the profile removes from what it inherits.
    pub removed: Option<&'a Value>,
}

impl Look<'_> {
    /// The names that the profile removes from an inherited list or map.
    pub fn removed(&self, path: &str) -> Vec<String> {
        let mut at = self.removed;
        for step in path.split('.') {
            at = at.and_then(|at| at.get(step));
        }
        let names = at.and_then(Value::as_array).into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

/// What a rendered field has.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    /// Number of own values.
    pub own: usize,
    /// Number of inherited values.
    pub inherited: usize,
    /// Something in it is wrong.
    pub is_broken: bool,
    /// The user works on it.
    pub is_touched: bool,
}

impl Tally {
    /// Adds what another field has.
    pub fn add(&mut self, other: Self) {
        self.own += other.own;
        self.inherited += other.inherited;
        self.is_broken |= other.is_broken;
        self.is_touched |= other.is_touched;
    }

    /// Whether it is shown unfolded.
    pub fn is_open(&self) -> bool {
        self.own + self.inherited > 0 || self.is_broken || self.is_touched
    }
}

/// A rendered field.
pub struct Rendered {
    pub html: String,
    pub tally: Tally,
}

/// Whether own values are added to inherited ones.
pub fn is_joined(place: &Place) -> bool {
    match shape(place.schema) {
        Shape::Texts | Shape::Choices(_) => list_rule(&place.path) == ListRule::Joined,
        Shape::Pairs => true,
        _ => false,
    }
}

/// The fragment that said a value last; that of the first entry for a list.
pub fn source(inherited: &Inherited) -> String {
    let entry = inherited.entries().first().unwrap_or(inherited);
    entry.from.clone()
}

/// An inherited value in one line.
pub fn plain(inherited: &Inherited) -> String {
    match &inherited.value {
        InheritedValue::Plain(Value::Bool(flag)) => if *flag { "yes" } else { "no" }.to_owned(),
        InheritedValue::Plain(Value::String(text)) => text.clone(),
        InheritedValue::Plain(other) => other.to_string(),
        InheritedValue::List(entries) => entries.iter().map(plain).collect::<Vec<_>>().join(", "),
        InheritedValue::Table(fields) => {
            let pair = |(name, value): (&String, &Inherited)| format!("{name} {}", plain(value));
            fields.iter().map(pair).collect::<Vec<_>>().join(", ")
        }
    }
}

/// The inherited entries of a list or map, by the fragments that say them.
pub fn by_source(inherited: &Inherited) -> Vec<Given> {
    let mut given: Vec<Given> = Vec::new();
    let items: Vec<(&Inherited, String)> = match &inherited.value {
        InheritedValue::Table(fields) => {
            let line = |(n, v): (&String, &Inherited)| format!("{n} = {}", plain(v));
            fields.iter().map(|pair| (pair.1, line(pair))).collect()
        }
        _ => inherited.entries().iter().map(|entry| (entry, plain(entry))).collect(),
    };
    for (entry, text) in items {
        match given.iter_mut().find(|given| given.from == entry.from) {
            Some(known) => known.items.push(text),
            None => given.push(Given { from: entry.from.clone(), items: vec![text] }),
        }
    }
    given
}
