//! Names, notes and labels of many devices. All rows are stored, or none.

use super::{Keys, check_number, label, wrong, wrong_about};
use crate::accounts::actor::{Actor, Scope};
use crate::changes::record::record_devices;
use crate::context::Context;
use crate::error::Error;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::labels::{IMPORT_MAX, ImportLabels, ImportRow, Imported};
use fleeti_core::wire::problem::{Code, FieldError};
use fleeti_store::labels::{ByDevice, Described, Named};
use fleeti_store::{self as store, Tx};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Maximum number of errors that a response lists.
const ERRORS_MAX: usize = 50;

/// A row whose device was found.
struct Known<'a> {
    row: &'a ImportRow,
    device: DeviceId,
    before: Named,
}

/// Stores names, notes and labels, or only checks them.
///
/// # Errors
/// [`Code::Invalid`] with each row that is refused; [`Code::Conflict`] for too many labels on a
/// device.
pub async fn import(cx: &Context, by: &Actor, request: &ImportLabels) -> Result<Imported, Error> {
    let rows = &request.rows;
    if !(1..=IMPORT_MAX).contains(&rows.len()) {
        let text = format!("{} rows, must be 1 to {IMPORT_MAX}", rows.len());
        return Err(Error::new(Code::Invalid, text).hint("split the file"));
    }
    let mut tx = cx.db.write().await?;
    let keys = store::labels::keys_in(&mut tx).await?;
    let (known, mut errors) = find(&mut tx, by, rows).await?;
    let left = (ERRORS_MAX + 1).saturating_sub(errors.len());
    errors.extend(rows.iter().flat_map(|row| errors_of(&keys, row)).take(left));
    if !errors.is_empty() {
        return Err(refused(errors));
    }
    let ids = known.iter().map(|known| &known.device);
    let labels = store::labels::of_devices(cx.db.pool(), ids).await?;
    let changed: Vec<_> = known.iter().filter(|known| known.changes(&labels)).collect();
    write(&mut tx, &keys, &changed).await?;
    let result =
        |stored| Imported { devices: known.len() as u64, changed: changed.len() as u64, stored };
    if request.dry_run {
        // The transaction is rolled back.
        return Ok(result(false));
    }
    let subject = format!("{} of {} devices", changed.len(), known.len());
    cx.audit(&mut tx, by.act("device.import-labels", subject)).await?;
    let devices = changed.iter().map(|known| &known.device);
    let changes = record_devices(&mut tx, cx.now_s(), devices).await?;
    tx.commit().await?;
    changes.into_iter().for_each(|change| cx.publish(change));
    Ok(result(true))
}

fn refused(mut errors: Vec<FieldError>) -> Error {
    let count = errors.len();
    errors.truncate(ERRORS_MAX);
    let first = errors.first().map_or_else(String::new, |e| format!("{}: {}", e.path, e.message));
    let text = match count {
        1 => format!("nothing is stored: {first}"),
        count => format!("nothing is stored: {count} errors, the first one: {first}"),
    };
    Error::new(Code::Invalid, text).errors(errors).hint("correct the rows, then import all again")
}

fn error(row: &ImportRow, message: String, remedy: &str) -> FieldError {
    FieldError {
        path: format!("line {}", row.line),
        message,
        remedy: remedy.to_owned(),
        suggestion: None,
    }
}

/// Finds the devices of the rows. One that the actor may not change does not exist for it.
async fn find<'a>(
    tx: &mut Tx<'_>,
    by: &Actor,
    rows: &'a [ImportRow],
) -> Result<(Vec<Known<'a>>, Vec<FieldError>), Error> {
    let texts: Vec<_> = rows.iter().map(|row| row.device.as_str()).collect();
    let mut by_id: HashMap<String, Named> = HashMap::new();
    let mut by_name: HashMap<String, HashSet<String>> = HashMap::new();
    for found in store::labels::named(tx, &texts).await? {
        let fleet: FleetId = found.fleet.parse().map_err(Error::internal)?;
        if !by.may(Permission::Operate, Scope::Fleet(&fleet)) {
            continue;
        }
        if let Some(name) = &found.name {
            by_name.entry(name.clone()).or_default().insert(found.id.clone());
        }
        by_id.insert(found.id.clone(), found);
    }
    let (mut known, mut errors, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for row in rows {
        let names: Vec<_> = by_name.get(&row.device).into_iter().flatten().collect();
        let id = match (by_id.get(&row.device), names.as_slice()) {
            (Some(found), _) => &found.id,
            (None, [id]) => *id,
            (None, []) => {
                let text = format!("there is no device {:?}", row.device);
                errors.push(error(row, text, "write its id as in `fleeti device list`"));
                continue;
            }
            (None, all) => {
                let text = format!("{} devices have the name {:?}", all.len(), row.device);
                errors.push(error(row, text, "write the id of the device"));
                continue;
            }
        };
        let Some(before) = by_id.get(id) else { continue };
        if !seen.insert(id.clone()) {
            let text = format!("{:?} is in an earlier row", row.device);
            errors.push(error(row, text, "write one row for each device"));
            continue;
        }
        let device = id.parse().map_err(Error::internal)?;
        known.push(Known { row, device, before: before.clone() });
    }
    Ok((known, errors))
}

fn errors_of(keys: &Keys, row: &ImportRow) -> Vec<FieldError> {
    let about = wrong_about(row.name.as_deref(), row.note.as_deref());
    let about = about.map(|text| error(row, text, "shorten or correct it"));
    let labels = row.labels.iter().filter_map(|(key, value)| match wrong(keys, key, value) {
        // An empty value removes a label.
        Some(_) if value.is_empty() && keys.contains_key(key) => None,
        Some(wrong) => Some(error(row, wrong.message, &wrong.remedy)),
        None => None,
    });
    about.into_iter().chain(labels).collect()
}

impl Known<'_> {
    fn changes(&self, labels: &ByDevice) -> bool {
        let differs = |new: &Option<String>, old: &Option<String>| {
            new.as_deref().is_some_and(|new| new != old.as_deref().unwrap_or_default())
        };
        let none = BTreeMap::new();
        let before = labels.get(&self.before.id).unwrap_or(&none);
        differs(&self.row.name, &self.before.name)
            || differs(&self.row.note, &self.before.note)
            || self
                .row
                .labels
                .iter()
                .any(|(key, value)| before.get(key).map_or("", String::as_str) != value.as_str())
    }
}

async fn write(tx: &mut Tx<'_>, keys: &Keys, changed: &[&Known<'_>]) -> Result<(), Error> {
    let (mut set, mut removed) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
    for known in changed {
        let device = &known.device;
        let (name, note) = (known.row.name.as_deref(), known.row.note.as_deref());
        if name.is_some() || note.is_some() {
            store::labels::describe(tx, Described { device, name, note }).await?;
        }
        for (key, value) in &known.row.labels {
            if value.is_empty() {
                removed.entry(key).or_default().push(device);
            } else {
                set.push(label(keys, device, key, value));
            }
        }
    }
    for (key, devices) in removed {
        store::labels::unset(tx, key, &devices).await?;
    }
    store::labels::set(tx, &set).await?;
    let devices: Vec<_> = changed.iter().map(|known| &known.device).collect();
    check_number(tx, &devices).await
}
