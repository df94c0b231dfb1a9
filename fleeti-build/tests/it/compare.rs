//! A comparison with one's own build names every change that another party makes to a build or a
//! release.

use fleeti_build::build::{BuildRecord, FileRecord, RecordedInputs, Step};
use fleeti_build::compare::{self, Comparison, Own};
use fleeti_build::compare_release::with_release;
use fleeti_build::countersign::countersign;
use fleeti_build::lock::Lock;
use fleeti_build::release::{self, NewRelease, ReleaseError, ReleaseSigners};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::command_line;
use fleeti_core::id::Architecture;
use fleeti_core::manifest::{Manifest, PHASE_READY, ReferenceValues};
use fleeti_pki::measured::predicted;
use fleeti_pki::openpgp::OpenPgpKey;
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_pki::{authenticode, pcr_policy, pe};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const UKI: &[u8] = include_bytes!("../../../fleeti-pki/tests/fixtures/secure-boot/uki.efi");
const BINARY: &[u8] = include_bytes!("../../../fleeti-pki/tests/fixtures/secure-boot/binary.efi");
const NOW_S: u64 = 1_800_000_000;
/// What a build says of itself. Releases have the last two.
const DOCUMENTS: [&str; 6] = [
    "ids.json",
    "scripts.json",
    "brought.json",
    "contents.json",
    "sbom.cdx.json",
    "provenance.intoto.json",
];

/// Another party's build, the keys that sign it, and the same build of one's own.
struct World {
    dir: tempfile::TempDir,
    own: Own,
    release_key: SoftKey,
    openpgp: OpenPgpKey,
    pcr: SoftKey,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pcr = SoftKey::generate(Algorithm::Rsa2048).unwrap();
        let openpgp =
            OpenPgpKey::new(Box::new(SoftKey::generate(Algorithm::P256).unwrap())).unwrap();
        let mine = dir.path().join("mine");
        write_build(&mine, &pcr);
        let own = Own::at(&mine, openpgp.keyring().unwrap()).unwrap();
        Self { dir, own, release_key: SoftKey::generate(Algorithm::P384).unwrap(), openpgp, pcr }
    }

    /// The other party's build: identical until `harm` changes it. Its record is adjusted to match.
    fn build(&self, name: &str, harm: &dyn Fn(&Path)) -> PathBuf {
        let build = self.dir.path().join(name);
        write_build(&build, &self.pcr);
        harm(&build);
        record_again(&build);
        build
    }

    /// The release of that build, consistent in itself.
    fn release(&self, build: &Path) -> PathBuf {
        let out = build.with_extension("release");
        let _ = fs::remove_dir_all(&out);
        let signers = ReleaseSigners {
            release: &self.release_key,
            openpgp: &self.openpgp,
            db: None,
            pcr: Some(&self.pcr),
        };
        let record = BuildRecord::read(build).unwrap();
        let new =
            NewRelease { build, record: &record, out: &out, signers: &signers, created_s: NOW_S };
        release::create(new, &mut |_| {}).unwrap();
        out
    }

    fn compared(&self, release: &Path) -> Result<Comparison, String> {
        let manifest = Manifest::parse(&fs::read(release.join("manifest.json")).unwrap())
            .map_err(|e| e.to_string())?;
        Ok(with_release(&self.own, release, &manifest, NOW_S).unwrap())
    }
}

/// A UKI with all sections of a real one.
fn kernel_image(pcr: &SoftKey) -> Vec<u8> {
    let mut uki = UKI.to_vec();
    let pem = pcr_policy::public_pem(pcr).unwrap();
    for (name, content) in
        [(".uname", &b"6.12.1"[..]), (".sbat", b"sbat,1\n"), (".pcrpkey", pem.as_bytes())]
    {
        uki = pe::with_section(&uki, name, content).unwrap();
    }
    uki
}

/// A disk with one partition, by its GPT (UEFI 2.10, 5.3).
fn disk() -> Vec<u8> {
    let mut disk = vec![0u8; 64 << 10];
    disk[512..520].copy_from_slice(b"EFI PART");
    disk[512 + 72..512 + 80].copy_from_slice(&2u64.to_le_bytes());
    disk[512 + 80..512 + 84].copy_from_slice(&4u32.to_le_bytes());
    disk[512 + 84..512 + 88].copy_from_slice(&128u32.to_le_bytes());
    disk[1024..1040].fill(7);
    disk[1024 + 32..1024 + 40].copy_from_slice(&40u64.to_le_bytes());
    disk[1024 + 40..1024 + 48].copy_from_slice(&79u64.to_le_bytes());
    disk[1024 + 56] = b'a';
    disk[40 * 512..80 * 512].fill(5);
    disk
}

fn lock() -> Value {
    let package = serde_json::json!({"name": "acl", "version": "1", "sha256": "a".repeat(64), "size": 5, "path": "pool/acl.deb"});
    serde_json::json!({"suite": "trixie", "architecture": "amd64", "requested": {"device": ["acl"]}, "sets": {"device": [package]}})
}

fn write_build(folder: &Path, pcr: &SoftKey) {
    fs::create_dir_all(folder).unwrap();
    let uki = kernel_image(pcr);
    for (name, bytes) in [
        ("root.erofs", &[1u8; 9000][..]),
        ("root.verity", &[2; 900]),
        ("uki.efi", &uki),
        ("systemd-boot.efi", BINARY),
    ] {
        fs::write(folder.join(name), bytes).unwrap();
    }
    for name in DOCUMENTS {
        fs::write(folder.join(name), format!("{{\"this is\": \"{name}\"}}")).unwrap();
    }
    fs::write(folder.join("disk.raw"), disk()).unwrap();
    fs::write(folder.join("lock.json"), lock().to_string()).unwrap();
    let digest = |text: &str| sha256_hex(text.as_bytes());
    let store = |name: &str| PathBuf::from(format!("/nix/store/{}-{name}", "0".repeat(32)));
    let record = BuildRecord {
        schema: 1,
        release: "kiosk@2".parse().unwrap(),
        architecture: Architecture::X86_64,
        minimum_version: "1".parse().unwrap(),
        inputs: RecordedInputs {
            revision: 1,
            revision_digest: digest("revision"),
            lock_digest: serde_json::from_value::<Lock>(lock()).unwrap().digest(),
            agent_digest: digest("agent"),
        },
        derivations: [(
            "root".parse().unwrap(),
            Step { derivation: store("root.drv"), output: store("root") },
        )]
        .into(),
        nix_version: "2.26.3".into(),
        root_hash: digest("root hash"),
        reference_values: ReferenceValues {
            systemd_version: "257 (257.13-1)".into(),
            ..Default::default()
        },
        files: Default::default(),
    };
    fs::write(folder.join("build.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    record_again(folder);
}

/// A record that matches the files, as an attacker who swaps a file would write it.
fn record_again(folder: &Path) {
    let mut record = BuildRecord::read(folder).unwrap();
    let images = ["root.erofs", "root.verity", "uki.efi", "systemd-boot.efi", "disk.raw"];
    record.files = images
        .into_iter()
        .chain(DOCUMENTS)
        .map(|name| {
            let bytes = fs::read(folder.join(name)).unwrap();
            (
                name.parse().unwrap(),
                FileRecord { size: bytes.len() as u64, sha256: sha256_hex(&bytes) },
            )
        })
        .collect();
    let started = predicted::pcr_11(&fs::read(folder.join("uki.efi")).unwrap(), 257, "").unwrap();
    let phases = [PHASE_READY, pcr_policy::OPENED_IN];
    record.reference_values.pcr11 =
        phases.map(|p| (p.to_owned(), hex::encode(predicted::after_phases(started, p)))).into();
    fs::write(folder.join("build.json"), serde_json::to_vec(&record).unwrap()).unwrap();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn named(found: &Comparison, words: &[&str]) -> bool {
    found
        .differences
        .iter()
        .map(ToString::to_string)
        .any(|text| words.iter().all(|word| text.contains(word)))
}

#[test]
fn what_is_the_same_is_signed() {
    let world = World::new();
    let build = world.build("theirs", &|_| {});
    let found = compare::with_build(&world.own, &build).unwrap();
    assert_eq!(found, Comparison::default());
    let release = world.release(&build);
    assert_eq!(world.compared(&release).unwrap(), Comparison::default());
    countersign(&release, Some((&world.own, NOW_S)), &SoftKey::generate(Algorithm::P384).unwrap())
        .unwrap();
    assert!(compare::changed_files(&world.own).unwrap().is_empty());
}

/// A change, and what the comparison must report.
struct Swap {
    name: &'static str,
    harm: Box<dyn Fn(&Path)>,
    words: [&'static str; 2],
}

fn swap(name: &'static str, harm: impl Fn(&Path) + 'static, words: [&'static str; 2]) -> Swap {
    Swap { name, harm: Box::new(harm), words }
}

/// Changes that the first signer could have made. Everything else matches: records, checksums,
/// digests, signatures, reference values.
fn backdoors() -> Vec<Swap> {
    vec![
        swap("root", |d| flip(&d.join("root.erofs"), 8999), ["root", "byte 8999"]),
        swap(
            "root-longer",
            |d| fs::write(d.join("root.erofs"), [1; 9001]).unwrap(),
            ["root", "byte 9000"],
        ),
        swap("verity", |d| flip(&d.join("root.verity"), 0), ["verity", "byte 0"]),
        swap(
            "boot-loader",
            |d| flip(&d.join("systemd-boot.efi"), 0x200),
            ["systemd-boot.efi", "section"],
        ),
        swap("linux", |d| flip_section(&d.join("uki.efi"), ".linux"), [".efi", "section .linux"]),
        swap("osrel", |d| flip_section(&d.join("uki.efi"), ".osrel"), [".efi", "section .osrel"]),
        swap(
            "initrd",
            |d| flip_section(&d.join("uki.efi"), ".initrd"),
            [".efi", "section .initrd"],
        ),
        swap("uname", |d| flip_section(&d.join("uki.efi"), ".uname"), [".efi", "section .uname"]),
        swap("sbat", |d| flip_section(&d.join("uki.efi"), ".sbat"), [".efi", "section .sbat"]),
        swap("command-line", command_line_with_another_argument, [".efi", "section .cmdline"]),
        swap("more", section_more, [".efi", "section .ucode"]),
        swap("headers", |d| flip(&d.join("uki.efi"), 0x88), [".efi", "headers"]),
        swap("sbom", |d| flip(&d.join("sbom.cdx.json"), 4), ["cdx.json", "byte 4"]),
        swap(
            "provenance",
            |d| flip(&d.join("provenance.intoto.json"), 4),
            ["intoto.json", "byte 4"],
        ),
    ]
}

fn flip_section(path: &Path, name: &str) {
    let bytes = fs::read(path).unwrap();
    let section = pe::sections(&bytes).unwrap().into_iter().find(|s| s.name == name).unwrap();
    flip(path, section.range.start + 3);
}

fn command_line_with_another_argument(build: &Path) {
    let mut uki = fs::read(build.join("uki.efi")).unwrap();
    let text = command_line::of(&sha256_hex(b"root hash"), ["nomodeset"]);
    uki[0x800..0xa00].fill(0);
    uki[0x800..0x800 + text.len()].copy_from_slice(text.as_bytes());
    fs::write(build.join("uki.efi"), uki).unwrap();
}

fn section_more(build: &Path) {
    let uki = fs::read(build.join("uki.efi")).unwrap();
    fs::write(build.join("uki.efi"), pe::with_section(&uki, ".ucode", b"microcode").unwrap())
        .unwrap();
}

#[test]
fn every_swap_of_what_boots_is_named_although_everything_else_fits() {
    let world = World::new();
    let key = SoftKey::generate(Algorithm::P384).unwrap();
    for Swap { name, harm, words } in backdoors() {
        let build = world.build(name, &*harm);
        let found = compare::with_build(&world.own, &build).unwrap();
        assert!(named(&found, &words), "{name}: {:?}", found.differences);
        assert!(
            named(&found, &["build.json", "sha256"]),
            "{name}: the record gives it away as well"
        );
        let release = world.release(&build);
        let refused = countersign(&release, Some((&world.own, NOW_S)), &key).unwrap_err();
        let ReleaseError::Differs(differences) = &refused else { panic!("{name}: {refused}") };
        let found = Comparison { differences: differences.clone(), remarks: vec![] };
        assert!(named(&found, &words), "{name}: {differences:?}");
        if !["root", "root-longer", "verity", "sbom", "provenance"].contains(&name) {
            assert!(named(&found, &["Authenticode digest", "PCR 4"]), "{name}: {differences:?}");
        }
        assert!(
            fs::read_dir(&release)
                .unwrap()
                .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "sig"))
                .count()
                == 1
        );
    }
    // Reports are in no release: people read them before they sign.
    for name in &DOCUMENTS[..4] {
        let build = world.build(name, &|d| flip(&d.join(name), 4));
        let found = compare::with_build(&world.own, &build).unwrap();
        assert!(named(&found, &[name, "byte 4"]), "{name}: {:?}", found.differences);
    }
    // No release contains the disk, but a device first starts from it.
    for (name, at, part) in [
        ("disk-piece", 40 * 512 + 9, "partition 1 (a)"),
        ("disk-table", 1024 + 60, "outside of partitions"),
        ("disk-end", 81 * 512, "outside"),
    ] {
        let build = world.build(name, &|d| flip(&d.join("disk.raw"), at));
        let found = compare::with_build(&world.own, &build).unwrap();
        assert!(named(&found, &["disk.raw", part]), "{name}: {:?}", found.differences);
    }
}

/// Pointers to all values in a document except lists and objects.
fn leaves(value: &Value, at: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, v)| {
            leaves(v, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), out)
        }),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, v)| leaves(v, &format!("{at}/{i}"), out))
        }
        _ => out.push(at.to_owned()),
    }
}

/// A different value of the same form.
fn another(value: &Value) -> Value {
    match value {
        Value::Number(n) => (n.as_u64().unwrap() + 1).into(),
        Value::String(text) if text.len() == 64 => {
            Value::from(text.replace(&text[..1], if text.starts_with('a') { "b" } else { "a" }))
        }
        Value::String(text) if text == "x86_64" => "aarch64".into(),
        Value::String(text) if text.ends_with(".drv") => {
            text.replace("root.drv", "toor.drv").into()
        }
        Value::String(text) if text.starts_with("257") => text.replace("257", "256").into(),
        Value::String(text) => format!("{text}1").into(),
        other => other.clone(),
    }
}

/// The document with one field changed at a time, and the name of that field.
fn with_each_field_changed(path: &Path, mut see: impl FnMut(&str)) {
    let document: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut pointers = Vec::new();
    leaves(&document, "", &mut pointers);
    assert!(pointers.len() > 15, "{pointers:?}");
    for pointer in &pointers {
        let mut changed = document.clone();
        let field = changed.pointer_mut(pointer).unwrap();
        *field = another(field);
        fs::write(path, serde_json::to_vec(&changed).unwrap()).unwrap();
        see(pointer);
    }
    fs::write(path, serde_json::to_vec(&document).unwrap()).unwrap();
}

#[test]
fn every_changed_field_of_a_build_record_is_named() {
    let world = World::new();
    let build = world.build("theirs", &|_| {});
    with_each_field_changed(&build.join("build.json"), |pointer| {
        let found = compare::with_build(&world.own, &build).unwrap();
        let field = pointer.rsplit('/').next().unwrap();
        let all: Vec<_> =
            found.differences.iter().chain(&found.remarks).map(ToString::to_string).collect();
        assert!(
            all.iter().any(|text| text.contains("build.json") && text.contains(field)),
            "{pointer}: {all:?}"
        );
        assert_eq!(found.differences.is_empty(), field == "nix_version", "{pointer}");
    });
}

#[test]
fn every_changed_field_of_a_manifest_is_named() {
    let world = World::new();
    let release = world.release(&world.build("theirs", &|_| {}));
    with_each_field_changed(&release.join("manifest.json"), |pointer| {
        let field = pointer.rsplit('/').find(|part| part.parse::<usize>().is_err()).unwrap();
        if pointer == "/created_s" {
            return;
        }
        match world.compared(&release) {
            Ok(found) => assert!(
                named(&found, &["manifest.json", field]),
                "{pointer}: {:?}",
                found.differences
            ),
            // A document that is no longer a manifest is reported by its parser.
            Err(error) => {
                assert!(["type", "critical", "path"].contains(&field), "{pointer}: {error}")
            }
        }
    });
    // Only the party that made it knows its date; how far it may move the clock of devices is
    // bounded.
    let mut manifest: Manifest =
        serde_json::from_slice(&fs::read(release.join("manifest.json")).unwrap()).unwrap();
    manifest.created_s = NOW_S + 100_000;
    let found = with_release(&world.own, &release, &manifest, NOW_S).unwrap();
    assert!(named(&found, &["manifest.json", "created_s"]), "{:?}", found.differences);
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    std::io::Read::read_to_end(&mut liblzma::read::XzEncoder::new(bytes, 1), &mut packed).unwrap();
    packed
}

#[test]
fn every_swap_within_a_release_is_named() {
    let world = World::new();
    let build = world.build("theirs", &|_| {});
    let release = world.release(&build);
    let path_of = |end: &str| {
        let files =
            ["raw", "xz"].into_iter().flat_map(|view| fs::read_dir(release.join(view)).unwrap());
        files.map(|e| e.unwrap().path()).find(|p| p.to_string_lossy().ends_with(end)).unwrap()
    };
    let table = [
        swap(".root", |p| flip(p, 5), ["", "byte 5"]),
        swap(".verity", |p| flip(p, 5), ["", "byte 5"]),
        swap("raw/kiosk_2.efi", |p| flip_section(p, ".pcrsig"), ["", "section .pcrsig"]),
        swap("raw/kiosk_2.efi", |p| flip_section(p, ".pcrpkey"), ["", "section .pcrpkey"]),
        swap("raw/kiosk_2.efi", |p| flip_section(p, ".linux"), ["", "section .linux"]),
        swap("systemd-boot.efi", |p| flip(p, 0x200), ["", "section"]),
        swap("raw/SHA256SUMS", |p| flip(p, 3), ["", "byte 3"]),
        swap("raw/SHA256SUMS.gpg", |p| flip(p, 40), ["", ""]),
        swap(
            "kiosk_2.efi.xz",
            |p| fs::write(p, packed(b"another image")).unwrap(),
            ["", "does not unpack to"],
        ),
        swap(
            ".root.xz",
            |p| fs::write(p, [fs::read(p).unwrap(), packed(b"more")].concat()).unwrap(),
            ["", "has trailing data"],
        ),
        swap(".verity.xz", |p| flip(p, 30), ["", ""]),
        swap("systemd-boot.efi.xz", |p| fs::remove_file(p).unwrap(), ["", "cannot be read"]),
        swap("xz/SHA256SUMS", |p| fs::write(p, "").unwrap(), ["", "byte 0"]),
        swap("raw/kiosk_2.cdx.json", |p| flip(p, 5), ["", "byte 5"]),
        swap("raw/kiosk_2.intoto.json", |p| fs::remove_file(p).unwrap(), ["", "cannot be read"]),
    ];
    for Swap { name: end, harm, words: [_, said] } in table {
        let path = path_of(end);
        let before = fs::read(&path).unwrap();
        harm(&path);
        let name = path.strip_prefix(&release).unwrap().display().to_string();
        let found = world.compared(&release).unwrap();
        assert!(named(&found, &[&name, said]), "{end}: {:?}", found.differences);
        fs::write(&path, before).unwrap();
    }
    fs::write(release.join("raw/kiosk_9.efi"), BINARY).unwrap();
    assert!(named(
        &world.compared(&release).unwrap(),
        &["raw/kiosk_9.efi", "is not in your build"]
    ));
    fs::remove_file(release.join("raw/kiosk_9.efi")).unwrap();
    // A link to the same bytes.
    let (root, elsewhere) = (path_of(".root"), world.dir.path().join("elsewhere"));
    fs::rename(&root, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &root).unwrap();
    assert!(named(&world.compared(&release).unwrap(), &[".root", "cannot be read"]));
}

#[test]
fn a_lock_and_a_file_of_ones_own_that_changed_are_named() {
    let world = World::new();
    let build = world.build("theirs", &|_| {});
    let mut other = lock();
    other["sets"]["device"][0]["version"] = "2".into();
    fs::write(build.join("lock.json"), other.to_string()).unwrap();
    assert!(named(&compare::with_build(&world.own, &build).unwrap(), &["lock.json", "SHA-256"]));
    flip(&world.own.directory.join("root.erofs"), 1);
    let changed = compare::changed_files(&world.own).unwrap();
    assert_eq!(changed.len(), 1);
    assert!(changed[0].to_string().contains("root.erofs"), "{changed:?}");
}

#[test]
fn a_binary_with_signatures_is_the_binary_without_them() {
    let world = World::new();
    let release = world.release(&world.build("theirs", &|_| {}));
    let path = release.join("raw/kiosk_2.efi");
    let signed =
        authenticode::attach(&fs::read(&path).unwrap(), &[0x30, 0x03, 0x02, 0x01, 0x05]).unwrap();
    fs::write(&path, signed).unwrap();
    let found = world.compared(&release).unwrap();
    // Only checksums and sizes show it: no section and no digest that the firmware checks.
    assert!(
        !named(&found, &["section"]) && !named(&found, &["Authenticode digest"]),
        "{:?}",
        found.differences
    );
}
