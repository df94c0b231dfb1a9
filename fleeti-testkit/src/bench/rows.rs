//! Rows of the database that the server touches: rows that a query returns, and rows that a
//! statement changes. The server runs in this process; sqlx's events name the rows.

use crate::world::World;
use anyhow::Result;
use fleeti_server::config::Config;
use fleeti_server::server::Server;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

static ROWS: AtomicU64 = AtomicU64::new(0);

/// Starts a server in this process, in the folder of a world whose server does not run, and passes
/// its MQTT address and the number of rows so far to `act`.
///
/// # Errors
/// If the server does not start.
pub fn counted<T>(
    runtime: &Runtime,
    world: &World,
    act: impl AsyncFnOnce(SocketAddr, fn() -> u64) -> Result<T>,
) -> Result<T> {
    let events = Targets::new().with_target("sqlx::query", Level::DEBUG);
    // Only the first of several calls sets it.
    tracing_subscriber::registry().with(Rows.with_filter(events)).try_init().ok();
    let config =
        Config { signer: Some(world.path("signer/socket")), ..Config::new(world.path("server")) };
    LocalSet::new().block_on(runtime, async {
        let server = Server::start(config).await?;
        let result = act(server.addresses.mqtt, || ROWS.load(Ordering::SeqCst)).await;
        server.stop().await;
        result
    })
}

struct Rows;

impl<S: Subscriber> Layer<S> for Rows {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut found = Statement::default();
        event.record(&mut found);
        ROWS.fetch_add(found.rows(), Ordering::SeqCst);
    }
}

/// A statement that was executed.
#[derive(Default)]
struct Statement {
    /// Its first words.
    summary: String,
    returned: u64,
    affected: u64,
}

impl Statement {
    fn rows(&self) -> u64 {
        // SQLite keeps the number of the last change for statements that change nothing.
        match self.summary.split(' ').next() {
            Some("INSERT" | "UPDATE" | "DELETE") => self.affected.max(self.returned),
            Some(_) | None => self.returned,
        }
    }
}

impl Visit for Statement {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "rows_returned" => self.returned = value,
            "rows_affected" => self.affected = value,
            _ => {}
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "summary" {
            value.clone_into(&mut self.summary);
        }
    }
    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}
