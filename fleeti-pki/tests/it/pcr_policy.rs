//! Signed PCR policies for PCR 11, compared with systemd's.

use super::binary;
use fleeti_pki::pcr_policy::{self, OPENED_IN};
use fleeti_pki::pe::with_section;
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_pki::{authenticode, measured::predicted};

const KEY: &[u8] = include_bytes!("../fixtures/pcr-policy/key.pk8");
/// `systemd-measure sign` of systemd 252, with this key, the sections of [`image`] and the phase
/// [`OPENED_IN`].
const BY_SYSTEMD: &str = include_str!("../fixtures/pcr-policy/systemd-252.json");

fn key() -> SoftKey {
    SoftKey::from_pkcs8_der(KEY).unwrap()
}

/// A UKI that was built for a key.
fn image(key: &SoftKey) -> Vec<u8> {
    let mut image = binary();
    // Space for the headers of more sections.
    image[0xd4..0xd8].copy_from_slice(&0x400u32.to_le_bytes());
    image.splice(0x200..0x200, [0; 0x200]);
    image[0x188 + 20..0x188 + 24].copy_from_slice(&0x400u32.to_le_bytes());
    for name in [".linux", ".osrel", ".cmdline", ".initrd"] {
        image = with_section(&image, name, format!("content of {name}").as_bytes()).unwrap();
    }
    with_section(&image, ".pcrpkey", pcr_policy::public_pem(key).unwrap().as_bytes()).unwrap()
}

#[test]
fn the_signature_is_the_one_that_systemd_makes() {
    let key = key();
    let pcr = predicted::pcr_11(&image(&key), 252, OPENED_IN).unwrap();
    let (ours, theirs) = (pcr_policy::sign(&pcr, &key).unwrap(), BY_SYSTEMD);
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(read(&ours), read(theirs));
    assert!(pcr_policy::is_signed(theirs.as_bytes(), &pcr));
    assert!(!pcr_policy::is_signed(theirs.as_bytes(), &[0; 32]), "nothing was measured");
    assert!(!pcr_policy::is_signed(b"{}", &pcr) && !pcr_policy::is_signed(b"no JSON", &pcr));
}

#[test]
fn the_signature_goes_with_the_image_and_changes_nothing_that_is_measured() {
    let key = key();
    let before = image(&key);
    let after = pcr_policy::attach(&before, 257, &key).unwrap();
    authenticode::check_uki(&after).unwrap();
    authenticode::digest(&authenticode::padded(&after)).unwrap();
    for phases in ["", OPENED_IN] {
        let of = |image: &[u8]| predicted::pcr_11(image, 257, phases).unwrap();
        assert_eq!(of(&before), of(&after), "{phases:?}");
    }
    assert!(pcr_policy::attach(&after, 257, &key).is_err(), "twice");
}

#[test]
fn a_version_measures_the_sections_that_it_knows_of_an_image_without_profiles() {
    let image = image(&key());
    let with_more = with_section(&image, ".sbat", b"sbat,1").unwrap();
    let of = |image: &[u8], systemd| predicted::pcr_11(image, systemd, "").unwrap();
    assert_eq!(of(&image, 252), of(&with_more, 252));
    assert_ne!(of(&image, 257), of(&with_more, 257));
    let profiles = with_section(&image, ".profile", b"ID=other").unwrap();
    assert!(predicted::pcr_11(&profiles, 257, "").is_err());
    let started = of(&image, 257);
    assert_eq!(predicted::after_phases(started, ""), started, "no phase yet");
    assert_eq!(
        predicted::pcr_11(&image, 257, "enter-initrd").unwrap(),
        predicted::after_phases(started, "enter-initrd")
    );
    assert_eq!(
        predicted::pcr_9(&image, 256).unwrap(),
        None,
        "the initrd of this version is unknown"
    );
    assert_ne!(predicted::pcr_9(&image, 257).unwrap(), None);
}

#[test]
fn an_image_for_another_key_or_for_none_is_not_signed() {
    let (key, other) = (key(), SoftKey::generate(Algorithm::Rsa2048).unwrap());
    let refused = pcr_policy::attach(&image(&other), 257, &key).unwrap_err().to_string();
    assert!(refused.contains("another key"), "{refused}");
    assert!(pcr_policy::attach(&binary(), 257, &key).is_err());
    let curve = SoftKey::generate(Algorithm::P384).unwrap();
    assert!(pcr_policy::sign(&[0; 32], &curve).is_err());
}

#[test]
fn a_section_is_added_where_there_is_room_and_by_its_own_name() {
    let image = image(&key());
    assert!(with_section(&image, ".linux", b"again").is_err());
    assert!(with_section(&image, ".longer-than-8", b"x").is_err());
    // The section headers end where the first section starts.
    assert!(
        with_section(&binary(), ".a", b"x").is_ok_and(|one| with_section(&one, ".b", b"x").is_ok())
    );
    // Alignments that would make gigabytes of a small file, or are zero.
    for (at, alignment) in
        [(0xbc, 0x8000_0000_u32), (0xbc, 0x2_0000), (0xbc, 0x201), (0xb8, 0x1001)]
    {
        let mut odd = binary();
        odd[at..at + 4].copy_from_slice(&alignment.to_le_bytes());
        let refused = with_section(&odd, ".a", b"x").unwrap_err().to_string();
        assert!(
            refused.contains("its alignments are not powers of two"),
            "{at:#x} {alignment:#x}: {refused}"
        );
    }
    let mut full = image;
    let mut added = 0;
    while let Ok(more) = with_section(&full, &format!(".s{added}"), b"x") {
        full = more;
        added += 1;
    }
    // 0x400 bytes of headers, 40 for each section, the first one's at 0x188.
    assert_eq!(added, (0x400 - 0x188) / 40 - 6);
    authenticode::digest(&authenticode::padded(&full)).unwrap();
}
