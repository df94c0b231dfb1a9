//! Transactions that read the same state and then write: one of two waits or fails.

use crate::databases::{Place, on_both};
use fleeti_store::{Db, StoreError, Tx, sql};
use std::time::Duration;

on_both! {
    two_writers_of_one_server_take_turns,
    an_abandoned_transaction_leaves_nothing,
    how_long_the_writer_is_held_is_measured,
}

async fn on_call(tx: &mut Tx<'_>) -> Result<i64, StoreError> {
    sql::query_scalar("SELECT COUNT(*) FROM counters WHERE value = 1").fetch_one(&mut **tx).await
}

async fn leave(tx: &mut Tx<'_>, name: &str) -> Result<(), StoreError> {
    let sql = "UPDATE counters SET value = 0 WHERE name = $1";
    sql::query(sql).bind(name).execute(&mut **tx).await.map(|_| ())
}

async fn two_doctors(db: &Db) {
    let sql = "INSERT INTO counters (name, value) VALUES ('alice', 1), ('bob', 1)";
    sql::query(sql).execute(db.writer()).await.unwrap();
}

/// Write skew: each of two transactions sees that the other doctor is on call, and takes its own
/// off. A lock on the changed rows would not help, as they change different ones.
#[tokio::test]
async fn write_skew_between_two_sessions_of_postgresql_is_refused() {
    let place = Place::postgres();
    let (one, two) = (place.open().await, place.open().await);
    two_doctors(&one).await;
    let (mut first, mut second) = (one.write().await.unwrap(), two.write().await.unwrap());
    assert_eq!(on_call(&mut first).await.unwrap(), 2);
    assert_eq!(on_call(&mut second).await.unwrap(), 2);
    leave(&mut first, "alice").await.unwrap();
    let late = async {
        leave(&mut second, "bob").await?;
        first.commit().await?;
        second.commit().await
    };
    let refused = late.await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict { .. }), "{refused:?}");
    // Tried again, it reads the new state.
    let mut again = two.write().await.unwrap();
    assert_eq!(on_call(&mut again).await.unwrap(), 1);
}

/// On SQLite the second transaction does not begin before the first has ended.
#[tokio::test]
async fn write_skew_between_two_connections_to_sqlite_cannot_begin() {
    let place = Place::sqlite();
    let (one, two) = (place.open().await, place.open().await);
    two_doctors(&one).await;
    let mut first = one.write().await.unwrap();
    assert_eq!(on_call(&mut first).await.unwrap(), 2);
    let second = tokio::time::timeout(Duration::from_millis(50), two.write());
    assert!(second.await.is_err(), "it has begun");
    leave(&mut first, "alice").await.unwrap();
    first.commit().await.unwrap();
    let mut second = two.write().await.unwrap();
    assert_eq!(on_call(&mut second).await.unwrap(), 1);
}

mod test {
    use super::{leave, on_call, two_doctors};
    use crate::databases::Place;
    use std::time::Duration;

    pub async fn two_writers_of_one_server_take_turns(place: Place) {
        let db = place.open().await;
        two_doctors(&db).await;
        let mut first = db.write().await.unwrap();
        let second = tokio::time::timeout(Duration::from_millis(50), db.write());
        assert!(second.await.is_err(), "it has begun");
        assert_eq!(on_call(&mut first).await.unwrap(), 2);
        leave(&mut first, "alice").await.unwrap();
        first.commit().await.unwrap();
        let mut second = db.write().await.unwrap();
        assert_eq!(on_call(&mut second).await.unwrap(), 1);
    }

    pub async fn an_abandoned_transaction_leaves_nothing(place: Place) {
        let db = place.open().await;
        two_doctors(&db).await;
        let mut tx = db.write().await.unwrap();
        leave(&mut tx, "alice").await.unwrap();
        drop(tx);
        let mut tx = db.write().await.unwrap();
        assert_eq!(on_call(&mut tx).await.unwrap(), 2);
    }

    pub async fn how_long_the_writer_is_held_is_measured(place: Place) {
        let db = place.open().await;
        let before = db.writer_hold().transactions;
        for _ in 0..3 {
            let mut tx = db.write().await.unwrap();
            leave(&mut tx, "alice").await.unwrap();
            tx.commit().await.unwrap();
        }
        drop(db.write().await.unwrap());
        let hold = db.writer_hold();
        assert_eq!(hold.transactions - before, 4);
        assert!(0 < hold.median_us && hold.median_us <= hold.p99_us, "{hold:?}");
        assert!(hold.p99_us <= hold.max_us, "{hold:?}");
    }
}
