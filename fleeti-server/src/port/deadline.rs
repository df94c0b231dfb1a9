//! A middleware for all requests: checks that the connection gets a place (429, 503), and that the
//! body arrives in time (408).

use super::connection::Activity;
use crate::error::AppError;
use crate::limits::Limits;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::ConnectionType;
use actix_web::middleware::Next;
use actix_web::web::{Bytes, Data};
use actix_web::{Error, HttpMessage, HttpResponse, ResponseError};
use fleeti_control::places::Full;
use fleeti_core::wire::problem::Code;
use futures::Stream;
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// The middleware, for every route of a port.
///
/// # Errors
/// Passes on the errors of the route.
pub async fn keep<B: MessageBody>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let _serving = match request.conn_data::<Rc<Activity>>().map(Activity::serve).transpose() {
        Ok(serving) => serving,
        Err(full) => {
            return Ok(request.into_response(last_words(&refusal(full))).map_into_right_body());
        }
    };
    let limits =
        request.app_data::<Data<Limits>>().map_or_else(Limits::default, |limits| ***limits);
    let late = Rc::new(Cell::new(false));
    match request.take_payload() {
        Payload::None => {}
        body => request.set_payload(Payload::Stream {
            payload: Box::pin(TimedBody::new(body, &limits, Rc::clone(&late))),
        }),
    }
    let response = next.call(request).await?;
    if !late.get() {
        return Ok(response.map_into_left_body());
    }
    let error = AppError::new(Code::Timeout, "the body of the request did not arrive in time")
        .hint("send the request again over a faster connection");
    Ok(response.into_response(last_words(&error)).map_into_right_body())
}

fn refusal(full: Full) -> AppError {
    match full {
        Full::Own => AppError::new(Code::TooMany, "too many connections of this device or address")
            .hint("try again in a moment"),
        Full::All => {
            AppError::new(Code::Unavailable, "too many connections").hint("try again in a moment")
        }
    }
}

/// A response that closes the connection, because the rest of the body is not read.
fn last_words(error: &AppError) -> HttpResponse {
    let mut response = error.error_response();
    response.head_mut().set_connection_type(ConnectionType::Close);
    response
}

/// A body with a deadline that every byte extends.
struct TimedBody {
    body: Payload,
    began: Instant,
    grace: Duration,
    bytes_per_s: u64,
    received: u64,
    /// Made when the body is waited for: most come with the head of their request.
    sleep: Option<Pin<Box<Sleep>>>,
    late: Rc<Cell<bool>>,
}

impl TimedBody {
    fn new(body: Payload, limits: &Limits, late: Rc<Cell<bool>>) -> Self {
        Self {
            body,
            began: Instant::now(),
            grace: Duration::from_millis(limits.body_ms),
            bytes_per_s: limits.body_bytes_per_s.max(1),
            received: 0,
            sleep: None,
            late,
        }
    }

    fn deadline(&self) -> Instant {
        self.began
            + self.grace
            + Duration::from_millis(self.received.saturating_mul(1000) / self.bytes_per_s)
    }
}

impl Stream for TimedBody {
    type Item = Result<Bytes, PayloadError>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_next(cx) {
            Poll::Ready(Some(Ok(bytes))) => {
                this.received += bytes.len() as u64;
                return Poll::Ready(Some(Ok(bytes)));
            }
            Poll::Ready(other) => return Poll::Ready(other),
            Poll::Pending => {}
        }
        let deadline = this.deadline();
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while sleep.as_mut().poll(cx).is_ready() {
            if deadline <= Instant::now() {
                this.late.set(true);
                return Poll::Ready(Some(Err(PayloadError::Io(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "too slow",
                )))));
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
