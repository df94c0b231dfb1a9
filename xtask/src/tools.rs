//! Tools of others that tests judge by, out of the Python registry.

use crate::{python, target};
use anyhow::Result;

/// What firmware people read variables with.
const VIRT_FIRMWARE: &str = "virt-firmware==26.10";

/// Installs them into `target/tools`.
pub fn install() -> Result<()> {
    let folder = target().join("tools/virt-firmware");
    if !folder.join("bin/virt-fw-vars").exists() {
        python::environment(&folder)?;
        python::install("virt-firmware", &folder, &[VIRT_FIRMWARE])?;
    }
    Ok(())
}
