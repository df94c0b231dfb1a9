//! Renders the fields of the editor from the schema of a profile: what the profile says itself, and
//! what it inherits. Errors are shown at their fields.

use super::entries;
use super::field::{Choosable, Field, Given, Kind, More, Search};
use super::finding::Answer;
use super::read::is_marked;
use super::said::{Look, Rendered, Said, Tally, by_source, is_joined, plain, source};
use super::schema::{Place, Shape, example, is_on_by_default, resolved, shape};
use super::sections::{is_common, label, named};
use askama::Template;
use fleeti_core::profile::{Finding, Inherited};
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, Schema};

/// Renders a field; `is_bare` if it needs no frame of its own.
///
/// # Errors
/// When a template does not render.
pub fn field(
    place: &Place,
    said: Said<'_>,
    look: Look<'_>,
    is_bare: bool,
) -> askama::Result<Rendered> {
    let (kind, mut tally) = kind_of(place, said, look)?;
    let path = &place.path;
    let errors: Vec<_> =
        look.findings.iter().filter(|f| is_here(f, path, &kind)).map(Answer::from).collect();
    let is_touched = !path.is_empty() && look.touched == path;
    tally.is_broken |= errors.iter().any(|error| !error.is_warning);
    tally.is_touched |= is_touched;
    let (given, is_override) = given(place, said, &kind);
    let html = Field {
        path: path.clone(),
        label: label(place.name),
        help: help(place.schema, &kind, &label(place.name)),
        example: example(place.schema),
        required: place.required,
        is_bare,
        is_own: is_marked(place, said.own, said.inherited.is_some()),
        is_touched,
        errors,
        given,
        is_override,
        is_droppable: matches!(shape(place.schema), Shape::Texts) && !path.contains('['),
        search: named(path).map(|kind| Search { kind }),
        removed: if is_joined(place) { look.removed(path) } else { Vec::new() },
        kind,
    }
    .render()?;
    Ok(Rendered { html, tally })
}

/// What is wrong inside a list of texts is wrong at its field; inside an object it has a field of
/// its own.
fn is_here(finding: &Finding, path: &str, kind: &Kind) -> bool {
    match kind {
        Kind::Group(..) => finding.path == *path && !path.is_empty(),
        Kind::Entries(_) => finding.path == *path,
        _ => finding
            .path
            .strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('[')),
    }
}

/// What is inherited at a field that has an own value, and whether the own value replaces it.
fn given(place: &Place, said: Said<'_>, kind: &Kind) -> (Vec<Given>, bool) {
    let Some(inherited) = said.inherited else { return (Vec::new(), false) };
    match kind {
        Kind::Group(..) | Kind::Entries(_) | Kind::Inherited(_) | Kind::Choices(_) => {
            (Vec::new(), false)
        }
        _ if is_joined(place) => (by_source(inherited), false),
        _ => (vec![Given { from: source(inherited), items: vec![plain(inherited)] }], true),
    }
}

fn kind_of(place: &Place, said: Said<'_>, look: Look<'_>) -> askama::Result<(Kind, Tally)> {
    let shape = shape(place.schema);
    let mut tally = Tally {
        own: usize::from(said.own.is_some()),
        inherited: usize::from(said.own.is_none() && said.inherited.is_some()),
        ..Tally::default()
    };
    match shape {
        Shape::Object(object) => return group(place, object, said, look),
        Shape::Objects(items) => {
            let inner = |place: &Place, said: Said<'_>| field(place, said, look, true);
            return entries::render(place, items, said, look, inner);
        }
        Shape::Choices(values) => return Ok((choices(said, values), tally)),
        _ => {}
    }
    if let Some(own) = said.own.filter(|own| is_changed_by_a_browser(&shape, own)) {
        return Ok((Kind::Kept(own.to_string()), tally));
    }
    if let (None, Some(inherited)) = (said.own, said.inherited) {
        if !is_joined(place) {
            let given = Given { from: source(inherited), items: vec![plain(inherited)] };
            return Ok((Kind::Inherited(given), tally));
        }
        tally.inherited = by_source(inherited).iter().map(|given| given.items.len()).sum();
    }
    Ok((input(&shape, place, said), tally))
}

/// The input of a plain value or of a list of them.
fn input(shape: &Shape, place: &Place, said: Said<'_>) -> Kind {
    let text = || {
        said.own
            .map_or_else(String::new, |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
    };
    match shape {
        Shape::Texts => {
            let text: Vec<_> = said.list().iter().filter_map(Value::as_str).collect();
            Kind::Long(text.join("\n"), text.len().clamp(2, 12))
        }
        Shape::Pairs => {
            let pairs = said.own.and_then(Value::as_object);
            let line = |(name, value): (&String, &Value)| {
                format!("{name} = {}", value.as_str().unwrap_or_default())
            };
            let lines: Vec<_> = pairs.into_iter().flatten().map(line).collect();
            Kind::Long(lines.join("\n"), lines.len().clamp(2, 12))
        }
        Shape::Choice(values) => {
            // The first value is the default of an optional field, as a browser would send it.
            let chosen = Some(text()).filter(|text| !text.is_empty());
            let first = || values.first().cloned().unwrap_or_default();
            Kind::Choice(chosen.unwrap_or_else(first), values.clone())
        }
        Shape::Integer => Kind::Number(text()),
        Shape::Flag => Kind::Flag(
            said.own.and_then(Value::as_bool).unwrap_or_else(|| is_on_by_default(place.schema)),
        ),
        Shape::Lines => Kind::Long(text(), text().lines().count().clamp(4, 24)),
        Shape::Text | Shape::Object(_) | Shape::Objects(_) | Shape::Choices(_) => {
            Kind::Text(text())
        }
    }
}

fn choices(said: Said<'_>, mut values: Vec<String>) -> Kind {
    // The form returns the values in its order: an own order that differs comes first.
    let own: Vec<_> = said.list().iter().filter_map(Value::as_str).collect();
    if !own.is_sorted_by_key(|own| values.iter().position(|value| value == own)) {
        values.sort_by_key(|value| own.iter().position(|own| own == value).unwrap_or(usize::MAX));
    }
    let inherited = said.inherited.map(Inherited::entries).unwrap_or_default();
    let choosable = |value: String| Choosable {
        is_chosen: said.list().iter().any(|own| own.as_str() == Some(&value)),
        from: inherited
            .iter()
            .find(|entry| entry.text() == Some(&value))
            .map(|entry| entry.from.clone()),
        value,
    };
    Kind::Choices(values.into_iter().map(choosable).collect())
}

/// The fields of an object: those that are required, common or have a value, and the others folded.
fn group(
    place: &Place,
    object: &'static Object,
    said: Said<'_>,
    look: Look<'_>,
) -> askama::Result<(Kind, Tally)> {
    let (mut first, mut tally) = (String::new(), Tally::default());
    let mut rest: Vec<Rendered> = Vec::new();
    for (name, schema) in &object.properties {
        let inner = place.property(object, name, schema);
        let rendered = field(&inner, said.property(name), look, false)?;
        tally.add(rendered.tally);
        if inner.required || rendered.tally.is_open() || is_common(&inner.path) {
            first.push_str(&rendered.html);
        } else {
            rest.push(rendered);
        }
    }
    let is_folded = !first.is_empty() && rest.len() > 1;
    let html: String = rest.iter().map(|rendered| rendered.html.as_str()).collect();
    let more = if is_folded {
        More { html, count: rest.len() }
    } else {
        first.push_str(&html);
        More::default()
    };
    Ok((Kind::Group(first, more), tally))
}

/// Whether a field returns exactly the text it was filled with: browsers normalise line ends, drop
/// them in a field of one line, and have no NUL.
fn survives(text: &str, is_one_line: bool) -> bool {
    !(text.contains(['\r', '\0']) || is_one_line && text.contains('\n'))
}

/// Whether a text area with one string per line returns exactly this list.
fn survives_as_lines(list: &[Value]) -> bool {
    list.iter().all(|v| {
        v.as_str()
            .is_some_and(|t| !t.is_empty() && t == t.trim() && !t.contains(['\n', '\r', '\0']))
    })
}

/// Whether a text area with one pair per line returns exactly these pairs.
fn survives_as_pairs(pairs: &serde_json::Map<String, Value>) -> bool {
    pairs.iter().all(|(name, value)| {
        let is_plain = |t: &str| t == t.trim() && !t.contains(['\n', '\r', '\0']);
        let is_name = !name.is_empty() && is_plain(name) && !name.contains('=');
        is_name && value.as_str().is_some_and(is_plain)
    })
}

/// Whether a browser would return another value than its field was filled with.
fn is_changed_by_a_browser(shape: &Shape, value: &Value) -> bool {
    match shape {
        Shape::Texts => value.as_array().is_some_and(|list| !survives_as_lines(list)),
        Shape::Lines => value.as_str().is_some_and(|t| !survives(t, false)),
        Shape::Text => value.as_str().is_some_and(|t| !survives(t, true)),
        Shape::Pairs => value.as_object().is_some_and(|pairs| !survives_as_pairs(pairs)),
        Shape::Object(_)
        | Shape::Objects(_)
        | Shape::Choice(_)
        | Shape::Choices(_)
        | Shape::Integer
        | Shape::Flag => false,
    }
}

/// The description of a property, or else of its type.
fn help(schema: &'static RefOr<Schema>, kind: &Kind, name: &str) -> String {
    let own = match schema {
        RefOr::Ref(reference) if !reference.description.is_empty() => {
            Some(reference.description.clone())
        }
        _ => match resolved(schema) {
            Some(Schema::Object(object)) => object.description.clone(),
            Some(Schema::Array(array)) => array.description.clone(),
            _ => None,
        },
    };
    let mut help = own.unwrap_or_default();
    if matches!(kind, Kind::Long(..)) && matches!(shape(schema), Shape::Texts) {
        help.push_str(" One on each line.");
    }
    if matches!(kind, Kind::Long(..)) && matches!(shape(schema), Shape::Pairs) {
        help.push_str(" Each line is a name, an equals sign and a value.");
    }
    let help = help.replace('`', "");
    // A description that only repeats the name.
    let is_name = |name: &str| help.trim_end_matches('.').eq_ignore_ascii_case(name);
    if is_name(name) { String::new() } else { help }
}
