//! The database of a server of the previous release (`compat/server.sql`), opened by this one. Its
//! server enrolled two devices, rolled releases out, sent commands, and stored what people set.

use fleeti_core::id::ReleaseName;
use fleeti_store::{
    Db, accounts, alert_rules, builds, channels, commands, devices, labels, releases, revisions,
    rollouts, views, webhooks, workers,
};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const KEPT: &str = include_str!("../../../compat/server.sql");
const DEVICE: &str = "dev-01m8ppvaffdwe6nf9z4qeb11qd";
const PAGE: u32 = 100;

async fn connect(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    SqliteConnection::connect_with(&options.foreign_keys(false)).await.unwrap()
}

/// The database as the previous release left it.
async fn kept() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fleeti.db");
    let mut file = connect(&path).await;
    sqlx::raw_sql(AssertSqlSafe(KEPT.to_owned())).execute(&mut file).await.unwrap();
    file.close().await.unwrap();
    (dir, path)
}

/// Number of rows of each table that the server fills.
async fn rows(path: &Path) -> BTreeMap<String, i64> {
    let mut file = connect(path).await;
    let names = "SELECT name FROM sqlite_master WHERE type = 'table' \
                 AND name NOT LIKE 'sqlite_%' AND name NOT IN ('_sqlx_migrations', 'leases')";
    let tables: Vec<String> = sqlx::query_scalar(names).fetch_all(&mut file).await.unwrap();
    let mut counted = BTreeMap::new();
    for table in tables {
        let count = AssertSqlSafe(format!("SELECT COUNT(*) FROM \"{table}\""));
        counted.insert(table, sqlx::query_scalar(count).fetch_one(&mut file).await.unwrap());
    }
    file.close().await.unwrap();
    counted
}

#[tokio::test]
async fn a_database_of_the_previous_release_is_migrated_and_loses_no_row() {
    let (_dir, path) = kept().await;
    let before = rows(&path).await;
    assert!(before["devices"] == 2 && before["commands"] == 3, "{before:?}");
    Db::open(&path).await.unwrap().close().await;
    let after = rows(&path).await;
    for (table, count) in before {
        assert!(after.get(&table) >= Some(&count), "rows of {table}");
    }
    // A second start has nothing to do.
    Db::open(&path).await.unwrap().close().await;
}

#[tokio::test]
async fn devices_and_their_commands_of_the_previous_release_are_read() {
    let (_dir, path) = kept().await;
    let db = Db::open(&path).await.unwrap();
    let pool = db.pool();
    assert_eq!(devices::page(pool, None, "", PAGE).await.unwrap().len(), 2);
    let device = devices::get(pool, DEVICE).await.unwrap().unwrap();
    assert_eq!(device.fleet.as_str(), "old");
    assert_eq!(device.name.as_deref(), Some("desk-1"));
    assert_eq!(device.note.as_deref(), Some("moved"));
    assert_eq!(serde_json::to_value(&device.labels).unwrap()["site"], "berlin");
    let boot = device.boot.unwrap();
    assert_eq!((boot.running.to_string().as_str(), boot.boot_id.as_str()), ("kiosk@3", "boot-3"));
    for (id, status) in [
        ("cmd-01m8ppyq6sf81xm0sn24hbfggn", "done"),
        ("cmd-01m8ppyqarasht5qchbh9zemqg", "done"),
        ("cmd-01m8ppyqba1hndedqmv677xmg7", "failed"),
    ] {
        let command = commands::get(pool, id, 1_796_058_700).await.unwrap().unwrap();
        assert_eq!((command.status.as_str(), command.device.as_str()), (status, DEVICE));
    }
    db.close().await;
}

#[tokio::test]
async fn releases_rollouts_and_builds_of_the_previous_release_are_read() {
    let (_dir, path) = kept().await;
    let db = Db::open(&path).await.unwrap();
    let pool = db.pool();
    let names = releases::newest(pool, PAGE).await.unwrap();
    let mut names: Vec<_> = names.iter().map(|release| release.name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["kiosk@1", "kiosk@2", "kiosk@3"]);
    let three: ReleaseName = "kiosk@3".parse().unwrap();
    let channel = channels::get(pool, &"old".parse().unwrap()).await.unwrap();
    assert_eq!(channel.release, Some(three.clone()));
    let rollout = rollouts::get(pool, channel.rollout.as_deref().unwrap()).await.unwrap().unwrap();
    assert_eq!(rollout.release, three);
    let built = builds::newest(pool, PAGE).await.unwrap();
    assert_eq!(built[0].release.to_string(), "kiosk@9");
    let profiles = revisions::newest(pool, PAGE).await.unwrap();
    assert_eq!((profiles[0].line.as_str(), profiles[0].number), ("kiosk", 1));
    db.close().await;
}

#[tokio::test]
async fn what_people_set_in_the_previous_release_is_read() {
    let (_dir, path) = kept().await;
    let db = Db::open(&path).await.unwrap();
    let pool = db.pool();
    assert_eq!(labels::keys(pool).await.unwrap()[0].key.as_str(), "site");
    assert_eq!(views::all(pool).await.unwrap().len(), 1);
    assert_eq!(workers::all(pool).await.unwrap().len(), 1);
    let mut reader = db.reader().await.unwrap();
    let people = accounts::all(&mut reader).await.unwrap();
    let mut names: Vec<_> = people.iter().map(|account| account.name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["alice", "bootstrap", "robot"]);
    assert_eq!(webhooks::all(&mut reader).await.unwrap().len(), 1);
    assert_eq!(alert_rules::rules(&mut reader).await.unwrap().len(), 1);
    drop(reader);
    db.close().await;
}

/// A migration that was changed after it was released leaves databases of it behind.
#[tokio::test]
async fn a_changed_migration_is_noticed() {
    let (_dir, path) = kept().await;
    let mut file = connect(&path).await;
    let change = "UPDATE _sqlx_migrations SET checksum = X'00' WHERE version = 15";
    sqlx::query(change).execute(&mut file).await.unwrap();
    file.close().await.unwrap();
    assert!(Db::open(&path).await.is_err());
}
