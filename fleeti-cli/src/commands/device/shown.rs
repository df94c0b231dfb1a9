//! Devices as text.

use crate::output::{Lines, when};
use fleeti_core::size::bytes;
use fleeti_core::wire::alarm::AlarmKind;
use fleeti_core::wire::api::Device;

/// Connection state in one word.
fn presence(d: &Device) -> &'static str {
    if d.revoked {
        "revoked"
    } else if d.online {
        "online"
    } else {
        "offline"
    }
}

pub(super) fn row(d: &Device) -> String {
    let running = d.boot.as_ref().map_or_else(|| "-".to_owned(), |b| b.running.to_string());
    let update = d.update.as_ref().map_or("-", |u| u.name());
    let name = d.name.as_ref().map_or_else(String::new, |name| format!("  {name}"));
    format!("{:<26} {:<12} {:<8} {running:<16} {update}{name}", d.id, d.fleet, presence(d))
}

/// One device, with one line for each known value. Text that the device chose is escaped.
pub(super) fn described(d: &Device) -> Lines {
    let mut lines = vec![d.id.to_string()];
    let mut line = |name: &str, value: String| lines.push(format!("  {name:<13} {value}"));
    for (name, text) in [("name", &d.name), ("note", &d.note)] {
        if let Some(text) = text {
            line(name, text.clone());
        }
    }
    line("fleet", d.fleet.to_string());
    if !d.labels.is_empty() {
        line("labels", labels(d));
    }
    if let Some(by) = &d.replaced_by {
        line("replaced by", by.to_string());
    }
    line("state", format!("{}, last seen {}", presence(d), when(d.last_seen_s)));
    if let Some(reason) = d.revocation_reason {
        line("revoked for", reason.as_str().to_owned());
    }
    if let Some(boot) = &d.boot {
        line(
            "runs",
            format!(
                "{} in slot {:?}, Secure Boot {}",
                boot.running,
                boot.slot,
                if boot.secure_boot { "on" } else { "off" }
            ),
        );
    }
    for secret in d.boot.iter().flat_map(|boot| &boot.secrets) {
        line("boot secret", format!("{}: {}", secret.name, secret.describe(when)));
    }
    if let Some(desired) = &d.desired {
        line("desired", desired.to_string());
    }
    if let Some(update) = &d.update {
        let progress = d
            .progress
            .as_ref()
            .map(|p| format!(", {} of {}", bytes(p.done), bytes(p.total)))
            .unwrap_or_default();
        line("update", format!("{}{progress}", update.name()));
    }
    if let Some(keys) = &d.secure_boot {
        let pending = if keys.change_pending { ", a change is pending" } else { "" };
        line("boot keys", format!("epoch {}{pending}", keys.epoch));
        for (name, text) in [("refused", &keys.refused), ("problem", &keys.problem)] {
            if let Some(text) = text {
                line(name, text.clone());
            }
        }
    }
    for (name, text) in [("alarm", &d.alarm), ("attestation", &d.attestation_failure)] {
        if let Some(text) = text {
            line(name, text.clone());
        }
    }
    if let Some(kind) = d.alarm.as_deref().and_then(AlarmKind::of) {
        line("hint", kind.hint().replace("DEVICE", d.id.as_str()));
    }
    line(
        "certificate",
        format!("{}, until {}", d.certificate_sha256, when(d.certificate_not_after_s)),
    );
    line("trust bundle", d.trust_bundle.to_string());
    lines.into()
}

/// The labels of a device in one line.
pub(super) fn labels(device: &Device) -> String {
    if device.labels.is_empty() {
        return "no labels".to_owned();
    }
    let labels = device.labels.iter().map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(", ")
}
