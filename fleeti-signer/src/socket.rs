//! The signing service as a process: a Unix socket for one user. A message has a length of four
//! bytes (big-endian), then JSON. Responses arrive in any order and carry the id of their call.

use fleeti_core::strict;
use fleeti_signer_client::handle::{SignerError, SignerHandle};
use fleeti_signer_client::socket::{WAITING_MAX, framed};
use fleeti_signer_client::wire::{Answer, Call, Response};
use futures::{SinkExt, StreamExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;

/// Time between two connection attempts.
const RETRY: Duration = Duration::from_millis(200);

/// Maximum number of responses written at once.
const ANSWERED_AT_ONCE: usize = 256;

/// Listens at a path that only the owner and group may open.
///
/// # Errors
/// If the socket cannot be created.
pub fn listen(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves until the task ends. `peer` is the user id that may connect, beside root and the signing
/// service's own user.
pub async fn serve(listener: UnixListener, signer: SignerHandle, own: u32, peer: Option<u32>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::warn!("accept: {e}");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let uid = stream.peer_cred().map(|c| c.uid());
        if !matches!(uid, Ok(uid) if uid == 0 || uid == own || Some(uid) == peer) {
            tracing::warn!("refused a connection of user {uid:?}");
            continue;
        }
        tokio::spawn(converse(stream, signer.clone()));
    }
}

async fn converse(stream: UnixStream, signer: SignerHandle) {
    let (mut sink, mut calls) = framed(stream).split::<Bytes>();
    let (answers, mut finished) = mpsc::channel::<Answer>(WAITING_MAX);
    // Writes the responses of one batch at once.
    let writer = tokio::spawn(async move {
        let mut ready = Vec::new();
        while finished.recv_many(&mut ready, ANSWERED_AT_ONCE).await > 0 {
            for answer in ready.drain(..) {
                let Ok(bytes) = serde_json::to_vec(&answer) else { return };
                if sink.feed(Bytes::from(bytes)).await.is_err() {
                    return;
                }
            }
            if sink.flush().await.is_err() {
                return;
            }
        }
    });
    while let Some(frame) = calls.next().await {
        let call: Call = match frame
            .map_err(|e| e.to_string())
            .and_then(|f| strict::from_canonical(&f).map_err(|e| e.to_string()))
        {
            Ok(call) => call,
            // Close the connection: a reply to an invalid call could be misread.
            Err(e) => {
                tracing::warn!("unreadable call: {e}");
                break;
            }
        };
        // Reserve a place for the response first, so that a caller that does not read responses
        // cannot queue more calls.
        let Ok(place) = answers.clone().reserve_owned().await else { break };
        let signer = signer.clone();
        tokio::spawn(async move {
            let response = match signer.ask(call.request).await {
                Ok(response) => response,
                Err(SignerError::Refused(reason)) => Response::Refused { reason },
                Err(SignerError::Limited(reason)) => Response::Limited { reason },
                // Send nothing: the caller must not take this for a refusal.
                Err(SignerError::Unavailable(_)) => return,
            };
            place.send(Answer { id: call.id, response });
        });
    }
    drop(answers);
    writer.await.ok();
}
