//! Logs of builds: whole lines from a byte offset on, once or followed while they grow.

use crate::accounts::sessions;
use crate::builds;
use crate::context::ContextRef;
use fleeti_core::wire::api::Event;
use futures::{Stream, stream};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Maximum bytes of a log in a page or event.
const SHOWN_MAX: u64 = 64 * 1024;
/// Maximum bytes of a log that are read for an excerpt.
const READ_MAX: u64 = 4 << 20;

/// A part of a log.
pub struct Excerpt {
    /// Whole lines from the beginning; truncated for a very long log.
    pub beginning: String,
    /// The last lines.
    pub end: String,
    /// Offset of the first byte after the excerpt.
    pub next: u64,
}

/// An excerpt of a log; empty if there is no log.
pub async fn excerpt(path: PathBuf, is_growing: bool) -> Excerpt {
    let (beginning, next) = read(path.clone(), 0, READ_MAX).await;
    // The end of a log beyond READ_MAX is read separately.
    let size = tokio::fs::metadata(&path).await.map_or(0, |m| m.len());
    let end = if is_growing || size <= READ_MAX {
        last_part(&beginning, false)
    } else {
        last_part(&read(path, size - SHOWN_MAX, SHOWN_MAX).await.0, true)
    };
    Excerpt { beginning, end, next }
}

/// The end of a log, from the start of a line.
fn last_part(log: &str, is_cut: bool) -> String {
    let max = usize::try_from(SHOWN_MAX).unwrap_or(usize::MAX);
    if log.len() <= max && !is_cut {
        return log.to_owned();
    }
    let from = log.len().saturating_sub(max);
    let line =
        log.as_bytes()[from..].iter().position(|b| *b == b'\n').map_or(log.len(), |i| from + i + 1);
    format!("... beginning omitted; the whole log is in the build's folder\n{}", &log[line..])
}

/// Reads whole lines of a log from an offset on, and returns them with the offset after them.
/// Returns nothing if there is no log. A line longer than `max` is split.
async fn read(path: PathBuf, from: u64, max: u64) -> (String, u64) {
    let content = async {
        let mut file = tokio::fs::File::open(&path).await?;
        file.seek(std::io::SeekFrom::Start(from)).await?;
        let mut bytes = Vec::new();
        file.take(max).read_to_end(&mut bytes).await?;
        std::io::Result::Ok(bytes)
    };
    let bytes = content.await.unwrap_or_default();
    let is_full = bytes.len() as u64 == max;
    let whole = bytes
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(if is_full { bytes.len() } else { 0 }, |i| i + 1);
    (String::from_utf8_lossy(&bytes[..whole]).into_owned(), from + whole as u64)
}

/// An item of a followed log.
pub enum Grown {
    /// Whole lines, and the offset after them.
    Lines(String, u64),
    /// No new lines for a while.
    Silence,
    /// The log is complete.
    Done,
}

/// Follows a build's log from an offset on, until the build or the login session ends. Yields an
/// item at least every `silence`.
pub fn follow(
    cx: ContextRef,
    session: String,
    build: String,
    at: u64,
    silence: Duration,
) -> impl Stream<Item = Grown> {
    let path = builds::log_path(&cx, &build);
    let events = cx.events.subscribe();
    let tail = Tail { cx, path, session, build, at, events, silence, done: false };
    stream::unfold(tail, |mut tail| async move { Some((tail.next().await?, tail)) })
}

struct Tail {
    cx: ContextRef,
    path: PathBuf,
    session: String,
    build: String,
    at: u64,
    events: Receiver<Event>,
    silence: Duration,
    done: bool,
}

impl Tail {
    async fn next(&mut self) -> Option<Grown> {
        loop {
            if self.done || !sessions::is_live(&self.cx, &self.session).await.unwrap_or(false) {
                return None;
            }
            // Read the phase before the log, so that the last lines are not missed. If the database
            // does not answer, the stream ends, and the browser reconnects.
            let moving = builds::is_moving(builds::get(&self.cx, &self.build).await.ok()?.phase);
            let (text, end) = read(self.path.clone(), self.at, SHOWN_MAX).await;
            if !text.is_empty() {
                self.at = end;
                return Some(Grown::Lines(text, end));
            }
            if !moving {
                self.done = true;
                return Some(Grown::Done);
            }
            match tokio::time::timeout(self.silence, self.grows()).await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(_) => return Some(Grown::Silence),
            }
        }
    }

    /// Waits until the log may have grown.
    async fn grows(&mut self) -> bool {
        loop {
            match self.events.recv().await {
                Ok(Event::Build { id } | Event::BuildLog { id }) if id == self.build => {
                    return true;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return true,
                Err(RecvError::Closed) => return false,
            }
        }
    }
}
