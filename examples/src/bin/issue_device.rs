//! Issues the certificate of a device with a signer of your own: the private key may stay in a token
//! or a service.
//!
//!     cargo xtask example issue_device

use anyhow::{Result, ensure};
use fleeti_pki::certificate::{self, Authority, Period, Role};
use fleeti_pki::signer::{Algorithm, Signer, SoftKey};
use fleeti_pki::{Error, csr};
use std::time::{SystemTime, UNIX_EPOCH};

/// What `fleeti_pki` needs of a key. Here it is in memory.
struct OwnSigner(SoftKey);

impl Signer for OwnSigner {
    fn algorithm(&self) -> Algorithm {
        self.0.algorithm()
    }
    fn public_key_der(&self) -> &[u8] {
        self.0.public_key_der()
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.sign(message)
    }
    fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.sign_digest(digest)
    }
}

fn main() -> Result<()> {
    let signer = OwnSigner(SoftKey::generate(Algorithm::P384)?);
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let root = certificate::self_signed(Role::Root, Period::starting(now_s, 86_400), &signer)?;
    // The device makes its key, and sends a request that proves it.
    let request = csr::create(&SoftKey::generate(Algorithm::P256)?)?;
    let key = csr::check(&request)?;
    let device = certificate::issue(
        Role::Device { id: "dev-1".parse()? },
        Period::starting(now_s, 3600),
        key.public_key_der(),
        &Authority { certificate: &root, signer: &signer },
    )?;
    ensure!(certificate::is_signed_by(&device, &root), "the root did not sign it");
    println!("{} has a certificate:", certificate::device_of(&device)?);
    println!("{}", certificate::to_pem(&device)?);
    Ok(())
}
