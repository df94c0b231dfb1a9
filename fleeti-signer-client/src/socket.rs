//! A signing service behind a Unix socket. A message has a length of four bytes (big-endian), then
//! JSON. Responses arrive in any order and carry the id of their call.

use crate::handle::{Asker, SignerError, SignerHandle, Waiting};
use crate::wire::{Answer, Call, MESSAGE_MAX, Request, Response};
use fleeti_core::foreign::Foreign;
use fleeti_core::strict;
use futures::{SinkExt, StreamExt};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// Maximum number of calls of one connection that wait for responses.
pub const WAITING_MAX: usize = 4096;
/// Time between log messages that the signing service is unreachable.
const SAID_AGAIN: Duration = Duration::from_secs(600);
/// Time between two connection attempts.
const RETRY: Duration = Duration::from_millis(200);
/// Maximum bytes of responses written at once.
const WRITTEN_AT_ONCE: usize = 64 << 10;

/// Frames each message with its length.
pub fn framed(stream: UnixStream) -> Framed<UnixStream, LengthDelimitedCodec> {
    let mut framed =
        LengthDelimitedCodec::builder().max_frame_length(MESSAGE_MAX).new_framed(stream);
    framed.set_backpressure_boundary(WRITTEN_AT_ONCE);
    framed
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
    strict::from_canonical(&frame).map_err(|e| unreadable(e.to_string()))
}

fn encoded(id: u64, request: Request) -> Option<Vec<u8>> {
    serde_json::to_vec(&Call { id, request }).ok().filter(|b| b.len() <= MESSAGE_MAX)
}
