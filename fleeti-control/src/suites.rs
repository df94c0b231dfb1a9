//! The index of the suite that images are made from: which packages and units exist, and what they
//! create. Build workers make and upload it ([`upload`]); profiles are checked against it.
//!
//! Its text stays in a file of the data folder. It is opened when it is first used, and then only a
//! table of the first name of every 8 KiB is in memory.

pub mod local;
mod opened;
pub(crate) mod state;
pub mod upload;
mod using;

pub use opened::Names;
pub(crate) use opened::{OpenIndex, found};
pub(crate) use using::{effects_of, with};

use crate::context::Context;
use crate::error::Error;
use fleeti_core::profile::IndexedKind;
use fleeti_core::wire::problem::Code;
use fleeti_core::wire::suite::{SEARCH_LIMIT_MAX, SEARCH_TEXT_MAX, SuiteSearch};
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Default number of packages, and of units, that a search returns.
const SEARCH_LIMIT: u32 = 20;

/// Packages and units of the suite that fit a text.
///
/// # Errors
/// [`Code::Invalid`] for a text that is too long, or a limit outside 1 to 100.
pub async fn search(cx: &Context, text: String, limit: Option<u32>) -> Result<SuiteSearch, Error> {
    let limit = limit.unwrap_or(SEARCH_LIMIT);
    check_text(&text)?;
    if !(1..=SEARCH_LIMIT_MAX).contains(&limit) {
        let detail = format!("limit is {limit}, expected 1 to {SEARCH_LIMIT_MAX}");
        return Err(Error::new(Code::Invalid, detail));
    }
    with(cx, move |index| match index {
        Some(index) => index.search(&text, limit as usize),
        None => Ok(SuiteSearch::default()),
    })
    .await?
}

/// When a build worker made the index, or found that it is the newest, Unix seconds; `None` without
/// one.
#[must_use]
pub fn made_s(data: &Path) -> Option<u64> {
    made(data)?.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// As [`made_s`], as the file system has it.
pub(crate) fn made(data: &Path) -> Option<SystemTime> {
    fs::metadata(state::index_of(data)).and_then(|index| index.modified()).ok()
}

fn check_text(text: &str) -> Result<(), Error> {
    if text.len() > SEARCH_TEXT_MAX {
        let detail = format!("q has {} bytes, expected at most {SEARCH_TEXT_MAX}", text.len());
        return Err(Error::new(Code::Invalid, detail).hint("search for fewer words"));
    }
    Ok(())
}

/// Names of one kind that fit a text, at most `limit`.
///
/// # Errors
/// [`Code::Invalid`] for a text that is too long.
pub async fn names(
    cx: &Context,
    kind: IndexedKind,
    text: String,
    limit: usize,
) -> Result<Names, Error> {
    check_text(&text)?;
    with(cx, move |index| match index {
        Some(index) => index.names(kind, &text, limit),
        None => Ok(Names::NoIndex),
    })
    .await?
}
