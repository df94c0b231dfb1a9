//! The TPM of this device. Only the helper opens it.
//!
//! All keys are primary keys of the endorsement hierarchy: the TPM derives them from its own seed
//! whenever they are needed, and always the same ones. So there is no file that could be lost,
//! copied or exchanged.

use crate::Paths;
use anyhow::{Context as _, Result, ensure};
use fleeti_core::wire::attestation::CERTIFICATES_MAX;
use fleeti_pki::attestation::PCRS;
use fleeti_pki::measured::log::Pcrs;
use fleeti_pki::tpm::endorsement;
use std::path::Path;
use std::str::FromStr;
use tss_esapi::abstraction::{AsymmetricAlgorithmSelection, ek, nv, pcr};
use tss_esapi::attributes::{ObjectAttributesBuilder, SessionAttributesBuilder};
use tss_esapi::constants::SessionType;
use tss_esapi::constants::tss::{TPM2_RH_NULL, TPM2_ST_HASHCHECK};
use tss_esapi::handles::{AuthHandle, KeyHandle, NvIndexTpmHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::{Hierarchy, NvAuth};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Data, Digest, EccParameter, EccPoint, EccScheme, EncryptedSecret, HashScheme, HashcheckTicket,
    IdObject, KeyDerivationFunctionScheme, PcrSelectionListBuilder, PcrSlot, Public, PublicBuilder,
    PublicEccParametersBuilder, SignatureScheme, SymmetricDefinition, SymmetricDefinitionObject,
};
use tss_esapi::traits::Marshall;
use tss_esapi::tss2_esys::{TPM2B_DIGEST, TPMT_TK_HASHCHECK};
use tss_esapi::{Context, TctiNameConf};

/// Makes the attestation key differ from those of other software.
const ATTESTATION_KEY: &[u8; 32] = b"fleeti attestation key, version1";

/// Endorsement keys in order of preference, and the NV index of each certificate (TCG "EK
/// Credential Profile", 2.2.1).
const ENDORSEMENTS: [(AsymmetricAlgorithmSelection, u32); 3] = [
    (AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP384), 0x01c0_0016),
    (AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256), 0x01c0_000a),
    (AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048), 0x01c0_0002),
];
/// NV indices of the certificates between the endorsement certificate and the manufacturer's,
/// concatenated (EK Credential Profile, 2.2.1.5).
const BETWEEN: std::ops::RangeInclusive<u32> = 0x01c0_0100..=0x01c0_01ff;
/// The endorsement key to use without a certificate: every TPM supports it.
const WITHOUT_CERTIFICATE: AsymmetricAlgorithmSelection =
    AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048);

/// The keys that identify a TPM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// TPMT_PUBLIC of the endorsement key.
    pub endorsement_key: Vec<u8>,
    /// Its certificate and the intermediate certificates that the TPM has, DER; empty if the
    /// manufacturer stored none.
    pub certificates: Vec<Vec<u8>>,
    /// TPMT_PUBLIC of the attestation key.
    pub attestation_key: Vec<u8>,
}

/// A TPM's quote.
#[derive(Debug, Clone)]
pub struct Quote {
    /// TPMS_ATTEST.
    pub quote: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
    /// The PCR values.
    pub pcrs: Pcrs,
}

/// A TPM's certification of one of its keys.
#[derive(Debug, Clone)]
pub struct Certified {
    /// TPMT_PUBLIC.
    pub key: Vec<u8>,
    /// TPMS_ATTEST.
    pub certification: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

/// The input from which a TPM derives a device key, together with its own seed. Not secret: another
/// TPM derives another key.
pub type KeySeed = [u8; 32];

/// An open TPM.
pub struct Tpm {
    context: Context,
}

impl Tpm {
    /// The TPM of this device; `None` without one.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn open(paths: &Paths) -> Result<Option<Self>> {
        let Some(tcti) = &paths.tpm else { return Ok(None) };
        if tcti.strip_prefix("device:").is_some_and(|file| !Path::new(file).exists()) {
            return Ok(None);
        }
        Self::at(tcti).map(Some)
    }

    /// The TPM behind this TCTI.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn at(tcti: &str) -> Result<Self> {
        let context = Context::new(TctiNameConf::from_str(tcti)?).context("the TPM")?;
        Ok(Self { context })
    }

    /// The endorsement key to use, and its certificates.
    fn endorsement(&mut self) -> Result<(AsymmetricAlgorithmSelection, Vec<Vec<u8>>)> {
        for (algorithm, index) in ENDORSEMENTS {
            if self.is_there(index)? {
                let bytes = ek::retrieve_ek_pubcert(&mut self.context, algorithm)
                    .context("the endorsement certificate")?;
                let mut certificates = vec![endorsement::unpadded(&bytes).to_vec()];
                certificates.extend(self.between()?);
                return Ok((algorithm, certificates));
            }
        }
        Ok((WITHOUT_CERTIFICATE, Vec::new()))
    }

    /// Checked first, because the library treats a missing index as an error.
    fn is_there(&mut self, index: u32) -> Result<bool> {
        let handle = TpmHandle::NvIndex(NvIndexTpmHandle::new(index)?);
        Ok(self.context.execute_without_session(|c| c.tr_from_tpm_public(handle)).is_ok())
    }

    /// Skips certificates that it cannot read. The server may then not know the manufacturer: the
    /// device loses trust, but needs no visit.
    fn between(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut all = Vec::new();
        for index in BETWEEN {
            if !self.is_there(index)? || all.len() > CERTIFICATES_MAX * endorsement::CERTIFICATE_MAX
            {
                break;
            }
            let index = NvIndexTpmHandle::new(index)?;
            match self
                .context
                .execute_with_nullauth_session(|c| nv::read_full(c, NvAuth::Owner, index))
            {
                Ok(bytes) => all.extend(bytes),
                Err(e) => tracing::warn!("certificates of the TPM manufacturer: {e}"),
            }
        }
        Ok(endorsement::each_of(&all).take(CERTIFICATES_MAX - 1).map(<[u8]>::to_vec).collect())
    }

    /// Loads a key for one operation and flushes it: a TPM has room for three.
    fn with_primary<T, E: Into<anyhow::Error>>(
        &mut self,
        template: Public,
        f: impl FnOnce(&mut Context, KeyHandle, &Public) -> Result<T, E>,
    ) -> Result<T> {
        let made = self
            .context
            .execute_with_nullauth_session(|c| {
                c.create_primary(Hierarchy::Endorsement, template, None, None, None, None)
            })
            .context("creating a key in the TPM")?;
        let result = f(&mut self.context, made.key_handle, &made.out_public);
        self.context.flush_context(made.key_handle.into()).ok();
        result.map_err(Into::into)
    }

    fn with_attestation_key<T>(
        &mut self,
        f: impl FnOnce(&mut Context, KeyHandle, &Public) -> tss_esapi::Result<T>,
    ) -> Result<T> {
        self.with_primary(template(true, ATTESTATION_KEY)?, f)
    }

    /// The device key of this seed: TPMT_PUBLIC.
    ///
    /// # Errors
    /// If the TPM refuses.
    pub fn device_key(&mut self, seed: &KeySeed) -> Result<Vec<u8>> {
        self.with_primary(template(false, seed)?, |_, _, public| public.marshall())
    }

    /// Signs a SHA-256 digest with the device key of this seed: TPMT_SIGNATURE.
    ///
    /// # Errors
    /// If the TPM refuses.
    pub fn sign(&mut self, seed: &KeySeed, digest: &[u8]) -> Result<Vec<u8>> {
        let digest = Digest::try_from(digest.to_vec())?;
        // The ticket is empty: the key is not restricted, so the TPM need not have computed the
        // hash.
        let ticket = HashcheckTicket::try_from(TPMT_TK_HASHCHECK {
            tag: TPM2_ST_HASHCHECK,
            hierarchy: TPM2_RH_NULL,
            digest: TPM2B_DIGEST::default(),
        })?;
        let signature = self.with_primary(template(false, seed)?, |c, key, _| {
            c.execute_with_nullauth_session(|c| c.sign(key, digest, SignatureScheme::Null, ticket))
        })?;
        Ok(signature.marshall()?)
    }

    /// Certifies with the attestation key that the device key of this seed is in this TPM
    /// (TPM2_Certify). The statement includes what `data` computes from the key.
    ///
    /// # Errors
    /// If the TPM refuses.
    pub fn certify(
        &mut self,
        seed: &KeySeed,
        data: impl FnOnce(&[u8]) -> Result<Vec<u8>>,
    ) -> Result<Certified> {
        let (device, attestation) = (template(false, seed)?, template(true, ATTESTATION_KEY)?);
        self.with_primary(device, |c, device, public| -> Result<Certified> {
            let key = public.marshall()?;
            let data = Data::try_from(data(&key)?)?;
            let made = c.execute_with_nullauth_session(|c| {
                c.create_primary(Hierarchy::Endorsement, attestation, None, None, None, None)
            })?;
            let sessions = (Some(AuthSession::Password), Some(AuthSession::Password), None);
            let said = c.execute_with_sessions(sessions, |c| {
                c.certify(device.into(), made.key_handle, data, SignatureScheme::Null)
            });
            c.flush_context(made.key_handle.into()).ok();
            let (said, signature) = said?;
            Ok(Certified { key, certification: said.marshall()?, signature: signature.marshall()? })
        })
    }

    /// The keys that identify it.
    ///
    /// # Errors
    /// If the TPM refuses.
    pub fn identity(&mut self) -> Result<Identity> {
        let (algorithm, certificates) = self.endorsement()?;
        let handle = ek::create_ek_object_2(&mut self.context, algorithm, None)
            .context("creating the endorsement key")?;
        let public = self
            .context
            .execute_without_session(|c| c.read_public(handle))
            .map(|(public, _, _)| public);
        self.context.flush_context(handle.into()).ok();
        let attestation_key = self.with_attestation_key(|_, _, public| public.marshall())?;
        Ok(Identity { endorsement_key: public?.marshall()?, certificates, attestation_key })
    }

    /// Decrypts the secret that was made for its attestation key (TPM2_ActivateCredential). `blob`
    /// and `secret` as received: TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET.
    ///
    /// # Errors
    /// If it was made for another key or TPM.
    pub fn activate(&mut self, blob: &[u8], secret: &[u8]) -> Result<Vec<u8>> {
        let (blob, secret) =
            (IdObject::try_from(content(blob)?)?, EncryptedSecret::try_from(content(secret)?)?);
        let (algorithm, _) = self.endorsement()?;
        let endorsement = ek::create_ek_object_2(&mut self.context, algorithm, None)
            .context("creating the endorsement key")?;
        let given = self.with_attestation_key(|c, attestation, _| {
            let session = c.execute_without_session(|c| {
                let (kind, aes) = (SessionType::Policy, SymmetricDefinition::AES_128_CFB);
                c.start_auth_session(None, None, None, kind, aes, HashingAlgorithm::Sha256)
            })?;
            let Some(session) = session else {
                return Err(tss_esapi::Error::WrapperError(
                    tss_esapi::WrapperErrorKind::WrongValueFromTpm,
                ));
            };
            let (attributes, mask) =
                SessionAttributesBuilder::new().with_decrypt(true).with_encrypt(true).build();
            c.tr_sess_set_attributes(session, attributes, mask)?;
            // A key of the low range is authorised by its policy only; one of the high range by its
            // empty password as well.
            let by = if is_by_policy(algorithm) { session } else { AuthSession::Password };
            let given = c
                .execute_with_nullauth_session(|c| {
                    let policy = PolicySession::try_from(session)?;
                    let none = Default::default;
                    c.policy_secret(
                        policy,
                        AuthHandle::Endorsement,
                        none(),
                        Default::default(),
                        Default::default(),
                        None,
                    )
                })
                .and_then(|_| {
                    let sessions = (Some(AuthSession::Password), Some(by), None);
                    c.execute_with_sessions(sessions, |c| {
                        c.activate_credential(attestation, endorsement, blob, secret)
                    })
                });
            c.flush_context(tss_esapi::handles::SessionHandle::from(session).into()).ok();
            given
        });
        self.context.flush_context(endorsement.into()).ok();
        Ok(given.context("the secret was not made for this TPM and its attestation key")?.to_vec())
    }

    /// PCR values, signed by the attestation key together with `data`.
    ///
    /// # Errors
    /// If the TPM refuses.
    pub fn quote(&mut self, data: &[u8]) -> Result<Quote> {
        let slots = PCRS
            .map(|pcr| PcrSlot::try_from(1u32 << pcr))
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        let selection = PcrSelectionListBuilder::new()
            .with_selection(HashingAlgorithm::Sha256, &slots)
            .build()?;
        let asked = Data::try_from(data.to_vec())?;
        let (quote, signature) = self.with_attestation_key(|c, key, _| {
            c.execute_with_nullauth_session(|c| {
                c.quote(key, asked, SignatureScheme::Null, selection.clone())
            })
        })?;
        let read = self.context.execute_without_session(|c| pcr::read_all(c, selection))?;
        let bank =
            read.pcr_bank(HashingAlgorithm::Sha256).context("the TPM has no SHA-256 bank")?;
        let mut pcrs = Pcrs::new();
        for (pcr, slot) in PCRS.into_iter().zip(slots) {
            let value = bank.get_digest(slot).with_context(|| format!("PCR {pcr} was not read"))?;
            pcrs.insert(
                pcr,
                value.value().try_into().context("a PCR value does not have 32 bytes")?,
            );
        }
        Ok(Quote { quote: quote.marshall()?, signature: signature.marshall()?, pcrs })
    }
}

fn is_by_policy(algorithm: AsymmetricAlgorithmSelection) -> bool {
    matches!(
        algorithm,
        AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048)
            | AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256)
    )
}

/// The content of a TPM2B.
fn content(sized: &[u8]) -> Result<Vec<u8>> {
    let (length, bytes) =
        sized.split_first_chunk::<2>().context("a TPM2B needs at least two bytes")?;
    ensure!(
        usize::from(u16::from_be_bytes(*length)) == bytes.len(),
        "a TPM2B has another length than it states"
    );
    Ok(bytes.to_vec())
}

/// A signing key, P-256. The attestation key is restricted to what the TPM itself generates (TCG
/// "TPM 2.0 Keys for Device Identity and Attestation", 7.3.4), the device key is not. `unique`
/// makes it differ from other keys of its kind.
fn template(is_restricted: bool, unique: &[u8; 32]) -> Result<Public> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_restricted(is_restricted)
        .with_sign_encrypt(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::Null)
        .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
        .with_curve(EccCurve::NistP256)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .with_is_signing_key(true)
        .with_is_decryption_key(false)
        .with_restricted(is_restricted)
        .build()?;
    let unique = EccPoint::new(EccParameter::try_from(unique.to_vec())?, EccParameter::default());
    Ok(PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(unique)
        .build()?)
}
