//! A browser and its authenticator in software, for tests of passkeys: P-256 keys of the crate
//! `p256`, and CBOR of the crate `ciborium`, so that the server's own reader is held against others.
//! It does what it is told, also what no browser does.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ciborium::Value;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::Generate;
use serde_json::json;
use sha2::{Digest, Sha256};

/// Its user was present and verified, and it attests nothing.
pub const VERIFIED: u8 = 0b101;
/// The user was present, and not verified.
pub const PRESENT: u8 = 0b001;
/// The credential may be copied to other authenticators.
pub const SYNCED: u8 = 0b1000;
const HAS_CREDENTIAL: u8 = 1 << 6;

/// A passkey.
#[derive(Clone)]
pub struct Passkey {
    /// Its id.
    pub id: Vec<u8>,
    /// The account, as the server names it to authenticators.
    pub user: Vec<u8>,
    /// How often it has signed; it does not count at 0.
    pub counter: u32,
    key: SigningKey,
}

/// What browser and authenticator say. The default of [`Said::at`] is what an honest pair says.
#[derive(Clone)]
pub struct Said {
    /// The challenge.
    pub challenge: Vec<u8>,
    /// The origin of the page.
    pub origin: String,
    /// The relying party.
    pub party: String,
    /// The flags of the authenticator.
    pub flags: u8,
    /// The ceremony that the browser names, instead of the right one.
    pub ceremony: Option<&'static str>,
    /// More fields of the client data.
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// The answer to a request for a new passkey.
pub struct New {
    /// What the browser says.
    pub client_data: Vec<u8>,
    /// The attestation object.
    pub attestation: Vec<u8>,
}

/// The answer to a request to sign in.
#[derive(Clone)]
pub struct Answer {
    /// The id of the passkey.
    pub credential: Vec<u8>,
    /// The account.
    pub user: Vec<u8>,
    /// What the browser says.
    pub client_data: Vec<u8>,
    /// What the authenticator says.
    pub authenticator_data: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

impl Said {
    /// What an honest browser says at this origin to this challenge.
    #[must_use]
    pub fn at(origin: &str, challenge: &[u8]) -> Self {
        let (_, host) = origin.split_once("://").unwrap_or(("", origin));
        Self {
            challenge: challenge.to_vec(),
            origin: origin.to_owned(),
            party: host.split(':').next().unwrap_or_default().to_owned(),
            flags: VERIFIED,
            ceremony: None,
            more: serde_json::Map::new(),
        }
    }

    fn client_data(&self, ceremony: &str) -> Vec<u8> {
        let mut data = json!({
            "type": self.ceremony.unwrap_or(ceremony),
            "challenge": URL_SAFE_NO_PAD.encode(&self.challenge),
            "origin": self.origin,
            "crossOrigin": false,
        });
        if let Some(fields) = data.as_object_mut() {
            fields.extend(self.more.clone());
        }
        data.to_string().into_bytes()
    }

    fn authenticator_data(&self, flags: u8, counter: u32) -> Vec<u8> {
        let party = Sha256::digest(self.party.as_bytes());
        [party.as_slice(), &[self.flags | flags], &counter.to_be_bytes()].concat()
    }
}

/// CBOR of a value.
#[must_use]
pub fn cbor(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap_or_default();
    bytes
}

impl Passkey {
    /// A new passkey of a user, which has signed `counter` times.
    #[must_use]
    pub fn new(user: &[u8], counter: u32) -> Self {
        let id = rand::random::<[u8; 32]>().to_vec();
        let key = SigningKey::generate_from_rng(&mut rand::rng());
        Self { id, user: user.to_vec(), counter, key }
    }

    /// Its public key, COSE.
    #[must_use]
    pub fn cose(&self) -> Vec<u8> {
        let point = self.key.verifying_key().to_sec1_point(false);
        let (x, y) = point.as_bytes().get(1..).unwrap_or_default().split_at(32);
        cbor(&Value::Map(vec![
            (1.into(), 2.into()),
            (3.into(), (-7).into()),
            ((-1).into(), 1.into()),
            ((-2).into(), Value::Bytes(x.to_vec())),
            ((-3).into(), Value::Bytes(y.to_vec())),
        ]))
    }

    /// Answers a request for a new passkey with this one.
    #[must_use]
    pub fn create(&self, said: &Said) -> New {
        let mut data = said.authenticator_data(HAS_CREDENTIAL, self.counter);
        data.extend([0; 16]);
        data.extend(u16::try_from(self.id.len()).unwrap_or_default().to_be_bytes());
        data.extend(&self.id);
        data.extend(self.cose());
        let attestation = cbor(&Value::Map(vec![
            (Value::Text("fmt".into()), Value::Text("none".into())),
            (Value::Text("attStmt".into()), Value::Map(vec![])),
            (Value::Text("authData".into()), Value::Bytes(data)),
        ]));
        New { client_data: said.client_data("webauthn.create"), attestation }
    }

    /// Answers a request to sign in, and counts.
    #[must_use]
    pub fn sign_in(&mut self, said: &Said) -> Answer {
        self.counter += u32::from(self.counter > 0);
        let client_data = said.client_data("webauthn.get");
        let authenticator_data = said.authenticator_data(0, self.counter);
        let digest = Sha256::digest(&client_data);
        let signed = [authenticator_data.as_slice(), digest.as_slice()].concat();
        let signature: Signature = self.key.sign(&signed);
        Answer {
            credential: self.id.clone(),
            user: self.user.clone(),
            client_data,
            authenticator_data,
            signature: signature.to_der().as_bytes().to_vec(),
        }
    }
}
