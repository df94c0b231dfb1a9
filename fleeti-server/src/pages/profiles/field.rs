//! One field of a form.

use askama::Template;
use fleeti_core::profile::Finding;

/// The kind and value of a field.
pub enum Kind {
    /// A value that the user cannot change.
    Fixed(String),
    /// A value, as JSON, that a browser's field would not return unchanged.
    Kept(String),
    /// The rendered fields of an object.
    Group(String),
    /// The rendered objects of a list.
    Entries(Vec<String>),
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
}

/// One field of a form.
#[derive(Template)]
#[template(path = "_field.html")]
pub struct Field {
    pub path: String,
    pub label: String,
    pub help: String,
    pub required: bool,
    pub errors: Vec<Finding>,
    pub kind: Kind,
}
