//! A device whose firmware verifies signatures: what is armed, and which changes of its variables
//! are refused before anything is written. Virtual machines show that the firmware then behaves as
//! expected (`cargo xtask test`).

use fleeti_agent::privileged::staging;
use fleeti_agent::{Paths, secure_boot};
use fleeti_core::manifest::Artifact;
use fleeti_core::wire::boot::{BootChange, BootSignatures, BootVariable, VariableWrite};
use fleeti_pki::authenticode;
use fleeti_pki::boot_keys::BootKeys;
use fleeti_pki::manifest::{self, PublicKey, ReleaseKeys, Verified};
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_pki::uefi::{self, SignatureList};
use fleeti_pki::wrap::WrapKey;
use fleeti_testkit::synthetic;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

const NOW_S: u64 = 1_800_000_000;
const LOADERS: [&str; 2] = ["EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"];

/// An EFI binary that differs from others by its number.
fn binary(number: u8) -> Vec<u8> {
    let mut bytes =
        include_bytes!("../../../fleeti-pki/tests/fixtures/secure-boot/binary.efi").to_vec();
    bytes[0x201] = number;
    bytes
}
const LOADER: u8 = 1;
const V0: u8 = 10;
const V1: u8 = 11;
const V2: u8 = 12;

struct Device {
    dir: tempfile::TempDir,
    paths: Paths,
    keys: BootKeys,
}

impl Device {
    /// Runs kiosk@1 from an ESP with kiosk@0 in the other slot; everything is signed by its key.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for folder in ["efivars", "esp/EFI/Linux", "esp/EFI/BOOT", "esp/EFI/systemd", "helper"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        fs::write(path("os-release"), "IMAGE_ID=kiosk\nIMAGE_VERSION=1\n").unwrap();
        let paths = Paths::below(dir.path());
        let device = Self {
            dir,
            paths,
            keys: BootKeys::generate(&"dev-a".parse().unwrap(), NOW_S).unwrap(),
        };
        device.enroll();
        for loader in LOADERS {
            device.put(loader, &device.signed(LOADER));
        }
        device.put("EFI/Linux/kiosk_0.efi", &device.signed(V0));
        device.put("EFI/Linux/kiosk_1.efi", &device.signed(V1));
        device
    }

    fn variable(&self, name: &str, value: &[u8]) {
        fs::write(self.paths.efivars.join(name), [&[7, 0, 0, 0], value].concat()).unwrap();
    }

    fn enroll(&self) {
        let expected = self.keys.expected().unwrap();
        let list = |der: &Vec<u8>| SignatureList::Certificate(der.clone()).to_bytes().unwrap();
        self.variable(&uefi::global_file_name("SetupMode"), &[0]);
        self.variable(&uefi::global_file_name("SecureBoot"), &[1]);
        self.variable(&uefi::file_name(BootVariable::Pk), &list(&expected.pk));
        self.variable(&uefi::file_name(BootVariable::Kek), &list(&expected.kek));
        self.variable(
            &uefi::file_name(BootVariable::Db),
            &expected.db.iter().flat_map(list).collect::<Vec<_>>(),
        );
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.paths.esp.join(name), bytes).unwrap();
    }
    fn get(&self, name: &str) -> Vec<u8> {
        fs::read(self.paths.esp.join(name)).unwrap()
    }
    fn signature(&self, number: u8) -> Vec<u8> {
        self.keys.sign(&[authenticode::digest(&binary(number)).unwrap()]).unwrap().remove(0)
    }
    fn signed(&self, number: u8) -> Vec<u8> {
        authenticode::attach(&binary(number), &self.signature(number)).unwrap()
    }
    /// Signatures for what it runs, by its newest key.
    fn signatures(&self) -> BootSignatures {
        let one = |number| fleeti_pki::base64_text(&self.signature(number));
        let binaries = [
            ("raw/systemd-boot.efi".to_owned(), one(LOADER)),
            ("raw/kiosk_1.efi".to_owned(), one(V1)),
        ];
        BootSignatures { binaries: BTreeMap::from(binaries) }
    }
    fn change(&self, writes: Vec<VariableWrite>, may_end_fallback: bool) -> Result<(), String> {
        let change =
            BootChange { number: 1, signatures: self.signatures(), writes, may_end_fallback };
        secure_boot::change(&self.paths, &change).map_err(|e| format!("{e:#}"))
    }
    /// The digest of every variable and every EFI binary.
    fn everything(&self) -> BTreeMap<PathBuf, String> {
        let folders = ["efivars", "esp/EFI/Linux", "esp/EFI/BOOT", "esp/EFI/systemd"]
            .map(|f| self.dir.path().join(f));
        let entries =
            folders.iter().flat_map(|f| fs::read_dir(f).unwrap()).map(|e| e.unwrap().path());
        entries
            .map(|p| (p.clone(), fleeti_core::canonical::sha256_hex(&fs::read(p).unwrap())))
            .collect()
    }

    /// Stages kiosk@2 in the form that systemd-sysupdate leaves.
    fn stage(&self, body: &[u8], signature: Option<&[u8]>) -> Verified {
        let key = SoftKey::generate(Algorithm::P384).unwrap();
        let path = "raw/kiosk_2.efi".to_owned();
        let (sha256, digest) =
            (fleeti_core::canonical::sha256_hex(body), authenticode::digest(body).unwrap());
        let artifact = Artifact {
            path: path.clone(),
            size: body.len() as u64,
            sha256,
            authenticode: Some(hex::encode(digest)),
        };
        let manifest = synthetic::manifest_of(&"kiosk@2".parse().unwrap(), vec![artifact]);
        let document = manifest::to_bytes(&manifest).unwrap();
        let keys = ReleaseKeys::new(vec![PublicKey::of(&key).unwrap()], 1).unwrap();
        let verified =
            manifest::verify(&document, &[manifest::sign(&document, &key).unwrap()], &keys)
                .unwrap();
        self.put("EFI/Linux/kiosk_2.staged", body);
        let binaries = signature.map(|s| (path, fleeti_pki::base64_text(s))).into_iter().collect();
        staging::keep_signatures(&self.paths, &[], &BootSignatures { binaries }).unwrap();
        verified
    }
}

/// An image, its device signature, and the text of the refusal.
type Case<'a> = (Vec<u8>, Option<Vec<u8>>, &'a str);
/// Plain files do not behave like firmware: reading them back does not give what was written, which
/// is detected.
const NO_FIRMWARE: &str = "the variable db: signature list is malformed";
const ENTRY: &str = "EFI/Linux/kiosk_2+3-0.efi";
const STAGED: &str = "EFI/Linux/kiosk_2.staged";

#[test]
fn the_devices_signature_is_attached_when_the_image_is_armed() {
    let device = Device::new();
    let verified = device.stage(&binary(V2), Some(&device.signature(V2)));
    staging::arm(&device.paths, &verified).unwrap();
    assert_eq!(device.get(ENTRY), device.signed(V2));
    assert!(!device.paths.esp.join(STAGED).exists());
    staging::arm(&device.paths, &verified).unwrap();
}

#[test]
fn an_image_that_the_firmware_would_not_start_is_not_armed() {
    let (device, other) = (Device::new(), Device::new());
    let changed = {
        let mut s = device.signature(V2);
        let n = s.len();
        s[n - 1] ^= 1;
        s
    };
    let refused: [Case<'_>; 5] = [
        (binary(V2), None, "there is no device signature"),
        (binary(V2), Some(other.signature(V2)), "no key in db made its signature"),
        (binary(V2), Some(device.signature(V1)), "no key in db made its signature"),
        (binary(V2), Some(changed), "no key in db made its signature"),
        (other.signed(V2), None, "there is no device signature"),
    ];
    for (body, signature, words) in refused {
        let verified = device.stage(&body, signature.as_deref());
        let error = format!("{:#}", staging::arm(&device.paths, &verified).unwrap_err());
        assert!(error.contains(words), "{error}");
        assert!(!device.paths.esp.join(ENTRY).exists());
    }
    // Signed for all devices and for this one: one valid signature is enough.
    let verified = device.stage(&other.signed(V2), Some(&device.signature(V2)));
    staging::arm(&device.paths, &verified).unwrap();
    assert_eq!(authenticode::signatures(&device.get(ENTRY)).unwrap().len(), 2);
}

#[test]
fn what_is_forbidden_is_not_armed_and_firmware_that_checks_nothing_needs_no_signature() {
    let device = Device::new();
    let dbx = SignatureList::Digests(vec![authenticode::digest(&binary(V2)).unwrap()])
        .to_bytes()
        .unwrap();
    device.variable(&uefi::file_name(BootVariable::Dbx), &dbx);
    let verified = device.stage(&binary(V2), Some(&device.signature(V2)));
    assert!(
        format!("{:#}", staging::arm(&device.paths, &verified).unwrap_err())
            .contains("dbx forbids it")
    );
    device.variable(&uefi::global_file_name("SecureBoot"), &[0]);
    staging::arm(&device.paths, &verified).unwrap();
    assert_eq!(device.get(ENTRY), binary(V2));
}

#[test]
fn arming_is_finished_after_a_power_cut_at_any_moment() {
    let device = Device::new();
    let verified = device.stage(&binary(V2), Some(&device.signature(V2)));
    // Power cut while the signed image was written: half of it is there.
    device.put("EFI/Linux/.kiosk_2+3-0.efi.new", &device.signed(V2)[..100]);
    staging::arm(&device.paths, &verified).unwrap();
    assert_eq!(device.get(ENTRY), device.signed(V2));
    assert!(!device.paths.esp.join("EFI/Linux/.kiosk_2+3-0.efi.new").exists());
    // The entry has its name, but not yet its content.
    device.put(ENTRY, &[]);
    device.put(STAGED, &binary(V2));
    staging::arm(&device.paths, &verified).unwrap();
    assert_eq!(device.get(ENTRY), device.signed(V2));
    // Between creating the entry and removing the staged file.
    device.put(STAGED, &binary(V2));
    staging::arm(&device.paths, &verified).unwrap();
    assert!(!device.paths.esp.join(STAGED).exists());
    assert_eq!(device.get(ENTRY), device.signed(V2));
}

#[test]
fn what_runs_is_signed_anew_before_a_variable_is_written() {
    let mut device = Device::new();
    let write = device.keys.begin_epoch(NOW_S).unwrap();
    let error = device.change(vec![write.clone()], false).unwrap_err();
    assert!(error.contains(NO_FIRMWARE), "{error}");
    for name in LOADERS.into_iter().chain(["EFI/Linux/kiosk_1.efi"]) {
        assert_eq!(authenticode::signatures(&device.get(name)).unwrap().len(), 2, "{name}");
    }
    assert_eq!(authenticode::signatures(&device.get("EFI/Linux/kiosk_0.efi")).unwrap().len(), 1);
    let written = fs::read(device.paths.efivars.join(uefi::file_name(BootVariable::Db))).unwrap();
    assert_eq!(fleeti_pki::base64_text(&written[4..]), write.auth);
    assert_eq!(written[..4], 0x27u32.to_le_bytes());
    // The firmware applied the change: the next attempt finds it done.
    device.enroll();
    device.change(vec![write], false).unwrap();
    assert_eq!(secure_boot::firmware_keys(&device.paths).unwrap().unwrap().change, 1);
}

#[test]
fn a_key_whose_epoch_has_ended_is_not_trusted_again_by_any_write_of_kek() {
    let mut device = Device::new();
    // A backup of the server's database, from before the key leaked.
    let wrap = WrapKey::from_bytes(&[7; 32]).unwrap();
    let kept = device.keys.wrap(&wrap).unwrap();
    let apply = |device: &Device, keys: &BootKeys, number, writes: Vec<VariableWrite>| {
        let sign = |binary: Vec<u8>| {
            fleeti_pki::base64_text(
                &keys.sign(&[authenticode::digest(&binary).unwrap()]).unwrap()[0],
            )
        };
        let signed =
            [("raw/systemd-boot.efi", sign(binary(LOADER))), ("raw/kiosk_1.efi", sign(binary(V1)))];
        let binaries =
            signed.into_iter().map(|(path, signature)| (path.to_owned(), signature)).collect();
        let change = BootChange {
            number,
            signatures: BootSignatures { binaries },
            writes,
            may_end_fallback: true,
        };
        secure_boot::change(&device.paths, &change).map_err(|e| format!("{e:#}"))
    };
    let mut ends = Vec::new();
    for number in [1, 2] {
        let write =
            if number == 1 { device.keys.begin_epoch(NOW_S) } else { device.keys.end_epoch(NOW_S) }
                .unwrap();
        ends = vec![write];
        assert!(
            apply(&device, &device.keys, number, ends.clone()).unwrap_err().contains(NO_FIRMWARE)
        );
        device.enroll();
        apply(&device, &device.keys, number, ends.clone()).unwrap();
    }
    let mut stolen = BootKeys::unwrap(&kept, device.keys.device(), &wrap).unwrap();
    let write = stolen.begin_epoch(NOW_S + 1_000_000).unwrap();
    let before = device.everything();
    let error = apply(&device, &stolen, 3, vec![write.clone()]).unwrap_err();
    assert!(error.contains("whose epoch has ended"), "{error}");
    // Together with the later write that ended it, which firmware would not accept again.
    let error = apply(&device, &device.keys, 3, [vec![write], ends].concat()).unwrap_err();
    assert!(error.contains("2 writes of db"), "{error}");
    assert_eq!(device.everything(), before);
}

#[test]
fn a_change_after_which_the_device_would_not_boot_is_refused_and_nothing_is_written() {
    let mut device = Device::new();
    let foreign = Device::new().keys.forbid(&[[1; 32]], NOW_S).unwrap();
    device.keys.begin_epoch(NOW_S).unwrap();
    device.enroll();
    let begun = device.everything();
    let end = device.keys.end_epoch(NOW_S).unwrap();
    let of_v1 = device.keys.forbid(&[authenticode::digest(&binary(V1)).unwrap()], NOW_S).unwrap();
    let pk = device.keys.enroll(NOW_S).unwrap()[2].clone();
    let wrong_kind = VariableWrite { append: true, ..end.clone() };
    let without = |writes: &[&VariableWrite]| {
        let writes = writes.iter().map(|w| (*w).clone()).collect();
        let change = BootChange {
            number: 1,
            signatures: BootSignatures::default(),
            writes,
            may_end_fallback: true,
        };
        secure_boot::change(&device.paths, &change).map_err(|e| format!("{e:#}"))
    };
    let refused = [
        (without(&[&end]), "would not start"),
        (device.change(vec![of_v1], true), "kiosk_1.efi after the change"),
        (device.change(vec![foreign], true), "not signed by this device's KEK"),
        (device.change(vec![pk], true), "not signed by this device's KEK"),
        (device.change(vec![wrong_kind], true), "not signed by this device's KEK"),
    ];
    for (result, words) in refused {
        let error = result.unwrap_err();
        assert!(error.contains(words), "{words}: {error}");
        assert_eq!(device.everything(), begun, "{words}");
    }
    // The other slot is kept unless the policy allows otherwise.
    let error = device.change(vec![end.clone()], false).unwrap_err();
    assert!(error.contains("keeps the fallback"), "{error}");
    assert_eq!(device.everything(), begun);
    assert!(device.change(vec![end], true).unwrap_err().contains(NO_FIRMWARE));
    device.enroll();
    device.variable(&uefi::global_file_name("SetupMode"), &[1]);
    assert!(device.change(vec![], true).unwrap_err().contains("setup mode"));
    device.variable(&uefi::global_file_name("SecureBoot"), &[0]);
    assert!(device.change(vec![], true).unwrap_err().contains("Secure Boot is off"));
}
