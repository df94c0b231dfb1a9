//! Tools of others that tests judge by, out of the Python registry.

use crate::{python, target};
use anyhow::Result;
use std::fs;
use std::path::PathBuf;

/// What firmware people read variables with.
const VIRT_FIRMWARE: &str = "virt-firmware==26.10";

/// Tells tests where the first of them is.
const VIRT_FW_VARS: &str = "FLEETI_VIRT_FW_VARS";

/// What [`VIRT_FW_VARS`] tells.
fn virt_fw_vars() -> PathBuf {
    target().join("tools/virt-firmware/bin/virt-fw-vars")
}

/// MQTT clients of others.
const MQTT_CLIENTS: &[&str] = &["paho-mqtt==2.2.0", "aiomqtt==2.5.1"];

/// Tells tests which Python has them.
const MQTT_PYTHON: &str = "FLEETI_MQTT_PYTHON";

/// What [`MQTT_PYTHON`] tells.
fn mqtt_python() -> PathBuf {
    target().join("tools/mqtt/bin/python")
}

/// What tells tests where all of these are.
pub fn judges() -> [(&'static str, PathBuf); 2] {
    [(VIRT_FW_VARS, virt_fw_vars()), (MQTT_PYTHON, mqtt_python())]
}

/// Installs them into `target/tools`.
pub fn install() -> Result<()> {
    let clients = target().join("tools/mqtt");
    // The last file of an installation: what was interrupted is done again.
    let is_done = clients.join("done");
    if !is_done.exists() {
        python::environment(&clients)?;
        python::install("MQTT clients", &clients, MQTT_CLIENTS)?;
        fs::write(is_done, "")?;
    }
    let folder = target().join("tools/virt-firmware");
    if !virt_fw_vars().exists() {
        python::environment(&folder)?;
        python::install("virt-firmware", &folder, &[VIRT_FIRMWARE])?;
    }
    Ok(())
}
