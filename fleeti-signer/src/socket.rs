//! The signer as a process: a Unix socket that only one user may speak on. A message is four bytes
//! of length (big-endian), then JSON; answers come in any order and carry the id of their call.

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

/// Calls of one connection that wait for their answers.
const WAITING_MAX: usize = 4096;
/// That the signer is away is said again after this time.
const SAID_AGAIN: Duration = Duration::from_secs(600);
/// Between two tries to reach the signer.
const RETRY: Duration = Duration::from_millis(200);

/// Answers that are written at once, where so many wait.
const ANSWERED_AT_ONCE: usize = 256;
/// And bytes.
const WRITTEN_AT_ONCE: usize = 64 << 10;

/// How calls and answers are told apart: a length before each.
pub fn framed(stream: UnixStream) -> Framed<UnixStream, LengthDelimitedCodec> {
    let mut framed =
        LengthDelimitedCodec::builder().max_frame_length(MESSAGE_MAX).new_framed(stream);
    framed.set_backpressure_boundary(WRITTEN_AT_ONCE);
    framed
}

/// Listens at a path, for the processes of one user (and root).
///
/// # Errors
/// When the path cannot be had.
pub fn listen(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves until the task is ended. `peer` is the user id that may speak, beside root and the
/// signer's own user.
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
            tracing::warn!("refused a process of user {uid:?}");
            continue;
        }
        tokio::spawn(converse(stream, signer.clone()));
    }
}

async fn converse(stream: UnixStream, signer: SignerHandle) {
    let (mut sink, mut calls) = framed(stream).split::<Bytes>();
    let (answers, mut finished) = mpsc::channel::<Answer>(WAITING_MAX);
    // What comes of one batch is written at once.
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
            .and_then(|f| strict::from_slice(&f).map_err(|e| e.to_string()))
        {
            Ok(call) => call,
            // Whoever speaks another language is not answered in ours.
            Err(e) => {
                tracing::warn!("a call that cannot be read: {e}");
                break;
            }
        };
        // A place for the answer first: a caller that does not read is not read either.
        let Ok(place) = answers.clone().reserve_owned().await else { break };
        let signer = signer.clone();
        tokio::spawn(async move {
            let response = match signer.ask(call.request).await {
                Ok(response) => response,
                Err(SignerError::Refused(reason)) => Response::Refused { reason },
                Err(SignerError::Limited(reason)) => Response::Limited { reason },
                // No answer at all: the caller must not take it for a refusal.
                Err(SignerError::Unavailable(_)) => return,
            };
            place.send(Answer { id: call.id, response });
        });
    }
    drop(answers);
    writer.await.ok();
}

/// A signer behind a socket. It is reached anew when it was away; what waits for an answer then is
/// told so, because nobody knows whether it was done.
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
                    tracing::info!("the signer at {} is there", path.display());
                }
                stream
            }
            Err(e) => {
                if said.is_none_or(|at| at.elapsed() >= SAID_AGAIN) {
                    tracing::warn!("the signer at {}: {e}", path.display());
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
        tracing::warn!("the signer at {}: {lost}", path.display());
        for asker in waiting.into_values() {
            let asker: Asker = asker;
            asker.send(Err(SignerError::Unavailable(lost.clone()))).ok();
        }
    }
}

/// Carries requests and answers until nobody asks any more.
///
/// # Errors
/// Why the connection is of no use any more. What waits then stays in `waiting`.
async fn exchange(
    stream: UnixStream,
    queue: &mut mpsc::Receiver<Waiting>,
    waiting: &mut HashMap<u64, Asker>,
) -> Result<(), String> {
    let mut next = 0u64;
    let mut frames = framed(stream);
    let broken = |e: std::io::Error| format!("the connection broke: {e}");
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
                // What waits with it is written at once.
                let mut asked = asked;
                while let Some((request, asker)) = asked {
                    // One that is closed has waited too long for us to be connected.
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

/// An answer in its one form. What follows one that cannot be read would be guesswork: whose answer
/// it was, nobody knows.
fn read_answer(frame: Option<std::io::Result<BytesMut>>) -> Result<Answer, String> {
    let unreadable = |e: String| format!("an answer that cannot be read: {}", Foreign::log(&e));
    let frame =
        frame.ok_or("it has closed the connection")?.map_err(|e| unreadable(e.to_string()))?;
    strict::from_slice(&frame).map_err(|e| unreadable(e.to_string()))
}

fn encoded(id: u64, request: Request) -> Option<Vec<u8>> {
    serde_json::to_vec(&Call { id, request }).ok().filter(|b| b.len() <= MESSAGE_MAX)
}
