//! Provisioning: one file for each new device.

use crate::CommandResult;
use crate::commands::keys;
use crate::commands::request::refused;
use crate::output::{Failure, Lines, Output, Progress};
use fleeti_core::id::FleetId;
use fleeti_core::wire::api::Provision;
use std::path::Path;

/// Devices to provision.
pub(super) struct Provisioning<'a> {
    /// Their fleet.
    pub fleet: &'a FleetId,
    /// What they have in common.
    pub request: &'a Provision,
    /// For each one SHA-256 of its TPM's endorsement key, if that is known.
    pub devices: Vec<Option<String>>,
    /// The folder for their provisioning bundles.
    pub out: &'a Path,
}

/// Provisions the devices one after the other. What is provisioned stays, even if a later one
/// fails.
pub(super) async fn provision(
    client: &fleeti_client::Client,
    provisioning: Provisioning<'_>,
    output: &Output,
) -> CommandResult {
    let Provisioning { fleet, request, devices, out } = provisioning;
    std::fs::create_dir_all(out).map_err(|e| Failure::plain(format!("{}: {e}", out.display())))?;
    let progress = Progress::of(devices.len(), "devices");
    let mut made = Vec::new();
    for ek_sha256 in devices {
        let request = Provision { ek_sha256, ..request.clone() };
        let provisioned = client.provision(fleet, &request).await.map_err(refused)?;
        let path = out.join(format!("{}.json", provisioned.device));
        keys::write(
            &path,
            &serde_json::to_vec_pretty(&provisioned).map_err(Failure::plain)?,
            true,
        )?;
        made.push(serde_json::json!({"device": provisioned.device, "bundle": path, "expires_s": provisioned.expires_s}));
        progress.one_more();
    }
    progress.end();
    output.data(&made, |list| {
        let lines: Vec<_> = list.iter().map(|m| format!("{}  {}", text(m, "device"), text(m, "bundle"))).collect();
        Lines::from(lines).and("make disks with `fleeti release disk BUILD --release DIR --bundle FILE --out disk.raw`")
    });
    Ok(())
}

fn text<'a>(value: &'a serde_json::Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Reads the column `ek_sha256` of a CSV file; each line is a device.
pub(super) fn read_csv(path: &Path) -> Result<Vec<Option<String>>, Failure> {
    const LINES_MAX: usize = 10_000;
    let wrong = |e: String| {
        Failure::new(
            format!("{}: {e}", path.display()),
            Some("the first line must be `ek_sha256`, each other line is one device"),
        )
    };
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|e| wrong(e.to_string()))?;
    let headers = reader.headers().map_err(|e| wrong(e.to_string()))?;
    let column = headers
        .iter()
        .position(|h| h == "ek_sha256")
        .ok_or_else(|| wrong("there is no column ek_sha256".into()))?;
    let mut devices = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| wrong(e.to_string()))?;
        devices.push(record.get(column).filter(|t| !t.is_empty()).map(str::to_owned));
        if devices.len() > LINES_MAX {
            return Err(wrong(format!("more than {LINES_MAX} devices")));
        }
    }
    if devices.is_empty() {
        return Err(wrong("it has no devices".into()));
    }
    Ok(devices)
}
