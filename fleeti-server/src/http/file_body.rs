//! Sends a file to a device in small chunks. Aborts when the device is revoked or its key replaced.

use super::range::{self, Range};
use crate::error::AppError;
use actix_files::NamedFile;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{self, ETag, EntityTag, Header, HeaderValue, IfMatch, IfNoneMatch};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use fleeti_control::context::ContextRef;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::problem::Code;
use rustix::io::{ReadWriteFlags, preadv2};
use std::fs::Metadata;
use std::io::IoSliceMut;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;

/// The device that gets a file, and the key that it has proved.
pub struct Receiver {
    /// Its id.
    pub device: DeviceId,
    /// SHA-256 of its public key, hexadecimal.
    pub key_sha256: String,
}

/// Answers a request for a file, with the whole file or the requested range (RFC 9110, 13 and 14).
///
/// # Errors
/// [`Code::PreconditionFailed`], [`Code::RangeNotSatisfiable`]; I/O.
pub fn respond(
    cx: &ContextRef,
    receiver: Receiver,
    file: &NamedFile,
    request: &HttpRequest,
) -> Result<HttpResponse, AppError> {
    let (size, etag) = (file.metadata().len(), etag(file.metadata()));
    if let Ok(IfMatch::Items(wanted)) = IfMatch::parse(request)
        && request.headers().contains_key(header::IF_MATCH)
        && !wanted.iter().any(|tag| tag.strong_eq(&etag))
    {
        return Err(AppError::new(
            Code::PreconditionFailed,
            "the file has changed: its ETag does not match If-Match",
        ));
    }
    let unchanged = match IfNoneMatch::parse(request) {
        _ if !request.headers().contains_key(header::IF_NONE_MATCH) => false,
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(known)) => known.iter().any(|tag| tag.weak_eq(&etag)),
        Err(_) => false,
    };
    if unchanged {
        return Ok(HttpResponse::NotModified().insert_header(ETag(etag)).finish());
    }
    let part = match asked(request, &etag).map_or(Range::Whole, |ranges| range::of(ranges, size)) {
        Range::Whole => None,
        Range::Part(part) => Some(part),
        Range::Unsatisfiable => return Err(unsatisfiable(size)),
    };
    let mut response = HttpResponse::Ok();
    if let Some(part) = &part {
        response.status(StatusCode::PARTIAL_CONTENT);
        response.insert_header((
            header::CONTENT_RANGE,
            format!("bytes {}-{}/{size}", part.start, part.end - 1),
        ));
    }
    response
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header(ETag(etag))
        .content_type(file.content_type().as_ref());
    let bytes = part.unwrap_or(0..size);
    let (control, content) = (Arc::clone(cx), Arc::new(file.file().try_clone()?));
    Ok(response.body(FileBody {
        control,
        receiver,
        content,
        at: bytes.start,
        end: bytes.end,
        reading: None,
    }))
}

/// The `Range` header, if it applies. `If-Range` matches the ETag of this file only; a date never
/// matches, because the server sends no `Last-Modified` (RFC 9110, 13.1.5).
fn asked<'a>(request: &'a HttpRequest, etag: &EntityTag) -> Option<&'a str> {
    let text =
        |name| request.headers().get(name).map(|v: &HeaderValue| v.to_str().unwrap_or_default());
    let holds = text(header::IF_RANGE)
        .is_none_or(|tag| tag.trim().parse::<EntityTag>().is_ok_and(|tag| tag.strong_eq(etag)));
    text(header::RANGE).filter(|_| holds && *request.method() == Method::GET)
}

fn unsatisfiable(size: u64) -> AppError {
    let content_range = HeaderValue::from_str(&format!("bytes */{size}"))
        .unwrap_or(HeaderValue::from_static("bytes */*"));
    AppError::new(
        Code::RangeNotSatisfiable,
        format!("the range is beyond the end of the file, which has {size} bytes"),
    )
    .header(header::CONTENT_RANGE, content_range)
}

/// An ETag that differs for each file and each change of it.
fn etag(metadata: &Metadata) -> EntityTag {
    let (inode, size, s, ns) =
        (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec());
    EntityTag::new_strong(format!("{inode:x}:{size:x}:{s:x}:{ns:x}"))
}

/// Bytes that are read and encrypted at once: four TLS records, which fit one segment of the
/// loopback interface and stay in the processor's cache.
const PIECE: u64 = 63 * 1024 + 512;

/// A range of a file that is read while it is sent. Aborts when its device is revoked.
struct FileBody {
    control: ContextRef,
    receiver: Receiver,
    content: Arc<std::fs::File>,
    at: u64,
    end: u64,
    reading: Option<JoinHandle<std::io::Result<Vec<u8>>>>,
}

impl FileBody {
    fn piece(&self) -> Vec<u8> {
        vec![0; usize::try_from(PIECE.min(self.end - self.at)).unwrap_or(0)]
    }

    /// Up to one chunk from the page cache; `None` if the read would wait for the disk.
    fn cached(&self) -> Option<Vec<u8>> {
        let mut bytes = self.piece();
        let read = preadv2(
            &self.content,
            &mut [IoSliceMut::new(&mut bytes)],
            self.at,
            ReadWriteFlags::NOWAIT,
        )
        .ok()?;
        bytes.truncate(read);
        (read > 0).then_some(bytes)
    }
}

impl MessageBody for FileBody {
    type Error = Box<dyn std::error::Error>;
    fn size(&self) -> BodySize {
        BodySize::Sized(self.end - self.at)
    }
    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Bytes, Self::Error>>> {
        if self.control.access.is_revoked(&self.receiver.device)
            || self.control.access.is_replaced(&self.receiver.key_sha256)
        {
            return Poll::Ready(Some(Err("the device is revoked, or its key was replaced".into())));
        }
        if self.at == self.end {
            return Poll::Ready(None);
        }
        let cached = if self.reading.is_none() { self.cached() } else { None };
        let bytes = if let Some(bytes) = cached {
            bytes
        } else {
            let (content, at, mut bytes) = (Arc::clone(&self.content), self.at, self.piece());
            let reading = self.reading.get_or_insert_with(|| {
                tokio::task::spawn_blocking(move || {
                    content.read_exact_at(&mut bytes, at)?;
                    Ok(bytes)
                })
            });
            ready!(Pin::new(reading).poll(cx))??
        };
        self.reading = None;
        self.at += bytes.len() as u64;
        Poll::Ready(Some(Ok(bytes.into())))
    }
}
