//! Changes as records of the outbox of domain events, so that a client that was away can read what
//! it missed.

use crate::error::Error;
use fleeti_core::id::DeviceId;
use fleeti_core::strict;
use fleeti_core::wire::api::Event;
use fleeti_store::Tx;
use fleeti_store::domain_events::{self, Record};
use serde_json::Value;

/// The kind of a record that only says which object changed. Webhooks do not get it.
const CHANGED: &str = "changed";

/// The kind of a record that says that more devices changed than have a record each.
pub(super) const CHANGED_MANY: &str = "changed_many";

/// Maximum number of devices that one change names: clients read all of them again after more.
const NAMED_MAX: usize = 100;

/// Records that devices changed, in the transaction in which they do. Returns what to publish.
pub(crate) async fn record_devices<'a>(
    tx: &mut Tx<'_>,
    now_s: u64,
    devices: impl ExactSizeIterator<Item = &'a DeviceId>,
) -> Result<Vec<Event>, Error> {
    let are_many = devices.len() > NAMED_MAX;
    let changes: Vec<_> =
        devices.take(NAMED_MAX).map(|id| Event::Device { id: id.clone() }).collect();
    record(tx, now_s, &changes).await?;
    if are_many {
        domain_events::insert(tx, now_s, &[(CHANGED_MANY, "{}".to_owned())]).await?;
    }
    Ok(changes)
}

/// Records changes that no domain event records, in the transaction in which they happen.
pub(crate) async fn record(tx: &mut Tx<'_>, now_s: u64, changes: &[Event]) -> Result<(), Error> {
    let mut records = Vec::with_capacity(changes.len());
    for change in changes {
        records.push((CHANGED, serde_json::to_string(change)?));
    }
    Ok(domain_events::insert(tx, now_s, &records).await?)
}

/// The change that a record tells of; `None` for a record that is no change of an object.
pub(super) fn change_of(record: &Record) -> Option<Event> {
    let body: Value = strict::from_slice(record.body.as_bytes()).ok()?;
    let text = |name: &str| body.get(name)?.as_str();
    match record.kind.as_str() {
        CHANGED => strict::from_slice(record.body.as_bytes()).ok(),
        "device.reported" | "device.appraised" | "device.revoked" => {
            Some(Event::Device { id: text("device")?.parse().ok()? })
        }
        "release.revoked" => Some(Event::Release { name: text("release")?.parse().ok()? }),
        "rollout.finished" => Some(Event::Rollout { id: text("rollout")?.to_owned() }),
        "alerts.raised" | "alerts.resolved" => Some(Event::Alerts),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn records_tell_of_changes_and_those_of_webhooks_alone_do_not() {
        let of = |kind: &str, body: &str| {
            change_of(&Record { number: 1, at_s: 1, kind: kind.into(), body: body.into() })
        };
        let device = Some(Event::Device { id: "d-1".parse().unwrap() });
        let rollout = Some(Event::Rollout { id: "r".into() });
        assert_eq!(of(CHANGED, r#"{"type":"device","id":"d-1"}"#), device);
        assert_eq!(of("device.reported", r#"{"fleet":"demo","device":"d-1"}"#), device);
        assert_eq!(of("device.revoked", r#"{"fleet":"demo","device":"d-1"}"#), device);
        assert_eq!(of("rollout.finished", r#"{"rollout":"r","fleet":"demo"}"#), rollout);
        assert_eq!(of("alerts.raised", "{}"), Some(Event::Alerts));
        assert_eq!(of("webhook.test", r#"{"webhook":"hook-1"}"#), None);
        for broken in ["", "{", "[]", r#"{"device":1}"#, r#"{"type":"other"}"#] {
            assert_eq!(of("device.reported", broken), None, "{broken}");
            assert_eq!(of(CHANGED, broken), None, "{broken}");
        }
    }

    #[tokio::test]
    async fn more_devices_than_are_named_make_one_record_more() {
        let dir = tempfile::tempdir().unwrap();
        let db = fleeti_store::Db::open(&dir.path().join("fleeti.db")).await.unwrap();
        let ids: Vec<DeviceId> =
            (0..=NAMED_MAX).map(|n| format!("d-{n}").parse().unwrap()).collect();
        let mut tx = db.write().await.unwrap();
        let few = record_devices(&mut tx, 1, ids[..NAMED_MAX].iter()).await.unwrap();
        let many = record_devices(&mut tx, 1, ids.iter()).await.unwrap();
        assert_eq!((few.len(), many.len()), (NAMED_MAX, NAMED_MAX));
        tx.commit().await.unwrap();
        let records = domain_events::after(db.pool(), 0, 1000).await.unwrap();
        let kinds: Vec<_> = records.iter().map(|record| record.kind.as_str()).collect();
        assert_eq!(kinds.len(), 2 * NAMED_MAX + 1);
        assert!(kinds[..2 * NAMED_MAX].iter().all(|kind| *kind == CHANGED));
        assert_eq!(kinds[2 * NAMED_MAX], CHANGED_MANY);
    }
}
