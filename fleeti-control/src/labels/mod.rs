//! Names, notes and labels of devices. A label has a key that is declared with a type, and a value of
//! that type.
//!
//! Code map: [`import`] (many devices at once).

pub mod import;

use crate::accounts::actor::Actor;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::filter;
use fleeti_core::id::{DeviceId, LabelKey};
use fleeti_core::wire::api::Event;
use fleeti_core::wire::labels::{
    About, CHOICES_MAX, ChangeLabels, DeclareLabelKey, KEYS_MAX, LABELS_MAX, LabelKeyInfo,
    LabelType, NAME_MAX, NOTE_MAX, VALUE_MAX, WrongValue, is_line, is_note,
};
use fleeti_core::wire::problem::{Code, FieldError};
use fleeti_store::labels::{Described, Label};
use fleeti_store::{self as store, Tx};
use std::collections::{BTreeMap, BTreeSet};

/// Number of values of a label that a change of its type looks at.
const VALUES_READ: u32 = 1000;

/// The label keys that are declared.
pub(crate) type Keys = BTreeMap<LabelKey, LabelType>;

/// All label keys.
pub async fn keys(cx: &Context) -> Result<Vec<LabelKeyInfo>, Error> {
    Ok(store::labels::keys(cx.db.pool()).await?)
}

/// Declares a label key, or changes what values it can have.
///
/// # Errors
/// [`Code::Invalid`] for a word of the filter language, or choices out of bounds; [`Code::Conflict`]
/// if devices have values that do not fit, or there are too many keys.
pub async fn declare(
    cx: &Context,
    by: &Actor,
    key: &LabelKey,
    request: &DeclareLabelKey,
) -> Result<LabelKeyInfo, Error> {
    let declared = LabelKeyInfo { key: key.clone(), of: request.of.clone() };
    check_declaration(&declared)?;
    let mut tx = cx.db.write().await?;
    let keys = store::labels::keys_in(&mut tx).await?;
    match keys.get(key) {
        Some(of) if *of == declared.of => return Ok(declared),
        Some(of) => check_used(&mut tx, of, &declared).await?,
        None if keys.len() >= KEYS_MAX => {
            let text = format!("there are {KEYS_MAX} label keys already, the most that can be");
            return Err(Error::new(Code::Conflict, text).hint("remove one that no device has"));
        }
        None => {}
    }
    store::labels::declare(&mut tx, &declared, cx.now_s()).await?;
    let act = by.act("label-key.declare", format!("{key} {}", declared.of.as_str()));
    cx.audit(&mut tx, act).await?;
    tx.commit().await?;
    Ok(declared)
}

fn check_declaration(declared: &LabelKeyInfo) -> Result<(), Error> {
    let LabelKeyInfo { key, of } = declared;
    if filter::is_taken(key.as_str()) {
        let text = format!("{key} is a word of the filter language");
        return Err(Error::new(Code::Invalid, text).hint("choose another key"));
    }
    let LabelType::Choice { values } = of else { return Ok(()) };
    let different: BTreeSet<_> = values.iter().collect();
    if !(1..=CHOICES_MAX).contains(&values.len()) || different.len() != values.len() {
        let text = format!("label key {key} needs 1 to {CHOICES_MAX} different values");
        return Err(Error::new(Code::Invalid, text));
    }
    match values.iter().find(|value| !is_line(value, VALUE_MAX)) {
        None => Ok(()),
        Some(value) => {
            let text = format!("{value:?} is not a text of 1 to {VALUE_MAX} characters");
            Err(Error::new(Code::Invalid, text))
        }
    }
}

/// Refuses a change of a key's type that a stored value does not fit, or whose values would be
/// compared in another way.
async fn check_used(
    tx: &mut Tx<'_>,
    before: &LabelType,
    declared: &LabelKeyInfo,
) -> Result<(), Error> {
    let LabelKeyInfo { key, of } = declared;
    let values = store::labels::used_values(tx, key, VALUES_READ).await?;
    if values.is_empty() {
        return Ok(());
    }
    let is_compared_otherwise = (*before == LabelType::Number) != (*of == LabelType::Number);
    let text = match values.iter().find_map(|value| of.check(key, value).err()) {
        Some(wrong) => format!("a device has another value: {wrong}"),
        None if is_compared_otherwise || values.len() >= VALUES_READ as usize => {
            format!("devices have label {key} as {}", before.as_str())
        }
        None => return Ok(()),
    };
    Err(Error::new(Code::Conflict, text)
        .hint("change or remove the label on these devices first: filter them by it"))
}

/// Removes a label key that no device has.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] if a device has it.
pub async fn remove_key(cx: &Context, by: &Actor, key: &LabelKey) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    if !store::labels::used_values(&mut tx, key, 1).await?.is_empty() {
        let text = format!("devices have the label {key}");
        return Err(Error::new(Code::Conflict, text)
            .hint("remove the label from these devices first: filter them by it"));
    }
    if !store::labels::remove_key(&mut tx, key).await? {
        return Err(Error::not_found("label key", key.as_str()));
    }
    cx.audit(&mut tx, by.act("label-key.remove", key.as_str())).await?;
    Ok(tx.commit().await?)
}

/// Changes the name and the note of a device.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Invalid`] for a text that is too long or has control characters.
pub async fn describe(
    cx: &Context,
    by: &Actor,
    device: &DeviceId,
    about: &About,
) -> Result<(), Error> {
    // A browser ends the lines of a form with both characters.
    let note = about.note.as_ref().map(|note| note.replace("\r\n", "\n"));
    let (name, note) = (about.name.as_deref(), note.as_deref());
    if let Some(wrong) = wrong_about(name, note) {
        return Err(Error::new(Code::Invalid, wrong));
    }
    let mut tx = cx.db.write().await?;
    if !store::labels::describe(&mut tx, Described { device, name, note }).await? {
        return Err(Error::not_found("device", device.as_str()));
    }
    let named = name.map_or_else(String::new, |name| format!(" name {name:?}"));
    let noted = if note.is_some() { " note" } else { "" };
    cx.audit(&mut tx, by.act("device.describe", format!("{device}{named}{noted}"))).await?;
    cx.commit(tx, Event::Device { id: device.clone() }).await?;
    Ok(())
}

/// What is wrong with a name or a note. An empty one is removed.
fn wrong_about(name: Option<&str>, note: Option<&str>) -> Option<String> {
    if name.is_some_and(|name| !name.is_empty() && !is_line(name, NAME_MAX)) {
        return Some(format!(
            "a name has 1 to {NAME_MAX} characters, no control characters and no space at its ends"
        ));
    }
    if note.is_some_and(|note| !is_note(note)) {
        return Some(format!("a note has at most {NOTE_MAX} characters and no control characters"));
    }
    None
}

/// Sets and removes labels of a device.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Invalid`] for keys that are not declared and values that do not fit;
/// [`Code::Conflict`] for too many labels.
pub async fn change(
    cx: &Context,
    by: &Actor,
    device: &DeviceId,
    request: &ChangeLabels,
) -> Result<(), Error> {
    let ChangeLabels { set, remove } = request;
    if set.len() + remove.len() > KEYS_MAX {
        let text = format!("more than {KEYS_MAX} labels in one request");
        return Err(Error::new(Code::Invalid, text));
    }
    let mut tx = cx.db.write().await?;
    if store::devices::existing(&mut tx, &[device]).await?.is_empty() {
        return Err(Error::not_found("device", device.as_str()));
    }
    let keys = store::labels::keys_in(&mut tx).await?;
    let wrong: Vec<_> = set.iter().filter_map(|(key, value)| wrong(&keys, key, value)).collect();
    if let Some(first) = wrong.first() {
        return Err(Error::new(Code::Invalid, first.message.clone()).errors(wrong));
    }
    for key in remove {
        store::labels::unset(&mut tx, key, &[device]).await?;
    }
    let labels: Vec<_> = set.iter().map(|(key, value)| label(&keys, device, key, value)).collect();
    store::labels::set(&mut tx, &labels).await?;
    check_number(&mut tx, &[device]).await?;
    let said = set.iter().map(|(key, value)| format!(" {key}={value:?}"));
    let said: String = said.chain(remove.iter().map(|key| format!(" -{key}"))).collect();
    cx.audit(&mut tx, by.act("device.label", format!("{device}{said}"))).await?;
    cx.commit(tx, Event::Device { id: device.clone() }).await?;
    Ok(())
}

/// Why a label cannot be set.
pub(crate) fn wrong(keys: &Keys, key: &LabelKey, value: &str) -> Option<FieldError> {
    let (message, remedy) = match keys.get(key).map(|of| of.check(key, value)) {
        Some(Ok(())) => return None,
        Some(Err(wrong)) => (wrong.to_string(), WrongValue::hint(&wrong)),
        None => (
            format!("there is no label key {key}"),
            "declare it with `fleeti label key`; its type says what values it can have".to_owned(),
        ),
    };
    Some(FieldError { path: format!("labels.{key}"), message, remedy, suggestion: None })
}

pub(crate) fn label<'a>(
    keys: &Keys,
    device: &'a DeviceId,
    key: &'a LabelKey,
    value: &'a str,
) -> Label<'a> {
    Label { device, key, value, number: keys.get(key).and_then(|of| of.number(value)) }
}

/// Refuses more labels on a device than there can be.
pub(crate) async fn check_number(tx: &mut Tx<'_>, devices: &[&DeviceId]) -> Result<(), Error> {
    match store::labels::over_full(tx, devices, LABELS_MAX).await? {
        None => Ok(()),
        Some(device) => {
            let text = format!("{device} would have more than {LABELS_MAX} labels");
            Err(Error::new(Code::Conflict, text).hint("remove labels of this device first"))
        }
    }
}
