//! Requests, CRLs and manifests with one defect each: a folder is named after its defect, and
//! `expect.txt` has a part of the error.

use fleeti_core::canonical;
use fleeti_core::id::Architecture;
use fleeti_core::manifest::{Artifact, KIND, Manifest, ReferenceValues};
use fleeti_core::wire::api::RevocationReason;
use fleeti_pki::approval::{Approver, Intent, Policy};
use fleeti_pki::audit::{Act, End, Stage};
use fleeti_pki::certificate::{self, Authority, Period, Purpose, Role, self_signed, to_pem};
use fleeti_pki::crl::{self, Revoked, VerifiedCrl};
use fleeti_pki::manifest::{self, PublicKey, ReleaseKeys, Signature};
use fleeti_pki::signer::{Algorithm, Signer, SoftKey, fast};
use fleeti_pki::transparency::note::{Checkpoint, LogKey};
use fleeti_pki::{approval, csr};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const NOW_S: u64 = 1_800_000_000;

fn fixtures(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Parses every folder; `read` must return the expected error. Returns the number of folders.
fn each(kind: &str, read: impl Fn(&dyn Fn(&str) -> Vec<u8>) -> Result<(), String>) -> usize {
    let mut seen = 0;
    for entry in std::fs::read_dir(fixtures("defects").join(kind)).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let file = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let expected = String::from_utf8(file("expect.txt")).unwrap();
        let found = read(&file);
        match expected.trim() {
            "good" => assert_eq!(found, Ok(()), "{name}"),
            expected => {
                let error = found.expect_err(&name);
                assert!(error.contains(expected), "{name}: {error}");
            }
        }
        seen += 1;
    }
    seen
}

#[test]
fn a_defective_request_is_refused_for_its_defect_by_both_backends() {
    for verify in [fleeti_pki::signer::verify, fast::verify] {
        let seen = each("request", |file| {
            let text = String::from_utf8_lossy(&file("request.pem")).into_owned();
            csr::check_with(&text, verify).map(drop).map_err(|e| e.to_string())
        });
        assert!(seen >= 9, "{seen}");
    }
}

#[test]
fn a_defective_crl_is_refused_for_its_defect() {
    let seen = each("crl", |file| {
        let issuer =
            certificate::from_pem(&String::from_utf8(file("issuer.pem")).unwrap()).unwrap();
        VerifiedCrl::read(&file("list.der"), &issuer).map(drop).map_err(|e| e.to_string())
    });
    assert!(seen >= 10, "{seen}");
}

#[test]
fn a_defective_manifest_is_refused_for_its_defect() {
    let seen = each("manifest", |file| {
        let keys = ReleaseKeys::from_pem(&String::from_utf8(file("release.pem")).unwrap())
            .map_err(|e| e.to_string())?;
        let signatures: BTreeMap<String, String> =
            serde_json::from_slice(&file("signatures.json")).unwrap();
        let signatures: Vec<_> = signatures
            .into_iter()
            .map(|(key_id, der)| Signature { key_id, der: hex::decode(der).unwrap() })
            .collect();
        manifest::verify(&file("manifest.json"), &signatures, &keys)
            .map(drop)
            .map_err(|e| e.to_string())
    });
    assert!(seen >= 14, "{seen}");
}

fn put(folder: PathBuf, files: &[(&str, &[u8])], expect: &str) {
    std::fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    std::fs::write(folder.join("expect.txt"), expect).unwrap();
}

/// PEM of any bytes.
fn pem(label: &str, bytes: &[u8]) -> String {
    let text = fleeti_pki::base64_text(bytes);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|l| String::from_utf8_lossy(l).into_owned()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A DER element with this content and the right length.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let head = match body.len() {
        0..=127 => vec![tag, length[1]],
        128..=255 => vec![tag, 0x81, length[1]],
        _ => vec![tag, 0x82, length[0], length[1]],
    };
    [head, body].concat()
}

/// The complete elements within an element.
fn within(der: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut found) = (content(der), vec![]);
    while !rest.is_empty() {
        let whole = rest.len() - content_after(rest).len();
        found.push(rest[..whole].to_vec());
        rest = &rest[whole..];
    }
    found
}
fn header(der: &[u8]) -> (usize, usize) {
    match der[1] {
        n @ 0..=127 => (2, usize::from(n)),
        0x81 => (3, usize::from(der[2])),
        _ => (4, usize::from(u16::from_be_bytes([der[2], der[3]]))),
    }
}
fn content(der: &[u8]) -> &[u8] {
    let (head, length) = header(der);
    &der[head..head + length]
}
fn content_after(der: &[u8]) -> &[u8] {
    let (head, length) = header(der);
    &der[head + length..]
}

/// Writes the folders again: each is a valid file with one change. To be run by hand: `cargo test
/// -p fleeti-pki --test it -- --ignored defects_are_written`.
#[test]
#[ignore = "writes fixtures"]
fn defects_are_written() {
    requests();
    lists();
    manifests();
    texts();
}

fn requests() {
    let at = |name: &str| fixtures("defects/request").join(name);
    let key = SoftKey::generate(Algorithm::P256).unwrap();
    let good = csr::create(&key).unwrap();
    let (_, document) = der::Document::from_pem(&good).unwrap();
    let der = document.as_bytes().to_vec();
    let parts = within(&der);
    let text = |der: &[u8]| pem("CERTIFICATE REQUEST", der);
    let signed = |info: &[u8], key: &SoftKey| {
        let signature = [&[0][..], &key.sign(info).unwrap()].concat();
        element(0x30, &[info, &parts[1], &element(3, &[&signature])])
    };
    put(at("good"), &[("request.pem", good.as_bytes())], "good");
    let other = SoftKey::generate(Algorithm::P256).unwrap();
    put(
        at("signed-by-another-key"),
        &[("request.pem", text(&signed(&parts[0], &other)).as_bytes())],
        "does not verify with this key",
    );
    let mut flipped = der.clone();
    *flipped.last_mut().unwrap() ^= 1;
    put(
        at("signature-with-a-flipped-bit"),
        &[("request.pem", text(&flipped).as_bytes())],
        "does not verify with this key",
    );
    let info = within(&parts[0]);
    let renamed = element(0x30, &[&info[0], &element(0x30, &[]), &info[2], &info[3]]);
    let moved = element(0x30, &[&renamed, &parts[1], &parts[2]]);
    put(
        at("another-subject-than-signed"),
        &[("request.pem", text(&moved).as_bytes())],
        "does not verify with this key",
    );
    let unused = element(0x30, &[&parts[0], &parts[1], &element(3, &[&[4], &[0x30; 16]])]);
    put(at("signature-of-half-bytes"), &[("request.pem", text(&unused).as_bytes())], "request");
    put(
        at("trailing-byte"),
        &[("request.pem", text(&[&der[..], &[0]].concat()).as_bytes())],
        "request is malformed",
    );
    put(
        at("cut-off"),
        &[("request.pem", text(&der[..der.len() - 20]).as_bytes())],
        "request is malformed",
    );
    put(at("no-pem"), &[("request.pem", &der)], "request is malformed");
    put(
        at("certificate-instead"),
        &[("request.pem", pem("CERTIFICATE", &der).as_bytes())],
        "request is malformed",
    );
    put(
        at("nine-kibibytes"),
        &[("request.pem", "A".repeat(9 * 1024).as_bytes())],
        "bytes are too many",
    );
    let rsa = csr::create(&SoftKey::generate(Algorithm::Rsa2048).unwrap()).unwrap();
    put(at("key-of-another-kind"), &[("request.pem", rsa.as_bytes())], "public key");
    // Requested extensions are ignored: the request is valid, and its certificate gets none of
    // them.
    let request_attributes = element(
        0xa0,
        &[&element(
            0x30,
            &[
                &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14],
                &element(
                    0x31,
                    &[&element(
                        0x30,
                        &[&element(
                            0x30,
                            &[
                                &[6, 3, 0x55, 0x1d, 0x13],
                                &[1, 1, 0xff],
                                &element(4, &[&element(0x30, &[&[1, 1, 0xff]])]),
                            ],
                        )],
                    )],
                ),
            ],
        )],
    );
    let with_attributes = element(0x30, &[&info[0], &info[1], &info[2], &request_attributes]);
    put(
        at("asks-to-be-an-authority-and-is-ignored"),
        &[("request.pem", text(&signed(&with_attributes, &key)).as_bytes())],
        "good",
    );
}

fn lists() {
    let at = |name: &str| fixtures("defects/crl").join(name);
    let key = SoftKey::generate(Algorithm::P384).unwrap();
    let role = || Role::Intermediate { purpose: Purpose::Device };
    let issuer = self_signed(role(), Period::starting(NOW_S, 86_400 * 365), &key).unwrap();
    let issuer_pem = to_pem(&issuer).unwrap();
    let authority = Authority { certificate: &issuer, signer: &key };
    let revoked = [Revoked {
        serial: "4a".repeat(16),
        revoked_s: NOW_S,
        reason: RevocationReason::KeyCompromise,
    }];
    let update = crl::Update { number: 7, this_s: NOW_S, next_s: NOW_S + 86_400 };
    let good = crl::create(&authority, &revoked, update).unwrap();
    let store = |name: &str, list: &[u8], expect: &str| {
        put(at(name), &[("list.der", list), ("issuer.pem", issuer_pem.as_bytes())], expect)
    };
    let parts = within(&good);
    let signed = |tbs: &[u8]| {
        let signature = [&[0][..], &key.sign(tbs).unwrap()].concat();
        element(0x30, &[tbs, &parts[1], &element(3, &[&signature])])
    };
    let fields = within(&parts[0]);
    let with = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut fields = fields.clone();
        change(&mut fields);
        signed(&element(0x30, &fields.iter().map(Vec::as_slice).collect::<Vec<_>>()))
    };
    store("good", &good, "good");
    store("cut-off", &good[..good.len() - 1], "CRL is malformed");
    store("trailing-byte", &[&good[..], &[0]].concat(), "CRL is malformed");
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    store("signature-with-a-flipped-bit", &flipped, "does not verify with this key");
    let stranger = SoftKey::generate(Algorithm::P384).unwrap();
    let theirs = self_signed(role(), Period::starting(NOW_S, 86_400), &stranger).unwrap();
    let theirs =
        crl::create(&Authority { certificate: &theirs, signer: &stranger }, &[], update).unwrap();
    store("of-another-issuer", &theirs, "of another issuer");
    let borrowed =
        crl::create(&Authority { certificate: &issuer, signer: &stranger }, &[], update).unwrap();
    store("by-another-key-in-the-issuers-name", &borrowed, "does not verify with this key");
    // 0 version, 1 algorithm, 2 issuer, 3 thisUpdate, 4 nextUpdate, 5 revoked, 6 extensions
    store("without-next-update", &with(&|f| drop(f.remove(4))), "no nextUpdate");
    store("without-extensions", &with(&|f| drop(f.remove(6))), "has no number");
    let extensions = |list: &[Vec<u8>]| {
        element(0xa0, &[&element(0x30, &list.iter().map(Vec::as_slice).collect::<Vec<_>>())])
    };
    let known = within(content(&fields[6]));
    let number =
        known.iter().position(|e| content(e).starts_with(&[6, 3, 0x55, 0x1d, 0x14])).unwrap();
    let others: Vec<_> =
        known.iter().enumerate().filter(|(i, _)| *i != number).map(|(_, e)| e.clone()).collect();
    store("without-number", &with(&|f| f[6] = extensions(&others)), "has no number");
    // A delta CRL (RFC 5280, 5.2.4) contains only changes.
    let delta =
        element(0x30, &[&[6, 3, 0x55, 0x1d, 0x1b], &[1, 1, 0xff], &element(4, &[&[2, 1, 6]])]);
    store(
        "delta-list",
        &with(&|f| f[6] = extensions(&[&known[..], std::slice::from_ref(&delta)].concat())),
        "not a complete one",
    );
    let unknown = element(0x30, &[&[6, 3, 0x2a, 3, 4], &[1, 1, 0xff], &element(4, &[&[5, 0]])]);
    store(
        "unknown-critical-extension",
        &with(&|f| f[6] = extensions(&[&known[..], std::slice::from_ref(&unknown)].concat())),
        "critical extension",
    );
    let other_algorithm = element(0x30, &[&[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]]);
    store("two-algorithms", &with(&|f| f[1] = other_algorithm.clone()), "two signature algorithms");
    store(
        "serial-removed-after-signing",
        &element(
            0x30,
            &[
                &element(
                    0x30,
                    &[&fields[0], &fields[1], &fields[2], &fields[3], &fields[4], &fields[6]],
                ),
                &parts[1],
                &parts[2],
            ],
        ),
        "does not verify with this key",
    );
}

fn manifest() -> Manifest {
    Manifest {
        kind: KIND.to_owned(),
        release: "kiosk@2".parse().unwrap(),
        architecture: Architecture::X86_64,
        revision_digest: "a".repeat(64),
        lock_digest: "b".repeat(64),
        artifacts: vec![Artifact {
            path: "raw/kiosk_2.efi".into(),
            size: 1,
            sha256: "c".repeat(64),
            authenticode: None,
        }],
        root_hash: "d".repeat(64),
        reference_values: ReferenceValues { systemd_version: "257".into(), ..Default::default() },
        minimum_version: "1".parse().unwrap(),
        created_s: NOW_S,
        critical: vec!["artifacts".into()],
    }
}

fn manifests() {
    let at = |name: &str| fixtures("defects/manifest").join(name);
    let [alice, bob, mallory] = [(); 3].map(|()| SoftKey::generate(Algorithm::P384).unwrap());
    let public = |key: &SoftKey| PublicKey::of(key).unwrap();
    let two = ReleaseKeys::new(vec![public(&alice), public(&bob)], 2).unwrap().to_pem().unwrap();
    let bytes = manifest::to_bytes(&manifest()).unwrap();
    let sign =
        |bytes: &[u8], key: &SoftKey| (public(key).id(), hex::encode(key.sign(bytes).unwrap()));
    let store =
        |name: &str, bytes: &[u8], keys: &str, signatures: &[(String, String)], expect: &str| {
            let signatures: BTreeMap<_, _> = signatures.iter().cloned().collect();
            let signatures = serde_json::to_vec_pretty(&signatures).unwrap();
            put(
                at(name),
                &[
                    ("manifest.json", bytes),
                    ("signatures.json", &signatures),
                    ("release.pem", keys.as_bytes()),
                ],
                expect,
            );
        };
    let both = |bytes: &[u8]| vec![sign(bytes, &alice), sign(bytes, &bob)];
    store("good", &bytes, &two, &both(&bytes), "good");
    store("one-signature-of-two", &bytes, &two, &both(&bytes)[..1], "1 of 2 release signatures");
    store("nobody-signed", &bytes, &two, &[], "0 of 2 release signatures");
    store(
        "second-signature-by-a-stranger",
        &bytes,
        &two,
        &[sign(&bytes, &alice), sign(&bytes, &mallory)],
        "1 of 2 release signatures",
    );
    let borrowed = (public(&bob).id(), sign(&bytes, &mallory).1);
    store(
        "second-signature-under-a-borrowed-id",
        &bytes,
        &two,
        &[sign(&bytes, &alice), borrowed],
        "1 of 2 release signatures",
    );
    let twice = (public(&bob).id(), sign(&bytes, &alice).1);
    store(
        "one-person-under-two-ids",
        &bytes,
        &two,
        &[sign(&bytes, &alice), twice],
        "1 of 2 release signatures",
    );
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    store("flipped-bit", &flipped, &two, &both(&bytes), "0 of 2 release signatures");
    let changed = |from: &str, to: &str| {
        String::from_utf8(bytes.clone()).unwrap().replacen(from, to, 1).into_bytes()
    };
    // Signed by all, but invalid.
    let signed =
        |name: &str, bytes: &[u8], expect: &str| store(name, bytes, &two, &both(bytes), expect);
    signed("no-json", b"manifest", "manifest");
    signed("of-another-type", &changed(KIND, "fleeti.audit.v1"), "fleeti.audit.v1");
    signed(
        "unknown-critical-field",
        &changed("\"artifacts\"]", "\"artifacts\",\"colour\"]"),
        "colour",
    );
    signed("path-that-climbs", &changed("raw/kiosk_2.efi", "raw/../../etc/passwd"), "etc/passwd");
    signed("version-that-is-none", &changed("kiosk@2", "kiosk@02"), "02");
    signed("trailing-document", &[&bytes[..], b"{}"].concat(), "manifest");
    store(
        "threshold-beyond-the-keys",
        &bytes,
        &two.replacen("Threshold: 2", "Threshold: 3", 1),
        &both(&bytes),
        "threshold must be between",
    );
    store(
        "threshold-of-none",
        &bytes,
        &two.replacen("Threshold: 2", "Threshold: 0", 1),
        &both(&bytes),
        "threshold must be between",
    );
    store(
        "threshold-that-is-not-understood",
        &bytes,
        &two.replacen("Threshold: 2", "threshold: 2", 1),
        &both(&bytes),
        "something beside",
    );
}

/// Valid files of the formats for which only the fuzzer needs a corpus.
fn texts() {
    let folder = fixtures("text");
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let key = SoftKey::generate(Algorithm::P384).unwrap();
    let approver = Approver { name: "alice".into(), key: PublicKey::of(&key).unwrap() };
    write("policy.toml", &Policy::new(1, true, vec![approver]).unwrap().to_text().unwrap());
    let intent = Intent {
        kind: approval::KIND.into(),
        release: "kiosk@2".parse().unwrap(),
        build_sha256: "ab".repeat(32),
        release_key: "cd".repeat(8),
        requester: PublicKey::of(&key).unwrap().id(),
        created_s: NOW_S,
        expires_s: NOW_S + 3600,
    };
    write("intent.json", &intent.to_text().unwrap());
    let log_key = SoftKey::generate(Algorithm::Ed25519).unwrap();
    let log = LogKey::of("fleeti/fuzz/log", &log_key).unwrap();
    write("audit.pub", &log.to_text());
    let checkpoint = Checkpoint { origin: log.name().to_owned(), size: 7, root: [7; 32] };
    write("checkpoint", &log.sign(&checkpoint, NOW_S, &log_key).unwrap());
    let entry = End::default().append(
        NOW_S,
        Act::new("admin", "release.publish", "kiosk@2"),
        Stage::Failed { intent: 0, reason: "no".into() },
    );
    write("entry.json", std::str::from_utf8(&entry.unwrap()).unwrap());
    let bundle = serde_json::json!({"type": fleeti_pki::bundle::KIND, "version": 1, "issued_s": NOW_S, "root_sha256": "", "intermediates": [], "crl": ""});
    write("bundle.json", std::str::from_utf8(&canonical::to_vec(&bundle).unwrap()).unwrap());
}
