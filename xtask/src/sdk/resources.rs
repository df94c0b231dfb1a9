//! `_resources.py` and `_aio_resources.py`: a class for each tag of the document, with a method for
//! each operation.

use super::document::{Answer, Body, Document, Operation, Parameter, reference};
use super::hints::{docstring, hint, name, reader};
use super::models::arguments;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Whether methods block or are awaited.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Blocking,
    Async,
}

impl Colour {
    /// `def`, or `async def`.
    fn def(self) -> &'static str {
        if self == Self::Async { "async def" } else { "def" }
    }
    fn iterator(self) -> &'static str {
        if self == Self::Async { "AsyncIterator" } else { "Iterator" }
    }
    fn module(self) -> &'static str {
        if self == Self::Async { "_aio" } else { "_base" }
    }
    /// A call of the module's function, awaited where that is needed.
    fn call(self, function: &str) -> String {
        let wait = if self == Self::Async { "await " } else { "" };
        format!("{wait}{}.{function}", self.module())
    }
    fn head(self) -> &'static str {
        match self {
            Self::Blocking => {
                "\
# Generated from fleeti-server/openapi.json by `cargo xtask sdk`.
\"\"\"The operations of the API, by resource.\"\"\"

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Literal

from . import _base, _extras
from . import models as m

"
            }
            Self::Async => {
                "\
# Generated from fleeti-server/openapi.json by `cargo xtask sdk`.
\"\"\"The operations of the API, by resource, for asyncio.\"\"\"

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Mapping, Sequence
from os import PathLike
from typing import Any, Literal

from . import _aio, _base
from . import _aio_extras as _extras
from . import models as m

"
            }
        }
    }
}

/// Resources with methods that are written by hand, in `_extras.py`.
const EXTRAS: [&str; 2] = ["releases", "rollouts"];

/// The text of the module.
pub fn text(document: &Document, colour: Colour) -> Result<String> {
    let mut text = colour.head().to_owned();
    let tags: BTreeSet<&str> = document.operations.iter().map(|o| o.tag.as_str()).collect();
    for tag in &tags {
        let class = class_of(tag);
        let base = if EXTRAS.contains(tag) {
            format!("_extras.{class}")
        } else {
            format!("{}.Resource", colour.module())
        };
        write!(
            text,
            "\nclass {class}({base}):\n    \"\"\"Operations of the tag `{tag}`.\"\"\"\n\n    __slots__ = ()\n"
        )?;
        let mut names = BTreeSet::new();
        for operation in document.operations.iter().filter(|o| o.tag == *tag) {
            let method = method_name(operation);
            if !names.insert(method.clone()) {
                bail!("two operations of {tag} are called {method}");
            }
            text.push_str(
                &self::method(document, operation, colour).with_context(|| operation.id.clone())?,
            );
        }
        text.push('\n');
    }
    text.push_str(&group(&tags, colour));
    text.push_str(&operations(document));
    Ok(text)
}

fn class_of(tag: &str) -> String {
    let (first, rest) = tag.split_at(tag.len().min(1));
    first.to_uppercase() + rest
}

/// The class with an attribute for each tag.
fn group(tags: &BTreeSet<&str>, colour: Colour) -> String {
    let mut text = format!(
        "\nclass Resources({}.Core):\n    \"\"\"An attribute for each resource.\"\"\"\n",
        colour.module()
    );
    for tag in tags {
        let class = class_of(tag);
        text.push_str(&format!(
            "\n    @property\n    def {tag}(self) -> {class}:\n        \"\"\"Operations of the tag `{tag}`.\"\"\"\n        return {class}(self._core)\n"
        ));
    }
    text
}

/// The table by which a test compares the package with the document.
fn operations(document: &Document) -> String {
    let mut text = "\n\nOPERATIONS = {\n".to_owned();
    for operation in &document.operations {
        text.push_str(&format!(
            "    \"{}\": \"{}.{}\",\n",
            operation.id,
            operation.tag,
            method_name(operation)
        ));
    }
    text + "}\n\"\"\"The method of each operation of the OpenAPI document.\"\"\"\n"
}

/// The id of the operation without the name of its resource: `get` of `get_device`.
fn method_name(operation: &Operation) -> String {
    let (id, tag) = (operation.id.as_str(), operation.tag.as_str());
    if matches!(operation.answer, Answer::Events(_)) {
        return "stream".to_owned();
    }
    let singular = tag.strip_suffix('s').unwrap_or(tag);
    let short = [tag, singular].into_iter().find_map(|noun| id.strip_suffix(&format!("_{noun}")));
    name(short.unwrap_or(id))
}

/// An argument of a method.
struct Argument {
    name: String,
    hint: String,
    default: Option<&'static str>,
}

/// How a list of many pages is read.
enum Pages<'a> {
    /// The response is a list, whose last item says where the next page begins.
    List { item: &'a Value },
    /// The response has the field `next`.
    Next,
    /// The response has the field `lines`, and the next page begins after as many.
    Lines,
}

fn pages<'a>(document: &'a Document, operation: &'a Operation) -> Option<Pages<'a>> {
    let Answer::Json(schema) = &operation.answer else { return None };
    let has = |name: &str| operation.query.iter().any(|p| p.name == name);
    if !has("limit") {
        return None;
    }
    if schema["type"] == "array" && has("after") {
        return Some(Pages::List { item: &schema["items"] });
    }
    let properties = &document.named(schema)?.1["properties"];
    if has("after") && properties.get("next").is_some() {
        return Some(Pages::Next);
    }
    (has("from") && properties.get("lines").is_some()).then_some(Pages::Lines)
}

fn method(document: &Document, operation: &Operation, colour: Colour) -> Result<String> {
    match pages(document, operation) {
        Some(Pages::List { item }) => paged_list(document, operation, item, colour),
        Some(Pages::Lines) => paged_lines(document, operation, colour),
        Some(Pages::Next) => {
            let one = single(document, operation, colour)?;
            Ok(one + &paged_objects(document, operation, colour)?)
        }
        None => single(document, operation, colour),
    }
}

/// The arguments of a method, without the query parameters in `without`.
fn arguments_of(
    document: &Document,
    operation: &Operation,
    without: &[&str],
) -> Result<(Vec<Argument>, Vec<Argument>)> {
    let text = |n: &String| Argument { name: name(n), hint: "str".to_owned(), default: None };
    let number = |n: &String| Argument { name: name(n), hint: "int".to_owned(), default: None };
    let is_number = |n: &str| ["number", "to"].contains(&n);
    let mut places: Vec<_> =
        operation.places.iter().map(|n| if is_number(n) { number(n) } else { text(n) }).collect();
    let mut named = Vec::new();
    match &operation.body {
        Body::Nothing => {}
        Body::Bytes => places.push(Argument {
            name: "file".to_owned(),
            hint: "str | PathLike[str]".to_owned(),
            default: None,
        }),
        Body::Json(schema) => {
            let of = reference(schema).context("a body without a name")?;
            if document.requests.contains(of) {
                let fields = arguments(document, schema)?;
                named.extend(fields.into_iter().map(|(name, hint, default)| Argument {
                    name,
                    hint,
                    default,
                }));
            } else {
                let hint = format!("m.{of} | Mapping[str, Any]");
                places.push(Argument { name: snake(of), hint, default: None });
            }
        }
    }
    for parameter in operation.query.iter().filter(|p| !without.contains(&p.name.as_str())) {
        named.push(query_argument(parameter)?);
    }
    named.sort_by_key(|argument| argument.default.is_some());
    let mut names = BTreeSet::new();
    for argument in places.iter().chain(&named) {
        if !names.insert(&argument.name) {
            bail!("two arguments are called {}", argument.name);
        }
    }
    Ok((places, named))
}

fn query_argument(parameter: &Parameter) -> Result<Argument> {
    let hint = hint(&parameter.schema, "m.")?;
    let (hint, default) = match parameter.is_required {
        true => (hint, None),
        false => (format!("{hint} | None"), Some("None")),
    };
    Ok(Argument { name: name(&parameter.name), hint, default })
}

fn snake(camel: &str) -> String {
    let mut text = String::new();
    for (n, c) in camel.chars().enumerate() {
        if c.is_uppercase() && n > 0 {
            text.push('_');
        }
        text.extend(c.to_lowercase());
    }
    text
}

/// The first line of a method, and its description.
fn signature(
    def: &str,
    method: &str,
    (places, named): &(Vec<Argument>, Vec<Argument>),
    answer: &str,
    about: &str,
) -> String {
    let written = |argument: &Argument| {
        let default = argument.default.map_or_else(String::new, |d| format!(" = {d}"));
        format!("{}: {}{default}", argument.name, argument.hint)
    };
    let mut words = vec!["self".to_owned()];
    words.extend(places.iter().map(written));
    if !named.is_empty() {
        words.push("*".to_owned());
        words.extend(named.iter().map(written));
    }
    let line = format!("    {def} {method}({}) -> {answer}:\n", words.join(", "));
    let line = if line.len() <= 100 {
        line
    } else {
        let lines = words.iter().map(|word| format!("        {word},\n")).collect::<String>();
        format!("    {def} {method}(\n{lines}    ) -> {answer}:\n")
    };
    format!("\n{line}{}", docstring(about, "        "))
}

/// What a method does, and its arguments that the document describes.
fn about(operation: &Operation, without: &[&str]) -> String {
    let mut text = operation.summary.clone();
    let query = operation.query.iter().filter(|p| !without.contains(&p.name.as_str()));
    let lines: Vec<_> = query
        .filter(|p| !p.description.is_empty())
        .map(|p| format!("{}: {}", name(&p.name), p.description))
        .collect();
    if !lines.is_empty() {
        text = format!("{text}\n\n{}", lines.join("\n"));
    }
    text
}

/// The path as an f-string.
fn path(operation: &Operation) -> String {
    if operation.places.is_empty() {
        return format!("\"{}\"", operation.path);
    }
    let mut path = operation.path.clone();
    for place in &operation.places {
        let function = if place == "path" { "segments" } else { "segment" };
        let value = format!("{{_base.{function}({})}}", name(place));
        path = path.replace(&format!("{{{place}}}"), &value);
    }
    format!("f\"{path}\"")
}

/// The path with its query; `with` replaces the values of parameters.
fn target(operation: &Operation, with: &[(&str, &str)]) -> String {
    if operation.query.is_empty() {
        return path(operation);
    }
    let pairs = operation.query.iter().map(|p| {
        let value = with
            .iter()
            .find(|(of, _)| *of == p.name)
            .map_or_else(|| name(&p.name), |(_, v)| (*v).to_owned());
        format!("\"{}\": {value}", p.name)
    });
    format!("_base.target({}, {{{}}})", path(operation), pairs.collect::<Vec<_>>().join(", "))
}

/// The last arguments of a call: the body or the file.
fn content(document: &Document, operation: &Operation) -> Result<String> {
    Ok(match &operation.body {
        Body::Nothing => String::new(),
        Body::Bytes => ", file=file".to_owned(),
        Body::Json(schema) => {
            let of = reference(schema).context("a body without a name")?;
            if document.requests.contains(of) {
                let fields = arguments(document, schema)?;
                let fields: Vec<_> =
                    fields.iter().map(|(name, ..)| format!("{name}={name}")).collect();
                format!(", body=m.{of}({})", fields.join(", "))
            } else {
                format!(", body={}", snake(of))
            }
        }
    })
}

/// A method with one request.
fn single(document: &Document, operation: &Operation, colour: Colour) -> Result<String> {
    let arguments = arguments_of(document, operation, &[])?;
    let call = format!(
        "{}(self._core, \"{}\", {}{})",
        colour.call("call"),
        operation.method,
        target(operation, &[]),
        content(document, operation)?
    );
    let (answer, lines) = match &operation.answer {
        Answer::Nothing => ("None".to_owned(), format!("        {call}\n")),
        Answer::Bytes => ("bytes".to_owned(), format!("        return {call}\n")),
        Answer::Text => ("str".to_owned(), format!("        return _base.as_text({call})\n")),
        Answer::Free => ("Any".to_owned(), format!("        return _base.as_json({call})\n")),
        Answer::Events(schema) => {
            let answer = format!("{}[{} | None]", colour.iterator(), hint(schema, "m.")?);
            let read = reader(document, schema, "v", "m.")?;
            let line = format!(
                "        return {}.events(self._core, lambda v: {read})\n",
                colour.module()
            );
            // Opened at the first step: an iterator, and no coroutine that makes one.
            return Ok(signature(
                "def",
                &method_name(operation),
                &arguments,
                &answer,
                &about(operation, &[]),
            ) + &line);
        }
        Answer::Json(schema) => {
            let answer = hint(schema, "m.")?.replace("Sequence[", "builtins.list[");
            let read = reader(document, schema, "v", "m.")?;
            (
                answer,
                format!(
                    "        answer = {call}\n        return _base.read(answer, lambda v: {read})\n"
                ),
            )
        }
    };
    Ok(signature(
        colour.def(),
        &method_name(operation),
        &arguments,
        &answer,
        &about(operation, &[]),
    ) + &lines)
}

/// The largest page.
fn page_max(operation: &Operation) -> i64 {
    let limit = operation.query.iter().find(|p| p.name == "limit");
    limit.and_then(|p| p.schema["maximum"].as_i64()).unwrap_or(100)
}

/// A method that reads the pages of a list.
fn paged_list(
    document: &Document,
    operation: &Operation,
    item: &Value,
    colour: Colour,
) -> Result<String> {
    const OWN: [&str; 2] = ["after", "limit"];
    let arguments = arguments_of(document, operation, &OWN)?;
    let (hint, read) = (hint(item, "m.")?, reader(document, item, "x", "m.")?);
    let limit = page_max(operation);
    let target = target(operation, &[("after", "after"), ("limit", &limit.to_string())]);
    let call = format!("{}(self._core, \"{}\", {target})", colour.call("call"), operation.method);
    let answer = format!("{}[{hint}]", colour.iterator());
    let head =
        signature("def", &method_name(operation), &arguments, &answer, &about(operation, &OWN));
    Ok(format!(
        "{head}
        {} page(after: str | None) -> builtins.list[{hint}]:
            answer = {call}
            return _base.read(answer, lambda v: [{read} for x in _base.items(v)])

        return {}.pages(page, lambda last: last.{}, {limit})
",
        colour.def(),
        colour.module(),
        key_of(document, item)?
    ))
}

/// The field by which a list is ordered.
fn key_of(document: &Document, item: &Value) -> Result<&'static str> {
    let (name, schema) = document.named(item).context("a page of values without a name")?;
    let fields = schema["properties"].as_object().context("no fields")?;
    ["id", "name", "number"]
        .into_iter()
        .find(|key| fields.contains_key(*key))
        .with_context(|| format!("{name} has no key"))
}

/// A method that reads the pages of an object.
fn paged_objects(document: &Document, operation: &Operation, colour: Colour) -> Result<String> {
    const OWN: [&str; 2] = ["after", "limit"];
    let Answer::Json(schema) = &operation.answer else { bail!("not JSON") };
    let arguments = arguments_of(document, operation, &OWN)?;
    let (hint, read) = (hint(schema, "m.")?, reader(document, schema, "v", "m.")?);
    let limit = page_max(operation).to_string();
    let target = target(operation, &[("after", "after"), ("limit", &limit)]);
    let call = format!("{}(self._core, \"{}\", {target})", colour.call("call"), operation.method);
    let answer = format!("{}[{hint}]", colour.iterator());
    let about = format!("Every page: {}", about(operation, &OWN));
    let name = format!("{}_pages", method_name(operation));
    let head = signature("def", &name, &arguments, &answer, &about);
    Ok(format!(
        "{head}
        {} page(after: str | None) -> {hint}:
            answer = {call}
            return _base.read(answer, lambda v: {read})

        return {}.chain(page, lambda last: last.next)
",
        colour.def(),
        colour.module()
    ))
}

/// A method that reads the pages of lines, from a number on.
fn paged_lines(document: &Document, operation: &Operation, colour: Colour) -> Result<String> {
    const OWN: [&str; 2] = ["from", "limit"];
    let Answer::Json(schema) = &operation.answer else { bail!("not JSON") };
    let mut arguments = arguments_of(document, operation, &OWN)?;
    arguments.1.push(Argument {
        name: "from_".to_owned(),
        hint: "int".to_owned(),
        default: Some("0"),
    });
    let read = reader(document, schema, "v", "m.")?;
    let limit = page_max(operation);
    let target = target(operation, &[("from", "number"), ("limit", &limit.to_string())]);
    let call = format!("{}(self._core, \"{}\", {target})", colour.call("call"), operation.method);
    let answer = format!("{}[str]", colour.iterator());
    let head =
        signature("def", &method_name(operation), &arguments, &answer, &about(operation, &OWN));
    Ok(format!(
        "{head}
        {} page(number: int) -> Sequence[str]:
            answer = {call}
            return _base.read(answer, lambda v: {read}).lines

        return {}.lines(page, from_)
",
        colour.def(),
        colour.module()
    ))
}
