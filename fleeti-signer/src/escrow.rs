//! Data that the server stores and cannot read: secrets of fleets, recovery keys of devices. The
//! server decides who gets them; the log records each access before it happens.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{DeviceId, FleetId, SecretName};
use fleeti_core::wire::attestation::Secret;
use fleeti_core::wire::vault::{RECOVERY_KEY_MAX, SECRET_MAX, SECRETS_MAX, is_reason};
use fleeti_pki::audit::Act;
use fleeti_pki::wrap::{WrapKey, Wrapped};
use fleeti_pki::{Error, base64_text};
use fleeti_signer_client::wire::{Kept, Response};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Checked work that is about to be done.
pub enum EscrowWork {
    /// Wrap a secret or recovery key.
    Keep(Kept, Zeroizing<Vec<u8>>),
    /// Show a recovery key to an operator.
    Show(DeviceId, Vec<u8>),
    /// Give a device the secrets of its fleet.
    Give(FleetId, BTreeMap<SecretName, Vec<u8>>),
}

fn decoded(text: &str) -> Result<Vec<u8>, Error> {
    STANDARD.decode(text).map_err(|_| Error::Refused("the secret or recovery key is not base64"))
}

fn wrapped(kept: &Kept) -> Wrapped<'_> {
    match kept {
        Kept::RecoveryKey { device } => Wrapped::RecoveryKey(device),
        Kept::Secret { fleet, name, .. } => Wrapped::FleetSecret(fleet, name.as_str()),
    }
}

/// Plans to wrap a secret or recovery key.
pub fn plan_keep(kept: Kept, secret: &Secret) -> Result<(EscrowWork, Act), Error> {
    let plain = Zeroizing::new(decoded(secret.expose())?);
    let (act, most) = match &kept {
        Kept::RecoveryKey { device } => {
            (Act::new(device.as_str(), "recovery-key.keep", device.as_str()), RECOVERY_KEY_MAX)
        }
        Kept::Secret { fleet, name, actor } => {
            (Act::new(actor, "secret.keep", format!("{fleet} {name}")), SECRET_MAX)
        }
    };
    if plain.is_empty() || plain.len() > most {
        return Err(Error::Refused("the secret or recovery key is empty or too long"));
    }
    Ok((EscrowWork::Keep(kept, plain), act))
}

/// Plans to show the recovery key of a device to an operator.
pub fn plan_show(
    device: DeviceId,
    wrapped: &str,
    actor: &str,
    reason: &str,
) -> Result<(EscrowWork, Act), Error> {
    if !is_reason(reason) {
        return Err(Error::Refused(
            "the reason to show a recovery key must have 3 to 160 bytes, on one line",
        ));
    }
    let act = Act::new(actor, "recovery-key.show", format!("{device}: {reason}"));
    Ok((EscrowWork::Show(device, decoded(wrapped)?), act))
}

/// Plans to give a device the secrets of its fleet.
pub fn plan_give(
    device: &DeviceId,
    fleet: FleetId,
    secrets: BTreeMap<SecretName, String>,
) -> Result<(EscrowWork, Act), Error> {
    if secrets.len() > SECRETS_MAX {
        return Err(Error::Refused("too many secrets for a fleet"));
    }
    let act = Act::new("server", "secret.give", format!("{device} {} of {fleet}", secrets.len()));
    let secrets = secrets
        .into_iter()
        .map(|(name, text)| Ok((name, decoded(&text)?)))
        .collect::<Result<_, Error>>()?;
    Ok((EscrowWork::Give(fleet, secrets), act))
}

/// Does the planned work. Returns the digest of the wrapped bytes, for the log, and the response.
pub fn apply(work: EscrowWork, key: &WrapKey) -> Result<(String, Response), Error> {
    let secret = |plain: &[u8]| Secret::new(base64_text(plain));
    Ok(match work {
        EscrowWork::Keep(kept, plain) => {
            let bytes = key.wrap(wrapped(&kept), &plain)?;
            (sha256_hex(&bytes), Response::Kept { wrapped: base64_text(&bytes) })
        }
        EscrowWork::Show(device, bytes) => {
            let plain = key.unwrap(Wrapped::RecoveryKey(&device), &bytes)?;
            (sha256_hex(&bytes), Response::Shown { secret: secret(&plain) })
        }
        EscrowWork::Give(fleet, all) => {
            let digest = sha256_hex(&all.values().flatten().copied().collect::<Vec<_>>());
            let open = |(name, bytes): (SecretName, Vec<u8>)| {
                let plain = key.unwrap(Wrapped::FleetSecret(&fleet, name.as_str()), &bytes)?;
                Ok((name, secret(&plain)))
            };
            (
                digest,
                Response::Secrets {
                    secrets: all.into_iter().map(open).collect::<Result<_, Error>>()?,
                },
            )
        }
    })
}
