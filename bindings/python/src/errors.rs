//! Raises the exceptions of `python/fleeti/errors.py`.

use fleeti_client::ClientError;
use fleeti_core::wire::problem::{Code, TYPE_PREFIX};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// The codes of problems.
#[pyfunction]
pub fn problem_codes() -> Vec<&'static str> {
    Code::ALL.into_iter().map(Code::as_str).collect()
}

/// An exception of a class of `fleeti.errors`.
fn made(python: Python<'_>, class: &str, text: String, hint: Option<String>) -> PyErr {
    let made = python
        .import("fleeti.errors")
        .and_then(|errors| errors.getattr(class)?.call1((text, hint)));
    match made {
        Ok(value) => PyErr::from_value(value),
        Err(other) => other,
    }
}

/// A release, key or file that does not verify or cannot be read.
pub fn untrusted(python: Python<'_>, error: impl std::fmt::Display) -> PyErr {
    made(python, "UntrustedError", error.to_string(), None)
}

/// An argument that is not valid.
pub fn invalid(python: Python<'_>, error: impl std::fmt::Display) -> PyErr {
    made(python, "InvalidError", error.to_string(), None)
}

/// An error of cryptography: a wrong signature, or an argument that is not valid.
pub fn of_pki(python: Python<'_>, error: &fleeti_pki::Error) -> PyErr {
    match error {
        fleeti_pki::Error::Refused(_) => untrusted(python, error),
        _ => invalid(python, error),
    }
}

/// A value that does not serialize.
pub fn of_json(error: serde_json::Error) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

/// An error of the client.
pub fn of_client(python: Python<'_>, error: &ClientError) -> PyErr {
    let ClientError::Refused(problem) = error else {
        let class = match error {
            ClientError::Answer(_) | ClientError::TooLarge(_) => "AnswerError",
            _ => "ConnectionError",
        };
        return made(python, class, error.to_string(), error.hint());
    };
    let code = problem.kind.strip_prefix(TYPE_PREFIX).unwrap_or_default();
    let refused = || {
        let bytes = serde_json::to_vec(problem).map_err(of_json)?;
        let errors = python.import("fleeti.errors")?;
        errors.getattr("_refused")?.call1((code, bytes.as_slice()))
    };
    match refused() {
        Ok(value) => PyErr::from_value(value),
        Err(other) => other,
    }
}
