//! Keys of a world, and its approvers.

use super::World;
use crate::tpm::Manufacturer;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

impl World {
    /// Makes the keys. The signing service gets the online keys; the public keys are in `public`.
    ///
    /// # Errors
    /// The error of `fleeti pki init`.
    pub fn make_keys(&self) -> Result<String> {
        let secret = hex::encode(rand::random::<[u8; 24]>());
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path("passphrase"))?;
        std::io::Write::write_all(&mut file, secret.as_bytes())?;
        let said = self.fleeti(&["pki", "init", &self.text("pki")])?;
        for (from, to) in [
            ("pki/online", "signer/pki/online"),
            ("pki/public", "signer/pki/public"),
            ("pki/public", "server/pki/public"),
            ("pki/public", "public"),
        ] {
            copy_folder(&self.path(from), &self.path(to))?;
        }
        self.believe_the_manufacturer()?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }

    /// The manufacturer of this world's TPMs, which its server trusts.
    pub(super) fn manufacturer(&self) -> Result<Manufacturer> {
        Manufacturer::at(&self.path("tpm-manufacturer"))
    }

    fn believe_the_manufacturer(&self) -> Result<()> {
        let folder = self.path("server/pki/tpm-manufacturers/virtual");
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join("manufacturer.pem"), self.manufacturer()?.certificate_pem()?)?)
    }

    /// Gives the signing service release keys, and a policy of one approval besides the requester.
    /// Alice and Bob are approvers; their keys are `people/NAME.key`. The demo does not use this.
    ///
    /// # Errors
    /// I/O.
    pub fn let_the_signer_release(&self) -> Result<()> {
        let folder = self.path("signer/pki/signing");
        fs::create_dir_all(&folder)?;
        for name in ["release.key", "openpgp.key", "db.key", "pcr.key"] {
            fs::copy(self.path("pki/offline").join(name), folder.join(name))?;
        }
        let mut arguments = vec![
            "pki".to_owned(),
            "approvers".into(),
            self.text("signer/pki/signing"),
            "--approvals=1".into(),
        ];
        for name in ["alice", "bob"] {
            let key = self.text(&format!("people/{name}.key"));
            self.fleeti(&["pki", "approver-key", &key])?;
            arguments.push(format!("--add={name}={}", self.text(&format!("people/{name}.pem"))));
        }
        self.fleeti(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(())
    }
}

pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
