//! A server on PostgreSQL beside a session of another program, such as an operator's `psql`.

use crate::gateway::wait_for_ack;
use crate::peer::Peer;
use crate::rollout::report_of;
use crate::trust::until;
use crate::world::World;
use fleeti_core::update::State;
use fleeti_core::wire::mqtt::Up;
use fleeti_store::{Db, Location, sql};
use rumqttc::v5::mqttbytes::v5::PubAckReason;

/// Number of sessions of this database that wait for a row that another one has changed.
async fn waiting(db: &Db) -> i64 {
    let sql = "SELECT COUNT(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    sql::query_scalar(sql).fetch_one(db.pool()).await.unwrap()
}

/// The foreign session changes the row of the device, and commits only when the transaction of the
/// server waits for that row: PostgreSQL then refuses the server's (SQLSTATE 40001).
#[actix_web::test]
async fn a_report_that_loses_against_a_foreign_session_is_stored_all_the_same() {
    let server = std::env::var("FLEETI_POSTGRES").expect("FLEETI_POSTGRES is not set");
    let location: Location =
        format!("{server}/foreign-session-{}", std::process::id()).parse().unwrap();
    let world = World::with(|config| config.database = Some(location.clone())).await;
    let device = world.enroll().await;
    let mut session = Peer::session(&world, &device).await;
    let foreign = Db::connect(&location).await.unwrap();
    let mut tx = foreign.write().await.unwrap();
    let sql = "UPDATE devices SET last_seen_s = last_seen_s WHERE id = $1";
    sql::query(sql).bind(device.id.as_str()).execute(&mut *tx).await.unwrap();
    let report = report_of("kiosk@1", State::Idle);
    session.publish(Up::Report.topic(&device.id), &report, 3).await;
    until("the server waits for the row", async || waiting(&foreign).await == 1).await;
    tx.commit().await.unwrap();
    wait_for_ack(&mut session, 3, PubAckReason::Success).await;
    session.is_alive().await;
    let stored = world.client.device(&device.id).await.unwrap();
    assert_eq!(stored.boot.expect("no report").running, "kiosk@1".parse().unwrap());
}
