//! A release that several people sign, each on their own machine.

use fleeti_build::countersign::countersign;
use fleeti_build::release::{ReleaseError, verify};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::command_line;
use fleeti_core::manifest::{Artifact, Manifest};
use fleeti_pki::manifest::{PublicKey, ReleaseKeys, to_bytes};
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_testkit::synthetic::manifest_of;
use std::fs;
use std::path::Path;

const UKI: &[u8] = include_bytes!("../../../fleeti-pki/tests/fixtures/secure-boot/uki.efi");
const BINARY: &[u8] = include_bytes!("../../../fleeti-pki/tests/fixtures/secure-boot/binary.efi");

/// An unsigned release with the UKI `uki` and this Authenticode digest in its manifest.
fn release(dir: &Path, uki: &[u8], authenticode: Option<String>) {
    let path = "raw/kiosk_2.efi".to_owned();
    let artifact = Artifact {
        path: path.clone(),
        size: uki.len() as u64,
        sha256: sha256_hex(uki),
        authenticode,
    };
    let manifest = manifest_of(&"kiosk@2".parse().unwrap(), vec![artifact]);
    // The root hash in the command line of the fixture.
    let manifest = Manifest { root_hash: sha256_hex(b"root hash"), ..manifest };
    fs::create_dir_all(dir.join("raw")).unwrap();
    fs::write(dir.join(path), uki).unwrap();
    fs::write(dir.join("manifest.json"), to_bytes(&manifest).unwrap()).unwrap();
}

fn digest(binary: &[u8]) -> Option<String> {
    Some(hex::encode(fleeti_pki::authenticode::digest(binary).unwrap()))
}

fn keys(keys: &[&SoftKey], threshold: usize) -> ReleaseKeys {
    ReleaseKeys::new(keys.iter().map(|k| PublicKey::of(*k).unwrap()).collect(), threshold).unwrap()
}

#[test]
fn two_people_must_sign_where_two_are_asked_for_and_keys_are_rotated_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let [alice, bob, carol] = [(); 3].map(|()| SoftKey::generate(Algorithm::P384).unwrap());
    release(dir.path(), UKI, digest(UKI));
    let two = keys(&[&alice, &bob], 2);
    for (who, is_enough) in [(&alice, false), (&alice, false), (&carol, false), (&bob, true)] {
        countersign(dir.path(), None, who).unwrap();
        assert_eq!(verify(dir.path(), &two).is_ok(), is_enough);
    }
    // Carol replaces Bob. A device that knows all three keys accepts a release of the two old
    // signers; later, one that knows the new two accepts theirs.
    assert!(verify(dir.path(), &keys(&[&alice, &bob, &carol], 2)).is_ok());
    assert!(verify(dir.path(), &keys(&[&alice, &carol], 2)).is_ok());
    // The server's key alone is not sufficient.
    assert!(matches!(
        verify(dir.path(), &keys(&[&SoftKey::generate(Algorithm::P384).unwrap(), &alice], 2)),
        Err(ReleaseError::Verify(_))
    ));
}

/// The UKI with another command line.
fn with_command_line(text: &str) -> Vec<u8> {
    let mut uki = UKI.to_vec();
    uki[0x800..0xa00].fill(0);
    uki[0x800..0x800 + text.len()].copy_from_slice(text.as_bytes());
    uki
}

#[test]
fn nobody_signs_what_is_not_as_the_manifest_says() {
    let key = SoftKey::generate(Algorithm::P384).unwrap();
    let refused = |uki: &[u8], authenticode: Option<String>, harm: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        release(dir.path(), uki, authenticode);
        harm(dir.path());
        let error = countersign(dir.path(), None, &key).unwrap_err().to_string();
        assert!(
            fs::read_dir(dir.path()).unwrap().all(|e| e
                .unwrap()
                .path()
                .extension()
                .is_none_or(|x| x != "sig")),
            "{error}"
        );
        error
    };
    let nothing = |_: &Path| {};
    let changed = |dir: &Path| {
        let mut bytes = UKI.to_vec();
        bytes[0x201] ^= 1;
        fs::write(dir.join("raw/kiosk_2.efi"), bytes).unwrap();
    };
    assert!(refused(UKI, digest(UKI), &changed).contains("has SHA-256"));
    assert!(
        refused(UKI, digest(UKI), &|d| fs::remove_file(d.join("raw/kiosk_2.efi")).unwrap())
            .contains("raw/kiosk_2.efi")
    );
    assert!(refused(UKI, None, &nothing).contains("Authenticode digest"));
    assert!(refused(UKI, digest(BINARY), &nothing).contains("Authenticode digest"));
    assert!(refused(BINARY, digest(BINARY), &nothing).contains("needs one section .linux"));
    let own = command_line::of(&sha256_hex(b"root hash"), []);
    let elsewhere = with_command_line(&command_line::of(&sha256_hex(b"another root"), []));
    assert!(
        refused(&elsewhere, digest(&elsewhere), &nothing).contains("does not name the root hash")
    );
    let missing = with_command_line(&own.replace(" systemd.import_credentials=no", ""));
    assert!(
        refused(&missing, digest(&missing), &nothing)
            .contains("where it needs \"systemd.import_credentials=no\"")
    );
    let another = format!("roothash={}", sha256_hex(b"another root"));
    for more in [
        &another,
        "root=/dev/sda3",
        "systemd.verity=no",
        "init=/bin/sh",
        "rdinit=/bin/sh",
        "rd.break",
        "x=\"y",
        "unlisted",
        "",
    ] {
        let more = with_command_line(&format!("{own} {more}"));
        assert!(refused(&more, digest(&more), &nothing).contains("the command line's"));
    }
    let usr = with_command_line(&format!("usr_{own}"));
    assert!(refused(&usr, digest(&usr), &nothing).contains("does not name the root hash"));
    let hidden = with_command_line(&format!("{own} quiet\0 init=/bin/sh"));
    assert!(refused(&hidden, digest(&hidden), &nothing).contains("the command line's"));
    // The kernel gets as much of the section as its size in memory. Without a root hash, systemd
    // would start any partition with the type of a root.
    let header = UKI.windows(8).position(|bytes| bytes == b".cmdline").unwrap();
    for (length, why) in [
        (9u32, "does not name the root hash"),
        (90, "where it needs"),
        (0x1000, "is longer than the file"),
    ] {
        let mut hidden = UKI.to_vec();
        hidden[header + 8..header + 12].copy_from_slice(&length.to_le_bytes());
        let said = refused(&hidden, digest(&hidden), &nothing);
        assert!(said.contains(why), "{said}");
    }
    // systemd's stub does not read the table that contains the name of this section, so the kernel
    // would get no command line.
    let mut renamed = UKI.to_vec();
    let headers = u32::from_le_bytes(UKI[0x3c..0x40].try_into().unwrap()) as usize;
    renamed[header..header + 8].copy_from_slice(b"/4\0\0\0\0\0\0");
    renamed[headers + 12..headers + 16]
        .copy_from_slice(&u32::try_from(UKI.len()).unwrap().to_le_bytes());
    renamed.extend([&13u32.to_le_bytes()[..], b".cmdline\0\0\0\0"].concat());
    assert!(refused(&renamed, digest(&renamed), &nothing).contains("needs one section .cmdline"));
    assert!(
        refused(UKI, digest(UKI), &|d| fs::write(d.join("manifest.json"), b"{}").unwrap())
            .contains("manifest")
    );
}
