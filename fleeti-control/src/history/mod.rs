//! The history of devices: what they were, and their metrics.

mod reactions;
mod upkeep;

pub(crate) use self::reactions::react;
pub use self::reactions::telemetry;
pub(crate) use self::upkeep::run;
pub use self::upkeep::tidy;

use crate::context::Context;
use crate::error::Error;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::history::{DAYS_KEPT_S, History, HistoryQuery};
use fleeti_core::wire::problem::Code;
use fleeti_store::{self as store, history::Span};

/// The history of a device in a span of time.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Invalid`] for a span that ends before it begins.
pub async fn get(cx: &Context, device: &DeviceId, query: &HistoryQuery) -> Result<History, Error> {
    if store::devices::fleet_of(cx.db.pool(), device).await?.is_none() {
        return Err(Error::not_found("device", device.as_str()));
    }
    let now_s = cx.now_s();
    let until_s = query.until_s.unwrap_or(now_s).min(now_s);
    let from_s = query.from_s.unwrap_or_else(|| now_s.saturating_sub(DAYS_KEPT_S));
    if from_s > until_s {
        let text = format!("from_s is {from_s}, after {until_s}, where the span ends");
        return Err(Error::new(Code::Invalid, text));
    }
    let (span, mut connection) = (Span { from_s, until_s }, cx.db.reader().await?);
    Ok(History {
        states: store::history::states(&mut connection, device, span).await?,
        metrics: store::history::metrics(&mut connection, device, span).await?,
    })
}
