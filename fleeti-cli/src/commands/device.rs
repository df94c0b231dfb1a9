//! `fleeti device`.

use super::keys;
use super::server::{Server, block_on, refused};
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, Progress, bytes, rows, when};
use clap::{Subcommand, ValueEnum};
use fleeti_core::id::{DeviceId, FleetId, ReleaseName, Version};
use fleeti_core::strict;
use fleeti_core::wire::api::{
    BootOrder, ChangeBoot, CreateCommand, Device, Pair, Provision, Provisioned, RevocationReason,
};
use fleeti_core::wire::device::{EnrollmentRecord, Order, SMBIOS_PREFIX};
use fleeti_core::wire::readmission::CreateReadmission;
use fleeti_core::wire::vault::ShowRecoveryKey;
use std::path::{Path, PathBuf};

/// What to do with devices.
#[derive(Subcommand)]
pub enum Command {
    /// List devices: what they run, where their update stands.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Show one device.
    Show {
        device: DeviceId,
        #[command(flatten)]
        server: Server,
    },
    /// Make an enrollment record with a one-time token for a new device.
    Enrollment {
        /// The fleet that the device joins.
        #[arg(long)]
        fleet: FleetId,
        /// Hours until the token expires.
        #[arg(long, default_value_t = 24)]
        hours: u32,
        /// Where the record goes (mode 0600); give it to `fleeti release disk --record`.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// Let a device in that shows a code on its screen.
    Pair {
        /// The code, as in BCDF-GHJK.
        code: String,
        /// The fleet that the device joins.
        #[arg(long)]
        fleet: FleetId,
        #[command(flatten)]
        server: Server,
    },
    /// Make an enrollment record without a token: a device that is made with it shows a code
    /// (`fleeti device pair`).
    PairingRecord {
        /// Where the record goes; give it to `fleeti release disk --record`.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// Make the records of devices that are about to be made: id, one-time token, Secure Boot keys
    /// and signatures.
    ///
    /// Each becomes a file, DIR/DEVICE.json (mode 0600), for `fleeti release disk --bundle`. With
    /// --csv there is one device for each line; its columns are `ek_sha256` (may be empty: any TPM)
    /// and nothing else is needed.
    Provision {
        /// The fleet that they join.
        #[arg(long)]
        fleet: FleetId,
        /// The release that will be on their disks; it is signed for each of them.
        #[arg(long)]
        release: Option<ReleaseName>,
        /// How many.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000), conflicts_with_all = ["csv", "ek_sha256"])]
        count: u32,
        /// One device for each line, with the header `ek_sha256`.
        #[arg(long, conflicts_with = "ek_sha256")]
        csv: Option<PathBuf>,
        /// SHA-256 of the TPM's endorsement key (SubjectPublicKeyInfo): only that TPM may use the
        /// token.
        #[arg(long)]
        ek_sha256: Option<String>,
        /// No Secure Boot keys of their own: they start what is signed for all devices of the
        /// organisation.
        #[arg(long)]
        fleet_keys: bool,
        /// An HTTP proxy (CONNECT) through which they reach the server, `http://HOST:PORT`; the
        /// server's default otherwise.
        #[arg(long, value_name = "URL")]
        proxy: Option<String>,
        /// Days until the tokens expire.
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=30))]
        days: u32,
        /// The folder for the files.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// Write an enrollment record as an OEM string of SMBIOS (type 11), for a virtual machine that
    /// is made from one disk for all.
    ///
    /// For QEMU: `-smbios type=11,path=OUT`. The token is in it: the file is readable by its owner
    /// alone, and no command line has it. The device looks there before it looks on its ESP.
    Smbios {
        /// A record (`fleeti device enrollment`), or the bundle of a device (`fleeti device
        /// provision`).
        record: PathBuf,
        /// Where the string goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Change the Secure Boot keys of a device.
    ///
    /// `begin-epoch` adds a new db key and signs what the device runs with it; `end-epoch` takes
    /// the old one away, so that whatever was signed before boots no more; `forbid` puts one
    /// release into dbx. The device makes the change when it hears of it, and refuses one after
    /// which it would not boot.
    BootKeys {
        device: DeviceId,
        #[arg(value_enum)]
        change: BootChangeName,
        /// The release to forbid.
        #[arg(long, required_if_eq("change", "forbid"))]
        release: Option<ReleaseName>,
        /// The other slot may boot no more afterwards.
        #[arg(long)]
        may_end_fallback: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Order a device to do something; delivered now, or when it is back.
    #[command(name = "command")]
    Order {
        device: DeviceId,
        #[arg(value_enum)]
        order: OrderName,
        /// Minutes until it is not to be carried out any more.
        #[arg(long, default_value_t = 60)]
        minutes: u32,
        #[command(flatten)]
        server: Server,
    },
    /// Show what opens a device's data partition without its TPM: after a repair, or when the disk
    /// is in another machine.
    ///
    /// Who asked and why is in the audit log before the key is shown. The device makes a new key at
    /// the boot after it has heard of that. With the disk at hand: `cryptsetup open
    /// /dev/disk/by-partlabel/fleeti-data data`, and the key as the passphrase.
    RecoveryKey {
        device: DeviceId,
        /// Why, in words.
        #[arg(long)]
        reason: String,
        /// The one before: where the newest does not open the partition.
        #[arg(long)]
        previous: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Let a device try a version again that was rolled back on it.
    Forgive {
        device: DeviceId,
        #[arg(long)]
        version: Version,
        #[command(flatten)]
        server: Server,
    },
    /// Revoke a device: its sessions end now and it cannot come back.
    Revoke {
        device: DeviceId,
        /// Why; a hold is the only one that can be taken back.
        #[arg(long, value_enum, default_value = "unspecified")]
        reason: ReasonName,
        #[command(flatten)]
        server: Server,
    },
    /// Take back a revocation that was a hold.
    ReleaseHold {
        device: DeviceId,
        #[command(flatten)]
        server: Server,
    },
    /// Let devices of a fleet in again whose certificates have ended and whose keys are files.
    /// Those with a TPM come back by themselves.
    Readmit {
        /// Whose devices.
        #[arg(long)]
        fleet: FleetId,
        /// Why; it stands in the audit log.
        #[arg(long)]
        reason: String,
        /// For how long.
        #[arg(long, default_value_t = 168, value_parser = clap::value_parser!(u32).range(1..=720))]
        hours: u32,
        #[command(flatten)]
        server: Server,
    },
}

/// Why a certificate is revoked (RFC 5280, 5.3.1).
#[derive(Clone, Copy, ValueEnum)]
pub enum ReasonName {
    /// Nobody says.
    Unspecified,
    /// Somebody else has the key, or may have it.
    KeyCompromise,
    /// The device is not used any more.
    CessationOfOperation,
    /// The device may not take part any more.
    PrivilegeWithdrawn,
    /// For the time being.
    Hold,
}

impl From<ReasonName> for RevocationReason {
    fn from(name: ReasonName) -> Self {
        match name {
            ReasonName::Unspecified => Self::Unspecified,
            ReasonName::KeyCompromise => Self::KeyCompromise,
            ReasonName::CessationOfOperation => Self::CessationOfOperation,
            ReasonName::PrivilegeWithdrawn => Self::PrivilegeWithdrawn,
            ReasonName::Hold => Self::CertificateHold,
        }
    }
}

/// What to change about Secure Boot keys.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BootChangeName {
    /// A new db key beside the one that there is.
    BeginEpoch,
    /// The newest db key alone.
    EndEpoch,
    /// A release that must not boot.
    Forbid,
}

/// What a device can be ordered to do.
#[derive(Clone, Copy, ValueEnum)]
pub enum OrderName {
    /// Send a report.
    Report,
    /// Reboot.
    Reboot,
    /// You have looked into the alarm that the device raised.
    ClearAlarm,
    /// Make a new recovery key at the next boot, and end the one that there is.
    NewRecoveryKey,
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::List { server } => {
            let devices = server.ask(async |c| c.devices().await)?;
            output.data(&devices, |d| {
                rows(d, "no device yet; make a record with `fleeti device enrollment`", row)
            });
            Ok(())
        }
        Command::Show { device, server } => {
            let device = server.ask(async |c| c.device(&device).await)?;
            output.data(&device, described);
            Ok(())
        }
        Command::Pair { code, fleet, server } => {
            let paired = server.ask(async |c| c.pair(&Pair { code, fleet }).await)?;
            output.data(&paired, |p| {
                format!(
                    "a device that runs {} joins {}; its key is {}",
                    p.running, p.fleet, p.key_sha256
                )
            });
            Ok(())
        }
        Command::PairingRecord { out, server } => {
            let record = server.ask(async |c| c.enrollment_record().await)?;
            keys::write(&out, &serde_json::to_vec_pretty(&record).map_err(Failure::plain)?, true)?;
            output
                .data(&serde_json::json!({"record": out}), |_| format!("wrote {}", out.display()));
            Ok(())
        }
        Command::Enrollment { fleet, hours, out, server } => {
            let valid_s = hours.saturating_mul(3600);
            let enrollment = server.ask(async |c| c.create_enrollment(&fleet, valid_s).await)?;
            let text = serde_json::to_vec_pretty(&enrollment.record).map_err(Failure::plain)?;
            keys::write(&out, &text, true)?;
            let data = serde_json::json!({"record": out, "expires_s": enrollment.expires_s});
            output.data(&data, |_| {
                format!("wrote {}, good for one device and {hours} hours", out.display())
            });
            Ok(())
        }
        Command::Provision {
            fleet,
            release,
            count,
            csv,
            ek_sha256,
            fleet_keys,
            proxy,
            days,
            out,
            server,
        } => {
            let devices = match &csv {
                Some(path) => read_csv(path)?,
                None => vec![ek_sha256; count as usize],
            };
            let request =
                Provision { valid_s: days * 86_400, release, ek_sha256: None, fleet_keys, proxy };
            block_on(provision(&server.client()?, &fleet, &request, devices, &out, output))
        }
        Command::Smbios { record, out } => {
            let bytes = keys::read(&record)?;
            let of_bundle = strict::from_slice::<Provisioned>(&bytes).map(|b| b.record);
            let found = of_bundle.or_else(|_| strict::from_slice::<EnrollmentRecord>(&bytes));
            let hint =
                Some("give what `fleeti device enrollment` or `fleeti device provision` wrote");
            let found =
                found.map_err(|e| Failure::new(format!("{}: {e}", record.display()), hint))?;
            let json = serde_json::to_vec(&found).map_err(Failure::plain)?;
            keys::write(
                &out,
                format!("{SMBIOS_PREFIX}{}", fleeti_pki::base64_text(&json)).as_bytes(),
                true,
            )?;
            output.data(&serde_json::json!({"smbios": out}), |_| {
                format!(
                    "wrote {}; start the machine with `-smbios type=11,path={}`",
                    out.display(),
                    out.display()
                )
            });
            Ok(())
        }
        Command::BootKeys { device, change, release, may_end_fallback, server } => {
            let order = match (change, release) {
                (BootChangeName::BeginEpoch, _) => BootOrder::BeginEpoch,
                (BootChangeName::EndEpoch, _) => BootOrder::EndEpoch,
                (BootChangeName::Forbid, Some(release)) => BootOrder::Forbid { release },
                (BootChangeName::Forbid, None) => {
                    return Err(Failure::plain("forbid needs --release"));
                }
            };
            let request = ChangeBoot { order, may_end_fallback };
            let device = server.ask(async |c| c.change_boot(&device, &request).await)?;
            output.data(&device, |d| {
                let epoch = d.secure_boot.as_ref().map_or(0, |s| s.epoch);
                format!("{} is told; its newest db key is of epoch {epoch}", d.id)
            });
            Ok(())
        }
        Command::RecoveryKey { device, reason, previous, server } => {
            let key = server.ask(async |c| {
                c.show_recovery_key(&device, &ShowRecoveryKey { reason, previous }).await
            })?;
            let until = "it opens the data partition until the device has heard that somebody saw it, and booted then";
            output.data(&serde_json::json!({"device": device, "recovery_key": key}), |_| {
                Lines::from(key.expose().to_owned()).and(until)
            });
            Ok(())
        }
        Command::Order { device, order, minutes, server } => {
            let order = match order {
                OrderName::Report => Order::Report,
                OrderName::Reboot => Order::Reboot,
                OrderName::ClearAlarm => Order::ClearAlarm,
                OrderName::NewRecoveryKey => Order::NewRecoveryKey,
            };
            let request = CreateCommand { order, valid_s: minutes.saturating_mul(60) };
            let status = server.ask(async |c| c.create_command(&device, &request).await)?;
            output.data(&status, |s| format!("{} {}", s.id, s.status));
            Ok(())
        }
        Command::Forgive { device, version, server } => {
            let device = server.ask(async |c| c.forgive_device(&device, &version).await)?;
            output.data(&device, |d| format!("{} may try {version} again", d.id));
            Ok(())
        }
        Command::Revoke { device, reason, server } => {
            let device = server.ask(async |c| c.revoke_device(&device, reason.into()).await)?;
            output.data(&device, |d| format!("{} is revoked", d.id));
            Ok(())
        }
        Command::Readmit { fleet, reason, hours, server } => {
            let request = CreateReadmission { reason, valid_s: hours.saturating_mul(3600) };
            let opened = server.ask(async |c| c.readmit(&fleet, &request).await)?;
            output.data(&opened, |o| {
                format!(
                    "{} is open for {hours} hours; {} devices may come back",
                    o.fleet, o.devices
                )
            });
            Ok(())
        }
        Command::ReleaseHold { device, server } => {
            let device = server.ask(async |c| c.release_hold(&device).await)?;
            output.data(&device, |d| format!("{} may come back", d.id));
            Ok(())
        }
    }
}

/// Provisions one device after the other; what was made is kept, whatever comes after it.
async fn provision(
    client: &fleeti_client::Client,
    fleet: &FleetId,
    request: &Provision,
    devices: Vec<Option<String>>,
    out: &Path,
    output: &Output,
) -> CommandResult {
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
        Lines::from(lines).and("make a disk with `fleeti release disk BUILD --release DIR --bundle FILE --out disk.raw`")
    });
    Ok(())
}

fn text<'a>(value: &'a serde_json::Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The column `ek_sha256` of a file; every line is a device.
fn read_csv(path: &Path) -> Result<Vec<Option<String>>, Failure> {
    const LINES_MAX: usize = 10_000;
    let wrong = |e: String| {
        Failure::new(
            format!("{}: {e}", path.display()),
            Some("the first line is `ek_sha256`, each other one a device"),
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
        return Err(wrong("there is no device in it".into()));
    }
    Ok(devices)
}

/// Whether a device is there, in a word.
fn presence(d: &Device) -> &'static str {
    if d.revoked {
        "revoked"
    } else if d.online {
        "online"
    } else {
        "offline"
    }
}

fn row(d: &Device) -> String {
    let running = d.boot.as_ref().map_or_else(|| "-".to_owned(), |b| b.running.to_string());
    let update = d.update.as_ref().map_or("-", |u| u.name());
    format!("{:<26} {:<12} {:<8} {running:<16} {update}", d.id, d.fleet, presence(d))
}

/// One device, a line for each thing that is known of it. What the device chose itself is escaped.
fn described(d: &Device) -> Lines {
    let mut lines = vec![d.id.to_string()];
    let mut line = |name: &str, value: String| lines.push(format!("  {name:<13} {value}"));
    line("fleet", d.fleet.to_string());
    line("state", format!("{}, last heard {}", presence(d), when(d.last_seen_s)));
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
    if let Some(desired) = &d.desired {
        line("should run", desired.to_string());
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
        let pending = if keys.change_pending { ", a change is on its way" } else { "" };
        line("boot keys", format!("epoch {}{pending}", keys.epoch));
        for (name, text) in [("refused", &keys.refused), ("problem", &keys.problem)] {
            if let Some(text) = text {
                line(name, text.clone());
            }
        }
    }
    for (name, text) in [("alarm", &d.alarm), ("contradiction", &d.contradiction)] {
        if let Some(text) = text {
            line(name, text.clone());
        }
    }
    line(
        "certificate",
        format!("{}, until {}", d.certificate_sha256, when(d.certificate_not_after_s)),
    );
    line("trust bundle", d.trust_bundle.to_string());
    lines.into()
}
