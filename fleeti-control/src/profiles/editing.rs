//! What the editor of a profile needs: a draft, and what saving it would change.

use super::shelf::Shelf;
use crate::context::Context;
use crate::error::Error;
use crate::suites;
use fleeti_core::id::Line;
use fleeti_core::profile::{self, Change, Draft, Effects, Profile};
use fleeti_store as store;

/// What saving a profile would change.
pub struct Preview {
    /// The newest revision, with which the profile is compared; `None` for a new profile. The profile
    /// is then compared with one that says nothing.
    pub against: Option<u32>,
    /// Fields and entries that differ, ordered by path. Empty if `against` is `None`.
    pub changes: Vec<Change>,
    /// What changes on a device.
    pub effects: Effects,
    /// Number of devices that run an image of this line or are to run one, at most half a minute
    /// old.
    pub devices: u64,
}

/// Reads a document for the editor, and checks it as saving does.
///
/// # Errors
/// If the database or the index of the suite cannot be read.
pub async fn draft(cx: &Context, text: &str) -> Result<Draft, Error> {
    let shelf = Shelf::load(cx, text).await?;
    let text = text.to_owned();
    suites::with(cx, move |index| {
        let packages = |profile: &Profile| suites::found(index, profile);
        profile::draft_with(&text, &shelf, &packages)
    })
    .await
}

/// What saving a profile would change.
///
/// # Errors
/// If the database cannot be read.
pub async fn preview(cx: &Context, profile: &Profile) -> Result<Preview, Error> {
    let line: &Line = &profile.name;
    let newest = store::revisions::of_line(cx.db.pool(), line, 1).await?.pop();
    let Some(newest) = newest else {
        let mut effects = suites::effects_of(cx, nothing(line)?, profile.clone()).await?;
        // A profile that says nothing has no packet filter, so that every port is open in it; but no
        // device runs it.
        effects.ports_closed.clear();
        return Ok(Preview { against: None, changes: Vec::new(), effects, devices: 0 });
    };
    let changes = profile::diff(&newest.profile, profile).map_err(Error::internal)?;
    let effects = suites::effects_of(cx, newest.profile, profile.clone()).await?;
    let devices = devices(cx, line).await?;
    Ok(Preview { against: Some(newest.number), changes, effects, devices })
}

/// The number of devices of a line, at most half a minute old.
async fn devices(cx: &Context, line: &Line) -> Result<u64, Error> {
    let now_s = cx.now_s();
    if let Some(devices) = cx.profiles.devices(line, now_s) {
        return Ok(devices);
    }
    let devices = store::devices::of_line(cx.db.pool(), line).await?;
    cx.profiles.counted(line, devices, now_s);
    Ok(devices)
}

/// A profile that says nothing.
fn nothing(line: &Line) -> Result<Profile, Error> {
    let text =
        format!("schema = {}\nname = \"{line}\"\narchitecture = \"x86_64\"\n", profile::SCHEMA);
    profile::check(&text).map_err(|findings| Error::internal(format!("{findings:?}")))
}
