//! The signing service as a process: a Unix socket for one user. A message has a length of four
//! bytes (big-endian), then JSON. Responses arrive in any order and carry the id of their call.

use crate::handle::{Asker, SignerError, SignerHandle, Waiting};
use crate::wire::{Answer, Call, MESSAGE_MAX, Request, Response};
use fleeti_core::foreign::Foreign;
use fleeti_core::strict;
use futures::{SinkExt, StreamExt};
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// Maximum number of calls of one connection that wait for responses.
const WAITING_MAX: usize = 4096;
/// Time between log messages that the signing service is unreachable.
const SAID_AGAIN: Duration = Duration::from_secs(600);
/// Time between two connection attempts.
const RETRY: Duration = Duration::from_millis(200);

/// Maximum number of responses written at once.
const ANSWERED_AT_ONCE: usize = 256;
/// Maximum bytes of responses written at once.
const WRITTEN_AT_ONCE: usize = 64 << 10;

/// Frames each message with its length.
pub fn framed(stream: UnixStream) -> Framed<UnixStream, LengthDelimitedCodec> {
    let mut framed =
        LengthDelimitedCodec::builder().max_frame_length(MESSAGE_MAX).new_framed(stream);
    framed.set_backpressure_boundary(WRITTEN_AT_ONCE);
    framed
}

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
            .and_then(|f| strict::from_message(&f).map_err(|e| e.to_string()))
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

/// A signing service behind a socket. Reconnects after a failure. Calls that wait then fail,
/// because it is unknown whether they were processed.
#[must_use]
pub fn connect(path: PathBuf) -> SignerHandle {
    let (handle, queue) = SignerHandle::remote();
    tokio::spawn(carry(path, queue));
    handle
}

async fn carry(path: PathBuf, mut queue: mpsc::Receiver<Waiting>) {
    let mut said: Option<Instant> = None;
    loop {
        let stream = match UnixStream::connect(&path).await {
            Ok(stream) => {
                if said.take().is_some() {
                    tracing::info!("connected to the signing service at {}", path.display());
                }
                stream
            }
            Err(e) => {
                if said.is_none_or(|at| at.elapsed() >= SAID_AGAIN) {
                    tracing::warn!("signing service at {}: {e}", path.display());
                    said = Some(Instant::now());
                }
                tokio::time::sleep(RETRY).await;
                if queue.is_closed() {
                    return;
                }
                continue;
            }
        };
        let mut waiting = HashMap::new();
        let Err(lost) = exchange(stream, &mut queue, &mut waiting).await else { return };
        tracing::warn!("signing service at {}: {lost}", path.display());
        for asker in waiting.into_values() {
            let asker: Asker = asker;
            asker.send(Err(SignerError::Unavailable(lost.clone()))).ok();
        }
    }
}

/// Sends requests and receives responses until no handle is left.
///
/// # Errors
/// Why the connection ended. Unanswered calls stay in `waiting`.
async fn exchange(
    stream: UnixStream,
    queue: &mut mpsc::Receiver<Waiting>,
    waiting: &mut HashMap<u64, Asker>,
) -> Result<(), String> {
    let mut next = 0u64;
    let mut frames = framed(stream);
    let broken = |e: std::io::Error| format!("connection lost: {e}");
    loop {
        tokio::select! {
            frame = frames.next() => {
                let answer = read_answer(frame)?;
                if let Some(asker) = waiting.remove(&answer.id) {
                    asker.send(Ok(answer.response)).ok();
                }
            }
            asked = queue.recv(), if waiting.len() < WAITING_MAX => {
                if asked.is_none() {
                    return Ok(());
                }
                // Write all queued calls at once.
                let mut asked = asked;
                while let Some((request, asker)) = asked {
                    // A closed one has timed out before the connection was made.
                    if !asker.is_closed() {
                        next += 1;
                        match encoded(next, request) {
                            Some(bytes) => {
                                waiting.insert(next, asker);
                                frames.feed(Bytes::from(bytes)).await.map_err(broken)?;
                            }
                            None => drop(asker.send(Ok(Response::Refused { reason: "the request is too large".into() }))),
                        }
                    }
                    asked = if waiting.len() < WAITING_MAX { queue.try_recv().ok() } else { None };
                }
                SinkExt::<Bytes>::flush(&mut frames).await.map_err(broken)?;
            }
        }
    }
}

/// Reads a response. An unreadable one ends the connection, because its call is unknown.
fn read_answer(frame: Option<std::io::Result<BytesMut>>) -> Result<Answer, String> {
    let unreadable = |e: String| format!("unreadable response: {}", Foreign::log(&e));
    let frame = frame
        .ok_or("the signing service closed the connection")?
        .map_err(|e| unreadable(e.to_string()))?;
    strict::from_message(&frame).map_err(|e| unreadable(e.to_string()))
}

fn encoded(id: u64, request: Request) -> Option<Vec<u8>> {
    serde_json::to_vec(&Call { id, request }).ok().filter(|b| b.len() <= MESSAGE_MAX)
}
