//! Violated constraints are the same errors on both databases.

use crate::databases::on_both;

on_both! {
    a_second_row_with_the_same_key_is_unique,
    a_row_of_an_unknown_device_is_a_foreign_key,
    a_missing_value_is_a_check,
    a_refused_statement_says_why,
}

mod test {
    use crate::databases::Place;
    use crate::devices::id;
    use fleeti_store::audit::{self, WaitingAct};
    use fleeti_store::{StoreError, attestations, sql};

    pub async fn a_second_row_with_the_same_key_is_unique(place: Place) {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        let act = WaitingAct {
            id: "audit-1".into(),
            actor: "admin".into(),
            action: "test".into(),
            subject: "s".into(),
        };
        audit::insert(&mut tx, &act, 1).await.unwrap();
        let again = audit::insert(&mut tx, &act, 1).await;
        let error = again.unwrap_err();
        assert!(
            matches!(&error, StoreError::Unique { what } if what.contains("audit_outbox")),
            "{error:?}"
        );
    }

    pub async fn a_row_of_an_unknown_device_is_a_foreign_key(place: Place) {
        let db = place.open().await;
        let mut tx = db.write().await.unwrap();
        let error = attestations::keep_log(&mut tx, &id("dev-1"), "sha", b"", 1).await.unwrap_err();
        assert!(matches!(error, StoreError::ForeignKey { .. }), "{error:?}");
    }

    pub async fn a_missing_value_is_a_check(place: Place) {
        let db = place.open().await;
        let sql = "INSERT INTO workers (name, token_sha256, created_s) VALUES ('w', $1, 1)";
        let query = sql::query(sql).bind(None::<&str>);
        let error = query.execute(db.writer()).await.unwrap_err();
        assert!(matches!(error, StoreError::Check { .. }), "{error:?}");
    }

    pub async fn a_refused_statement_says_why(place: Place) {
        let db = place.open().await;
        let error = sql::query("SELECT 1 FROM nowhere").execute(db.pool()).await.unwrap_err();
        assert!(matches!(error, StoreError::Database(_)), "{error:?}");
        assert!(error.to_string().contains("nowhere"), "{error}");
    }
}
