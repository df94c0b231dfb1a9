//! The crates as Python types: each class holds a value of `fleeti_core`, and each call is one call
//! of a crate. The interpreter's lock is released while files are read or the network is waited
//! for.
//!
//! Code map: `errors` (the one place that knows exceptions) · `release` (`verify_release`) ·
//! `client` (`Client`, `Device`). What Python sees is written down in `python/fleeti/_fleeti.pyi`,
//! and compared in a test.
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
