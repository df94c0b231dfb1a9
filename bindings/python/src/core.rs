//! Requests of a server: blocking, or with a function that is called at the end.

use crate::errors;
use fleeti_client::danger::PlainHttp;
use fleeti_client::{ClientError, Content, Events, NotAPin, Pin};
use fleeti_core::wire::api::Event;
use pyo3::exceptions::{PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// How often a blocking call looks for signals, such as Ctrl-C.
const SIGNALS: Duration = Duration::from_millis(100);

/// Method, path, body (JSON), and the file whose bytes are the body.
type Request = (String, String, Option<Vec<u8>>, Option<PathBuf>);

/// The threads of a connection.
struct Background {
    handle: Handle,
    /// It is there until this is dropped.
    runtime: Option<Runtime>,
}

impl Drop for Background {
    /// Does not wait for its threads: who drops it may have the interpreter's lock, for which a
    /// thread that delivers a result waits.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A connection to one server. Threads may share it.
#[pyclass(frozen, module = "fleeti._fleeti")]
pub struct Core {
    client: fleeti_client::Client,
    runtime: Arc<Background>,
}

#[pymethods]
impl Core {
    #[new]
    #[pyo3(signature = (url, token, *, insecure = false, fingerprint = None))]
    fn new(
        python: Python<'_>,
        url: &str,
        token: &str,
        insecure: bool,
        fingerprint: Option<&str>,
    ) -> PyResult<Self> {
        let plain_http = if insecure { PlainHttp::Anywhere } else { PlainHttp::LoopbackOnly };
        let client = match fingerprint {
            Some(text) => {
                let pin: Pin =
                    text.parse().map_err(|e: NotAPin| PyValueError::new_err(e.to_string()))?;
                fleeti_client::Client::pinned(url, token, &pin)
            }
            None => fleeti_client::Client::with_plain_http(url, token, plain_http),
        };
        let client = client.map_err(|e| errors::of_client(python, &e))?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (handle, runtime) = (runtime.handle().clone(), Some(runtime));
        Ok(Self { client, runtime: Arc::new(Background { handle, runtime }) })
    }

    /// Sends a request, and returns the body of the response.
    fn call<'py>(&self, python: Python<'py>, request: Request) -> PyResult<Bound<'py, PyBytes>> {
        let (method, path, body, file) = request;
        let call = self.client.call(&method, &path, content(body, file));
        let bytes = wait(python, &self.runtime, call)?;
        let bytes = bytes.map_err(|e| errors::of_client(python, &e))?;
        Ok(PyBytes::new(python, &bytes))
    }

    /// Starts a request, and calls `done(body, exception)` at its end, on another thread.
    fn start(&self, request: Request, done: Py<PyAny>) -> Task {
        let (method, path, body, file) = request;
        let client = self.client.clone();
        let request = async move { client.call(&method, &path, content(body, file)).await };
        start(&self.runtime, done, request, |python, bytes| {
            Ok(PyBytes::new(python, &bytes).into_any().unbind())
        })
    }

    /// Subscribes to the events of the server.
    fn events(&self, python: Python<'_>) -> PyResult<EventStream> {
        let events = wait(python, &self.runtime, self.client.events())?;
        let events = events.map_err(|e| errors::of_client(python, &e))?;
        Ok(EventStream::of(events, &self.runtime))
    }

    /// As `events`, and calls `done(stream, exception)`.
    fn start_events(&self, done: Py<PyAny>) -> Task {
        let (client, runtime) = (self.client.clone(), Arc::clone(&self.runtime));
        // A weak reference: a task must not drop the runtime that it runs on.
        let runtime = Arc::downgrade(&runtime);
        start(&self.runtime, done, async move { client.events().await }, move |python, events| {
            let runtime =
                runtime.upgrade().ok_or_else(|| PyValueError::new_err("the client was deleted"))?;
            Ok(Py::new(python, EventStream::of(events, &runtime))?.into_any())
        })
    }
}

/// The body of a request: JSON, a file, or nothing.
fn content(body: Option<Vec<u8>>, file: Option<PathBuf>) -> Content {
    match (body, file) {
        (Some(bytes), _) => Content::Json(bytes),
        (None, Some(file)) => Content::File(file),
        (None, None) => Content::Nothing,
    }
}

/// Waits without the interpreter's lock, until the future ends or a signal handler raises.
fn wait<T: Send>(
    python: Python<'_>,
    runtime: &Background,
    future: impl Future<Output = T> + Send,
) -> PyResult<T> {
    let mut future = std::pin::pin!(future);
    loop {
        let step = async { timeout(SIGNALS, future.as_mut()).await };
        match python.detach(|| runtime.handle.block_on(step)) {
            Ok(value) => return Ok(value),
            Err(_) => python.check_signals()?,
        }
    }
}

/// Runs a future in the background. `done` gets its value as `made` converts it, or an exception.
fn start<T: Send + 'static>(
    runtime: &Background,
    done: Py<PyAny>,
    future: impl Future<Output = Result<T, ClientError>> + Send + 'static,
    made: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
) -> Task {
    let task = runtime.handle.spawn(async move {
        let result = future.await;
        // Not while the interpreter ends: nobody waits then.
        Python::try_attach(|python| {
            let value = match result {
                Ok(value) => made(python, value),
                Err(e) => Err(errors::of_client(python, &e)),
            };
            let called = match value {
                Ok(value) => done.call1(python, (value, python.None())),
                Err(error) => done.call1(python, (python.None(), error.into_value(python))),
            };
            if let Err(error) = called {
                error.write_unraisable(python, None);
            }
        });
    });
    Task(task.abort_handle())
}

/// A request that was started.
#[pyclass(frozen, module = "fleeti._fleeti")]
pub struct Task(AbortHandle);

#[pymethods]
impl Task {
    /// Ends the request, if it has not ended.
    fn cancel(&self) {
        self.0.abort();
    }
}

/// The events of a server, as JSON.
#[pyclass(frozen, module = "fleeti._fleeti")]
pub struct EventStream {
    events: Arc<Mutex<Events>>,
    runtime: Arc<Background>,
}

impl EventStream {
    fn of(events: Events, runtime: &Arc<Background>) -> Self {
        Self { events: Arc::new(Mutex::new(events)), runtime: Arc::clone(runtime) }
    }
}

#[pymethods]
impl EventStream {
    /// The next event; None if the caller must read everything again. Raises `TimeoutError`.
    #[pyo3(signature = (timeout_s = None))]
    fn next<'py>(
        &self,
        python: Python<'py>,
        timeout_s: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let next = async { self.events.lock().await.next().await };
        let found = match timeout_s {
            None => wait(python, &self.runtime, next)?,
            Some(seconds) => {
                let length = Duration::try_from_secs_f64(seconds.max(0.0))
                    .map_err(|e| PyValueError::new_err(e.to_string()))?;
                let end = Instant::now() + length;
                wait(python, &self.runtime, async { timeout_at(end, next).await })?
                    .map_err(|_| PyTimeoutError::new_err("no event came in time"))?
            }
        };
        let event = found.map_err(|e| errors::of_client(python, &e))?;
        Ok(written(event)?.map(|bytes| PyBytes::new(python, &bytes)))
    }

    /// As `next`, and calls `done(event, exception)`.
    fn start_next(&self, done: Py<PyAny>) -> Task {
        let events = Arc::clone(&self.events);
        let next = async move { events.lock().await.next().await };
        start(&self.runtime, done, next, |python, event| {
            Ok(match written(event)? {
                Some(bytes) => PyBytes::new(python, &bytes).into_any().unbind(),
                None => python.None(),
            })
        })
    }
}

fn written(event: Option<Event>) -> PyResult<Option<Vec<u8>>> {
    event.map(|event| serde_json::to_vec(&event)).transpose().map_err(errors::of_json)
}
