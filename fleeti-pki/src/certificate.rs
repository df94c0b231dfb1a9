//! X.509 certificates (RFC 5280): CAs, servers, devices, Secure Boot keys.
//!
//! Serials are 128 random bits; basicConstraints is critical; every leaf has one extended key
//! usage. A request never extends its certificate: only the key comes from the request.

use crate::signer::{self, Signer, X509Signer, der_of, key_id, spki_of};
use crate::{Error, OrMalformed};
use const_oid::ObjectIdentifier;
use der::asn1::{Ia5String, OctetString};
use der::pem::PemLabel;
use der::{Decode, Encode, EncodePem};
use fleeti_core::id::DeviceId;
use serde::{Deserialize, Serialize};
use spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::ext::pkix::crl::CrlDistributionPoints;
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages,
    SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, TbsCertificate};

/// A parsed certificate; nothing about it is verified.
pub type Parsed = Certificate;

/// How far notBefore lies before the time of issuance, for clocks that are behind.
pub const BACKDATE_S: u64 = 3600;

/// What an intermediate CA certifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Devices.
    Device,
    /// Servers.
    Server,
    /// Operators of servers.
    Operator,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 3] = [Self::Device, Self::Server, Self::Operator];

    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Server => "server",
            Self::Operator => "operator",
        }
    }

    /// The purpose in an intermediate's certificate.
    ///
    /// # Errors
    /// [`Error::Refused`] for a certificate that is not one of Fleeti's intermediates.
    pub fn of(certificate: &Certificate) -> Result<Self, Error> {
        const REFUSED: Error = Error::Refused(
            "the certificate is not an intermediate CA for devices, servers or operators",
        );
        let name = certificate.tbs_certificate().subject().to_string();
        Self::ALL
            .into_iter()
            .find(|p| name.starts_with(&format!("CN=Fleeti {} authority ", p.as_str())))
            .ok_or(REFUSED)
    }
}

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The offline root.
    Root,
    /// An online intermediate CA; signs leaf certificates only.
    Intermediate {
        /// The purpose of its leaf certificates.
        purpose: Purpose,
    },
    /// A TLS server.
    Server {
        /// DNS names and IP addresses.
        names: Vec<String>,
    },
    /// A device.
    Device {
        /// Its id.
        id: DeviceId,
    },
    /// A self-signed Secure Boot key.
    SecureBoot {
        /// As in `db`.
        variable: &'static str,
    },
}

/// How a private key is stored, as far as its issuer knows. An extension of the certificate
/// ([`PROTECTION`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// In a file: an attacker who reads the disk has it.
    Software,
    /// In a TPM whose manufacturer is unknown.
    Tpm,
    /// In a TPM with its manufacturer's certificate, proved by TPM2_Certify.
    CertifiedTpm,
}

/// The extension with a [`Protection`], an ENUMERATED from 0 on. In the arc for experiments (RFC
/// 1155, 3.1.2), because only Fleeti uses it; not critical.
pub const PROTECTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.3.70108.1");

impl Protection {
    const ALL: [Self; 3] = [Self::Software, Self::Tpm, Self::CertifiedTpm];

    /// The protection stated in a certificate.
    ///
    /// # Errors
    /// [`Error::Malformed`] for an extension with another value.
    pub fn of(certificate: &Certificate) -> Result<Option<Self>, Error> {
        let extensions = certificate.tbs_certificate().extensions().map_or(&[][..], |e| e);
        let Some(found) = extensions.iter().find(|e| e.extn_id == PROTECTION) else {
            return Ok(None);
        };
        let known = Self::ALL.into_iter().find(|p| p.der() == found.extn_value.as_bytes());
        known
            .map(Some)
            .ok_or_else(|| Error::malformed("protection level")("it is not a known one".into()))
    }

    fn der(self) -> [u8; 3] {
        let value = match self {
            Self::Software => 0,
            Self::Tpm => 1,
            Self::CertifiedTpm => 2,
        };
        [0x0a, 1, value]
    }
}

/// What a leaf certificate contains besides its role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// How its key is stored.
    pub protection: Option<Protection>,
    /// The URL of its issuer's CRL.
    pub crl_url: Option<String>,
}

impl Extras {
    fn extensions(&self, subject: &Name) -> Result<Vec<Extension>, Error> {
        let mut extensions = Vec::new();
        if let Some(url) = &self.crl_url {
            let name = GeneralName::UniformResourceIdentifier(
                Ia5String::new(url).or_malformed("URL of the CRL")?,
            );
            let point = DistributionPoint {
                distribution_point: Some(DistributionPointName::FullName(vec![name])),
                reasons: None,
                crl_issuer: None,
            };
            extensions.push(
                CrlDistributionPoints(vec![point])
                    .to_extension(subject, &extensions)
                    .or_malformed("distribution point")?,
            );
        }
        if let Some(protection) = self.protection {
            let extn_value = OctetString::new(protection.der()).or_malformed("protection level")?;
            extensions.push(Extension { extn_id: PROTECTION, critical: false, extn_value });
        }
        Ok(extensions)
    }
}

struct Profile {
    role: Role,
    /// For the key of an intermediate: two intermediates of one purpose have two names.
    key_id: String,
    issuer: Option<Name>,
    extras: Vec<Extension>,
}

impl Role {
    fn subject(&self, key_id: &str) -> String {
        match self {
            Self::Root => "CN=Fleeti root".into(),
            Self::Intermediate { purpose } => {
                format!("CN=Fleeti {} authority {key_id}", purpose.as_str())
            }
            Self::Server { .. } => "CN=Fleeti server".into(),
            Self::Device { id } => format!("CN={id}"),
            Self::SecureBoot { variable } => format!("CN=Fleeti Secure Boot {variable}"),
        }
    }
    fn san(&self) -> Result<Option<SubjectAltName>, Error> {
        let ia5 = |s: &str| Ia5String::new(s).or_malformed("name");
        let names = match self {
            Self::Root | Self::Intermediate { .. } | Self::SecureBoot { .. } => return Ok(None),
            Self::Device { id } => vec![GeneralName::UniformResourceIdentifier(ia5(&id.urn())?)],
            Self::Server { names } => names
                .iter()
                .map(|name| match IpAddr::from_str(name) {
                    Ok(IpAddr::V4(ip)) => OctetString::new(ip.octets().to_vec())
                        .or_malformed("address")
                        .map(GeneralName::IpAddress),
                    Ok(IpAddr::V6(ip)) => OctetString::new(ip.octets().to_vec())
                        .or_malformed("address")
                        .map(GeneralName::IpAddress),
                    Err(_) => ia5(name).map(GeneralName::DnsName),
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Some(SubjectAltName(names)))
    }
}

impl BuilderProfile for Profile {
    fn get_issuer(&self, subject: &Name) -> Name {
        self.issuer.clone().unwrap_or_else(|| subject.clone())
    }
    fn get_subject(&self) -> Name {
        // INVARIANT: the subjects are written above, and an id has no character that a name would
        // escape.
        Name::from_str(&self.role.subject(&self.key_id)).unwrap_or_default()
    }
    fn build_extensions(
        &self,
        spk: SubjectPublicKeyInfoRef<'_>,
        issuer_spk: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        use const_oid::db::rfc5912::{ID_KP_CLIENT_AUTH, ID_KP_CODE_SIGNING, ID_KP_SERVER_AUTH};
        let mut extensions = Vec::new();
        let mut push = |e: x509_cert::builder::Result<Extension>,
                        critical: bool|
         -> x509_cert::builder::Result<()> {
            extensions.push(Extension { critical, ..e? });
            Ok(())
        };
        let none: Vec<Extension> = Vec::new();
        let subject = tbs.subject();
        let authority = |path_len| {
            (
                BasicConstraints { ca: true, path_len_constraint: path_len },
                KeyUsages::KeyCertSign | KeyUsages::CRLSign,
            )
        };
        let leaf = || {
            (
                BasicConstraints { ca: false, path_len_constraint: None },
                KeyUsages::DigitalSignature.into(),
            )
        };
        let (constraints, usage) = match self.role {
            Role::Root => authority(Some(1)),
            Role::Intermediate { .. } => authority(Some(0)),
            Role::Server { .. } | Role::Device { .. } | Role::SecureBoot { .. } => leaf(),
        };
        push(constraints.to_extension(subject, &none).map_err(Into::into), true)?;
        push(KeyUsage(usage).to_extension(subject, &none).map_err(Into::into), true)?;
        let purpose = match self.role {
            Role::Root => None,
            // In an intermediate as well: a CA for devices cannot certify a server.
            Role::Intermediate { purpose: Purpose::Server } | Role::Server { .. } => {
                Some(ID_KP_SERVER_AUTH)
            }
            Role::Intermediate { purpose: Purpose::Device | Purpose::Operator }
            | Role::Device { .. } => Some(ID_KP_CLIENT_AUTH),
            Role::SecureBoot { .. } => Some(ID_KP_CODE_SIGNING),
        };
        if let Some(purpose) = purpose {
            push(
                ExtendedKeyUsage(vec![purpose]).to_extension(subject, &none).map_err(Into::into),
                false,
            )?;
        }
        push(
            SubjectKeyIdentifier::try_from(spk)?.to_extension(subject, &none).map_err(Into::into),
            false,
        )?;
        push(
            AuthorityKeyIdentifier::try_from(issuer_spk)?
                .to_extension(subject, &none)
                .map_err(Into::into),
            false,
        )?;
        if let Ok(Some(san)) = self.role.san() {
            push(san.to_extension(subject, &none).map_err(Into::into), false)?;
        }
        extensions.extend(self.extras.iter().cloned());
        Ok(extensions)
    }
}

/// A CA: a certificate and its key.
pub struct Authority<'a> {
    /// Its certificate.
    pub certificate: &'a Certificate,
    /// Its key.
    pub signer: &'a dyn Signer,
}

/// When a certificate is valid, Unix seconds.
#[derive(Debug, Clone, Copy)]
pub struct Period {
    /// First second.
    pub not_before_s: u64,
    /// Last second.
    pub not_after_s: u64,
}

impl Period {
    /// From a little before `now_s` until `valid_s` seconds after it.
    #[must_use]
    pub fn starting(now_s: u64, valid_s: u64) -> Self {
        Self { not_before_s: now_s.saturating_sub(BACKDATE_S), not_after_s: now_s + valid_s }
    }
    fn validity(self) -> Result<Validity, Error> {
        let time =
            |s: u64| Time::try_from(UNIX_EPOCH + Duration::from_secs(s)).or_malformed("validity");
        Ok(Validity::new(time(self.not_before_s)?, time(self.not_after_s)?))
    }
}

/// Creates a self-signed certificate.
///
/// # Errors
/// [`Error::Backend`] if the key cannot sign.
pub fn self_signed(role: Role, period: Period, signer: &dyn Signer) -> Result<Certificate, Error> {
    let key = spki_of(signer)?;
    build(Contents { role, issuer: None, period, key, extras: &Extras::default() }, signer)
}

/// Issues a certificate of a CA for a public key.
///
/// # Errors
/// [`Error::Backend`] if the key cannot sign; [`Error::Malformed`] for an invalid name.
pub fn issue(
    role: Role,
    period: Period,
    public_key_der: &[u8],
    authority: &Authority<'_>,
) -> Result<Certificate, Error> {
    issue_with(role, period, public_key_der, authority, &Extras::default())
}

/// As [`issue`], with extras.
///
/// # Errors
/// As [`issue`].
pub fn issue_with(
    role: Role,
    period: Period,
    public_key_der: &[u8],
    authority: &Authority<'_>,
    extras: &Extras,
) -> Result<Certificate, Error> {
    let key = SubjectPublicKeyInfoOwned::from_der(public_key_der).or_malformed("public key")?;
    let issuer = authority.certificate.tbs_certificate().subject().clone();
    build(Contents { role, issuer: Some(issuer), period, key, extras }, authority.signer)
}

/// What a certificate says.
struct Contents<'a> {
    role: Role,
    /// `None` for a self-signed certificate.
    issuer: Option<Name>,
    period: Period,
    key: SubjectPublicKeyInfoOwned,
    extras: &'a Extras,
}

fn build(contents: Contents<'_>, signer: &dyn Signer) -> Result<Certificate, Error> {
    let Contents { role, issuer, period, key, extras } = contents;
    role.san()?;
    let extras = extras.extensions(&Name::default())?;
    let serial = SerialNumber::new(&new_serial()).or_malformed("serial")?;
    let key_id = match role {
        Role::Intermediate { .. } => key_id(&der_of(&key, "public key")?),
        Role::Root | Role::Server { .. } | Role::Device { .. } | Role::SecureBoot { .. } => {
            String::new()
        }
    };
    let builder = CertificateBuilder::new(
        Profile { role, key_id, issuer, extras },
        serial,
        period.validity()?,
        key,
    )
    .or_backend("creating a certificate")?;
    builder.build(&X509Signer::new(signer)).or_backend("signing a certificate")
}

/// 126 random bits: positive, and always 16 bytes (RFC 5280, 4.1.2.2).
fn new_serial() -> [u8; 16] {
    let mut serial: [u8; 16] = rand::random();
    serial[0] = (serial[0] & 0x7f) | 0x40;
    serial
}

/// PEM (RFC 7468).
///
/// # Errors
/// [`Error::Malformed`].
pub fn to_pem(certificate: &Certificate) -> Result<String, Error> {
    certificate.to_pem(der::pem::LineEnding::LF).or_malformed("certificate")
}

/// Converts a certificate from DER to PEM.
///
/// # Errors
/// [`Error::Malformed`].
pub fn der_to_pem(der: &[u8]) -> Result<String, Error> {
    der::pem::encode_string(Certificate::PEM_LABEL, der::pem::LineEnding::LF, der)
        .or_malformed("certificate")
}

/// DER.
///
/// # Errors
/// [`Error::Malformed`].
pub fn to_der(certificate: &Certificate) -> Result<Vec<u8>, Error> {
    der_of(certificate, "certificate")
}

/// Parses the first certificate of a PEM text.
///
/// # Errors
/// [`Error::Malformed`].
pub fn from_pem(text: &str) -> Result<Certificate, Error> {
    Ok(chain_from_pem(text)?.swap_remove(0))
}

/// Parses every certificate of a PEM text.
///
/// # Errors
/// [`Error::Malformed`], also for a text without certificates.
pub fn chain_from_pem(text: &str) -> Result<Vec<Certificate>, Error> {
    let chain = Certificate::load_pem_chain(text.as_bytes()).or_malformed("certificate chain")?;
    if chain.is_empty() {
        Err(Error::Refused("the PEM text contains no certificate"))
    } else {
        Ok(chain)
    }
}

/// Parses DER.
///
/// # Errors
/// [`Error::Malformed`].
pub fn from_der(bytes: &[u8]) -> Result<Certificate, Error> {
    Certificate::from_der(bytes).or_malformed("certificate")
}

/// SHA-256 of the DER, hexadecimal.
///
/// # Errors
/// [`Error::Malformed`].
pub fn fingerprint(certificate: &Certificate) -> Result<String, Error> {
    Ok(fleeti_core::canonical::sha256_hex(&to_der(certificate)?))
}

/// Whether an issuer's key signed a certificate (RFC 5280, 6.1.3 (a)(1)). Nothing else is checked.
#[must_use]
pub fn is_signed_by(certificate: &Certificate, issuer: &Certificate) -> bool {
    let signed = certificate.tbs_certificate().to_der().ok();
    let signature = certificate.signature().as_bytes();
    let key = public_key_der(issuer).ok();
    matches!((signed, signature, key), (Some(signed), Some(signature), Some(key)) if signer::verify(&key, &signed, signature).is_ok())
}

/// Last second of the validity, Unix.
#[must_use]
pub fn not_after_s(certificate: &Certificate) -> u64 {
    certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs()
}

/// The device that a certificate names. Call this only for a certificate that TLS has verified.
///
/// # Errors
/// [`Error::Refused`] if the certificate names no device, or more than one.
pub fn device_of(certificate: &Certificate) -> Result<DeviceId, Error> {
    const REFUSED: Error = Error::Refused("the certificate does not name one device");
    let (_, san) = certificate
        .tbs_certificate()
        .get_extension::<SubjectAltName>()
        .or_malformed("certificate")?
        .ok_or(REFUSED)?;
    match san.0.as_slice() {
        [GeneralName::UniformResourceIdentifier(uri)] => {
            DeviceId::from_urn(uri.as_str()).map_err(|_| REFUSED)
        }
        _ => Err(REFUSED),
    }
}

/// The serial number, as hexadecimal text.
#[must_use]
pub fn serial(certificate: &Certificate) -> String {
    hex::encode(certificate.tbs_certificate().serial_number().as_bytes())
}

/// The SubjectPublicKeyInfo of a certificate, DER.
///
/// # Errors
/// [`Error::Malformed`].
pub fn public_key_der(certificate: &Certificate) -> Result<Vec<u8>, Error> {
    der_of(certificate.tbs_certificate().subject_public_key_info(), "public key")
}

/// SHA-256 of the SubjectPublicKeyInfo of a certificate, hexadecimal.
///
/// # Errors
/// [`Error::Malformed`].
pub fn key_sha256(certificate: &Certificate) -> Result<String, Error> {
    Ok(fleeti_core::canonical::sha256_hex(&public_key_der(certificate)?))
}

/// First second of the validity, Unix.
#[must_use]
pub fn not_before_s(certificate: &Certificate) -> u64 {
    certificate.tbs_certificate().validity().not_before.to_unix_duration().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_serials_are_different_positive_and_sixteen_bytes() {
        let serials: std::collections::HashSet<_> = (0..100_000).map(|_| new_serial()).collect();
        assert_eq!(serials.len(), 100_000);
        assert!(serials.iter().all(|s| (0x40..0x80).contains(&s[0])));
    }

    #[test]
    fn a_certificate_begins_an_hour_before_it_was_made_and_no_earlier() {
        let period = Period::starting(1_800_000_000, 86_400);
        assert_eq!(
            (period.not_before_s, period.not_after_s),
            (1_800_000_000 - 3600, 1_800_000_000 + 86_400)
        );
    }
}
