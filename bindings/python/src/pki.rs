//! Certificates, with keys of Python.

use crate::errors;
use fleeti_pki::certificate::{self, Authority, Period, Purpose, Role};
use fleeti_pki::signer::{self, Algorithm, Signer};
use fleeti_pki::{Error, csr};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::{Mutex, PoisonError};

const ALGORITHMS: [(Algorithm, &str); 4] = [
    (Algorithm::P256, "p256"),
    (Algorithm::P384, "p384"),
    (Algorithm::Rsa2048, "rsa2048"),
    (Algorithm::Ed25519, "ed25519"),
];

fn algorithm(python: Python<'_>, name: &str) -> PyResult<Algorithm> {
    ALGORITHMS
        .into_iter()
        .find(|(_, known)| *known == name)
        .map(|(algorithm, _)| algorithm)
        .ok_or_else(|| {
            errors::invalid(python, format!("{name:?} is not p256, p384, rsa2048 or ed25519"))
        })
}

fn name(algorithm: Algorithm) -> &'static str {
    ALGORITHMS.into_iter().find(|(known, _)| *known == algorithm).map_or("", |(_, name)| name)
}

/// A key in memory.
#[pyclass(frozen, module = "fleeti._fleeti")]
pub struct SoftKey(signer::SoftKey);

#[pymethods]
impl SoftKey {
    /// Generates a key of a type: p256, p384, rsa2048 or ed25519.
    #[staticmethod]
    fn generate(python: Python<'_>, algorithm: &str) -> PyResult<Self> {
        let algorithm = self::algorithm(python, algorithm)?;
        let key = python.detach(|| signer::SoftKey::generate(algorithm));
        key.map(Self).map_err(|e| errors::of_pki(python, &e))
    }
    /// The type of the key.
    #[getter]
    fn algorithm(&self) -> &'static str {
        name(self.0.algorithm())
    }
    /// SubjectPublicKeyInfo, DER.
    #[getter]
    fn public_key_der(&self) -> &[u8] {
        self.0.public_key_der()
    }
    /// Signs a message.
    fn sign<'py>(&self, python: Python<'py>, message: Vec<u8>) -> PyResult<Bound<'py, PyBytes>> {
        let signature = python.detach(|| self.0.sign(&message));
        let signature = signature.map_err(|e| errors::of_pki(python, &e))?;
        Ok(PyBytes::new(python, &signature))
    }
    fn __repr__(&self) -> String {
        format!("SoftKey({})", name(self.0.algorithm()))
    }
}

/// A key that a Python object has.
struct Key {
    object: Py<PyAny>,
    algorithm: Algorithm,
    public_key_der: Vec<u8>,
    /// What its `sign` raised. Libraries in between keep only that signing failed.
    raised: Mutex<Option<PyErr>>,
}

impl Key {
    fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let name: String = object.getattr("algorithm")?.extract()?;
        Ok(Self {
            algorithm: algorithm(object.py(), &name)?,
            public_key_der: object.getattr("public_key_der")?.extract()?,
            object: object.clone().unbind(),
            raised: Mutex::new(None),
        })
    }

    /// The exception of a failure: the one that `sign` raised, or that of the error.
    fn error(&self, python: Python<'_>, error: &Error) -> PyErr {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner).take();
        raised.unwrap_or_else(|| errors::of_pki(python, error))
    }
}

impl Signer for Key {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
    fn public_key_der(&self) -> &[u8] {
        &self.public_key_der
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Python::attach(|python| {
            let signed = self.object.call_method1(python, "sign", (PyBytes::new(python, message),));
            signed.and_then(|bytes| bytes.extract::<Vec<u8>>(python))
        })
        .map_err(|e| {
            let detail = e.to_string();
            *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
            Error::Backend { what: "the Python signer", detail }
        })
    }
    fn sign_digest(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        Err(Error::Refused("a Python signer signs messages, not digests"))
    }
}

/// A certificate request, PEM.
#[pyfunction]
pub fn create_request(key: &Bound<'_, PyAny>) -> PyResult<String> {
    let signer = Key::of(key)?;
    csr::create(&signer).map_err(|e| signer.error(key.py(), &e))
}

/// The certificate of a root, PEM.
#[pyfunction]
pub fn self_signed_root(key: &Bound<'_, PyAny>, now_s: u64, valid_s: u64) -> PyResult<String> {
    let signer = Key::of(key)?;
    certificate::self_signed(Role::Root, Period::starting(now_s, valid_s), &signer)
        .and_then(|made| certificate::to_pem(&made))
        .map_err(|e| signer.error(key.py(), &e))
}

/// Issues a certificate for the key of a request. `role` is `("device", ID)` or
/// `("intermediate", PURPOSE)`, `period` the time now and the seconds until the end.
#[pyfunction]
pub fn issue(
    role: (String, String),
    request: &str,
    issuer: &str,
    key: &Bound<'_, PyAny>,
    period: (u64, u64),
) -> PyResult<String> {
    let python = key.py();
    let role = read_role(python, &role)?;
    let signer = Key::of(key)?;
    let made = || {
        let proved = csr::check(request)?;
        let issuer = certificate::from_pem(issuer)?;
        if certificate::public_key_der(&issuer)? != signer.public_key_der {
            return Err(Error::Refused("the key is not that of the issuer's certificate"));
        }
        let authority = Authority { certificate: &issuer, signer: &signer };
        let period = Period::starting(period.0, period.1);
        let made = certificate::issue(role, period, proved.public_key_der(), &authority)?;
        certificate::to_pem(&made)
    };
    made().map_err(|e| signer.error(python, &e))
}

fn read_role(python: Python<'_>, (kind, of): &(String, String)) -> PyResult<Role> {
    match kind.as_str() {
        "device" => Ok(Role::Device { id: of.parse().map_err(|e| errors::invalid(python, e))? }),
        "intermediate" => Purpose::ALL
            .into_iter()
            .find(|purpose| purpose.as_str() == of)
            .map(|purpose| Role::Intermediate { purpose })
            .ok_or_else(|| {
                errors::invalid(python, format!("{of:?} is not device, server or operator"))
            }),
        other => Err(errors::invalid(python, format!("{other:?} is not device or intermediate"))),
    }
}

/// The id of the device in a certificate, PEM.
#[pyfunction]
pub fn device_of(python: Python<'_>, certificate: &str) -> PyResult<String> {
    certificate::from_pem(certificate)
        .and_then(|found| certificate::device_of(&found))
        .map(|id| id.to_string())
        .map_err(|e| errors::of_pki(python, &e))
}

/// Whether the key of a certificate signed another one, both PEM.
#[pyfunction]
pub fn is_signed_by(python: Python<'_>, certificate: &str, issuer: &str) -> PyResult<bool> {
    let read = |pem: &str| certificate::from_pem(pem).map_err(|e| errors::of_pki(python, &e));
    Ok(certificate::is_signed_by(&read(certificate)?, &read(issuer)?))
}
