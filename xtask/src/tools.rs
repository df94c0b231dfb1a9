//! Tools of others that tests judge by, out of the Python registry.

use crate::{python, target};
use anyhow::Result;
use std::path::PathBuf;

/// What firmware people read variables with.
const VIRT_FIRMWARE: &str = "virt-firmware==26.10";

/// Tells tests where the first of them is.
pub const VIRT_FW_VARS: &str = "FLEETI_VIRT_FW_VARS";

/// What [`VIRT_FW_VARS`] tells.
pub fn virt_fw_vars() -> PathBuf {
    target().join("tools/virt-firmware/bin/virt-fw-vars")
}

/// Installs them into `target/tools`.
pub fn install() -> Result<()> {
    let folder = target().join("tools/virt-firmware");
    if !virt_fw_vars().exists() {
        python::environment(&folder)?;
        python::install("virt-firmware", &folder, &[VIRT_FIRMWARE])?;
    }
    Ok(())
}
