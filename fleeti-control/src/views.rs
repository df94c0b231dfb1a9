//! Saved views: filters of devices with a name, for all accounts.

use crate::accounts::actor::Actor;
use crate::context::Context;
use crate::devices::search;
use crate::error::Error;
use crate::precondition::Expected;
use fleeti_core::id::ViewName;
use fleeti_core::wire::labels::{VIEWS_MAX, View};
use fleeti_core::wire::problem::Code;
use fleeti_store as store;

/// All views, ordered by name.
pub async fn list(cx: &Context) -> Result<Vec<View>, Error> {
    Ok(store::views::all(cx.db.pool()).await?)
}

/// One view.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn get(cx: &Context, name: &ViewName) -> Result<View, Error> {
    let found = store::views::get(&mut cx.db.reader().await?, name).await?;
    found.ok_or_else(|| Error::not_found("view", name.as_str()))
}

/// Saves a view, in place of an earlier one of its name.
///
/// # Errors
/// [`Code::Invalid`] for a filter that is refused, or empty; [`Code::Conflict`] for too many views;
/// [`Code::PreconditionFailed`].
pub async fn save(
    cx: &Context,
    by: &Actor,
    name: &ViewName,
    filter: &str,
    expected: &Expected,
) -> Result<View, Error> {
    let parsed = search::parsed(cx, filter).await?.map_err(search::refused)?;
    if parsed.is_empty() {
        return Err(Error::new(Code::Invalid, "the filter of a view is empty")
            .hint("write a filter such as site=berlin"));
    }
    let (filter, saved_by) = (filter.trim().to_owned(), by.account().to_owned());
    let view = View { name: name.clone(), filter, saved_by };
    let mut tx = cx.db.write().await?;
    expected.check(store::views::get(&mut tx, name).await?.as_ref())?;
    store::views::save(&mut tx, &view, cx.now_s()).await?;
    if store::views::count(&mut tx).await? > VIEWS_MAX as u64 {
        let text = format!("there are {VIEWS_MAX} views already, the most that can be");
        return Err(Error::new(Code::Conflict, text).hint("remove one first"));
    }
    cx.audit(&mut tx, by.act("view.save", format!("{name} {}", view.filter))).await?;
    tx.commit().await?;
    Ok(view)
}

/// Removes a view.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn remove(cx: &Context, by: &Actor, name: &ViewName) -> Result<(), Error> {
    let mut tx = cx.db.write().await?;
    if !store::views::remove(&mut tx, name).await? {
        return Err(Error::not_found("view", name.as_str()));
    }
    cx.audit(&mut tx, by.act("view.remove", name.as_str())).await?;
    Ok(tx.commit().await?)
}
