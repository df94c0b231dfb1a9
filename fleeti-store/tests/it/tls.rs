//! PostgreSQL over a network: the connection is encrypted, and the server is verified.

use fleeti_store::{Db, Location, sql};
use std::path::PathBuf;

/// URL of a PostgreSQL server that accepts only TLS over TCP, without a database.
const URL: &str = "FLEETI_POSTGRES_TLS";
/// Folder of the CA of its certificate, and of another one with the same name.
const ROOTS: &str = "FLEETI_POSTGRES_ROOTS";

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set; run `cargo xtask postgres cargo nextest run ...`")
    })
}

/// A database of its own for one test, on the server at this host.
fn location(database: &str, host: &str, parameters: &str) -> Location {
    let server = variable(URL).replace("@localhost:", &format!("@{host}:"));
    let process = std::process::id();
    format!("{server}/tls-{database}-{process}?{parameters}").parse().unwrap()
}

fn verified(root: &str) -> String {
    let path = PathBuf::from(variable(ROOTS)).join(root);
    assert!(path.exists(), "{}", path.display());
    format!("sslmode=verify-full&sslrootcert={}", path.display())
}

async fn refusal(location: &Location) -> String {
    Db::connect(location).await.err().expect("it has connected").to_string()
}

#[tokio::test]
async fn with_the_right_root_and_name_every_connection_is_encrypted() {
    let db = Db::connect(&location("right", "localhost", &verified("root.pem"))).await.unwrap();
    for pool in [db.pool(), db.writer()] {
        let sql = "SELECT COUNT(*) FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl";
        let encrypted: i64 = sql::query_scalar(sql).fetch_one(pool).await.unwrap();
        assert_eq!(encrypted, 1);
    }
    db.write().await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_another_root_is_refused() {
    let said = refusal(&location("root", "localhost", &verified("other-root.pem"))).await;
    assert!(said.contains("invalid peer certificate"), "{said}");
}

#[tokio::test]
async fn a_certificate_of_another_name_is_refused() {
    let said = refusal(&location("name", "127.0.0.1", &verified("root.pem"))).await;
    assert!(said.contains("invalid peer certificate: certificate not valid for name"), "{said}");
}

/// With `sslmode=prefer` an attacker on the way only has to refuse TLS. This server does not let
/// itself be used like that.
#[tokio::test]
async fn a_connection_without_tls_is_refused_by_the_server() {
    let said = refusal(&location("plain", "localhost", "sslmode=disable")).await;
    assert!(said.contains("no encryption"), "{said}");
}
