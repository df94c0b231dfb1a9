//! The compiled half of the Python package `fleeti`: requests, and the crates that need no server.
//! Values cross the border as JSON; `python/fleeti/models.py`, generated from the OpenAPI document,
//! has their classes. The interpreter's lock is released during file and network I/O.
//!
//! Code map: `core` (requests and events, blocking and with a call back) · `errors` (the only module
//! that knows exceptions) · `release` (`verify_release`) · `profile` · `plan` (rollouts) · `pki`
//! (certificates, keys of Python) · `attestation`. `python/fleeti/_fleeti.pyi` declares all of it; a
//! test compares it with the module.
//!
//! ```python
//! import fleeti
//! verified = fleeti.verify_release("releases/2", "public")
//! ```

mod attestation;
mod core;
mod errors;
mod pki;
mod plan;
mod profile;
mod release;

use pyo3::prelude::*;

/// The compiled half of the package `fleeti`.
#[pymodule]
mod _fleeti {
    #[pymodule_export]
    use super::attestation::{VerifiedEvidence, appraise, verify_evidence};
    #[pymodule_export]
    use super::core::{Core, EventStream, Task};
    #[pymodule_export]
    use super::errors::problem_codes;
    #[pymodule_export]
    use super::pki::{SoftKey, create_request, device_of, is_signed_by, issue, self_signed_root};
    #[pymodule_export]
    use super::plan::{budget, cohort, errors_max, plan_check, plan_preview, wave_sizes};
    #[pymodule_export]
    use super::profile::{profile_diff, profile_resolve, profile_schema, profile_toml};
    #[pymodule_export]
    use super::release::{Artifact, VerifiedRelease, release_files, verify_release};
}
