//! `fleeti device`.

mod chosen;
mod commands;
mod past;
mod provision;
mod shown;
mod updates;

use super::approval;
use super::keys;
use super::request::block_on;
use super::server::Server;
use crate::CommandResult;
use crate::output::{Failure, Lines, Output, when};
use clap::{Args, Subcommand, ValueEnum};
use fleeti_core::id::{DeviceId, FleetId, ReleaseName, Version};
use fleeti_core::strict;
use fleeti_core::wire::api::{
    BootKeyChange, ChangeBoot, Pair, Provision, Provisioned, RevocationReason,
};
use fleeti_core::wire::approval::AskedAct;
use fleeti_core::wire::enrollment::{EnrollmentRecord, SMBIOS_PREFIX};
use fleeti_core::wire::readmission::CreateReadmission;
use fleeti_core::wire::vault::ShowRecoveryKey;
use provision::{Provisioning, provision, read_csv};
use shown::described;
use std::path::{Path, PathBuf};

/// What to do with devices.
#[derive(Subcommand)]
pub enum Command {
    List(chosen::List),
    /// Show one device.
    Show {
        /// Id of the device.
        device: DeviceId,
        #[command(flatten)]
        server: Server,
    },
    /// Show what a device was and ran, for example on a Tuesday, and its metrics.
    History(past::Past),
    /// Show how a device differs from what is desired of it.
    Drift {
        /// Id of the device.
        device: DeviceId,
        #[command(flatten)]
        server: Server,
    },
    /// Create an enrollment record with a one-time token for a new device.
    Enrollment {
        /// The fleet that the device joins.
        #[arg(long)]
        fleet: FleetId,
        /// Hours until the token expires.
        #[arg(long, default_value_t = 24)]
        hours: u32,
        /// Output file of the record (mode 0600), for `fleeti release disk --record`.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// Enroll the device that shows a pairing code on its screen.
    Pair {
        /// The pairing code, as in BCDF-GHJK.
        code: String,
        /// The fleet that the device joins.
        #[arg(long)]
        fleet: FleetId,
        #[command(flatten)]
        server: Server,
    },
    /// Create an enrollment record without a token. A device with this record shows a pairing code
    /// (`fleeti device pair`).
    PairingRecord {
        /// Output file of the record, for `fleeti release disk --record`.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// Provision new devices before their disks are made: id, one-time token, Secure Boot keys and
    /// signatures.
    ///
    /// Writes one file for each device, DIR/DEVICE.json (mode 0600), for `fleeti release disk
    /// --bundle`. With --csv, each line is one device; the only column that is needed is
    /// `ek_sha256`, and an empty value allows any TPM.
    Provision {
        /// The fleet that they join.
        #[arg(long)]
        fleet: FleetId,
        /// The release on their disks. The server signs it for each of them.
        #[arg(long)]
        release: Option<ReleaseName>,
        /// Number of devices.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000), conflicts_with_all = ["csv", "ek_sha256"])]
        count: u32,
        /// CSV file with the header `ek_sha256` and one line for each device.
        #[arg(long, conflicts_with = "ek_sha256")]
        csv: Option<PathBuf>,
        /// SHA-256 of the TPM's endorsement key (SubjectPublicKeyInfo). Only this TPM may use the
        /// token.
        #[arg(long)]
        ek_sha256: Option<String>,
        /// Create no Secure Boot keys for the devices. They boot what is signed for all devices of
        /// the organisation.
        #[arg(long)]
        fleet_keys: bool,
        /// HTTP proxy (CONNECT) through which the devices reach the server, `http://HOST:PORT`; the
        /// server's default if not given.
        #[arg(long, value_name = "URL")]
        proxy: Option<String>,
        /// Days until the tokens expire.
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=30))]
        days: u32,
        /// Output folder.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// Write an enrollment record as an SMBIOS OEM string (type 11), for virtual machines that
    /// share one disk image.
    ///
    /// Use with QEMU: `-smbios type=11,path=OUT`. The string contains the token, so only the owner
    /// can read the file, and the token is on no command line. The device reads OEM strings before
    /// the record on its ESP.
    Smbios {
        /// A record (`fleeti device enrollment`), or the file of a provisioned device (`fleeti
        /// device provision`).
        record: PathBuf,
        /// Output file of the string.
        #[arg(long)]
        out: PathBuf,
    },
    BootKeys(BootKeys),
    Label(chosen::LabelDevice),
    Name(chosen::NameDevice),
    Note(chosen::NoteDevice),
    Replace(chosen::ReplaceDevice),
    ChangeAll(chosen::ChangeAll),
    #[command(name = "command")]
    Send(commands::SendCommand),
    Commands(commands::ListCommands),
    Cancel(commands::CancelCommand),
    Result(commands::ResultOf),
    #[command(name = "command-status")]
    Status(commands::StatusOf),
    /// Print the certificate of a device, PEM, for programs that compare certificates.
    Certificate {
        /// Id of the device.
        device: DeviceId,
        #[command(flatten)]
        server: Server,
    },
    /// Show the recovery key of a device's data partition: for use after a repair, or when the disk
    /// is in another machine.
    ///
    /// The server writes the caller and the reason to the audit log before it shows the key. After
    /// the device has learned of this, it makes a new key at its next boot. To open the partition,
    /// run `cryptsetup open /dev/disk/by-partlabel/fleeti-data data` and enter the key as the
    /// passphrase. With --status the command shows only whether the server has a key, and since
    /// when.
    RecoveryKey {
        /// Id of the device.
        device: DeviceId,
        /// Reason, for the audit log.
        #[arg(long, required_unless_present = "status")]
        reason: Option<String>,
        /// Show only whether there is a key, and when it was last shown.
        #[arg(long, conflicts_with_all = ["reason", "previous", "ask"])]
        status: bool,
        /// Show the previous key, for when the newest one does not open the partition.
        #[arg(long)]
        previous: bool,
        /// Request the approval of a second person instead. `fleeti approval collect` then shows the
        /// key.
        #[arg(long)]
        ask: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Allow a device to install a version again that was rolled back on it.
    Forgive {
        /// Id of the device.
        device: DeviceId,
        /// The version that was rolled back.
        #[arg(long)]
        version: Version,
        #[command(flatten)]
        server: Server,
    },
    #[command(flatten)]
    Updates(updates::Order),
    /// Revoke a device: the server ends its sessions now and refuses it from then on.
    Revoke {
        /// Id of the device.
        device: DeviceId,
        /// Reason of the revocation. Only `hold` can be undone (`fleeti device release-hold`).
        #[arg(long, value_enum, default_value = "unspecified")]
        reason: ReasonName,
        #[command(flatten)]
        server: Server,
    },
    /// Undo a revocation with the reason `hold`.
    ReleaseHold {
        /// Id of the device.
        device: DeviceId,
        #[command(flatten)]
        server: Server,
    },
    /// Allow devices of a fleet whose certificates have expired and whose keys are files to renew
    /// their certificates. Devices with a TPM need no readmission.
    Readmit {
        /// The fleet of the devices.
        #[arg(long)]
        fleet: FleetId,
        /// Reason, for the audit log.
        #[arg(long)]
        reason: String,
        /// Hours for which readmission is open.
        #[arg(long, default_value_t = 168, value_parser = clap::value_parser!(u32).range(1..=720))]
        hours: u32,
        #[command(flatten)]
        server: Server,
    },
}

/// Revocation reason of a certificate (RFC 5280, 5.3.1).
#[derive(Clone, Copy, ValueEnum)]
pub enum ReasonName {
    /// No reason given.
    Unspecified,
    /// The private key is, or may be, known to another party.
    KeyCompromise,
    /// The device is no longer used.
    CessationOfOperation,
    /// The device is no longer allowed to take part.
    PrivilegeWithdrawn,
    /// Suspended for now; can be undone.
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

/// The change of Secure Boot keys.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BootChangeName {
    /// Add a new db key to the current one.
    BeginEpoch,
    /// Keep the newest db key only.
    EndEpoch,
    /// Add a release to dbx.
    Forbid,
}

/// Change the Secure Boot keys of a device.
///
/// `begin-epoch` adds a new db key and signs the releases of the device with it. `end-epoch`
/// removes the old db key: what was signed only with it no longer boots. `forbid` adds one
/// release to dbx. The device applies the change when it receives it, and refuses a change
/// after which it could not boot.
#[derive(Args)]
pub struct BootKeys {
    /// Id of the device.
    device: DeviceId,
    /// The change.
    #[arg(value_enum)]
    change: BootChangeName,
    /// The release to forbid.
    #[arg(long, required_if_eq("change", "forbid"))]
    release: Option<ReleaseName>,
    /// Allow a change after which the release in the other slot no longer boots.
    #[arg(long)]
    may_end_fallback: bool,
    #[command(flatten)]
    server: Server,
}

pub fn run(command: Command, output: &Output) -> CommandResult {
    match command {
        Command::List(request) => chosen::list(&request, output),
        Command::Label(request) => chosen::label(request, output),
        Command::Name(request) => chosen::name(request, output),
        Command::Note(request) => chosen::note(request, output),
        Command::Replace(request) => chosen::replace(&request, output),
        Command::ChangeAll(request) => chosen::change_all(request, output),
        Command::Show { device, server } => show(&device, &server, output),
        Command::History(past) => past::history(&past, output),
        Command::Drift { device, server } => past::drift(&device, &server, output),
        Command::Pair { code, fleet, server } => pair(code, fleet, &server, output),
        Command::PairingRecord { out, server } => pairing_record(&out, &server, output),
        Command::Enrollment { fleet, hours, out, server } => {
            enrollment(&fleet, hours, &out, &server, output)
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
            let provisioning =
                Provisioning { fleet: &fleet, request: &request, devices, out: &out };
            block_on(provision(&server.client()?, provisioning, output))
        }
        Command::Smbios { record, out } => smbios(&record, &out, output),
        Command::BootKeys(arguments) => boot_keys(arguments, output),
        Command::RecoveryKey { device, status: true, server, .. } => {
            recovery_key_status(&device, &server, output)
        }
        Command::RecoveryKey { device, reason, previous, ask, server, .. } => {
            // Required without --status.
            let reason = reason.unwrap_or_default();
            let request = ShowRecoveryKey { reason: reason.clone(), previous };
            if ask {
                let act = AskedAct::ShowRecoveryKey { device, request };
                return approval::request(act, reason, &server, output);
            }
            recovery_key(&device, &request, &server, output)
        }
        Command::Send(request) => commands::send(request, output),
        Command::Commands(request) => commands::list(&request, output),
        Command::Cancel(request) => commands::cancel(&request, output),
        Command::Result(request) => commands::result(&request, output),
        Command::Status(request) => commands::status(&request, output),
        Command::Certificate { device, server } => certificate(&device, &server, output),
        Command::Updates(order) => updates::run(order, output),
        Command::Forgive { device, version, server } => forgive(&device, &version, &server, output),
        Command::Revoke { device, reason, server } => revoke(&device, reason, &server, output),
        Command::Readmit { fleet, reason, hours, server } => {
            readmit(&fleet, reason, hours, &server, output)
        }
        Command::ReleaseHold { device, server } => release_hold(&device, &server, output),
    }
}

fn show(device: &DeviceId, server: &Server, output: &Output) -> CommandResult {
    let device = server.ask(async |c| c.device(device).await)?;
    output.data(&device, described);
    Ok(())
}

fn pair(code: String, fleet: FleetId, server: &Server, output: &Output) -> CommandResult {
    let paired = server.ask(async |c| c.pair(&Pair { code, fleet }).await)?;
    output.data(&paired, |p| {
        format!(
            "a device that runs {} joins fleet {}; its key is {}",
            p.running, p.fleet, p.key_sha256
        )
    });
    Ok(())
}

fn pairing_record(out: &Path, server: &Server, output: &Output) -> CommandResult {
    let record = server.ask(async |c| c.enrollment_record().await)?;
    keys::write(out, &serde_json::to_vec_pretty(&record).map_err(Failure::plain)?, true)?;
    output.data(&serde_json::json!({"record": out}), |_| format!("wrote {}", out.display()));
    Ok(())
}

fn enrollment(
    fleet: &FleetId,
    hours: u32,
    out: &Path,
    server: &Server,
    output: &Output,
) -> CommandResult {
    let valid_s = hours.saturating_mul(3600);
    let enrollment = server.ask(async |c| c.create_enrollment(fleet, valid_s).await)?;
    let text = serde_json::to_vec_pretty(&enrollment.record).map_err(Failure::plain)?;
    keys::write(out, &text, true)?;
    let data = serde_json::json!({"record": out, "expires_s": enrollment.expires_s});
    output.data(&data, |_| {
        format!("wrote {}, valid for one device and {hours} hours", out.display())
    });
    Ok(())
}

fn smbios(record: &Path, out: &Path, output: &Output) -> CommandResult {
    let bytes = keys::read(record)?;
    let of_bundle = strict::from_slice::<Provisioned>(&bytes).map(|b| b.record);
    let found = of_bundle.or_else(|_| strict::from_slice::<EnrollmentRecord>(&bytes));
    let hint =
        Some("name a file that `fleeti device enrollment` or `fleeti device provision` wrote");
    let found = found.map_err(|e| Failure::new(format!("{}: {e}", record.display()), hint))?;
    let json = serde_json::to_vec(&found).map_err(Failure::plain)?;
    keys::write(
        out,
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

fn boot_keys(arguments: BootKeys, output: &Output) -> CommandResult {
    let BootKeys { device, change, release, may_end_fallback, server } = arguments;
    let change = match (change, release) {
        (BootChangeName::BeginEpoch, _) => BootKeyChange::BeginEpoch,
        (BootChangeName::EndEpoch, _) => BootKeyChange::EndEpoch,
        (BootChangeName::Forbid, Some(release)) => BootKeyChange::Forbid { release },
        (BootChangeName::Forbid, None) => {
            return Err(Failure::plain("forbid needs --release"));
        }
    };
    let request = ChangeBoot { change, may_end_fallback };
    let device = server.ask(async |c| c.change_boot(&device, &request).await)?;
    output.data(&device, |d| {
        let epoch = d.secure_boot.as_ref().map_or(0, |s| s.epoch);
        format!("the change is sent to {}; its newest db key is of epoch {epoch}", d.id)
    });
    Ok(())
}

fn recovery_key(
    device: &DeviceId,
    request: &ShowRecoveryKey,
    server: &Server,
    output: &Output,
) -> CommandResult {
    let key = server.ask(async |c| c.show_recovery_key(device, request).await)?;
    let until = "it opens the data partition until the device learns that it was shown, and boots after that";
    output.data(&serde_json::json!({"device": device, "recovery_key": key}), |_| {
        Lines::from(key.expose().to_owned()).and(until)
    });
    Ok(())
}

fn recovery_key_status(device: &DeviceId, server: &Server, output: &Output) -> CommandResult {
    let status = server.ask(async |c| c.recovery_key(device).await)?;
    output.data(&status, |s| {
        let shown = s.shown_s.map_or_else(|| "never".to_owned(), when);
        Lines::from(format!("the server has the recovery key of {device}"))
            .and(format!("  stored      {}", when(s.kept_s)))
            .and(format!("  last shown  {shown}"))
            .and(format!("  previous    {}", if s.has_previous { "kept as well" } else { "none" }))
    });
    Ok(())
}

fn certificate(device: &DeviceId, server: &Server, output: &Output) -> CommandResult {
    let pem = server.ask(async |c| c.certificate(device).await)?;
    let data = serde_json::json!({"device": device, "certificate_pem": pem});
    output.data(&data, |_| Lines::of_document(&pem));
    Ok(())
}

fn forgive(
    device: &DeviceId,
    version: &Version,
    server: &Server,
    output: &Output,
) -> CommandResult {
    let device = server.ask(async |c| c.forgive_device(device, version).await)?;
    output.data(&device, |d| format!("{} may install {version} again", d.id));
    Ok(())
}

fn revoke(
    device: &DeviceId,
    reason: ReasonName,
    server: &Server,
    output: &Output,
) -> CommandResult {
    let device = server.ask(async |c| c.revoke_device(device, reason.into()).await)?;
    output.data(&device, |d| format!("{} is revoked", d.id));
    Ok(())
}

fn readmit(
    fleet: &FleetId,
    reason: String,
    hours: u32,
    server: &Server,
    output: &Output,
) -> CommandResult {
    let request = CreateReadmission { reason, valid_s: hours.saturating_mul(3600) };
    let opened = server.ask(async |c| c.readmit(fleet, &request).await)?;
    output.data(&opened, |o| {
        format!(
            "readmission to {} is open for {hours} hours; {} devices may renew their certificates",
            o.fleet, o.devices
        )
    });
    Ok(())
}

fn release_hold(device: &DeviceId, server: &Server, output: &Output) -> CommandResult {
    let device = server.ask(async |c| c.release_hold(device).await)?;
    output.data(&device, |d| format!("{} is no longer on hold", d.id));
    Ok(())
}
