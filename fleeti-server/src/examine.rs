//! `fleeti-server doctor`: examines a server on its own machine, whether or not it runs. It reads
//! the data folder, tries the ports, and asks the signing service.

use crate::config::Config;
use anyhow::Result;
use fleeti_control::doctor::endings::{self, Known};
use fleeti_control::doctor::{LastBackup, clock};
use fleeti_control::pki::Pki;
use fleeti_control::restored::RestoreReport;
use fleeti_control::trust::standby::Standby;
use fleeti_control::trust::state::Trust;
use fleeti_control::{health, signing, suites, trust};
use fleeti_core::doctor::{Clock, Facts, Port, SignerFacts, diagnose};
use fleeti_core::wire::doctor::{Diagnosis, Ending};
use fleeti_pki::certificate;
use fleeti_pki::crl::VerifiedCrl;
use fleeti_signer_client::wire::{Request, Response};
use fleeti_store::{self as store, Db};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long a port or the signing service may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was learnt of the signing service.
struct Asked {
    facts: SignerFacts,
    audit_disk: Option<String>,
    /// Time of the newest checkpoint, Unix seconds.
    stated_s: Option<u64>,
}

/// Examines a server.
///
/// # Errors
/// When the data folder has no public keys.
pub async fn examine(config: &Config) -> Result<Diagnosis> {
    let settings = config.settings();
    let pki = Pki::open(&config.data)?;
    let asked = ask_signer(config, &pki).await;
    let mut facts = Facts {
        now_s: config.clock.now_s(),
        clock: Clock::default(),
        database: Ok(()),
        disk: health::disk_of(&settings),
        audit_disk: asked.audit_disk,
        signer: asked.facts,
        waiting_acts: 0,
        waiting_many: health::ACTS_MANY,
        index_s: suites::made_s(&config.data),
        backup_s: LastBackup::read(&config.data).map(|backup| backup.made_s),
        restore_open: RestoreReport::read(&config.data).map_or(0, |report| report.open()),
        ports: ports(config).await,
        endings: vec![],
    };
    match read(config, &pki).await {
        Ok((trust, waiting)) => {
            facts.waiting_acts = waiting;
            facts.clock = clock(&trust);
            facts.endings = ends(config, &pki, &trust);
        }
        Err(e) => facts.database = Err(format!("{}: {e:#}", config.database())),
    }
    facts.clock.stated_s = asked.stated_s;
    facts.clock.is_synchronized = is_synchronized().await;
    Ok(diagnose(facts))
}

/// The intermediate CAs that count, and the number of acts that wait.
async fn read(config: &Config, pki: &Pki) -> Result<(Trust, u64)> {
    let db = Db::beside(&config.database()).await?;
    let read =
        async { anyhow::Ok((trust::load(&db, pki).await?, store::audit::count(db.pool()).await?)) };
    let found = read.await;
    db.close().await;
    found
}

fn ends(config: &Config, pki: &Pki, trust: &Trust) -> Vec<Ending> {
    let standby = Standby::of(&config.data);
    let identity = standby.identity().ok();
    let leaf = identity.as_ref().and_then(|identity| identity.chain.first());
    let leaf = leaf.and_then(|leaf| certificate::from_der(leaf).ok());
    let crls = standby.crls(trust).unwrap_or_default();
    let crl_ends_s = crls.iter().filter_map(|l| VerifiedCrl::read(&l.crl, &l.issuer).ok());
    endings::of(&Known {
        pki,
        trust,
        manufacturers: &pki.manufacturers.load(),
        settings: &config.settings(),
        identity_ends_s: leaf.as_ref().map(certificate::not_after_s),
        crl_ends_s: crl_ends_s.map(|crl| crl.next_update_s()).min(),
    })
}

async fn ask_signer(config: &Config, pki: &Pki) -> Asked {
    let unknown = Asked { facts: SignerFacts::Unknown, audit_disk: None, stated_s: None };
    let Some(path) = &config.signer else { return unknown };
    let signer = fleeti_signer_client::socket::connect(path.clone());
    let Ok(health) = signing::ask_for(&signer, Request::Health, PATIENCE).await else {
        return Asked { facts: SignerFacts::Away { since_s: None }, ..unknown };
    };
    let audit_disk = match health {
        Response::Health { room } => room.and_then(|room| room.warning()),
        _ => None,
    };
    let note = match signing::ask_for(&signer, Request::Checkpoint, PATIENCE).await {
        Ok(Response::Checkpoint { note }) => pki.log.verify(&note).ok(),
        Ok(_) | Err(_) => None,
    };
    let stated_s = note.map(|verified| verified.stated_s());
    Asked { facts: SignerFacts::Answers, audit_disk, stated_s }
}

/// Tries the ports. A port that the system chose is not known here.
async fn ports(config: &Config) -> Vec<Port> {
    let all = [("API and pages", config.api), ("devices", config.https), ("MQTT", config.mqtt)];
    let mut found = Vec::new();
    for (name, address) in all.into_iter().filter(|(_, address)| address.port() != 0) {
        let address = reachable(address);
        let refused = match tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(_)) => None,
            Ok(Err(e)) => Some(e.to_string()),
            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        found.push(Port { name: name.into(), address: address.to_string(), refused });
    }
    found
}

/// The address by which this machine reaches a listener.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

/// Whether a time server sets the clock of this machine, as systemd reads it from the kernel. `None`
/// where systemd does not answer.
async fn is_synchronized() -> Option<bool> {
    let asked = || {
        let mut command = Command::new("timedatectl");
        command.args(["show", "--property=NTPSynchronized", "--value"]).output()
    };
    let asked = tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(asked));
    let output = asked.await.ok()?.ok()?.ok()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}
