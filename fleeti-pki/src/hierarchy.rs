//! What `fleeti pki init` makes: the keys and certificates of an organisation, as files to be written.
//!
//! `offline/` belongs on a machine without a network, `online/` to the server, `public/` to everybody.
//! Every key is sealed for its purpose.

use crate::Error;
use crate::boot_keys::WrapKey;
use crate::certificate::{Authority, Period, Purpose, Role, fingerprint, issue, self_signed, to_pem};
use crate::manifest::PublicKey;
use crate::openpgp::OpenPgpKey;
use crate::sealed::seal;
use crate::signer::{Algorithm, Signer, SoftKey};
use crate::transparency::note::LogKey;

const YEAR_S: u64 = 365 * 86_400;
/// Validity of the offline root and of Secure Boot keys, which firmware does not check.
const ROOT_S: u64 = 20 * YEAR_S;
const INTERMEDIATE_S: u64 = 5 * YEAR_S;

/// Purposes of sealed keys; each is also the name of its file, `<purpose>.key`.
pub mod purpose {
    /// Signs intermediates.
    pub const ROOT: &str = "root";
    /// Signs release manifests.
    pub const RELEASE: &str = "release";
    /// Signs `SHA256SUMS`.
    pub const OPENPGP: &str = "openpgp";
    /// Signs programs that firmware starts.
    pub const DB: &str = "db";
    /// Signs changes of db.
    pub const KEK: &str = "KEK";
    /// Owns the platform.
    pub const PK: &str = "PK";
    /// Signs certificates of devices.
    pub const DEVICE_CA: &str = "device-ca";
    /// Signs certificates of servers.
    pub const SERVER_CA: &str = "server-ca";
    /// Signs checkpoints of the audit log.
    pub const AUDIT: &str = "audit";
    /// A person's: agrees that a server's keys sign a release.
    pub const APPROVER: &str = "approver";
    /// Wraps the Secure Boot keys of devices; 32 bytes, no private key.
    pub const BOOT_WRAP: &str = "boot-wrap";
}

/// A file of the hierarchy, relative to its folder.
#[derive(Debug)]
pub struct HierarchyFile {
    /// As in `online/device-ca.key`.
    pub path: String,
    /// Content.
    pub bytes: Vec<u8>,
    /// Whether nobody else may read it.
    pub secret: bool,
}

/// Makes a hierarchy; every key sealed under the passphrase.
///
/// # Errors
/// [`Error`] of the backends.
pub fn create(passphrase: &[u8], now_s: u64) -> Result<Vec<HierarchyFile>, Error> {
    let mut files = Vec::new();
    let public = |files: &mut Vec<HierarchyFile>, name: &str, bytes: Vec<u8>| {
        files.push(HierarchyFile { path: format!("public/{name}"), bytes, secret: false });
    };
    let keep = |files: &mut Vec<HierarchyFile>, folder: &str, purpose: &str, secret: &[u8]| -> Result<(), Error> {
        let bytes = seal(secret, purpose, passphrase)?;
        files.push(HierarchyFile { path: format!("{folder}/{purpose}.key"), bytes, secret: true });
        Ok(())
    };

    let root_key = SoftKey::generate(Algorithm::P384)?;
    let root = self_signed(Role::Root, Period::starting(now_s, ROOT_S), &root_key)?;
    keep(&mut files, "offline", purpose::ROOT, &root_key.to_pkcs8_der()?)?;
    let mut issuers = String::new();
    for (name, role_purpose) in [(purpose::DEVICE_CA, Purpose::Device), (purpose::SERVER_CA, Purpose::Server)] {
        let key = SoftKey::generate(Algorithm::P384)?;
        let role = Role::Intermediate { purpose: role_purpose };
        let authority = Authority { certificate: &root, signer: &root_key };
        let certificate = issue(role, Period::starting(now_s, INTERMEDIATE_S), key.public_key_der(), &authority)?;
        keep(&mut files, "online", name, &key.to_pkcs8_der()?)?;
        public(&mut files, &format!("{name}.pem"), to_pem(&certificate)?.into_bytes());
        issuers.push_str(&to_pem(&certificate)?);
    }
    let audit = SoftKey::generate(Algorithm::Ed25519)?;
    keep(&mut files, "online", purpose::AUDIT, &audit.to_pkcs8_der()?)?;
    // The root tells one organisation's log from another's.
    let log = LogKey::of(&format!("fleeti/{}/log", &fingerprint(&root)?[..16]), &audit)?;
    public(&mut files, "audit.pub", format!("{}\n", log.to_text()).into_bytes());
    keep(&mut files, "online", purpose::BOOT_WRAP, &WrapKey::generate()[..])?;
    let release = SoftKey::generate(Algorithm::P384)?;
    keep(&mut files, "offline", purpose::RELEASE, &release.to_pkcs8_der()?)?;
    let openpgp = SoftKey::generate(Algorithm::P256)?;
    keep(&mut files, "offline", purpose::OPENPGP, &openpgp.to_pkcs8_der()?)?;
    let openpgp = OpenPgpKey::new(Box::new(openpgp))?;
    for variable in [purpose::PK, purpose::KEK, purpose::DB] {
        let key = SoftKey::generate(Algorithm::Rsa2048)?;
        let certificate = self_signed(Role::SecureBoot { variable }, Period::starting(now_s, ROOT_S), &key)?;
        keep(&mut files, "offline", variable, &key.to_pkcs8_der()?)?;
        public(&mut files, &format!("{variable}.pem"), to_pem(&certificate)?.into_bytes());
    }
    public(&mut files, "root.pem", to_pem(&root)?.into_bytes());
    public(&mut files, "root.sha256", fingerprint(&root)?.into_bytes());
    public(&mut files, "issuers.pem", issuers.into_bytes());
    public(&mut files, "release.pem", PublicKey::of(&release)?.to_pem()?.into_bytes());
    public(&mut files, "openpgp.gpg", openpgp.keyring()?);
    Ok(files)
}
