//! The MQTT port: TLS with a device's certificate, MQTT 5, a direct star between server and
//! devices.
//!
//! A device is what its certificate says; it may publish its own `up` topics and subscribe its own
//! `down` topics, and nothing else exists here: no wills, no retained messages, no wildcards, no
//! other clients. The database is the mailbox; a session only delivers what lies there.
//!
//! Code map: [`doors`] (how a connection comes in, on every port) · [`places`] and [`ledger`] (who
//! may hold how many) · [`tls`] (who may connect) · `session` (one device) · [`hub`] (all of them)
//! · [`sessions`] (which persist).

pub mod conduct;
mod connection;
pub mod doors;
pub mod hub;
mod inbound;
pub mod ledger;
mod outbound;
pub mod places;
mod session;
pub mod sessions;
pub mod tls;

use crate::app::AppRef;
use doors::{Arrived, Peer};
use places::Full;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

/// Accepts until the task is ended. Nothing that one peer does is awaited here.
pub async fn run(app: AppRef, listener: TcpListener) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                // As when there are no file descriptors left: others may end meanwhile.
                tracing::warn!("accept: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (silent, evicts) = app.doors.knock(address);
        let app = Arc::clone(&app);
        tokio::spawn(async move {
            if let Some(arrived) = app.doors.handshake(stream, silent, || app.tls.current()).await {
                serve(&app, arrived).await;
            }
        });
        if evicts {
            // The task of the connection that has to end runs first, and closes it.
            tokio::task::yield_now().await;
        }
    }
}

/// Serves MQTT over a connection whose handshake is done, on whichever port it came.
pub async fn serve(app: &AppRef, arrived: Arrived) {
    let Arrived { stream, handshake } = arrived;
    // On a port where a certificate is optional, MQTT needs one all the same.
    let Some(peer) = Peer::of(&stream) else { return refuse(app, stream, NOT_AUTHORIZED).await };
    let place = match app.doors.sessions.enter(&peer.device, Arc::default()) {
        Ok(place) => place,
        Err(Full::Own) => return refuse(app, stream, QUOTA_EXCEEDED).await,
        Err(Full::All) => return refuse(app, stream, SERVER_BUSY).await,
    };
    drop(handshake);
    let device = peer.device.clone();
    let served = tokio::select! {
        served = session::run(app, stream, peer) => served,
        () = place.evicted() => return,
    };
    if let Err(e) = served {
        tracing::debug!(%device, "session: {e:#}");
    }
}

/// Reason codes of CONNACK (MQTT 5, 3.2.2.2).
const NOT_AUTHORIZED: u8 = 0x87;
const SERVER_BUSY: u8 = 0x89;
const QUOTA_EXCEEDED: u8 = 0x97;

/// Answers CONNECT, which a client has to send first (MQTT 5, 3.1.4), with CONNACK and a reason.
async fn refuse(app: &AppRef, mut stream: TlsStream<TcpStream>, reason: u8) {
    let told = async {
        if stream.read(&mut [0; 1024]).await? == 0 {
            return Ok(());
        }
        stream.write_all(&[0x20, 0x03, 0x00, reason, 0x00]).await?;
        stream.shutdown().await
    };
    tokio::time::timeout(Duration::from_millis(app.doors.limits.hello_ms), told).await.ok();
}
