//! The crates as Python types. Each class wraps a value of `fleeti_core`, and each call is one call
//! of a crate. The interpreter's lock is released during file and network I/O.
//!
//! Code map: `errors` (the only module that knows exceptions) · `release` (`verify_release`) ·
//! `client` (`Client`, `Device`). `python/fleeti/_fleeti.pyi` declares the Python API; a test
//! compares it with the module.
//!
//! ```python
//! import fleeti
//! verified = fleeti.verify_release("releases/2", "public")
//! ```

mod client;
mod errors;
mod release;

use pyo3::prelude::*;

/// The compiled half of the package `fleeti`.
#[pymodule]
fn _fleeti(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<release::VerifiedRelease>()?;
    module.add_class::<release::Artifact>()?;
    module.add_class::<client::Client>()?;
    module.add_class::<client::Device>()?;
    module.add_function(wrap_pyfunction!(release::verify_release, module)?)?;
    errors::add_to(module)
}
