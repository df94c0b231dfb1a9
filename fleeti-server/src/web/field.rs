//! One field of a form.

use super::form::Finding;
use askama::Template;

/// What a field is filled in with.
pub enum Kind {
    /// A value that nobody chooses.
    Fixed(String),
    /// A value, as JSON, that no field of a browser gives back as it is.
    Kept(String),
    /// Fields of an object, rendered.
    Group(String),
    /// Objects of a list, rendered.
    Entries(Vec<String>),
    /// One line.
    Text(String),
    /// An integer.
    Number(String),
    /// Several lines, and how many are shown.
    Long(String, usize),
    /// Yes or no.
    Flag(bool),
    /// One of some.
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
