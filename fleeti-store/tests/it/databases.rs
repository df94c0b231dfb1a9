//! The databases that a test runs on.

use fleeti_store::{Db, Location};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// URL of a PostgreSQL server where tests make databases, without a database.
const POSTGRES: &str = "FLEETI_POSTGRES";

/// A database of its own for one test. It does not exist yet.
pub struct Place {
    pub location: Location,
    _dir: TempDir,
}

impl Place {
    pub fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { location: Location::Sqlite(dir.path().join("fleeti.db")), _dir: dir }
    }

    pub fn postgres() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = std::env::var(POSTGRES).unwrap_or_else(|_| {
            panic!("{POSTGRES} is not set; run `cargo xtask postgres cargo nextest run ...`")
        });
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let url = format!("{server}/store-{}-{number}", std::process::id());
        Self { location: url.parse().unwrap(), _dir: tempfile::tempdir().unwrap() }
    }

    pub async fn open(&self) -> Db {
        Db::connect(&self.location).await.unwrap()
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self.location, Location::Postgres(_))
    }
}

/// Makes two tests of an async function that takes a [`Place`].
macro_rules! on_both {
    ($($name:ident,)*) => {$(
        mod $name {
            use crate::databases::Place;

            #[tokio::test]
            async fn on_sqlite() {
                super::test::$name(Place::sqlite()).await;
            }

            #[tokio::test]
            async fn on_postgresql() {
                super::test::$name(Place::postgres()).await;
            }
        }
    )*};
}
pub(crate) use on_both;
