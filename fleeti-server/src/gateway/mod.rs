//! The MQTT port: TLS with a device's certificate, MQTT 5, a direct star between server and devices.
//!
//! A device is what its certificate says; it may publish its own `up` topics and subscribe its own `down`
//! topics, and nothing else exists here: no wills, no retained messages, no wildcards, no other clients. The
//! database is the mailbox; a session only delivers what lies there.

pub mod conduct;
mod connection;
pub mod hub;
mod inbound;
mod outbound;
mod session;
pub mod sessions;
pub mod tls;

use crate::app::AppRef;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Accepts until the task is ended. Nothing that one peer does is awaited here.
pub async fn run(app: AppRef, listener: TcpListener) {
    let limits = app.config.limits;
    let connections = Arc::new(Semaphore::new(limits.connections));
    let handshakes = Arc::new(Semaphore::new(limits.handshakes));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                // As when there are no file descriptors left: others may end meanwhile.
                tracing::warn!("accept: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(connection) = Arc::clone(&connections).try_acquire_owned() else {
            continue; // full: the peer sees a closed connection and backs off
        };
        let (app, handshakes) = (Arc::clone(&app), Arc::clone(&handshakes));
        tokio::spawn(async move {
            let _connection = connection;
            let deadline = Duration::from_millis(limits.handshake_ms);
            let handshake = async {
                let _slot = handshakes.acquire().await.ok()?;
                stream.set_nodelay(true).ok();
                TlsAcceptor::from(app.tls.current()).accept(stream).await.ok()
            };
            if let Ok(Some(stream)) = tokio::time::timeout(deadline, handshake).await
                && let Err(e) = session::run(&app, stream).await
            {
                tracing::debug!("session: {e:#}");
            }
        });
    }
}
