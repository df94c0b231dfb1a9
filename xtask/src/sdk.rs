//! `cargo xtask sdk`: the parts of the Python package that follow from the OpenAPI document.
//!
//! Code map: `document` (reads the document) · `hints` (types of Python, and how a value is read) ·
//! `models` (`models.py`) · `resources` (`_resources.py` and `_aio_resources.py`).

mod document;
mod hints;
mod models;
mod resources;

use crate::root;
use anyhow::{Context, Result, bail};
use document::Document;
use resources::Colour;
use std::fs;
use std::path::PathBuf;

/// The generated files and their content.
fn files() -> Result<Vec<(PathBuf, String)>> {
    let path = root().join("fleeti-server/openapi.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let document = Document::read(&serde_json::from_str(&text)?)?;
    let package = root().join("bindings/python/python/fleeti");
    Ok(vec![
        (package.join("models.py"), models::text(&document)?),
        (package.join("_resources.py"), resources::text(&document, Colour::Blocking)?),
        (package.join("_aio_resources.py"), resources::text(&document, Colour::Async)?),
    ])
}

/// Writes the generated files.
pub fn write() -> Result<()> {
    for (path, text) in files()? {
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            fs::write(&path, text)?;
            println!("wrote {}", path.display());
        }
    }
    Ok(())
}

/// Checks that the files follow from the document.
pub fn check() -> Result<()> {
    for (path, text) in files()? {
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            bail!("{} does not follow from openapi.json; run `cargo xtask sdk`", path.display());
        }
    }
    Ok(())
}
