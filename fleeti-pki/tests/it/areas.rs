//! Public areas of keys in a TPM, built by hand: each relevant field by itself.

use fleeti_pki::signer::Algorithm;
use fleeti_pki::tpm::attest::{Attest, Refused, Selection};
use fleeti_pki::tpm::public::{Attributes, DeviceKey, EndorsementKey, Public};
use fleeti_pki::tpm::{Hash, Unreadable, credential};
use fleeti_testkit::soft_tpm::{Area, RESTRICTED, SoftTpm, sized};

const BORN_HERE: u32 =
    Attributes::FIXED_TPM | Attributes::FIXED_PARENT | Attributes::SENSITIVE_DATA_ORIGIN;
const DECRYPTS: u32 = BORN_HERE | Attributes::RESTRICTED | Attributes::DECRYPT;

/// A TPMT_PUBLIC of an RSA key (Part 2, 12.2.4).
struct Rsa {
    attributes: u32,
    symmetric: Vec<u16>,
    bits: u16,
    exponent: u32,
    modulus: Vec<u8>,
}

impl Rsa {
    fn good() -> Self {
        Self {
            attributes: DECRYPTS,
            symmetric: vec![0x0006, 128, 0x0043],
            bits: 2048,
            exponent: 0,
            modulus: vec![0xc1; 256],
        }
    }
    fn to_bytes(&self) -> Vec<u8> {
        let symmetric: Vec<u8> =
            self.symmetric.iter().flat_map(|word| word.to_be_bytes()).collect();
        let head = [
            &[0x00, 0x01, 0x00, 0x0b][..],
            &self.attributes.to_be_bytes(),
            &[0, 0],
            &symmetric,
            &[0x00, 0x10],
        ]
        .concat();
        [&head[..], &self.bits.to_be_bytes(), &self.exponent.to_be_bytes(), &sized(&self.modulus)]
            .concat()
    }
}

/// `None` if the area cannot be parsed, else whether it is that of an endorsement key.
fn endorses(change: impl Fn(&mut Rsa)) -> Option<bool> {
    let mut area = Rsa::good();
    change(&mut area);
    Public::parse(&area.to_bytes()).ok().map(|public| EndorsementKey::new(public).is_ok())
}

#[test]
fn an_endorsement_key_decrypts_what_was_made_for_keys_of_its_tpm_and_does_nothing_else() {
    assert_eq!(endorses(|_| {}), Some(true));
    for bit in [Attributes::FIXED_TPM, Attributes::FIXED_PARENT, Attributes::SENSITIVE_DATA_ORIGIN]
    {
        assert_eq!(endorses(|a| a.attributes &= !bit), Some(false), "without {bit:#x}");
    }
    for bit in [Attributes::RESTRICTED, Attributes::DECRYPT] {
        assert_eq!(endorses(|a| a.attributes &= !bit), Some(false), "without {bit:#x}");
    }
    assert_eq!(endorses(|a| a.attributes |= Attributes::SIGN), Some(false), "signs");
    assert_eq!(
        endorses(|a| a.symmetric = vec![0x0010]),
        Some(false),
        "without a symmetric algorithm"
    );
    let short = |a: &mut Rsa| (a.bits, a.modulus) = (1024, vec![0xc1; 128]);
    assert_eq!(endorses(short), Some(false), "1024 bits");
    assert_eq!(endorses(|a| a.exponent = 65537), Some(true));
    assert_eq!(endorses(|a| a.exponent = 3), Some(false));
}

#[test]
fn an_rsa_key_has_as_many_bits_as_it_says() {
    assert_eq!(endorses(|a| a.bits = 3072), None);
    assert_eq!(endorses(|a| a.modulus[0] = 0x7f), None, "the first bit is zero");
    assert_eq!(endorses(|a| (a.bits, a.modulus) = (0, vec![])), None, "no modulus");
    assert_eq!(endorses(|a| a.symmetric[1] = 192), None, "AES-192");
    assert_eq!(endorses(|a| a.symmetric[2] = 0x0042), None, "another mode");
}

#[test]
fn what_a_device_key_may_do_is_sign_and_nothing_else() {
    let tpm = SoftTpm::new(Algorithm::P256).unwrap();
    let good = RESTRICTED & !Attributes::RESTRICTED;
    let is_one = |attributes| {
        DeviceKey::new(Public::parse(&Area { attributes, ..tpm.area.clone() }.to_bytes()).unwrap())
            .is_ok()
    };
    assert!(is_one(good));
    for bit in [
        Attributes::FIXED_TPM,
        Attributes::FIXED_PARENT,
        Attributes::SENSITIVE_DATA_ORIGIN,
        Attributes::SIGN,
    ] {
        assert!(!is_one(good & !bit), "without {bit:#x}");
    }
    assert!(!is_one(good | Attributes::DECRYPT) && !is_one(good | Attributes::RESTRICTED));
    let other = Area { attributes: good, scheme_hash: Hash::Sha384.id(), ..tpm.area.clone() };
    assert!(
        DeviceKey::new(Public::parse(&other.to_bytes()).unwrap()).is_err(),
        "with another hash than its curve's"
    );
}

#[test]
fn an_area_is_read_to_its_last_byte() {
    let area = Rsa::good().to_bytes();
    assert!(Public::parse_sized(&sized(&area)).is_ok());
    let behind = |bytes: &[u8]| [bytes, &[0]].concat();
    assert!(matches!(Public::parse(&behind(&area)), Err(Unreadable::Trailing { .. })));
    assert!(matches!(
        Public::parse_sized(&behind(&sized(&area))),
        Err(Unreadable::Trailing { .. })
    ));
    let large = [&area[..], &[0; 4096]].concat();
    assert!(matches!(Public::parse(&large), Err(Unreadable::TooLong { .. })));
}

#[test]
fn a_statement_is_no_larger_than_a_tpm_makes_it() {
    let tpm = SoftTpm::new(Algorithm::P256).unwrap();
    let key = tpm.attestation_key().unwrap();
    let read =
        |statement: &[u8]| Attest::quote(statement, &tpm.sign(statement).unwrap(), &key).map(drop);
    let quote = |extra: usize| tpm.quote(&[], &vec![7; extra], &[(0x000b, 1)], &[0; 32]);
    read(&quote(66)).unwrap();
    assert!(
        matches!(read(&quote(67)), Err(Refused::Unreadable(Unreadable::TooLong { .. }))),
        "longer than a TPM2B_DATA"
    );
    let banks = |count| tpm.quote(&[], &[], &vec![(0x000b, 1); count], &[0; 32]);
    read(&banks(16)).unwrap();
    assert!(
        matches!(read(&banks(17)), Err(Refused::Unreadable(Unreadable::Unknown { .. }))),
        "more banks than there are"
    );
    let large = [&quote(32)[..], &[0; 4096]].concat();
    assert!(
        matches!(read(&large), Err(Refused::Unreadable(Unreadable::TooLong { .. }))),
        "as a whole"
    );
}

#[test]
fn a_bank_has_twenty_four_pcrs() {
    assert_eq!(
        Selection::sha256(&[0, 23, 24, 255]),
        Selection { bank: Hash::Sha256, pcrs: 0x80_0001 }
    );
}

#[test]
fn a_secret_is_made_for_a_key_anew_each_time() {
    let mut area = Rsa::good();
    // A modulus that libraries accept: it is odd.
    *area.modulus.last_mut().unwrap() = 0x01;
    let key = EndorsementKey::new(Public::parse(&area.to_bytes()).unwrap()).unwrap();
    let made = || credential::make(&key, b"name", &[7; 32]).unwrap();
    assert_ne!(made().blob, made().blob, "by another seed");
}
