//! The MQTT port: MQTT 5 over TLS with device certificates, as a star between server and devices.
//!
//! The certificate identifies the device. A device may publish to its own `up` topics and subscribe
//! to its own `down` topics, and nothing else exists: no wills, no retained messages, no wildcards,
//! no other clients. Pending messages are in the database; a session only delivers them.
//!
//! Code map: [`doors`] (how every port accepts connections) · [`tls`] (client certificates and
//! CRLs) · `session` (a session of one device begins and ends) → `inbound` (its loop, and packets
//! of the device) → `outbound` (packets to the device) → `session_state` · [`sessions`] (state that
//! outlasts connections).

pub mod conduct;
mod connection;
pub mod doors;
mod inbound;
mod outbound;
mod session;
mod session_state;
pub mod sessions;
pub mod state;
pub mod tls;
mod window;

use crate::gateway::state::GatewayRef;
use doors::{Arrived, Peer};
use fleeti_control::places::Full;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

/// Accepts connections until the task is aborted. Never waits for a single peer.
pub async fn run(gateway: GatewayRef, listener: TcpListener) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                // For example no file descriptors are left: retry, other connections may end
                // meanwhile.
                tracing::warn!("accept: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (silent, evicts) = gateway.doors.knock(address);
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move {
            // Boxed: the session that follows needs no room for it.
            let handshake = gateway.doors.handshake(stream, silent, || gateway.tls.current());
            if let Some(arrived) = Box::pin(handshake).await {
                serve(&gateway, arrived).await;
            }
        });
        if evicts {
            // Let the task of the evicted connection run first, so that it closes the connection.
            tokio::task::yield_now().await;
        }
    }
}

/// Serves MQTT over a connection after its TLS handshake, on either port.
pub async fn serve(gateway: &GatewayRef, arrived: Arrived) {
    let Arrived { stream, handshake } = arrived;
    // MQTT requires a certificate, also on the port where it is optional.
    let Some(peer) = Peer::of(&stream) else {
        return refuse(gateway, stream, NOT_AUTHORIZED).await;
    };
    let place = match gateway.doors.sessions.enter(&peer.device, Arc::default()) {
        Ok(place) => place,
        Err(Full::Own) => return refuse(gateway, stream, QUOTA_EXCEEDED).await,
        Err(Full::All) => return refuse(gateway, stream, SERVER_BUSY).await,
    };
    drop(handshake);
    let device = peer.device.clone();
    if let Err(e) = session::run(gateway, stream, peer, &place).await {
        tracing::debug!(%device, "session: {e:#}");
    }
}

/// Reason codes of CONNACK (MQTT 5, 3.2.2.2).
const NOT_AUTHORIZED: u8 = 0x87;
const SERVER_BUSY: u8 = 0x89;
const QUOTA_EXCEEDED: u8 = 0x97;

/// Answers CONNECT, the first packet of a client (MQTT 5, 3.1.4), with CONNACK and a reason code.
async fn refuse(gateway: &GatewayRef, mut stream: Box<TlsStream<TcpStream>>, reason: u8) {
    let answered = async {
        if stream.read(&mut [0; 1024]).await? == 0 {
            return Ok(());
        }
        stream.write_all(&[0x20, 0x03, 0x00, reason, 0x00]).await?;
        stream.shutdown().await
    };
    tokio::time::timeout(Duration::from_millis(gateway.doors.limits.hello_ms), answered).await.ok();
}
