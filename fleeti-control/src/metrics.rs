//! Figures about the server, in the text format of Prometheus.
//!
//! Everybody who reaches the API may read them: no figure names a device, fleet, person or
//! certificate, and none has more values than its kind has names.

use crate::context::Context;
use crate::doctor::{self, LastBackup};
use crate::error::Error;
use crate::figures::{KINDS, Outcome};
use crate::{devices, health};
use fleeti_core::wire::doctor::EndingKind;
use fleeti_store as store;
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::time::{Duration, Instant};

/// The text is made again after this time, however often it is asked for.
const MADE_AGAIN: Duration = Duration::from_secs(5);

/// Figures about the server.
///
/// # Errors
/// When the database does not answer.
pub async fn text(cx: &Context) -> Result<String, Error> {
    // One at a time: the others wait, and get the same text.
    let mut kept = cx.figures.text.lock().await;
    if let Some((made, text)) = kept.as_ref()
        && made.elapsed() < MADE_AGAIN
    {
        return Ok(text.clone());
    }
    let text = make(cx).await?;
    *kept = Some((Instant::now(), text.clone()));
    Ok(text)
}

async fn make(cx: &Context) -> Result<String, Error> {
    let mut out = Figures::default();
    let version = env!("CARGO_PKG_VERSION");
    out.family("fleeti_info", "gauge", "The version of the server.");
    out.line("fleeti_info", &[("version", version)], 1);
    let counts = devices::counts(cx).await?;
    out.one("fleeti_devices_connected", "gauge", "Devices with an open session.", counts.online);
    let help = "Devices with an update in progress.";
    out.one("fleeti_devices_updating", "gauge", help, counts.moving);
    let help = "Devices whose last update failed or was rolled back, or that raise an alarm.";
    out.one("fleeti_devices_in_trouble", "gauge", help, counts.in_trouble);
    messages(cx, &mut out);
    let help = "Rollouts that have not ended.";
    out.one("fleeti_rollouts_active", "gauge", help, store::rollouts::active(cx.db.pool()).await?);
    queues(cx, &mut out);
    writer(cx, &mut out);
    ends(cx, &mut out);
    Ok(out.0)
}

fn messages(cx: &Context, out: &mut Figures) {
    let name = "fleeti_device_messages_total";
    out.family(name, "counter", "Messages of devices since the start, by what became of them.");
    for (kind, shown) in KINDS {
        for outcome in Outcome::ALL {
            let labels = [("kind", shown), ("outcome", outcome.as_str())];
            out.line(name, &labels, cx.figures.messages(kind, outcome));
        }
    }
}

fn queues(cx: &Context, out: &mut Figures) {
    let help = "Acts that wait for the audit log.";
    out.one("fleeti_audit_acts_waiting", "gauge", help, health::waiting_acts(cx));
    let help = "Whether the signing service answers.";
    let up = u8::from(!health::is_signer_away(cx));
    out.one("fleeti_signer_up", "gauge", help, up);
    let help = "Warnings of /readyz.";
    out.one("fleeti_warnings", "gauge", help, health::warnings(cx).len());
    if let Some(disk) = health::disk_of(&cx.settings) {
        let help = "Free bytes of the disk of the data folder.";
        out.one("fleeti_disk_free_bytes", "gauge", help, disk.free);
        let help = "Below it builds and uploads are refused.";
        out.one("fleeti_disk_floor_bytes", "gauge", help, disk.floor);
    }
}

fn writer(cx: &Context, out: &mut Figures) {
    let hold = cx.db.writer_hold();
    let seconds = |us: u32| f64::from(us) / 1e6;
    let name = "fleeti_database_writer_hold_seconds";
    let help = "How long the newest 1024 transactions held the only connection that writes.";
    out.family(name, "summary", help);
    for (quantile, us) in [("0.5", hold.median_us), ("0.99", hold.p99_us), ("1", hold.max_us)] {
        out.line(name, &[("quantile", quantile)], seconds(us));
    }
    out.line(&format!("{name}_count"), &[], hold.transactions);
}

fn ends(cx: &Context, out: &mut Figures) {
    let mut first: BTreeMap<EndingKind, u64> = BTreeMap::new();
    for ending in doctor::endings(cx) {
        let ends_s = first.entry(ending.kind).or_insert(ending.ends_s);
        *ends_s = ending.ends_s.min(*ends_s);
    }
    let name = "fleeti_end_timestamp_seconds";
    out.family(name, "gauge", "When the first certificate or CRL of a kind ends.");
    for (kind, ends_s) in first {
        out.line(name, &[("kind", kind.as_str())], ends_s);
    }
    if let Some(backup) = LastBackup::read(&cx.settings.data) {
        let help = "When the last backup was made.";
        out.one("fleeti_backup_timestamp_seconds", "gauge", help, backup.made_s);
    }
}

/// Text in the format of Prometheus. Labels are names of this program: nothing has to be escaped.
#[derive(Default)]
struct Figures(String);

impl Figures {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").ok();
    }
    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        writeln!(self.0, "{name}{labels} {value}").ok();
    }
    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.line(name, &[], value);
    }
}
