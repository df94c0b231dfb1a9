//! Secure Boot keys of one device, checked by sbverify, openssl, and writes that real firmware
//! accepted.

use super::{binary, run};
use base64::Engine;
use fleeti_core::wire::boot::VariableWrite;
use fleeti_pki::authenticode;
use fleeti_pki::boot_keys::BootKeys;
use fleeti_pki::certificate::{self, Period, Role, from_der, self_signed, to_der, to_pem};
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_pki::uefi::{self, AuthenticatedWrite, SignatureList, Variable};
use std::path::{Path, PathBuf};

const NOW_S: u64 = 1_800_000_000;

fn captured(name: &str) -> Vec<u8> {
    std::fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/secure-boot").join(name),
    )
    .unwrap()
}

fn one_certificate(list: &[u8]) -> x509_cert::Certificate {
    from_der(&uefi::certificates(list).unwrap().remove(0)).unwrap()
}

/// OVMF 2022.11 enrolled these three; db.auth is by KEK, the others by PK.
#[test]
fn writes_that_firmware_accepted_are_read_and_verified() {
    for (name, variable, signer) in
        [("PK", Variable::Pk, "PK"), ("KEK", Variable::Kek, "PK"), ("db", Variable::Db, "KEK")]
    {
        let (auth, list) = (captured(&format!("{name}.auth")), captured(&format!("{name}.esl")));
        let signer = one_certificate(&captured(&format!("{signer}.esl")));
        let write = AuthenticatedWrite::verify(&auth, variable, false, &signer).unwrap();
        assert_eq!(write.value, list, "{name}");
        // With the same time, value and key, Fleeti writes the same bytes up to the signature.
        assert!(
            AuthenticatedWrite::verify(&auth, variable, true, &signer).is_err(),
            "{name}: the attributes are signed"
        );
        let other = if variable == Variable::Db { Variable::Dbx } else { Variable::Db };
        assert!(
            AuthenticatedWrite::verify(&auth, other, false, &signer).is_err(),
            "{name}: the name is signed"
        );
    }
    assert_eq!(uefi::digests(&captured("dbx.esl")).unwrap().len(), 1);
}

#[test]
fn the_writes_of_a_device_are_signed_by_the_key_that_firmware_asks_for() {
    let mut keys = BootKeys::generate(&"dev-a".parse().unwrap(), NOW_S).unwrap();
    let [db, kek_write, pk_write] = keys.enroll(NOW_S).unwrap();
    let expected = keys.expected().unwrap();
    let (pk, kek) = (from_der(&expected.pk).unwrap(), from_der(&expected.kek).unwrap());
    let verify = |write: &VariableWrite, by: &x509_cert::Certificate| {
        let auth = base64::engine::general_purpose::STANDARD.decode(&write.auth).unwrap();
        AuthenticatedWrite::verify(&auth, write.variable, false, by)
            .map(|w| uefi::certificates(w.value).unwrap())
    };
    assert_eq!(verify(&pk_write, &pk).unwrap(), std::slice::from_ref(&expected.pk));
    assert_eq!(verify(&kek_write, &pk).unwrap(), std::slice::from_ref(&expected.kek));
    assert_eq!(verify(&db, &kek).unwrap(), expected.db);
    assert!(verify(&db, &pk).is_err());
}

/// `cargo xtask ci` installs it.
fn virt_fw_vars() -> PathBuf {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/tools/virt-firmware/bin/virt-fw-vars");
    let binary = std::env::var_os("FLEETI_VIRT_FW_VARS").map_or(usual, PathBuf::from);
    assert!(binary.exists(), "there is no {}: `cargo xtask tools` installs it", binary.display());
    binary
}

/// virt-fw-vars, which builds firmware images, reads Fleeti's writes: the time, and the keys or
/// digests after the signature.
#[test]
fn virt_fw_vars_reads_the_writes_of_a_device() {
    let device: fleeti_core::id::DeviceId = "dev-a".parse().unwrap();
    let mut keys = BootKeys::generate(&device, NOW_S).unwrap();
    let mut writes: Vec<_> = keys.enroll(NOW_S).unwrap().to_vec();
    writes.push(keys.forbid(&[[0xab; 32]], NOW_S + 60).unwrap());
    let expected = keys.expected().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (write, name) in writes.iter().zip(["db", "KEK", "PK", "dbx"]) {
        let auth = base64::engine::general_purpose::STANDARD.decode(&write.auth).unwrap();
        let path = dir.path().join(format!("{name}.auth"));
        std::fs::write(&path, auth).unwrap();
        // It accepts a write only for dbx, and does not check the signer.
        let mut command = std::process::Command::new(virt_fw_vars());
        command.args(["-i", "/usr/share/OVMF/OVMF_VARS_4M.fd", "-p", "-v", "--set-dbx"]).arg(&path);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{name}: {said}");
        assert!(said.contains("time=2027-01-15"), "{name}: {said}");
        match name {
            "dbx" => assert!(said.contains("EfiCertSha256 count=1"), "{said}"),
            name => {
                assert!(said.contains("EfiCertX509 count=1"), "{name}: {said}");
                let der = match name {
                    "db" => &expected.db[0],
                    "KEK" => &expected.kek,
                    _ => &expected.pk,
                };
                let subject =
                    certificate::from_der(der).unwrap().tbs_certificate().subject().to_string();
                assert!(said.contains(&subject), "{name} {subject}: {said}");
            }
        }
    }
}

#[test]
fn openssl_reads_the_signed_data_of_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let key = SoftKey::generate(Algorithm::Rsa2048).unwrap();
    let kek = self_signed(
        Role::SecureBoot { variable: "KEK" },
        Period::starting(NOW_S, 86_400 * 3650),
        &key,
    )
    .unwrap();
    let value = SignatureList::Digests(vec![[9; 32]]).to_bytes().unwrap();
    let write =
        AuthenticatedWrite { variable: Variable::Dbx, append: true, time_s: NOW_S, value: &value };
    let auth = uefi::write(&write, &kek, &key).unwrap();
    // The signed bytes, assembled by hand: name, vendor, attributes, time, value.
    let mut content: Vec<u8> = b"d\0b\0x\0".to_vec();
    content.extend([
        0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65,
        0x6f,
    ]);
    content.extend(0x67u32.to_le_bytes());
    content.extend(&auth[..16]);
    content.extend(&value);
    std::fs::write(dir.path().join("content"), &content).unwrap();
    std::fs::write(dir.path().join("kek.pem"), to_pem(&kek).unwrap()).unwrap();
    // openssl requires the ContentInfo that firmware does not.
    let signed = &auth[40..auth.len() - value.len()];
    let mut info = vec![0x30, 0x82];
    info.extend(u16::try_from(signed.len() + 15).unwrap().to_be_bytes());
    info.extend([0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02, 0xa0, 0x82]);
    info.extend(u16::try_from(signed.len()).unwrap().to_be_bytes());
    info.extend(signed);
    std::fs::write(dir.path().join("p7"), &info).unwrap();
    let verify = "cms -verify -binary -inform der -in p7 -content content -CAfile kek.pem -purpose any -no_check_time -out out";
    let (ok, text) = run("openssl", &verify.split(' ').collect::<Vec<_>>(), dir.path());
    assert!(ok, "{text}");
}

#[test]
fn each_device_starts_what_was_signed_for_it_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let body = authenticode::padded(&binary());
    let digest = authenticode::digest(&body).unwrap();
    let keys =
        ["dev-a", "dev-b"].map(|id| BootKeys::generate(&id.parse().unwrap(), NOW_S).unwrap());
    let certificates = keys.each_ref().map(|k| from_der(&k.expected().unwrap().db[0]).unwrap());
    let signatures = keys.each_ref().map(|k| k.sign(&[digest]).unwrap().remove(0));
    assert!((1000..1700).contains(&signatures[0].len()), "{} bytes", signatures[0].len());
    for (n, certificate) in certificates.iter().enumerate() {
        std::fs::write(dir.path().join(format!("{n}.pem")), to_pem(certificate).unwrap()).unwrap();
    }
    let starts = |binary: &[u8], device: usize| {
        std::fs::write(dir.path().join("x.efi"), binary).unwrap();
        run("sbverify", &["--cert", &format!("{device}.pem"), "x.efi"], dir.path()).0
    };
    let for_a = authenticode::attach(&body, &signatures[0]).unwrap();
    assert!(starts(&for_a, 0) && !starts(&for_a, 1) && !starts(&body, 0));
    let for_both = authenticode::attach(&for_a, &signatures[1]).unwrap();
    assert!(starts(&for_both, 0) && starts(&for_both, 1));
    assert_eq!(authenticode::signatures(&for_both).unwrap(), signatures);
    assert_eq!(
        authenticode::digest(&for_both).unwrap(),
        digest,
        "what is measured is the same on every device"
    );
    let mut changed = for_a;
    changed[0x201] ^= 1;
    assert!(!starts(&changed, 0));
}

#[test]
fn a_signature_is_verified_as_it_was_made_to_the_last_byte() {
    let key = SoftKey::generate(Algorithm::Rsa2048).unwrap();
    let db =
        self_signed(Role::SecureBoot { variable: "db" }, Period::starting(NOW_S, 86_400), &key)
            .unwrap();
    let signature = authenticode::signature(&[3; 32], &db, &key).unwrap();
    authenticode::verify(&signature, &[3; 32], &db).unwrap();
    assert!(authenticode::verify(&signature, &[4; 32], &db).is_err());
    for at in 0..signature.len() {
        let mut bad = signature.clone();
        bad[at] ^= 1;
        assert!(authenticode::verify(&bad, &[3; 32], &db).is_err(), "byte {at}");
        assert!(authenticode::verify(&signature[..at], &[3; 32], &db).is_err(), "{at} bytes");
    }
    assert!(authenticode::verify(&[&signature[..], &[0]].concat(), &[3; 32], &db).is_err());
    let curve = SoftKey::generate(Algorithm::P384).unwrap();
    let other =
        self_signed(Role::SecureBoot { variable: "db" }, Period::starting(NOW_S, 86_400), &curve)
            .unwrap();
    assert!(
        authenticode::signature(&[3; 32], &other, &curve).is_err(),
        "firmware refuses elliptic curves"
    );
}

/// A UKI with sections of these names.
fn image(sections: &[&str]) -> Vec<u8> {
    let mut pe = binary();
    pe[0x86..0x88].copy_from_slice(&u16::try_from(sections.len()).unwrap().to_le_bytes());
    pe[0xd4..0xd8].copy_from_slice(&0x400u32.to_le_bytes());
    pe.truncate(0x200);
    pe.resize(0x400, 0);
    let header = pe[0x188..0x188 + 40].to_vec();
    for (n, name) in sections.iter().enumerate() {
        let at = 0x188 + n * 40;
        let mut entry = header.clone();
        entry[..8].copy_from_slice(&[0; 8]);
        entry[..name.len().min(8)].copy_from_slice(&name.as_bytes()[..name.len().min(8)]);
        let data = u32::try_from(pe.len()).unwrap();
        entry[20..24].copy_from_slice(&data.to_le_bytes());
        pe[at..at + 40].copy_from_slice(&entry);
        pe.resize(pe.len() + 0x200, u8::try_from(n).unwrap());
    }
    pe
}

#[test]
fn a_kernel_image_that_leaves_room_for_foreign_sections_is_not_signed() {
    let whole = [".linux", ".osrel", ".cmdline", ".initrd"];
    // Names of more than eight bytes would be in a string table, which images do not have.
    authenticode::check_uki(&image(&[".linux", ".osrel", ".cmdline", ".initrd"])).unwrap();
    for left_out in whole {
        let rest: Vec<_> = whole.into_iter().filter(|s| *s != left_out).collect();
        let refused = authenticode::check_uki(&image(&rest)).unwrap_err().to_string();
        assert!(refused.contains(left_out), "{refused}");
        let twice: Vec<_> = whole.into_iter().chain([left_out]).collect();
        assert!(authenticode::check_uki(&image(&twice)).is_err(), "{left_out} twice");
    }
    for odd in [".profile", ".pcrkey", ".pcrpke"] {
        let with: Vec<_> = whole.into_iter().chain([odd]).collect();
        let refused = authenticode::check_uki(&image(&with)).unwrap_err().to_string();
        assert!(refused.contains(&format!("must not have a section {odd}")), "{refused}");
    }
    let with: Vec<_> = whole.into_iter().chain([".pcrsig"]).collect();
    authenticode::check_uki(&image(&with)).unwrap();
}

#[test]
fn a_signed_binary_is_neither_signed_nor_changed_again_and_its_table_begins_at_a_multiple_of_8() {
    let key = SoftKey::generate(Algorithm::Rsa2048).unwrap();
    let db =
        self_signed(Role::SecureBoot { variable: "db" }, Period::starting(NOW_S, 86_400), &key)
            .unwrap();
    let signed = authenticode::sign(&binary(), &db, &key).unwrap();
    for again in
        [authenticode::sign(&signed, &db, &key), fleeti_pki::pe::with_section(&signed, ".a", b"x")]
    {
        assert!(again.unwrap_err().to_string().contains("signed already"));
    }
    let odd = [&binary()[..], &[0]].concat();
    assert!(authenticode::attach(&odd, &[0x30, 0]).unwrap_err().to_string().contains("not padded"));
}

/// Every defect has a folder with the input; `expect.txt` has a part of the error.
#[test]
fn what_is_defective_is_refused_for_its_defect() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/defects/uefi");
    let kek = one_certificate(&captured("KEK.esl"));
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let folder: PathBuf = entry.unwrap().path();
        let read = |name: &str| std::fs::read(folder.join(name));
        let expected = String::from_utf8(read("expect.txt").unwrap()).unwrap();
        let found = if let Ok(bytes) = read("db.auth") {
            AuthenticatedWrite::verify(&bytes, Variable::Db, false, &kek).map(drop)
        } else if let Ok(bytes) = read("list.esl") {
            uefi::parse(&bytes).map(drop)
        } else {
            let binary = read("binary.efi").unwrap();
            authenticode::signatures(&binary).and_then(|_| authenticode::digest(&binary)).map(drop)
        };
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let error = found.expect_err(&name).to_string();
        assert!(error.contains(expected.trim()), "{name}: {error}");
        seen += 1;
    }
    assert!(seen >= 15, "{seen} defects");
}

/// Writes the folders of [`what_is_defective_is_refused_for_its_defect`] again: each is a valid
/// file with one change. To be run by hand: `cargo test -p fleeti-pki --test it -- --ignored
/// defects_of_uefi`.
#[test]
#[ignore = "writes fixtures"]
fn defects_of_uefi_are_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/defects/uefi");
    let put = |name: &str, file: &str, bytes: &[u8], expect: &str| {
        std::fs::create_dir_all(folder.join(name)).unwrap();
        std::fs::write(folder.join(name).join(file), bytes).unwrap();
        std::fs::write(folder.join(name).join("expect.txt"), expect).unwrap();
    };
    let good = captured("db.auth");
    let changed = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    const NOT_BY: &str = "did not sign this content";
    put("auth-shorter-than-its-header", "db.auth", &good[..39], "shorter than its header");
    put(
        "auth-time-with-nanoseconds",
        "db.auth",
        &changed(8, &[1]),
        "its time has fields beyond seconds",
    );
    put("auth-time-with-pad", "db.auth", &changed(7, &[1]), "its time has fields beyond seconds");
    put(
        "auth-time-with-zone",
        "db.auth",
        &changed(12, &[60]),
        "its time has fields beyond seconds",
    );
    put("auth-month-13", "db.auth", &changed(2, &[13]), "authenticated write is malformed");
    put(
        "auth-other-time-than-signed",
        "db.auth",
        &changed(6, &[(good[6] + 1) % 60]),
        "does not verify with this key",
    );
    put("auth-not-pkcs7", "db.auth", &changed(24, &[0]), "its certificate is not PKCS#7");
    put(
        "auth-certificate-leaves-the-file",
        "db.auth",
        &changed(16, &[0xff, 0xff]),
        "its certificate ends outside the file",
    );
    put(
        "auth-certificate-of-no-length",
        "db.auth",
        &changed(16, &[0, 0, 0, 0]),
        "its certificate ends outside the file",
    );
    put(
        "auth-trailing-byte",
        "db.auth",
        &[&good[..], &[0]].concat(),
        "signature list is malformed",
    );
    let mut value = good.clone();
    *value.last_mut().unwrap() ^= 1;
    put("auth-other-value-than-signed", "db.auth", &value, "does not verify with this key");
    put("auth-by-pk-instead-of-kek", "db.auth", &captured("KEK.auth"), NOT_BY);
    // With the outer ContentInfo, firmware accepts db and KEK, but not PK, and boots unprotected.
    let length = u32::from_le_bytes(good[16..20].try_into().unwrap()) as usize;
    let signed = &good[40..16 + length];
    let mut info = vec![0x30, 0x82];
    info.extend(u16::try_from(signed.len() + 15).unwrap().to_be_bytes());
    info.extend([0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02, 0xa0, 0x82]);
    info.extend(u16::try_from(signed.len()).unwrap().to_be_bytes());
    info.extend(signed);
    let mut wrapped = good[..40].to_vec();
    wrapped[16..20].copy_from_slice(&u32::try_from(24 + info.len()).unwrap().to_le_bytes());
    wrapped.extend(info);
    wrapped.extend(&good[16 + length..]);
    put("auth-in-a-content-info", "db.auth", &wrapped, NOT_BY);

    let list = captured("dbx.esl");
    let sized = |at: usize, n: u32| {
        let mut bytes = list.clone();
        bytes[at..at + 4].copy_from_slice(&n.to_le_bytes());
        bytes
    };
    for (name, bytes) in [
        ("list-of-size-0", sized(16, 0)),
        ("list-size-below-its-header", sized(16, 27)),
        ("list-size-beyond-the-file", sized(16, u32::MAX)),
        ("list-header-beyond-the-list", sized(20, 0x1000)),
        ("list-header-underflow", sized(20, u32::MAX)),
        ("list-entries-of-0", sized(24, 0)),
        ("list-entries-of-16", sized(24, 16)),
        ("list-entries-that-do-not-fit", sized(24, 47)),
        ("list-cut-off", list[..list.len() - 1].to_vec()),
    ] {
        put(name, "list.esl", &bytes, "signature list is malformed");
    }

    let key = SoftKey::generate(Algorithm::Rsa2048).unwrap();
    let db =
        self_signed(Role::SecureBoot { variable: "db" }, Period::starting(NOW_S, 86_400), &key)
            .unwrap();
    let signed = authenticode::sign(&binary(), &db, &key).unwrap();
    let table = binary().len();
    let with = |at: usize, bytes: &[u8]| {
        let mut pe = signed.clone();
        pe[at..at + bytes.len()].copy_from_slice(bytes);
        pe
    };
    // For the tests of code that attaches signatures.
    std::fs::write(folder.join("../../secure-boot/binary.efi"), authenticode::padded(&binary()))
        .unwrap();
    let mut uki = image(&[".linux", ".osrel", ".cmdline", ".initrd"]);
    let text =
        fleeti_core::command_line::of(&fleeti_core::canonical::sha256_hex(b"root hash"), ["quiet"]);
    uki[0x800..0xa00].fill(0);
    uki[0x800..0x800 + text.len()].copy_from_slice(text.as_bytes());
    std::fs::write(folder.join("../../secure-boot/uki.efi"), authenticode::padded(&uki)).unwrap();
    const ENTRY: &str = "an entry is";
    put("binary-no-pe", "binary.efi", b"MZ", "EFI binary is malformed");
    put(
        "binary-bytes-after-its-table",
        "binary.efi",
        &[&signed[..], &[0; 8]].concat(),
        "not at its end",
    );
    put("binary-table-cut-off", "binary.efi", &signed[..signed.len() - 8], "not at its end");
    put(
        "binary-table-before-its-headers",
        "binary.efi",
        &with(0x98 + 144, &[8, 0, 0, 0]),
        "not at its end",
    );
    put(
        "binary-directory-without-its-table",
        "binary.efi",
        &with(0x98 + 108, &[4, 0, 0, 0]),
        "no entry for a certificate table",
    );
    let mut longer = with(0x94, &0x06f0_u16.to_le_bytes());
    longer[0x86..0x88].fill(0); // no sections, whose headers would lie there
    put(
        "binary-headers-longer-than-they-say",
        "binary.efi",
        &longer,
        "its headers are longer than it says",
    );
    let mut empty = with(0x188 + 16, &[0; 4]);
    empty[0x188 + 20..0x188 + 24].copy_from_slice(&0x800_u32.to_le_bytes());
    put("binary-empty-section-in-its-table", "binary.efi", &empty, "not between its neighbours");
    put("binary-entry-of-length-0", "binary.efi", &with(table, &[0; 4]), ENTRY);
    put("binary-entry-of-its-header-alone", "binary.efi", &with(table, &[8, 0, 0, 0]), ENTRY);
    put("binary-entry-leaves-the-table", "binary.efi", &with(table, &[0xff; 4]), ENTRY);
    put("binary-entry-is-no-der", "binary.efi", &with(table + 8, &[0x30, 0x85]), "not DER");
    assert!(to_der(&db).unwrap().len() > 100 && certificate::serial(&db).len() == 32);
}
