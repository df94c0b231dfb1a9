//! The client of a server.

use crate::errors;
use fleeti_client::danger::PlainHttp;
use fleeti_client::{NotAPin, Pin};
use fleeti_core::wire::api;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};

/// A client of one server. Threads may share it.
#[pyclass(frozen, module = "fleeti")]
pub struct Client {
    client: fleeti_client::Client,
    runtime: Runtime,
}

#[pymethods]
impl Client {
    /// Creates a client of the API at `url`, for example `http://127.0.0.1:8080`, with a bearer
    /// token. An address without TLS on another machine needs `insecure`: anyone on the network
    /// path can read the token. With `fingerprint`, as `fleeti login` prints it (`sha256:` and 64
    /// hexadecimal digits), the client accepts only a server with this key.
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
        // Shows neither the token nor the address, which may contain one.
        "Client()"
    }
}

/// A device.
#[pyclass(frozen, module = "fleeti")]
pub struct Device(api::Device);

#[pymethods]
impl Device {
    /// The device id.
    #[getter]
    fn id(&self) -> &str {
        self.0.id.as_str()
    }
    /// The fleet of the device.
    #[getter]
    fn fleet(&self) -> &str {
        self.0.fleet.as_str()
    }
    /// Whether the device is connected now.
    #[getter]
    fn online(&self) -> bool {
        self.0.online
    }
    /// Whether the device certificate is revoked.
    #[getter]
    fn revoked(&self) -> bool {
        self.0.revoked
    }
    /// When the server last received anything from the device, Unix seconds.
    #[getter]
    fn last_seen_s(&self) -> u64 {
        self.0.last_seen_s
    }
    /// The release that the device reports to run, for example `kiosk@2`; None before its first
    /// report.
    #[getter]
    fn running(&self) -> Option<String> {
        self.0.boot.as_ref().map(|b| b.running.to_string())
    }
    /// The desired version; None leaves the device as it is.
    #[getter]
    fn desired(&self) -> Option<String> {
        self.0.desired.as_ref().map(ToString::to_string)
    }
    /// SHA-256 of the device certificate (DER), hexadecimal.
    #[getter]
    fn certificate_sha256(&self) -> &str {
        &self.0.certificate_sha256
    }
    /// When the device certificate expires, Unix seconds.
    #[getter]
    fn certificate_not_after_s(&self) -> u64 {
        self.0.certificate_not_after_s
    }
    fn __repr__(&self) -> String {
        format!("Device({:?})", self.0.id.as_str())
    }
}
