//! The outboxes: of the audit log, and of domain events.

use crate::databases::on_both;

on_both! {
    acts_are_entered_in_the_order_of_their_transactions,
    the_outbox_is_bounded,
    domain_events_are_numbered_in_order,
}

mod test {
    use crate::databases::Place;
    use fleeti_store::audit::{self, WaitingAct};
    use fleeti_store::{domain_events, sql};

    fn act(id: &str) -> WaitingAct {
        WaitingAct {
            id: id.into(),
            actor: "admin".into(),
            action: "test".into(),
            subject: "s".into(),
        }
    }

    pub async fn acts_are_entered_in_the_order_of_their_transactions(place: Place) {
        let db = place.open().await;
        for n in (0..300).rev() {
            let mut tx = db.write().await.unwrap();
            audit::insert(&mut tx, &act(&format!("audit-{n}")), 1).await.unwrap();
            if n % 3 == 0 {
                continue;
            }
            tx.commit().await.unwrap();
        }
        assert_eq!(audit::count(db.pool()).await.unwrap(), 200);
        let mut tx = db.write().await.unwrap();
        let waiting = audit::waiting(&mut tx).await.unwrap();
        assert_eq!((waiting[0].id.as_str(), waiting.len()), ("audit-299", 200));
        let ids: Vec<_> = waiting.iter().map(|act| act.id.as_str()).collect();
        audit::remove(&mut tx, &ids).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(audit::count(db.pool()).await.unwrap(), 0);
    }

    pub async fn the_outbox_is_bounded(place: Place) {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        assert!(!audit::is_full(&mut tx).await.unwrap());
        audit::insert(&mut tx, &act("audit-1"), 1).await.unwrap();
        assert!(!audit::is_full(&mut tx).await.unwrap());
        let sql = "INSERT INTO audit_outbox (sequence, id, at_s, actor, action, subject) \
                   SELECT sequence + $1 - 1, 'audit-2', 1, 'admin', 'test', 'last' FROM audit_outbox";
        let waiting_max = i64::try_from(audit::WAITING_MAX).unwrap();
        sql::query(sql).bind(waiting_max).execute(&mut *tx).await.unwrap();
        assert!(audit::is_full(&mut tx).await.unwrap());
        audit::remove(&mut tx, &["audit-1"]).await.unwrap();
        assert!(!audit::is_full(&mut tx).await.unwrap());
    }

    pub async fn domain_events_are_numbered_in_order(place: Place) {
        let db = place.open().await;
        for kinds in [&["device.revoked", "release.revoked"][..], &[], &["rollout.finished"]] {
            let records: Vec<_> = kinds.iter().map(|kind| (*kind, "{}".to_owned())).collect();
            let mut tx = db.write().await.unwrap();
            domain_events::insert(&mut tx, 5, &records).await.unwrap();
            tx.commit().await.unwrap();
        }
        let first = domain_events::after(db.pool(), 0, 1).await.unwrap();
        assert_eq!((first.len(), first[0].kind.as_str()), (1, "device.revoked"));
        let next = domain_events::after(db.pool(), first[0].number, 5).await.unwrap();
        let kinds: Vec<_> = next.iter().map(|record| record.kind.as_str()).collect();
        assert_eq!(kinds, ["release.revoked", "rollout.finished"]);
        let mut tx = db.write().await.unwrap();
        assert_eq!(domain_events::prune(&mut tx, 10).await.unwrap(), 0);
        let sql = "INSERT INTO domain_events (number, at_s, kind, body) \
                   SELECT MAX(number) + $1, 6, 'later', '{}' FROM domain_events";
        let kept_max = i64::from(domain_events::KEPT_MAX);
        sql::query(sql).bind(kept_max).execute(&mut *tx).await.unwrap();
        assert_eq!(domain_events::prune(&mut tx, 1).await.unwrap(), 1);
        assert_eq!(domain_events::prune(&mut tx, 10).await.unwrap(), 2);
    }
}
