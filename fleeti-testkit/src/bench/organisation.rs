//! Keys, certificates and Fleeti's server for a benchmark.

use crate::world::World;
use anyhow::{Context, Result};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{DeviceId, FleetId};
use fleeti_pki::certificate::{self, Authority, Period, Purpose, Role};
use fleeti_pki::hierarchy::purpose;
use fleeti_pki::signer::{Algorithm, Signer, SoftKey};
use fleeti_signer::service::Keys;
use fleeti_store::devices::{Certified, WithCertificate};
use fleeti_store::{self as store, Db};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const VALID_S: u64 = 86_400;

/// A device that may connect to every server of the benchmark.
#[derive(Clone)]
pub struct Device {
    /// Id of the device.
    pub id: DeviceId,
    /// TLS 1.3 with one cipher and without resumption.
    pub tls: Arc<ClientConfig>,
}

/// Keys in a folder, and Fleeti's server with them.
pub struct Organisation {
    /// The folder.
    pub world: World,
    keys: Keys,
}

/// Addresses of Fleeti's server.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// Device port.
    pub https: SocketAddr,
    /// MQTT port.
    pub mqtt: SocketAddr,
}

/// PEM files for the TLS of another server.
pub struct PeerFiles {
    /// Its certificate, with the issuer's.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The trust anchor for client certificates.
    pub authorities: PathBuf,
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = fleeti_pki::base64_text(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|c| std::str::from_utf8(c).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl Organisation {
    /// Makes keys in a folder.
    ///
    /// # Errors
    /// I/O.
    pub fn found(dir: &Path) -> Result<Self> {
        let world = World::new(dir)?;
        world.make_keys()?;
        let keys = fleeti_signer::keys::open(
            &world.path("signer/pki"),
            &fs::read(world.path("passphrase"))?,
            None,
        )?;
        Ok(Self { world, keys })
    }

    /// Certificate, key and trust anchor of another server, as PEM files. OpenSSL requires a
    /// self-signed anchor, so it gets a self-signed twin of the device intermediate CA: like
    /// Fleeti's server, it verifies one signature for each device.
    ///
    /// # Errors
    /// I/O.
    pub fn peer_files(&self) -> Result<PeerFiles> {
        let key = SoftKey::generate(Algorithm::P256)?;
        let role = Role::Server { names: vec!["localhost".into(), "127.0.0.1".into()] };
        let authority = self.keys.server[0].authority();
        let leaf = certificate::issue(
            role,
            Period::starting(now_s(), VALID_S),
            key.public_key_der(),
            &authority,
        )?;
        let files = PeerFiles {
            certificate: self.world.path("peer.pem"),
            key: self.world.path("peer.key"),
            authorities: self.world.path("peer-ca.pem"),
        };
        fs::write(
            &files.certificate,
            format!(
                "{}{}",
                certificate::to_pem(&leaf)?,
                certificate::to_pem(authority.certificate)?
            ),
        )?;
        fs::write(&files.key, pem("PRIVATE KEY", &key.to_pkcs8_der()?))?;
        let twin = Role::Intermediate { purpose: Purpose::Device };
        let twin = certificate::self_signed(
            twin,
            Period::starting(now_s(), VALID_S),
            self.keys.device[0].authority().signer,
        )?;
        fs::write(&files.authorities, certificate::to_pem(&twin)?)?;
        Ok(files)
    }

    /// Another device intermediate CA, with a given curve.
    ///
    /// # Errors
    /// If a key cannot be made or encrypted.
    pub fn replace_device_ca(&mut self, algorithm: Algorithm) -> Result<()> {
        let passphrase = fs::read(self.world.path("passphrase"))?;
        let sealed = fs::read(self.world.path("pki/offline/root.key"))?;
        let root_key = SoftKey::from_pkcs8_der(&fleeti_pki::sealed::open(
            &sealed,
            purpose::ROOT,
            &passphrase,
        )?)?;
        let root = certificate::from_pem(&fs::read_to_string(self.world.path("public/root.pem"))?)?;
        let key = SoftKey::generate(algorithm)?;
        let authority = Authority { certificate: &root, signer: &root_key };
        let role = Role::Intermediate { purpose: Purpose::Device };
        let issued = certificate::to_pem(&certificate::issue(
            role,
            Period::starting(now_s(), VALID_S * 365),
            key.public_key_der(),
            &authority,
        )?)?;
        let sealed = fleeti_pki::sealed::seal(
            &key.to_pkcs8_der()?,
            purpose::DEVICE_CA,
            passphrase.as_slice(),
        )?;
        fs::write(self.world.path("signer/pki/online/device-ca.key"), sealed)?;
        for folder in ["signer/pki/public", "server/pki/public", "public"] {
            fs::write(self.world.path(folder).join("device-ca.pem"), &issued)?;
        }
        self.keys = fleeti_signer::keys::open(&self.world.path("signer/pki"), &passphrase, None)?;
        Ok(())
    }

    /// Certificate and key of the device intermediate CA, as PEM files for a peer.
    ///
    /// # Errors
    /// I/O.
    pub fn device_ca_files(&self, folder: &Path) -> Result<(PathBuf, PathBuf)> {
        let sealed = fs::read(self.world.path("signer/pki/online/device-ca.key"))?;
        let opened = fleeti_pki::sealed::open(
            &sealed,
            purpose::DEVICE_CA,
            &fs::read(self.world.path("passphrase"))?,
        )?;
        let files = (folder.join("peer-ca.pem"), folder.join("peer-ca.key"));
        fs::write(&files.0, certificate::to_pem(&self.keys.device[0].certificate)?)?;
        fs::write(&files.1, pem("PRIVATE KEY", &opened))?;
        Ok(files)
    }

    /// TLS without a client certificate.
    ///
    /// # Errors
    /// I/O.
    pub fn anonymous_tls(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(&fs::read(self.world.path("public/root.pem"))?)?)?;
        Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
    }

    /// Adds devices to the server's database directly: another benchmark covers enrollment.
    ///
    /// # Errors
    /// If the database or a key fails.
    pub fn devices(&self, fleet: &str, count: usize) -> Result<Vec<Device>> {
        let fleet: FleetId = fleet.parse()?;
        let (mut devices, mut rows) = (Vec::new(), Vec::new());
        let authority = self.keys.device[0].authority();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(&fs::read(self.world.path("public/root.pem"))?)?)?;
        let roots = Arc::new(roots);
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
        let provider = Arc::new(provider);
        for i in 0..count {
            let id: DeviceId = format!("{fleet}-{i:06}").parse()?;
            let key = SoftKey::generate(Algorithm::P256)?;
            let role = Role::Device { id: id.clone() };
            let leaf = certificate::issue(
                role,
                Period::starting(now_s(), VALID_S),
                key.public_key_der(),
                &authority,
            )?;
            rows.push((
                id.clone(),
                Certified {
                    key_sha256: sha256_hex(key.public_key_der()),
                    serial: certificate::serial(&leaf),
                    pem: certificate::to_pem(&leaf)?,
                    certificate_sha256: certificate::fingerprint(&leaf)?,
                    not_after_s: certificate::not_after_s(&leaf),
                    issuer: certificate::fingerprint(authority.certificate)?,
                    is_in_tpm: false,
                },
            ));
            let chain = vec![
                CertificateDer::from(certificate::to_der(&leaf)?),
                CertificateDer::from(certificate::to_der(authority.certificate)?),
            ];
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8_der()?.to_vec()));
            let mut tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[&rustls::version::TLS13])?
                .with_root_certificates(Arc::clone(&roots))
                .with_client_auth_cert(chain, key)?;
            tls.resumption = rustls::client::Resumption::disabled();
            devices.push(Device { id, tls: Arc::new(tls) });
        }
        self.insert(&fleet, &rows)?;
        Ok(devices)
    }

    /// Adds devices that never connect, with these numbers: rows without keys.
    ///
    /// # Errors
    /// If the database fails.
    pub fn add_rows(&self, fleet: &str, numbers: std::ops::Range<usize>) -> Result<()> {
        let fleet: FleetId = fleet.parse()?;
        let issuer = certificate::fingerprint(self.keys.device[0].authority().certificate)?;
        let row = |i: usize| {
            let id = format!("{fleet}-{i:06}");
            let key_sha256 = sha256_hex(id.as_bytes());
            let certified = Certified {
                serial: key_sha256[..32].to_owned(),
                pem: String::new(),
                certificate_sha256: key_sha256.clone(),
                key_sha256,
                not_after_s: now_s() + VALID_S,
                issuer: issuer.clone(),
                is_in_tpm: false,
            };
            Ok((id.parse()?, certified))
        };
        self.insert(&fleet, &numbers.map(row).collect::<Result<Vec<_>>>()?)
    }

    fn insert(&self, fleet: &FleetId, rows: &[(DeviceId, Certified)]) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let database = self.world.path("server/fleeti.db");
        runtime.block_on(async {
            let db = Db::open(&database).await?;
            let mut tx = db.write().await?;
            let all: Vec<_> = rows
                .iter()
                .map(|(device, certificate)| WithCertificate { device, fleet, certificate })
                .collect();
            for some in all.chunks(500) {
                store::devices::upsert(&mut tx, some, now_s()).await?;
            }
            tx.commit().await?;
            db.close().await;
            Ok(())
        })
    }

    /// Starts Fleeti's server.
    ///
    /// # Errors
    /// The output of the server.
    pub fn start_server(&mut self) -> Result<Ports> {
        let said = self.world.start_server()?;
        let address = |after: &str| -> Result<SocketAddr> {
            let rest =
                said.split(after).nth(1).with_context(|| format!("no {after:?} in {said:?}"))?;
            Ok(rest.split(',').next().unwrap_or_default().parse()?)
        };
        Ok(Ports { https: address("https://")?, mqtt: address("MQTT ")? })
    }

    /// The release key.
    ///
    /// # Errors
    /// When it does not open.
    pub fn release_key(&self) -> Result<SoftKey> {
        let sealed = fs::read(self.world.path("pki/offline/release.key"))?;
        let opened = fleeti_pki::sealed::open(
            &sealed,
            fleeti_pki::hierarchy::purpose::RELEASE,
            &fs::read(self.world.path("passphrase"))?,
        )?;
        Ok(SoftKey::from_pkcs8_der(&opened)?)
    }
}
