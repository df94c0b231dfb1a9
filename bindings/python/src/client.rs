//! Talking to a server.

use crate::errors;
use fleeti_client::danger::PlainHttp;
use fleeti_client::{NotAPin, Pin};
use fleeti_core::wire::api;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};

/// A client of one server. May be shared between threads.
#[pyclass(frozen, module = "fleeti")]
pub struct Client {
    client: fleeti_client::Client,
    runtime: Runtime,
}

#[pymethods]
impl Client {
    /// A client of the API at `url`, as in `http://127.0.0.1:8080`, with a bearer token. An address
    /// without TLS that is not on this machine needs `insecure`: everybody on the way can read the
    /// token. With `fingerprint`, as `fleeti login` shows it (`sha256:` and 64 hexadecimal digits),
    /// the server is known by its key alone and no other one is spoken to.
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
        Ok(Self { client, runtime })
    }

    /// Every device, ordered by id.
    fn devices(&self, python: Python<'_>) -> PyResult<Vec<Device>> {
        let devices = python.detach(|| self.runtime.block_on(self.client.devices()));
        Ok(devices.map_err(|e| errors::of_client(python, &e))?.into_iter().map(Device).collect())
    }

    fn __repr__(&self) -> &'static str {
        // Neither the token nor an address that may hold one.
        "Client()"
    }
}

/// A device as the server knows it.
#[pyclass(frozen, module = "fleeti")]
pub struct Device(api::Device);

#[pymethods]
impl Device {
    /// Its id.
    #[getter]
    fn id(&self) -> &str {
        self.0.id.as_str()
    }
    /// Its fleet.
    #[getter]
    fn fleet(&self) -> &str {
        self.0.fleet.as_str()
    }
    /// Whether it is connected now.
    #[getter]
    fn online(&self) -> bool {
        self.0.online
    }
    /// Whether its certificate was revoked.
    #[getter]
    fn revoked(&self) -> bool {
        self.0.revoked
    }
    /// Unix seconds of the last time anything was heard.
    #[getter]
    fn last_seen_s(&self) -> u64 {
        self.0.last_seen_s
    }
    /// What it says it runs, as in `kiosk@2`; None before its first report.
    #[getter]
    fn running(&self) -> Option<String> {
        self.0.boot.as_ref().map(|b| b.running.to_string())
    }
    /// What it should run; None leaves it as it is.
    #[getter]
    fn desired(&self) -> Option<String> {
        self.0.desired.as_ref().map(ToString::to_string)
    }
    /// SHA-256 of its certificate (DER), hexadecimal.
    #[getter]
    fn certificate_sha256(&self) -> &str {
        &self.0.certificate_sha256
    }
    /// Unix seconds of the end of its certificate's validity.
    #[getter]
    fn certificate_not_after_s(&self) -> u64 {
        self.0.certificate_not_after_s
    }
    fn __repr__(&self) -> String {
        format!("Device({:?})", self.0.id.as_str())
    }
}
