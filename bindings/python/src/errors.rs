//! The exceptions, all below `FleetiError`. Each has `hint`: what to do, or `None`.

use fleeti_client::ClientError;
use fleeti_core::wire::problem::{Code, TYPE_PREFIX};
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(
    fleeti,
    FleetiError,
    PyException,
    "Base class of all errors of fleeti. `hint` says what to do, or is None."
);
create_exception!(
    fleeti,
    UntrustedError,
    FleetiError,
    "A signature or digest does not verify. Do not use the release."
);
create_exception!(
    fleeti,
    RefusedError,
    FleetiError,
    "The server refused the request. `code` is the stable problem code, `status` the HTTP status."
);
create_exception!(fleeti, AuthenticationError, RefusedError, "The token is missing or wrong.");
create_exception!(fleeti, NotFoundError, RefusedError, "The resource does not exist.");
create_exception!(
    fleeti,
    ConnectionError,
    FleetiError,
    "The server could not be reached, or its response could not be read."
);

pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let python = module.py();
    module.add("FleetiError", python.get_type::<FleetiError>())?;
    module.add("UntrustedError", python.get_type::<UntrustedError>())?;
    module.add("RefusedError", python.get_type::<RefusedError>())?;
    module.add("AuthenticationError", python.get_type::<AuthenticationError>())?;
    module.add("NotFoundError", python.get_type::<NotFoundError>())?;
    module.add("ConnectionError", python.get_type::<ConnectionError>())
}

fn hinted(python: Python<'_>, error: PyErr, hint: Option<&str>) -> PyErr {
    match error.value(python).setattr("hint", hint) {
        Ok(()) => error,
        Err(other) => other,
    }
}

/// A release, key or file that does not verify or cannot be read.
pub fn untrusted(python: Python<'_>, error: impl std::fmt::Display) -> PyErr {
    hinted(python, UntrustedError::new_err(error.to_string()), None)
}

/// An error of the client.
pub fn of_client(python: Python<'_>, error: &ClientError) -> PyErr {
    let (text, hint) = (error.to_string(), error.hint());
    let raised = match error {
        ClientError::Refused(problem) => {
            let code = problem.kind.strip_prefix(TYPE_PREFIX).unwrap_or_default().to_owned();
            let raised = if code == Code::Unauthenticated.as_str() {
                AuthenticationError::new_err(text)
            } else if code == Code::NotFound.as_str() {
                NotFoundError::new_err(text)
            } else {
                RefusedError::new_err(text)
            };
            let value = raised.value(python);
            if let Err(other) =
                value.setattr("code", code).and_then(|()| value.setattr("status", problem.status))
            {
                return other;
            }
            raised
        }
        _ => ConnectionError::new_err(text),
    };
    hinted(python, raised, hint.as_deref())
}
