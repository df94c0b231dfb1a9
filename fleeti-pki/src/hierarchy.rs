//! The keys and certificates of an organisation, which `fleeti pki init` creates, as files to
//! write.
//!
//! The folder `offline/` belongs on a machine without a network, `online/` on the server; `public/`
//! may be published. Every key is sealed for its purpose.

use crate::Error;
use crate::certificate::{
    Authority, Period, Purpose, Role, fingerprint, issue, self_signed, to_pem,
};
use crate::csr;
use crate::manifest::PublicKey;
use crate::openpgp::OpenPgpKey;
use crate::pcr_policy;
use crate::sealed::{Sealing, seal};
use crate::signer::{Algorithm, Signer, SoftKey};
use crate::transparency::note::LogKey;
use crate::wrap::WrapKey;
use x509_cert::Certificate;

const YEAR_S: u64 = 365 * 86_400;
/// Validity of a root, and of Secure Boot keys, whose validity firmware does not check; seconds.
pub const ROOT_S: u64 = 20 * YEAR_S;
/// Validity of an intermediate CA, seconds.
pub(crate) const INTERMEDIATE_S: u64 = 5 * YEAR_S;

/// Purposes of sealed keys; each is also the name of its file, `<purpose>.key`.
pub mod purpose {
    /// Signs intermediates.
    pub const ROOT: &str = "root";
    /// Signs release manifests.
    pub const RELEASE: &str = "release";
    /// Signs `SHA256SUMS`.
    pub const OPENPGP: &str = "openpgp";
    /// Signs EFI binaries.
    pub const DB: &str = "db";
    /// Signs the expected value of PCR 11 of a UKI, for what is sealed to it.
    pub const PCR: &str = "pcr";
    /// Signs changes of db.
    pub const KEK: &str = "KEK";
    /// Owns the platform.
    pub const PK: &str = "PK";
    /// Signs certificates of devices.
    pub const DEVICE_CA: &str = "device-ca";
    /// Signs certificates of servers.
    pub const SERVER_CA: &str = "server-ca";
    /// Signs certificates of operators.
    pub const OPERATOR_CA: &str = "operator-ca";
    /// Prefix of the purpose of an operator's share of the root's secret, before the operator's
    /// name.
    pub const ROOT_SHARE: &str = "root-share";

    /// The purpose of the key of an intermediate.
    #[must_use]
    pub const fn of_intermediate(purpose: crate::certificate::Purpose) -> &'static str {
        match purpose {
            crate::certificate::Purpose::Device => DEVICE_CA,
            crate::certificate::Purpose::Server => SERVER_CA,
            crate::certificate::Purpose::Operator => OPERATOR_CA,
        }
    }

    /// Signs checkpoints of the audit log.
    pub const AUDIT: &str = "audit";
    /// The key of an approver, who approves that a server's keys sign a release.
    pub const APPROVER: &str = "approver";
    /// Wraps Secure Boot keys, recovery keys and secrets of fleets that the server stores; 32
    /// bytes, not a private key.
    pub const BOOT_WRAP: &str = "boot-wrap";
}

/// A file of the hierarchy, relative to its folder.
#[derive(Debug)]
pub struct HierarchyFile {
    /// As in `online/device-ca.key`.
    pub path: String,
    /// Content.
    pub bytes: Vec<u8>,
    /// Whether only its owner may read it.
    pub secret: bool,
}

/// Creates a hierarchy with its own root; every key is sealed under a passphrase.
///
/// # Errors
/// [`Error`] of the backends.
pub fn create<'a>(
    sealing: impl Into<Sealing<'a>>,
    now_s: u64,
) -> Result<Vec<HierarchyFile>, Error> {
    let root_key = SoftKey::generate(Algorithm::P384)?;
    let root = self_signed(Role::Root, Period::starting(now_s, ROOT_S), &root_key)?;
    let mut files = Files { list: Vec::new(), sealing: sealing.into() };
    files.keep("offline", purpose::ROOT, &root_key.to_pkcs8_der()?)?;
    let mut issuers = String::new();
    for of in Purpose::ALL {
        let name = purpose::of_intermediate(of);
        let key = SoftKey::generate(Algorithm::P384)?;
        let authority = Authority { certificate: &root, signer: &root_key };
        let role = Role::Intermediate { purpose: of };
        let pem = to_pem(&issue(
            role,
            Period::starting(now_s, INTERMEDIATE_S),
            key.public_key_der(),
            &authority,
        )?)?;
        files.keep("online", name, &key.to_pkcs8_der()?)?;
        issuers.push_str(&pem);
        files.public(&format!("{name}.pem"), pem.into_bytes());
    }
    files.public("issuers.pem", issuers.into_bytes());
    files.rest(&root, now_s)?;
    Ok(files.list)
}

/// Creates everything except the root and the certificates of the intermediates: `requests/` is for
/// the ceremony of an external root.
///
/// # Errors
/// [`Error`] of the backends.
pub fn create_below<'a>(
    root: &Certificate,
    sealing: impl Into<Sealing<'a>>,
    now_s: u64,
) -> Result<Vec<HierarchyFile>, Error> {
    let mut files = Files { list: Vec::new(), sealing: sealing.into() };
    for of in Purpose::ALL {
        let name = purpose::of_intermediate(of);
        let key = SoftKey::generate(Algorithm::P384)?;
        files.keep("online", name, &key.to_pkcs8_der()?)?;
        let bytes = csr::create(&key)?.into_bytes();
        files.list.push(HierarchyFile {
            path: format!("requests/{name}.csr"),
            bytes,
            secret: false,
        });
    }
    files.rest(root, now_s)?;
    Ok(files.list)
}

struct Files<'a> {
    list: Vec<HierarchyFile>,
    sealing: Sealing<'a>,
}

impl Files<'_> {
    fn public(&mut self, name: &str, bytes: Vec<u8>) {
        self.list.push(HierarchyFile { path: format!("public/{name}"), bytes, secret: false });
    }

    fn keep(&mut self, folder: &str, purpose: &str, secret: &[u8]) -> Result<(), Error> {
        let bytes = seal(secret, purpose, self.sealing)?;
        self.list.push(HierarchyFile {
            path: format!("{folder}/{purpose}.key"),
            bytes,
            secret: true,
        });
        Ok(())
    }

    /// Everything that is not a CA.
    fn rest(&mut self, root: &Certificate, now_s: u64) -> Result<(), Error> {
        let audit = SoftKey::generate(Algorithm::Ed25519)?;
        self.keep("online", purpose::AUDIT, &audit.to_pkcs8_der()?)?;
        // The root identifies the organisation in the name of its log.
        let log = LogKey::of(&format!("fleeti/{}/log", &fingerprint(root)?[..16]), &audit)?;
        self.public("audit.pub", format!("{}\n", log.to_text()).into_bytes());
        // This key cannot be replaced, because it wraps the Secure Boot keys of every device. The
        // copy is for a signing service that lost it.
        let wrap = WrapKey::generate();
        self.keep("online", purpose::BOOT_WRAP, &wrap[..])?;
        self.keep("offline", purpose::BOOT_WRAP, &wrap[..])?;
        let release = SoftKey::generate(Algorithm::P384)?;
        self.keep("offline", purpose::RELEASE, &release.to_pkcs8_der()?)?;
        let openpgp = SoftKey::generate(Algorithm::P256)?;
        self.keep("offline", purpose::OPENPGP, &openpgp.to_pkcs8_der()?)?;
        for variable in [purpose::PK, purpose::KEK, purpose::DB] {
            let key = SoftKey::generate(Algorithm::Rsa2048)?;
            let certificate =
                self_signed(Role::SecureBoot { variable }, Period::starting(now_s, ROOT_S), &key)?;
            self.keep("offline", variable, &key.to_pkcs8_der()?)?;
            self.public(&format!("{variable}.pem"), to_pem(&certificate)?.into_bytes());
        }
        let pcr = SoftKey::generate(Algorithm::Rsa2048)?;
        self.keep("offline", purpose::PCR, &pcr.to_pkcs8_der()?)?;
        self.public("pcr.pem", pcr_policy::public_pem(&pcr)?.into_bytes());
        self.public("root.pem", to_pem(root)?.into_bytes());
        self.public("root.sha256", fingerprint(root)?.into_bytes());
        self.public("release.pem", PublicKey::of(&release)?.to_pem()?.into_bytes());
        self.public("openpgp.gpg", OpenPgpKey::new(Box::new(openpgp))?.keyring()?);
        Ok(())
    }
}
