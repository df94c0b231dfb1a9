//! One server is active on a database.

use crate::databases::{Place, on_both};
use fleeti_store::{Holder, StoreError};

on_both! {
    a_second_server_says_who_is_active,
    a_stopped_server_leaves_the_database_to_the_next,
}

fn server(id: &str, pid: u32) -> Holder {
    Holder { id: id.into(), host: "control-1".into(), pid, since_s: 1_800_000_000 }
}

/// The session of the writer connection ends, as with a restart of PostgreSQL.
async fn end_sessions(place: &Place) {
    let fleeti_store::Location::Postgres(options) = &place.location else {
        panic!("not PostgreSQL")
    };
    use sqlx::Connection as _;
    let mut admin =
        sqlx::PgConnection::connect_with(&options.clone().database("postgres")).await.unwrap();
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1")
        .bind(options.get_database())
        .execute(&mut admin)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_whose_connection_broke_writes_again() {
    let place = Place::postgres();
    let db = fleeti_store::Db::connect_active(&place.location, server("one", 1)).await.unwrap();
    end_sessions(&place).await;
    let tx = db.write().await.unwrap();
    tx.commit().await.unwrap();
    db.check_lease().unwrap();
}

#[tokio::test]
async fn a_server_that_was_replaced_while_its_connection_was_broken_does_not_write() {
    let place = Place::postgres();
    let connect = |holder| fleeti_store::Db::connect_active(&place.location, holder);
    let old = connect(server("old", 1)).await.unwrap();
    end_sessions(&place).await;
    let new = connect(server("new", 2)).await.unwrap();
    let refused = old.write().await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::LeaseLost { holder: Some(holder) } if holder.id == "new"),
        "{refused:?}"
    );
    new.write().await.unwrap().commit().await.unwrap();
    // Its caches are of before: it does not come back when the other one has stopped.
    new.close().await;
    let refused = old.write().await.unwrap_err();
    assert!(matches!(refused, StoreError::LeaseLost { .. }), "{refused:?}");
}

mod test {
    use super::server;
    use crate::databases::Place;
    use fleeti_store::{Db, StoreError};

    pub async fn a_second_server_says_who_is_active(place: Place) {
        let first = server("one", 4711);
        let _active = Db::connect_active(&place.location, first.clone()).await.unwrap();
        let second = Db::connect_active(&place.location, server("two", 4712)).await;
        let refused = second.err().expect("both are active");
        assert!(
            matches!(&refused, StoreError::Leased { holder: Some(holder) } if *holder == first),
            "{refused:?}"
        );
        let text = refused.to_string();
        let said = "process 4711 on \"control-1\" since 2027-01-15T08:00:00Z";
        assert!(text.contains(said), "{text}");
    }

    pub async fn a_stopped_server_leaves_the_database_to_the_next(place: Place) {
        for (id, pid) in [("one", 1), ("two", 2)] {
            let db = Db::connect_active(&place.location, server(id, pid)).await.unwrap();
            db.write().await.unwrap().commit().await.unwrap();
            db.close().await;
        }
    }
}
