//! Secure Boot of devices: checks requests, then signs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::DeviceId;
use fleeti_core::wire::api::BootKeyChange;
use fleeti_core::wire::boot::{BootSignatures, FirmwareKeys, VariableWrite};
use fleeti_pki::Error;
use fleeti_pki::audit::Act;
use fleeti_pki::base64_text;
use fleeti_pki::boot_keys::BootKeys;
use fleeti_pki::manifest::{ReleaseKeys, Signature, Verified, VerifyError, verify};
use fleeti_pki::wrap::WrapKey;
use fleeti_signer_client::wire::{BootState, Response};

/// Checked work that is about to be signed.
pub enum BootWork {
    /// Make keys for a device that has none.
    Make(DeviceId),
    /// Sign the EFI binaries of a release, given by path and digest.
    Sign(Box<BootKeys>, Vec<Binary>),
    /// Change the device's Secure Boot variables.
    Change(Box<BootKeys>, VariableChange),
}

/// A checked change of a device's Secure Boot variables.
pub enum VariableChange {
    /// Add a new db key to the current one.
    BeginEpoch,
    /// Keep the newest db key only.
    EndEpoch,
    /// Add these Authenticode digests to dbx.
    Forbid(Vec<[u8; 32]>),
}

/// Path of an EFI binary in its release, and its Authenticode digest.
type Binary = (String, [u8; 32]);

/// The EFI binaries of a release that release keys have signed.
#[derive(Clone)]
struct Binaries {
    list: Vec<Binary>,
    manifest_sha256: String,
}

/// The last verified release, by the digest of its request: the server has one release signed for
/// many devices in a row.
#[derive(Default)]
pub struct LastRelease(Option<(String, Binaries)>);

/// The wrapped keys of a device, and the key that unwraps them.
#[derive(Clone, Copy)]
pub struct WrappedKeys<'a> {
    /// The device.
    pub device: &'a DeviceId,
    /// Its keys, base64.
    pub wrapped: &'a str,
    /// The wrapping key of the signing service.
    pub wrap: &'a WrapKey,
}

impl WrappedKeys<'_> {
    fn unwrap(self) -> Result<Box<BootKeys>, Error> {
        let bytes = STANDARD
            .decode(self.wrapped)
            .map_err(|_| Error::Refused("the wrapped boot keys are not base64"))?;
        BootKeys::unwrap(&bytes, self.device, self.wrap).map(Box::new)
    }
}

fn digest(hex_text: &str) -> Result<[u8; 32], Error> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(hex_text, &mut bytes)
        .map_err(|_| Error::Refused("a digest is not 64 hexadecimal digits"))?;
    Ok(bytes)
}

/// Plans new keys for a device.
pub fn plan_make(device: DeviceId) -> (BootWork, Act) {
    let act = Act::new("server", "boot.keys", device.as_str());
    (BootWork::Make(device), act)
}

/// Plans a change of a device's variables.
pub fn plan_change(
    of: WrappedKeys<'_>,
    change: &BootKeyChange,
    forbidden: &[String],
) -> Result<(BootWork, Act), Error> {
    let keys = of.unwrap()?;
    let act = |action| Act::new("server", action, of.device.as_str());
    let (change, act) = match (change, forbidden) {
        (BootKeyChange::BeginEpoch, []) => (VariableChange::BeginEpoch, act("boot.begin-epoch")),
        (BootKeyChange::EndEpoch, []) => (VariableChange::EndEpoch, act("boot.end-epoch")),
        (BootKeyChange::Forbid { .. }, [_, ..]) => {
            let digests = forbidden.iter().map(|d| digest(d)).collect::<Result<_, _>>()?;
            let all = sha256_hex(forbidden.join(" ").as_bytes());
            (VariableChange::Forbid(digests), act("boot.forbid").of(all))
        }
        (BootKeyChange::BeginEpoch | BootKeyChange::EndEpoch, [_, ..]) => {
            return Err(Error::Refused("only `forbid` has digests"));
        }
        (BootKeyChange::Forbid { .. }, []) => {
            return Err(Error::Refused("`forbid` needs a digest"));
        }
    };
    Ok((BootWork::Change(keys, change), act))
}

/// Plans a device's signatures over the EFI binaries of a release that release keys have signed.
pub fn plan_sign(
    last: &mut LastRelease,
    trusted: &ReleaseKeys,
    of: WrappedKeys<'_>,
    manifest: &str,
    signatures: &[(String, String)],
) -> Result<(BootWork, Act), Error> {
    let keys = of.unwrap()?;
    let binaries = last.binaries(trusted, manifest, signatures)?;
    let act = Act::new("server", "boot.sign", of.device.as_str()).of(binaries.manifest_sha256);
    Ok((BootWork::Sign(keys, binaries.list), act))
}

impl LastRelease {
    fn binaries(
        &mut self,
        trusted: &ReleaseKeys,
        manifest: &str,
        signatures: &[(String, String)],
    ) -> Result<Binaries, Error> {
        let whole = fleeti_core::canonical::to_vec(&(manifest, signatures))
            .map_err(|_| Error::Refused("the manifest cannot be encoded"))?;
        let asked = sha256_hex(&whole);
        if let Some((known, binaries)) = &self.0
            && *known == asked
        {
            return Ok(binaries.clone());
        }
        let untrusted =
            |e: VerifyError| Error::Malformed { what: "release", detail: e.to_string() };
        let binaries = binaries(
            &verify(manifest.as_bytes(), &Signature::all_of(signatures), trusted)
                .map_err(untrusted)?,
        )?;
        self.0 = Some((asked, binaries.clone()));
        Ok(binaries)
    }
}

fn binaries(verified: &Verified) -> Result<Binaries, Error> {
    let artifacts = &verified.manifest().artifacts;
    let named = artifacts.iter().filter_map(|a| Some((a.path.clone(), a.authenticode.as_deref()?)));
    let list =
        named.map(|(path, text)| Ok((path, digest(text)?))).collect::<Result<Vec<_>, Error>>()?;
    if list.is_empty() {
        return Err(Error::Refused(
            "the manifest has no Authenticode digest: create and sign the release again",
        ));
    }
    Ok(Binaries { list, manifest_sha256: verified.sha256().to_owned() })
}

/// Signs the planned work. Returns the digest of what was signed, for the log, and the response.
pub fn sign(work: BootWork, now_s: u64, wrap: &WrapKey) -> Result<(String, Response), Error> {
    match work {
        BootWork::Make(device) => {
            let mut keys = BootKeys::generate(&device, now_s)?;
            let writes = keys.enroll(now_s)?.to_vec();
            changed(&keys, writes, wrap)
        }
        BootWork::Change(mut keys, change) => {
            let write = match change {
                VariableChange::BeginEpoch => keys.begin_epoch(now_s)?,
                VariableChange::EndEpoch => keys.end_epoch(now_s)?,
                VariableChange::Forbid(digests) => keys.forbid(&digests, now_s)?,
            };
            changed(&keys, vec![write], wrap)
        }
        BootWork::Sign(keys, binaries) => {
            let digests: Vec<_> = binaries.iter().map(|(_, digest)| *digest).collect();
            let signed = keys.sign(&digests)?;
            let sha256 = sha256_hex(&signed.concat());
            let binaries = binaries
                .into_iter()
                .zip(&signed)
                .map(|((path, _), der)| (path, base64_text(der)))
                .collect();
            Ok((sha256, Response::BootSignatures { signatures: BootSignatures { binaries } }))
        }
    }
}

fn changed(
    keys: &BootKeys,
    writes: Vec<VariableWrite>,
    wrap: &WrapKey,
) -> Result<(String, Response), Error> {
    let e = keys.expected()?;
    let expected = FirmwareKeys {
        pk: Some(sha256_hex(&e.pk)),
        kek: vec![sha256_hex(&e.kek)],
        db: e.db.iter().map(|der| sha256_hex(der)).collect(),
        ..FirmwareKeys::default()
    };
    let state = BootState { wrapped: base64_text(&keys.wrap(wrap)?), epoch: e.epoch, expected };
    let all: String = writes.iter().map(|w| w.auth.as_str()).collect();
    Ok((sha256_hex(all.as_bytes()), Response::Boot { state, writes }))
}
