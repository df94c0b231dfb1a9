//! One field of the editor.

use super::finding::Answer;
use askama::Template;
use fleeti_core::profile::IndexedKind;

/// What a field inherits from one fragment.
pub struct Given {
    /// Name of the fragment.
    pub from: String,
    /// The values, or one.
    pub items: Vec<String>,
}

/// An own entry of a list.
pub struct Entry {
    /// What it is called, from its key.
    pub title: String,
    /// Name of the fragment of which it changes an entry.
    pub changes: Option<String>,
    /// The rendered fields.
    pub html: String,
    /// The user just added or moved it.
    pub is_touched: bool,
}

/// An inherited entry of a list, which the profile does not change.
pub struct GivenEntry {
    /// Its key.
    pub key: String,
    /// Name of the fragment.
    pub from: String,
    /// Its other values in one line.
    pub brief: String,
}

/// A value of a list with a fixed set of values.
pub struct Choosable {
    pub value: String,
    pub is_chosen: bool,
    /// Name of the fragment that chooses it already.
    pub from: Option<String>,
}

/// The entries of a list.
pub struct Entries {
    pub own: Vec<Entry>,
    pub given: Vec<GivenEntry>,
    /// Keys of inherited entries that the profile removes.
    pub removed: Vec<String>,
    /// Whether the profile can remove inherited entries of this list.
    pub is_removable: bool,
    /// What one entry is called.
    pub singular: String,
}

/// The kind and value of a field.
pub enum Kind {
    /// A value, as JSON, that a browser's field would not return unchanged.
    Kept(String),
    /// An inherited value, which the profile does not change.
    Inherited(Given),
    /// The rendered fields of an object: those that are shown, and the others.
    Group(String, More),
    /// The entries of a list.
    Entries(Entries),
    /// One line.
    Text(String),
    /// An integer.
    Number(String),
    /// Several lines, and the number of visible rows.
    Long(String, usize),
    /// Yes or no.
    Flag(bool),
    /// The value, and the values to choose from.
    Choice(String, Vec<String>),
    /// Any of these values.
    Choices(Vec<Choosable>),
}

/// A search in the suite while a field is typed.
pub struct Search {
    /// What is searched.
    pub kind: IndexedKind,
}

/// Fields that are folded.
#[derive(Default)]
pub struct More {
    pub html: String,
    pub count: usize,
}

/// One field of the editor.
#[derive(Template)]
#[template(path = "_field.html")]
pub struct Field {
    pub path: String,
    pub label: String,
    pub help: String,
    /// An example of a value.
    pub example: String,
    pub required: bool,
    /// It has no frame of its own: the section or the entry is one.
    pub is_bare: bool,
    /// The profile says the value even if it is empty or the default.
    pub is_own: bool,
    /// The user just asked for it.
    pub is_touched: bool,
    pub errors: Vec<Answer>,
    /// What is inherited: before own values are appended, or instead of the own value.
    pub given: Vec<Given>,
    /// The own value replaces the inherited one.
    pub is_override: bool,
    /// The profile can remove inherited items.
    pub is_droppable: bool,
    /// Inherited items that the profile removes.
    pub removed: Vec<String>,
    /// What the field names, which is searched while it is typed.
    pub search: Option<Search>,
    pub kind: Kind,
}
