//! Devices that a filter matches, within the fleets that the reader may see.

use super::page;
use crate::accounts::actor::{Actor, Scope};
use crate::context::Context;
use crate::error::Error;
use fleeti_core::filter::{Filter, FilterError};
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_core::wire::accounts::Permission;
use fleeti_core::wire::api::Device;
use fleeti_core::wire::problem::{Code, FieldError};
use fleeti_store as store;
use fleeti_store::selection::Selection;

/// Which devices a list shows.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The fleet; `None` for all.
    pub fleet: Option<&'a FleetId>,
    /// The filter, which may be empty.
    pub filter: &'a str,
    /// Only devices that run another release than their desired one.
    pub is_drifting: bool,
    /// The last id of the page before; empty for the first page.
    pub after: &'a str,
    /// Maximum number of devices.
    pub limit: u32,
}

/// A page of devices, ordered by id.
///
/// # Errors
/// [`Code::Invalid`] for a filter, a limit or an id that is refused; [`Code::Forbidden`] for a fleet
/// that the actor may not see, and for all devices without a filter unless the actor may see all.
pub async fn list(cx: &Context, by: &Actor, wanted: Wanted<'_>) -> Result<Vec<Device>, Error> {
    let Wanted { fleet, filter, is_drifting, after, limit } = wanted;
    if filter.trim().is_empty() {
        let all = match fleet {
            fleet if is_drifting => super::Filter::Drifting(fleet),
            Some(fleet) => super::Filter::Fleet(fleet),
            None => super::Filter::All,
        };
        return page(cx, by, all, after, limit).await;
    }
    find(cx, by, &parsed(cx, filter).await?.map_err(refused)?, wanted).await
}

/// The same for a filter that is parsed.
///
/// # Errors
/// As [`list`].
pub async fn find(
    cx: &Context,
    by: &Actor,
    filter: &Filter,
    wanted: Wanted<'_>,
) -> Result<Vec<Device>, Error> {
    let Wanted { fleet, is_drifting, after, limit, .. } = wanted;
    let of_fleet = match fleet {
        Some(fleet) => {
            by.authorize(Permission::View, Scope::Fleet(fleet))?;
            Filter::of_fleet(fleet)
        }
        None => Filter::default(),
    };
    super::check_page(after, limit)?;
    let filter = of_fleet.and(filter.clone());
    let fleets = by.fleets(Permission::View);
    let (fleets, now_s) = (fleets.as_deref(), cx.now_s());
    let selection = Selection { filter: &filter, fleets, is_drifting, now_s };
    let ids = store::selection::page(cx.db.pool(), selection, after, limit).await?;
    let devices = store::devices::listed(cx.db.pool(), &ids).await?;
    Ok(devices.into_iter().map(|d| Device { online: cx.hub.is_online(&d.id), ..d }).collect())
}

/// Number of devices that a filter matches, among those that the actor has a permission for.
///
/// # Errors
/// [`Code::Invalid`] for a filter that is refused.
pub async fn count(
    cx: &Context,
    by: &Actor,
    permission: Permission,
    filter: &Filter,
) -> Result<u64, Error> {
    let fleets = by.fleets(permission);
    let (fleets, now_s) = (fleets.as_deref(), cx.now_s());
    let selection = Selection { filter, fleets, is_drifting: false, now_s };
    Ok(store::selection::count(cx.db.pool(), selection).await?)
}

/// Reads a filter and compares it with the declared label keys.
pub async fn parsed(cx: &Context, text: &str) -> Result<Result<Filter, FilterError>, Error> {
    let keys = store::labels::keys(cx.db.pool()).await?;
    let keys = keys.into_iter().map(|info| (info.key, info.of)).collect();
    Ok(text.parse::<Filter>().and_then(|filter| filter.check(&keys).map(|()| filter)))
}

/// The error for a filter that is refused.
#[must_use]
pub fn refused(e: FilterError) -> Error {
    let path = format!("filter:{}", e.column);
    let wrong =
        FieldError { path, message: e.message.clone(), remedy: e.hint.clone(), suggestion: None };
    Error::new(Code::Invalid, format!("{e}: {}", e.hint)).errors(vec![wrong])
}

/// The ids of devices that a filter matches, in a transaction, at most `limit`.
pub(crate) async fn ids_in(
    cx: &Context,
    tx: &mut store::Tx<'_>,
    by: (&Actor, Permission),
    filter: &Filter,
    limit: u32,
) -> Result<Vec<DeviceId>, Error> {
    let (actor, permission) = by;
    let fleets = actor.fleets(permission);
    let (fleets, now_s) = (fleets.as_deref(), cx.now_s());
    let selection = Selection { filter, fleets, is_drifting: false, now_s };
    Ok(store::selection::page_in(tx, selection, "", limit).await?)
}
