//! The LUKS2 header of the data partition, as far as the device reads it itself: the keys of PCR 11
//! that it is sealed to (LUKS2 On-Disk Format Specification, 2 and 3; the tokens are systemd's).
//!
//! systemd 257 stops at the first token whose key has no signature for the running UKI, whatever
//! comes after it. So if there are several, it gets a copy of the header that has only the right
//! one. The header on disk keeps them all.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_pki::pcr_policy::public_key_der;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Length of the binary part of each of the two copies, bytes. JSON follows.
const BINARY: usize = 4096;
/// Valid sizes of a copy, bytes; each is a power of two.
const COPY: std::ops::RangeInclusive<usize> = (16 << 10)..=(4 << 20);
/// Maximum offset of the data, bytes. systemd uses 16 MiB.
const BEFORE_DATA_MAX: usize = 64 << 20;
const MAGICS: [&[u8; 6]; 2] = [b"LUKS\xba\xbe", b"SKUL\xba\xbe"];
const SIZE: std::ops::Range<usize> = 8..16;
const SEQUENCE: std::ops::Range<usize> = 16..24;
const ALGORITHM: std::ops::Range<usize> = 72..104;
const CHECKSUM: std::ops::Range<usize> = 448..512;
/// The type of systemd's TPM tokens.
const TPM2: &str = "systemd-tpm2";

/// The first copy, with a valid checksum.
#[derive(Debug)]
pub struct Header {
    size: usize,
    json: Value,
}

/// A TPM token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its number.
    pub token: u32,
    /// Its key slots.
    pub slots: Vec<u32>,
    /// The key that signs PCR 11 for it: SubjectPublicKeyInfo, DER. `None` if it needs no readable
    /// one.
    pub key: Option<Vec<u8>>,
}

fn checksum(copy: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(&copy[..CHECKSUM.start])
        .chain_update([0; 64])
        .chain_update(&copy[CHECKSUM.end..])
        .finalize()
        .into()
}

fn read_start(device: &Path, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    File::open(device)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .with_context(|| device.display().to_string())?;
    Ok(bytes)
}

fn size_of(copy: &[u8], magic: &[u8; 6]) -> Result<usize> {
    ensure!(
        copy.len() >= BINARY && copy[..6] == *magic && copy[6..8] == [0, 2],
        "not a LUKS2 header"
    );
    let size = usize::try_from(u64::from_be_bytes(copy[SIZE].try_into()?))?;
    ensure!(
        COPY.contains(&size) && size.is_power_of_two(),
        "{size} bytes is not a valid size of a LUKS2 header"
    );
    ensure!(
        copy[ALGORITHM].starts_with(b"sha256\0"),
        "the checksum of the LUKS2 header is not SHA-256"
    );
    Ok(size)
}

impl Header {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// For an invalid header; I/O.
    pub fn read(device: &Path) -> Result<Self> {
        let size = size_of(&read_start(device, BINARY)?, MAGICS[0])?;
        let copy = read_start(device, size)?;
        ensure!(
            copy[CHECKSUM][..32] == checksum(&copy),
            "the checksum of the LUKS2 header is wrong"
        );
        let json = copy[BINARY..].split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Self { size, json: serde_json::from_slice(json).context("the LUKS2 header")? })
    }

    /// The TPM tokens, in the order in which systemd tries them.
    #[must_use]
    pub fn sealed(&self) -> Vec<Sealed> {
        let number = |value: &Value| value.as_str()?.parse().ok();
        let of = |(token, fields): (&String, &Value)| -> Option<Sealed> {
            let key = fields["tpm2_pubkey"].as_str().and_then(|text| STANDARD.decode(text).ok());
            let slots = fields["keyslots"].as_array()?.iter().filter_map(number).collect();
            let token = token.parse().ok().filter(|_| fields["type"] == TPM2)?;
            Some(Sealed { token, slots, key: key.and_then(|pem| public_key_der(&pem).ok()) })
        };
        let mut all: Vec<_> =
            self.json["tokens"].as_object().into_iter().flatten().filter_map(of).collect();
        all.sort_by_key(|sealed| sealed.token);
        all
    }

    /// Everything before the data of this device, with only the TPM token of this key. `None` if
    /// systemd finds the right token itself: it is the only one or the first one, or there is none.
    ///
    /// # Errors
    /// If the header cannot be read, or has an unknown form.
    pub fn alone(mut self, device: &Path, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let sealed = self.sealed();
        let Some(right) =
            sealed.iter().position(|s| s.key.as_deref() == Some(key)).filter(|at| *at > 0)
        else {
            return Ok(None);
        };
        let tokens = self.json["tokens"].as_object_mut().context("tokens")?;
        for other in
            sealed.iter().enumerate().filter(|(at, _)| *at != right).map(|(_, other)| other)
        {
            tokens.remove(&other.token.to_string());
        }
        let before_data = self.json["segments"]["0"]["offset"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .context("segments")?;
        ensure!(
            (2 * self.size..=BEFORE_DATA_MAX).contains(&before_data),
            "the data starts at byte {before_data}"
        );
        let mut bytes = read_start(device, before_data)?;
        let (json, sequence) = (serde_json::to_vec(&self.json)?, bytes[SEQUENCE].to_vec());
        // At least one NUL ends the JSON.
        ensure!(json.len() < self.size - BINARY, "the LUKS2 header is too small");
        for (copy, magic) in bytes[..2 * self.size].chunks_exact_mut(self.size).zip(MAGICS) {
            ensure!(
                size_of(copy, magic)? == self.size,
                "the copies of the LUKS2 header differ in size"
            );
            copy[SEQUENCE].copy_from_slice(&sequence);
            copy[BINARY..].fill(0);
            copy[BINARY..BINARY + json.len()].copy_from_slice(&json);
            copy[CHECKSUM].fill(0);
            let sum = checksum(copy);
            copy[CHECKSUM][..32].copy_from_slice(&sum);
        }
        Ok(Some(bytes))
    }
}

/// Headers for tests, as cryptsetup writes them.
#[cfg(test)]
pub(crate) mod fake {
    use super::*;

    /// A device whose TPM tokens are of these keys (PEM), slot 7 and on.
    pub fn device(path: &Path, keys: &[&str]) {
        let mut tokens: serde_json::Map<_, _> = keys
            .iter()
            .enumerate()
            .map(|(at, pem)| {
                (at.to_string(), serde_json::json!({"type": TPM2, "keyslots": [(at + 7).to_string()], "tpm2_pubkey": STANDARD.encode(pem)}))
            })
            .collect();
        tokens.insert(
            "30".into(),
            serde_json::json!({"type": "systemd-recovery", "keyslots": ["1"]}),
        );
        let json = serde_json::json!({"tokens": tokens, "segments": {"0": {"offset": "65536"}}});
        let mut bytes = vec![0; 80 << 10];
        for (at, magic) in MAGICS.iter().enumerate() {
            let copy = &mut bytes[at << 14..(at + 1) << 14];
            copy[..6].copy_from_slice(*magic);
            copy[7] = 2;
            copy[SIZE].copy_from_slice(&(1u64 << 14).to_be_bytes());
            copy[ALGORITHM][..6].copy_from_slice(b"sha256");
            let text = serde_json::to_vec(&json).unwrap();
            copy[BINARY..BINARY + text.len()].copy_from_slice(&text);
            let sum = checksum(copy);
            copy[CHECKSUM][..32].copy_from_slice(&sum);
        }
        bytes[40 << 10] = 0x5a;
        std::fs::write(path, bytes).unwrap();
    }

    /// A public key.
    pub fn key() -> String {
        let key =
            fleeti_pki::signer::SoftKey::generate(fleeti_pki::signer::Algorithm::P256).unwrap();
        fleeti_pki::pcr_policy::public_pem(&key).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn where_another_keys_token_comes_first_systemd_sees_the_right_one_alone_and_the_disk_stays_as_it_is()
     {
        let dir = tempfile::tempdir().unwrap();
        let (device, copy) = (dir.path().join("device"), dir.path().join("copy"));
        let (old, new) = (fake::key(), fake::key());
        let der = |pem: &str| public_key_der(pem.as_bytes()).unwrap();
        fake::device(&device, &[&old, &new]);
        let before = fs::read(&device).unwrap();
        assert_eq!(
            Header::read(&device).unwrap().alone(&device, &der(&old)).unwrap(),
            None,
            "the first one needs nothing"
        );
        assert_eq!(
            Header::read(&device).unwrap().alone(&device, &der(&fake::key())).unwrap(),
            None,
            "nor does none"
        );
        let bytes = Header::read(&device).unwrap().alone(&device, &der(&new)).unwrap().unwrap();
        assert_eq!((bytes.len(), bytes[40 << 10]), (64 << 10, 0x5a), "the key slots are in it");
        fs::write(&copy, &bytes).unwrap();
        let right = [Sealed { token: 1, slots: vec![8], key: Some(der(&new)) }];
        assert_eq!(Header::read(&copy).unwrap().sealed(), right);
        assert!(
            String::from_utf8_lossy(&bytes).contains("systemd-recovery"),
            "the recovery key still opens it"
        );
        // The second copy says the same: whichever is read.
        fs::write(
            &copy,
            [
                &[MAGICS[0].as_slice(), &bytes[(16 << 10) + 6..32 << 10]].concat()[..],
                &bytes[16 << 10..],
            ]
            .concat(),
        )
        .unwrap();
        assert!(Header::read(&copy).is_err(), "its checksum is over its own magic");
        assert_eq!(bytes[BINARY..16 << 10], bytes[(16 << 10) + BINARY..32 << 10]);
        assert_eq!(fs::read(&device).unwrap(), before);
    }

    #[test]
    fn a_header_that_is_torn_or_absurd_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("device");
        fake::device(&device, &[&fake::key()]);
        let good = fs::read(&device).unwrap();
        assert_eq!(Header::read(&device).unwrap().sealed().len(), 1);
        let changed = |at: usize, to: &[u8]| {
            let mut bytes = good.clone();
            bytes[at..at + to.len()].copy_from_slice(to);
            bytes
        };
        for bad in [
            changed(0, b"x"),
            changed(7, &[1]),
            changed(8, &u64::MAX.to_be_bytes()),
            changed(8, &(3u64 << 13).to_be_bytes()),
            changed(72, b"md5\0"),
            changed(BINARY + 5, b"?"),
            good[..9000].to_vec(),
            vec![],
        ] {
            fs::write(&device, bad).unwrap();
            assert!(Header::read(&device).is_err());
        }
    }
}
