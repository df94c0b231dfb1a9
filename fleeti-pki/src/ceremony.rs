//! An offline root that several operators open together. The secret that opens its key is divided
//! by Shamir's scheme; each operator has one share, sealed under a passphrase of their own. Each
//! act is recorded in a transcript that the root signs.
//!
//! ```
//! use fleeti_pki::ceremony;
//! let secret = ceremony::new_secret();
//! let shares = ceremony::divide(&secret, 2, 3).unwrap();
//! assert_eq!(ceremony::combine(&shares[1..], 2).unwrap(), secret);
//! assert!(ceremony::combine(&shares[..1], 2).is_err());
//! ```

use crate::audit::{Act, End, Entry, Stage};
use crate::bundle::{self, Bundle};
use crate::certificate::{
    Authority, Period, Purpose, Role, fingerprint, issue, serial, to_der, to_pem,
};
use crate::crl::{self, Revoked};
use crate::csr;
use crate::hierarchy::INTERMEDIATE_S;
use crate::signer::{Signer, verify};
use crate::{Error, OrMalformed, base64_text};
use base64::Engine;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::strict;
use fleeti_core::wire::api::RevocationReason;
use fleeti_core::wire::device::SignedBundle;
use x509_cert::Certificate;
use zeroize::Zeroizing;

/// Maximum number of operators.
pub const OPERATORS_MAX: usize = 16;
/// Default validity of the root's CRL.
pub const LIST_S: u64 = 366 * 86_400;
/// Maximum size of a transcript, bytes.
pub const TRANSCRIPT_MAX: usize = 1 << 20;

/// A secret that opens a root's key: 256 random bits as hexadecimal text.
#[must_use]
pub fn new_secret() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(hex::encode(rand::random::<[u8; 32]>()).into_bytes())
}

/// Divides a secret into shares; `threshold` of them are needed to combine it.
///
/// # Errors
/// [`Error::Refused`] for invalid numbers.
pub fn divide(
    secret: &[u8],
    threshold: usize,
    operators: usize,
) -> Result<Vec<Zeroizing<Vec<u8>>>, Error> {
    if threshold == 0 || threshold > operators || operators > OPERATORS_MAX {
        return Err(Error::Refused(
            "the threshold must be between 1 and the number of operators, and there are at most 16 operators",
        ));
    }
    let degree = u8::try_from(threshold).or_malformed("threshold")?;
    Ok(blahaj::Sharks(degree)
        .dealer(secret)
        .take(operators)
        .map(|share| Zeroizing::new(Vec::from(&share)))
        .collect())
}

/// Combines shares. Wrong shares give a wrong secret, which opens nothing.
///
/// # Errors
/// [`Error::Refused`] for too few different shares.
pub fn combine(
    shares: &[Zeroizing<Vec<u8>>],
    threshold: usize,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let read = |s: &Zeroizing<Vec<u8>>| blahaj::Share::try_from(s.as_slice()).or_malformed("share");
    let shares = shares.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let degree = u8::try_from(threshold).or_malformed("threshold")?;
    let scheme = blahaj::Sharks(degree);
    let secret = scheme.recover(&shares);
    secret.map(Zeroizing::new).map_err(|_| Error::Refused("there are too few different shares"))
}

/// What was done with a root, in order: lines like those of the audit log, and the root's signature
/// over all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transcript {
    text: String,
    entries: Vec<Entry>,
    end: End,
}

/// Prefix of the signed text.
const TRANSCRIPT: &str = "fleeti.ceremony-transcript.v1\n";

impl Transcript {
    /// Parses the lines, and verifies the root's signature and the hash chain.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Malformed`].
    pub fn read(text: &str, signature: &[u8], root: &Certificate) -> Result<Self, Error> {
        if text.len() > TRANSCRIPT_MAX {
            return Err(Error::Malformed {
                what: "transcript",
                detail: format!("it has more than {TRANSCRIPT_MAX} bytes"),
            });
        }
        verify(
            &crate::certificate::public_key_der(root)?,
            format!("{TRANSCRIPT}{text}").as_bytes(),
            signature,
        )?;
        let mut read = Self { text: text.to_owned(), ..Self::default() };
        for line in text.lines() {
            let entry = read.end.read(line.as_bytes()).or_malformed("transcript")?;
            read.entries.push(entry);
        }
        Ok(read)
    }

    /// The entries.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The lines.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Signs the transcript with the root's key.
    ///
    /// # Errors
    /// [`Error::Backend`] if the key cannot sign.
    pub fn sign(&self, root: &dyn Signer) -> Result<Vec<u8>, Error> {
        root.sign(format!("{TRANSCRIPT}{}", self.text).as_bytes())
    }

    /// Whether this transcript continues an older one.
    #[must_use]
    pub fn follows(&self, older: &str) -> bool {
        self.text.starts_with(older)
    }

    /// Whether a bundle is the last one made in this ceremony: an older one would restore revoked
    /// intermediates.
    #[must_use]
    pub fn ends_with_bundle(&self, sha256: &str) -> bool {
        let last = self.entries.iter().rev().find(|e| e.act.action == ACTION_BUNDLE);
        last.is_some_and(|e| e.act.sha256.as_deref() == Some(sha256))
    }

    /// Whether a bundle was made in this ceremony.
    #[must_use]
    pub fn has_bundle(&self, sha256: &str) -> bool {
        self.entries
            .iter()
            .any(|e| e.act.action == ACTION_BUNDLE && e.act.sha256.as_deref() == Some(sha256))
    }

    /// Adds an act of the present operators.
    fn add(&mut self, now_s: u64, act: Act) -> Result<(), Error> {
        let line = self.end.append(now_s, act, Stage::Done)?;
        self.entries.push(Entry::parse(&line)?);
        self.text.push_str(&String::from_utf8_lossy(&line));
        self.text.push('\n');
        Ok(())
    }
}

const ACTION_BUNDLE: &str = "root.bundle";

/// An open root: its key, and who opened it.
pub struct OpenRoot<'a> {
    /// Its certificate.
    pub certificate: &'a Certificate,
    /// Its key.
    pub signer: &'a dyn Signer,
    /// Names of the operators whose shares opened it.
    pub operators: &'a [String],
    /// Unix seconds.
    pub now_s: u64,
}

/// What a root has issued and revoked, as its folder stores it.
#[derive(Debug, Clone, Default)]
pub struct Issued {
    /// The last bundle; `None` before the first.
    pub bundle: Option<Bundle>,
    /// Revoked certificates, until they expire.
    pub revoked: Vec<Revoked>,
}

impl OpenRoot<'_> {
    fn act(&self, action: &str, subject: String) -> Act {
        Act::new(self.operators.join(", "), action, subject)
    }

    /// The first act: the root was created, or taken over with the intermediates that it has signed
    /// before.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn begin(
        &self,
        transcript: &mut Transcript,
        threshold: usize,
        operators: &[String],
        intermediates: Vec<String>,
    ) -> Result<SignedBundle, Error> {
        let subject =
            format!("opened by {threshold} of {}: {}", operators.len(), operators.join(", "));
        transcript
            .add(self.now_s, self.act("root.create", subject).of(fingerprint(self.certificate)?))?;
        self.bundle(transcript, &mut Issued::default(), LIST_S, intermediates)
    }

    /// Certifies the key of a request as an intermediate, and adds it to the bundle. Only the key
    /// of the request is used.
    ///
    /// # Errors
    /// [`Error::Refused`] for a wrong proof of possession; [`Error::Malformed`].
    pub fn certify(
        &self,
        transcript: &mut Transcript,
        issued: &mut Issued,
        purpose: Purpose,
        csr_pem: &str,
    ) -> Result<(Certificate, SignedBundle), Error> {
        let key = csr::check(csr_pem)?;
        let authority = Authority { certificate: self.certificate, signer: self.signer };
        let period = Period::starting(self.now_s, INTERMEDIATE_S);
        let certificate =
            issue(Role::Intermediate { purpose }, period, key.public_key_der(), &authority)?;
        let subject = certificate.tbs_certificate().subject().to_string();
        transcript.add(
            self.now_s,
            self.act("root.sign", subject).of(sha256_hex(&to_der(&certificate)?)),
        )?;
        let bundle = self.bundle(transcript, issued, LIST_S, vec![to_pem(&certificate)?])?;
        Ok((certificate, bundle))
    }

    /// Revokes intermediates: makes a new CRL, and a bundle without them.
    ///
    /// # Errors
    /// [`Error::Refused`] for a certificate that is not an intermediate of the bundle.
    pub fn revoke(
        &self,
        transcript: &mut Transcript,
        issued: &mut Issued,
        whom: Option<(&Certificate, RevocationReason)>,
        valid_s: u64,
    ) -> Result<SignedBundle, Error> {
        if let Some((certificate, reason)) = whom {
            let pem = to_pem(certificate)?;
            let Some(bundle) = issued.bundle.as_mut().filter(|b| b.intermediates.contains(&pem))
            else {
                return Err(Error::Refused("the certificate is not an intermediate of the bundle"));
            };
            bundle.intermediates.retain(|p| *p != pem);
            let subject =
                format!("{} {}", certificate.tbs_certificate().subject(), reason.as_str());
            transcript.add(
                self.now_s,
                self.act("root.revoke", subject).of(sha256_hex(&to_der(certificate)?)),
            )?;
            issued.revoked.push(Revoked {
                serial: serial(certificate),
                revoked_s: self.now_s,
                reason,
            });
        }
        self.bundle(transcript, issued, valid_s, vec![])
    }

    fn bundle(
        &self,
        transcript: &mut Transcript,
        issued: &mut Issued,
        valid_s: u64,
        added: Vec<String>,
    ) -> Result<SignedBundle, Error> {
        let (version, mut intermediates) = match issued.bundle.take() {
            Some(last) => (last.version + 1, last.intermediates),
            None => (1, vec![]),
        };
        intermediates.extend(added);
        let authority = Authority { certificate: self.certificate, signer: self.signer };
        let crl = crl::create(
            &authority,
            &issued.revoked,
            crl::Update { number: version, this_s: self.now_s, next_s: self.now_s + valid_s },
        )?;
        let bundle = Bundle {
            kind: bundle::KIND.to_owned(),
            version,
            issued_s: self.now_s,
            root_sha256: fingerprint(self.certificate)?,
            intermediates,
            crl: base64_text(&crl),
        };
        let signed = bundle::sign(&bundle, self.signer)?;
        // An unreadable bundle must not replace a readable one.
        bundle::read(&signed, self.certificate)?;
        let subject = format!(
            "version {version}, {} intermediates, {} revoked",
            bundle.intermediates.len(),
            issued.revoked.len()
        );
        transcript.add(
            self.now_s,
            self.act(ACTION_BUNDLE, subject).of(sha256_hex(signed.bundle.as_bytes())),
        )?;
        issued.bundle = Some(bundle);
        Ok(signed)
    }
}

impl Issued {
    /// From the last bundle, which the root has signed: its CRL has the revoked certificates.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Malformed`].
    pub fn of(last: &SignedBundle, root: &Certificate) -> Result<Self, Error> {
        bundle::read(last, root)?;
        let bundle: Bundle =
            strict::from_slice(last.bundle.as_bytes()).or_malformed("trust bundle")?;
        let crl = base64::engine::general_purpose::STANDARD
            .decode(&bundle.crl)
            .or_malformed("CRL of the root")?;
        Ok(Self { revoked: crl::entries(&crl)?, bundle: Some(bundle) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::self_signed;
    use crate::signer::{Algorithm, SoftKey};

    const NOW_S: u64 = 1_800_000_000;

    struct Ceremony {
        key: SoftKey,
        root: Certificate,
        transcript: Transcript,
        issued: Issued,
    }

    impl Ceremony {
        fn new() -> Self {
            let key = SoftKey::generate(Algorithm::P384).unwrap();
            let root =
                self_signed(Role::Root, Period::starting(NOW_S, 86_400 * 365), &key).unwrap();
            Self { key, root, transcript: Transcript::default(), issued: Issued::default() }
        }
        fn open<'a>(
            key: &'a SoftKey,
            root: &'a Certificate,
            operators: &'a [String],
        ) -> OpenRoot<'a> {
            OpenRoot { certificate: root, signer: key, operators, now_s: NOW_S }
        }
        fn certify(&mut self, purpose: Purpose) -> (Certificate, SignedBundle) {
            let csr = csr::create(&SoftKey::generate(Algorithm::P384).unwrap()).unwrap();
            let who = ["alice".to_owned(), "bob".to_owned()];
            Self::open(&self.key, &self.root, &who)
                .certify(&mut self.transcript, &mut self.issued, purpose, &csr)
                .unwrap()
        }
        fn revoke(&mut self, whom: &Certificate) -> Result<SignedBundle, Error> {
            let who = ["alice".to_owned()];
            let whom = Some((whom, RevocationReason::KeyCompromise));
            Self::open(&self.key, &self.root, &who).revoke(
                &mut self.transcript,
                &mut self.issued,
                whom,
                LIST_S,
            )
        }
    }

    #[test]
    fn any_shares_that_are_enough_open_the_secret_and_fewer_or_foreign_ones_do_not() {
        let secret = new_secret();
        let shares = divide(&secret, 3, 5).unwrap();
        let pick = |which: &[usize]| which.iter().map(|i| shares[*i].clone()).collect::<Vec<_>>();
        for which in [[0, 1, 2], [4, 2, 0], [1, 3, 4]] {
            assert_eq!(combine(&pick(&which), 3).unwrap(), secret);
        }
        assert!(combine(&pick(&[0, 1]), 3).is_err() && combine(&pick(&[0, 0, 0]), 3).is_err());
        let foreign = divide(&new_secret(), 3, 5).unwrap();
        let mixed = [&pick(&[0, 1])[..], &foreign[4..]].concat();
        assert_ne!(combine(&mixed, 3).unwrap(), secret, "it opens nothing");
        for (threshold, operators) in [(0, 3), (4, 3), (2, 17)] {
            assert!(divide(&secret, threshold, operators).is_err());
        }
    }

    #[test]
    fn a_rotation_adds_the_new_intermediate_before_the_old_one_is_revoked() {
        let mut c = Ceremony::new();
        let (old, first) = c.certify(Purpose::Device);
        let (_, second) = c.certify(Purpose::Server);
        let (new, third) = c.certify(Purpose::Device);
        let fourth = c.revoke(&old).unwrap();
        let versions: Vec<_> = [&first, &second, &third, &fourth]
            .map(|b| bundle::read(b, &c.root).unwrap().version())
            .to_vec();
        assert_eq!(versions, [1, 2, 3, 4]);
        let devices = |b: &SignedBundle| {
            bundle::read(b, &c.root).unwrap().of(Purpose::Device).map(serial).collect::<Vec<_>>()
        };
        assert_eq!(devices(&third), [serial(&old), serial(&new)]);
        assert_eq!(devices(&fourth), [serial(&new)]);
        let again = Issued::of(&fourth, &c.root).unwrap();
        let reason = RevocationReason::KeyCompromise;
        assert_eq!(again.revoked, [Revoked { serial: serial(&old), revoked_s: NOW_S, reason }]);
        assert!(c.revoke(&old).is_err(), "it is not in the bundle any more");
        assert!(c.transcript.has_bundle(bundle::read(&fourth, &c.root).unwrap().sha256()));
    }

    #[test]
    fn a_bundle_by_another_root_or_with_anything_changed_is_refused() {
        let mut c = Ceremony::new();
        let (old, good) = c.certify(Purpose::Device);
        assert!(bundle::read(&good, &Ceremony::new().root).is_err());
        for (from, to) in
            [("\"version\":1", "\"version\":2"), ("{", "{ "), (KIND_V1, "fleeti.trust-bundle.v2")]
        {
            let bad = SignedBundle { bundle: good.bundle.replacen(from, to, 1), ..good.clone() };
            assert!(matches!(bundle::read(&bad, &c.root), Err(Error::Refused(_))), "{from}");
        }
        // What the root itself refuses to sign.
        let resigned = |change: &dyn Fn(&mut Bundle)| {
            let mut bundle: Bundle = serde_json::from_str(&good.bundle).unwrap();
            change(&mut bundle);
            bundle::read(&bundle::sign(&bundle, &c.key).unwrap(), &c.root).unwrap_err().to_string()
        };
        let stranger = to_pem(&Ceremony::new().certify(Purpose::Device).0).unwrap();
        assert!(
            resigned(&|b| b.intermediates.push(stranger.clone()))
                .contains("does not verify with this key")
        );
        assert!(resigned(&|b| b.kind = "x".into()).contains("canonical JSON of type"));
        assert!(resigned(&|b| b.root_sha256 = "00".into()).contains("another root"));
        let back = to_pem(&old).unwrap();
        let fourth = c.revoke(&old).unwrap();
        let mut bundle: Bundle = serde_json::from_str(&fourth.bundle).unwrap();
        bundle.intermediates.push(back);
        let error =
            bundle::read(&bundle::sign(&bundle, &c.key).unwrap(), &c.root).unwrap_err().to_string();
        assert!(error.contains("revoked"), "{error}");
    }

    const KIND_V1: &str = bundle::KIND;

    #[test]
    fn a_transcript_is_signed_and_every_line_follows_the_one_before() {
        let mut c = Ceremony::new();
        c.certify(Purpose::Device);
        c.certify(Purpose::Operator);
        let (text, signature) =
            (c.transcript.text().to_owned(), c.transcript.sign(&c.key).unwrap());
        let read = Transcript::read(&text, &signature, &c.root).unwrap();
        assert_eq!(read, c.transcript);
        let acts: Vec<_> =
            read.entries().iter().map(|e| (e.act.actor.as_str(), e.act.action.as_str())).collect();
        assert_eq!(acts, [("alice, bob", "root.sign"), ("alice, bob", "root.bundle")].repeat(2));
        assert!(Transcript::read(&text.replace("alice", "mallory"), &signature, &c.root).is_err());
        assert!(Transcript::read(&text, &signature, &Ceremony::new().root).is_err());
        // Signed again by an attacker who has the root: without the first lines, or in another
        // order.
        let lines: Vec<_> = text.lines().collect();
        for harm in [lines[1..].to_vec(), vec![lines[0], lines[2], lines[1], lines[3]]] {
            let text = harm.join("\n") + "\n";
            let signature = c.key.sign(format!("{TRANSCRIPT}{text}").as_bytes()).unwrap();
            assert!(Transcript::read(&text, &signature, &c.root).is_err());
        }
    }
}
