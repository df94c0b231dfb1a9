//! Releases with a server's own keys, requested by an attacker who controls the server: its
//! database, its files, its socket.

use crate::World;
use fleeti_build::build::{BuildRecord, FileRecord, RecordedInputs};
use fleeti_build::release::verify;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::Architecture;
use fleeti_core::manifest::ReferenceValues;
use fleeti_core::wire::api::SignedBy;
use fleeti_pki::approval::{Approver, Intent, KIND, Policy, Word};
use fleeti_pki::audit::{Entry, Stage};
use fleeti_pki::manifest::{PublicKey, ReleaseKeys};
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_signer::keys;
use fleeti_signer::limits::Limits;
use fleeti_signer::service::SigningService;
use fleeti_signer_client::handle::{SignerError, SignerHandle};
use fleeti_signer_client::wire::{Request, Response};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const UKI: &[u8] = include_bytes!("../../../fleeti-pki/tests/fixtures/secure-boot/uki.efi");
const BINARY: &[u8] = include_bytes!("../../../fleeti-pki/tests/fixtures/secure-boot/binary.efi");

/// A signing service that needs approvals of two of three approvers, not counting the requester,
/// and a build.
struct Office {
    world: World,
    people: Vec<SoftKey>,
    signer: SignerHandle,
}

/// The arguments of a request to sign a release.
#[derive(Clone)]
struct Asked {
    build: String,
    out: String,
    intent: Intent,
    request: Option<SignedBy>,
    approvals: Vec<SignedBy>,
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn folders(world: &World) -> keys::Folders {
    keys::Folders {
        builds: world.path("builds"),
        outbox: world.path("outbox"),
        work: world.path("audit/releases"),
    }
}

impl Office {
    fn new(approvals: usize) -> Self {
        let world = World::new();
        let people: Vec<_> = (0..3).map(|_| SoftKey::generate(Algorithm::P384).unwrap()).collect();
        let signing = world.path("pki/signing");
        fs::create_dir_all(&signing).unwrap();
        for name in ["release.key", "openpgp.key", "db.key", "pcr.key"] {
            fs::copy(world.path("pki/offline").join(name), signing.join(name)).unwrap();
        }
        let approver = |(name, key): (&str, &SoftKey)| Approver {
            name: name.into(),
            key: PublicKey::of(key).unwrap(),
        };
        let approvers = ["alice", "bob", "carol"].into_iter().zip(&people).map(approver).collect();
        fs::write(
            signing.join("policy.toml"),
            Policy::new(approvals, false, approvers).unwrap().to_text().unwrap(),
        )
        .unwrap();
        fs::create_dir_all(world.path("outbox")).unwrap();
        let mut opened = keys::open(&world.path("pki"), b"pass", None).unwrap();
        let set = keys::open_signing(&world.path("pki"), b"pass", folders(&world)).unwrap();
        opened.releases = set.map(Arc::new);
        let signer = fleeti_signer::embedded::start(
            SigningService::open(opened, &world.path("audit"), Limits::default()).unwrap(),
        )
        .unwrap();
        let office = Self { world, people, signer };
        office.build("build-a", UKI, "kiosk@2");
        office
    }

    /// Writes a build and returns the digest of its record.
    fn build(&self, id: &str, uki: &[u8], release: &str) -> String {
        let folder = self.folder(id);
        fs::create_dir_all(&folder).unwrap();
        let parts = [
            ("root.erofs", &b"root"[..]),
            ("root.verity", b"verity"),
            ("uki.efi", uki),
            ("systemd-boot.efi", BINARY),
        ];
        let files = parts.map(|(name, bytes)| {
            fs::write(folder.join(name), bytes).unwrap();
            (
                name.parse().unwrap(),
                FileRecord { size: bytes.len() as u64, sha256: sha256_hex(bytes) },
            )
        });
        let record = BuildRecord {
            schema: 1,
            release: release.parse().unwrap(),
            architecture: Architecture::X86_64,
            minimum_version: "1".parse().unwrap(),
            inputs: RecordedInputs {
                revision: 1,
                revision_digest: sha256_hex(id.as_bytes()),
                lock_digest: sha256_hex(b"lock"),
                agent_digest: sha256_hex(b"agent"),
            },
            derivations: Default::default(),
            nix_version: "2.8.0".into(),
            root_hash: sha256_hex(b"root hash"),
            reference_values: ReferenceValues {
                systemd_version: "257".into(),
                ..Default::default()
            },
            files: files.into_iter().collect(),
        };
        let text = serde_json::to_vec_pretty(&record).unwrap();
        fs::write(folder.join("build.json"), &text).unwrap();
        sha256_hex(&text)
    }
    fn folder(&self, id: &str) -> PathBuf {
        self.world.path("builds").join(id)
    }
    fn record_sha256(&self, id: &str) -> String {
        sha256_hex(&fs::read(self.folder(id).join("build.json")).unwrap())
    }
    fn agrees(&self, who: usize, intent: &Intent) -> SignedBy {
        Word::Approve.sign(intent, &self.people[who]).unwrap()
    }
    /// The arguments with all approvals.
    fn good(&self, out: &str) -> Asked {
        let intent = Intent {
            kind: KIND.into(),
            release: "kiosk@2".parse().unwrap(),
            build_sha256: self.record_sha256("build-a"),
            release_key: self.release_key(),
            requester: PublicKey::of(&self.people[0]).unwrap().id(),
            created_s: now_s(),
            expires_s: now_s() + 3600,
        };
        let request = Some(Word::Request.sign(&intent, &self.people[0]).unwrap());
        let approvals = vec![self.agrees(1, &intent), self.agrees(2, &intent)];
        Asked { build: "build-a".into(), out: out.into(), intent, request, approvals }
    }
    async fn ask(&self, asked: Asked) -> Result<Response, SignerError> {
        let Asked { build, out, intent, request, approvals } = asked;
        self.signer
            .ask(Request::SignRelease {
                build,
                out,
                intent: intent.to_text().unwrap(),
                request,
                approvals,
            })
            .await
    }
    async fn refused(&self, asked: Asked) -> String {
        match self.ask(asked).await {
            Err(SignerError::Refused(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }
    fn release_key(&self) -> String {
        let text = fs::read_to_string(self.world.path("pki/public/release.pem")).unwrap();
        ReleaseKeys::from_pem(&text).unwrap().keys()[0].id()
    }
    fn left(&self) -> usize {
        fs::read_dir(self.world.path("outbox")).unwrap().count()
    }
    fn log(&self) -> Vec<Entry> {
        let text = fs::read_to_string(self.world.path("audit/log")).unwrap();
        text.lines().map(|l| Entry::parse(l.as_bytes()).unwrap()).collect()
    }
}

#[tokio::test]
async fn a_release_is_signed_when_enough_people_agree_and_verifies_by_what_devices_know() {
    let office = Office::new(2);
    let Response::Release { manifest_sha256 } = office.ask(office.good("signing-a")).await.unwrap()
    else {
        panic!("no release")
    };
    let trusted = ReleaseKeys::from_pem(
        &fs::read_to_string(office.world.path("pki/public/release.pem")).unwrap(),
    )
    .unwrap();
    let verified = verify(&office.world.path("outbox/signing-a"), &trusted).unwrap();
    assert_eq!(verified.sha256(), manifest_sha256);
    assert_eq!(
        verified.manifest().artifacts.iter().filter(|a| a.authenticode.is_some()).count(),
        2
    );
    let log = office.log();
    assert_eq!(
        (log[0].act.action.as_str(), log[0].act.subject.as_str()),
        ("signer.release-policy", "with 2 approvals of 3 approvers")
    );
    let log = &log[1..];
    assert_eq!((log[0].act.action.as_str(), &log[0].stage), ("release.sign", &Stage::Intent));
    assert!(
        log[0].act.subject.starts_with("kiosk@2 build ")
            && log[0].act.subject.ends_with("by bob, carol"),
        "{}",
        log[0].act.subject
    );
    assert_eq!(
        (&log[1].act.sha256, &log[1].stage),
        (&Some(manifest_sha256), &Stage::Outcome { intent: 1 })
    );
}

#[tokio::test]
async fn an_attacker_who_writes_every_row_and_file_of_the_server_gets_no_signature() {
    let office = Office::new(2);
    let good = office.good("signing-a");
    let mallory = SoftKey::generate(Algorithm::P384).unwrap();
    let others = office.build("build-b", UKI, "kiosk@2");
    let evil = Intent { build_sha256: others, ..good.intent.clone() };
    let requester =
        Intent { requester: PublicKey::of(&mallory).unwrap().id(), ..good.intent.clone() };
    let attempts = [
        ("0 of 2 approvals", Asked { approvals: vec![], ..good.clone() }),
        (
            "1 of 2 approvals",
            Asked {
                approvals: vec![good.approvals[0].clone(), good.approvals[0].clone()],
                ..good.clone()
            },
        ),
        (
            "1 of 2 approvals",
            Asked {
                approvals: vec![good.approvals[0].clone(), office.agrees(0, &good.intent)],
                ..good.clone()
            },
        ),
        (
            "1 of 2 approvals",
            Asked {
                approvals: vec![
                    good.approvals[0].clone(),
                    Word::Approve.sign(&good.intent, &mallory).unwrap(),
                ],
                ..good.clone()
            },
        ),
        // Approvals of one build, for another build.
        (", approved is", Asked { build: "build-b".into(), ..good.clone() }),
        (
            "not signed by an approver",
            Asked { intent: evil.clone(), build: "build-b".into(), ..good.clone() },
        ),
        ("not signed by an approver", Asked { request: None, ..good.clone() }),
        (
            "not signed by an approver",
            Asked {
                request: Some(Word::Request.sign(&requester, &mallory).unwrap()),
                intent: requester,
                ..good.clone()
            },
        ),
        (
            "for the release key",
            Asked {
                intent: Intent { release_key: "00".repeat(8), ..good.intent.clone() },
                ..good.clone()
            },
        ),
        (
            "valid from",
            Asked {
                intent: Intent { expires_s: now_s() - 1, ..good.intent.clone() },
                ..good.clone()
            },
        ),
        ("a directory name must have", Asked { build: "../pki/offline".into(), ..good.clone() }),
        ("a directory name must have", Asked { out: "../../etc".into(), ..good.clone() }),
        ("build.json", Asked { build: "build-z".into(), ..good.clone() }),
    ];
    for (why, asked) in attempts {
        let reason = office.refused(asked).await;
        assert!(reason.contains(why), "{why}: {reason}");
    }
    assert_eq!((office.left(), office.log().len()), (0, 1), "nothing was started");
    // The record stays, but its files are replaced by an image that the approvers did not see.
    let folder = office.folder("build-a");
    let exchanged = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    exchanged("root.erofs", b"evil");
    assert!(office.refused(good.clone()).await.contains("root.erofs does not match build.json"));
    exchanged("root.erofs", b"root");
    let mut uki = UKI.to_vec();
    uki[0x201] ^= 1;
    exchanged("uki.efi", &uki);
    assert!(office.refused(good.clone()).await.contains("uki.efi does not match build.json"));
    // A link to a secret, or to nothing.
    fs::remove_file(folder.join("uki.efi")).unwrap();
    std::os::unix::fs::symlink(office.world.path("passphrase"), folder.join("uki.efi")).unwrap();
    assert!(office.refused(good.clone()).await.contains("uki.efi"));
    assert_eq!(office.left(), 0, "nothing is left behind");
    assert_eq!(
        fs::read_dir(office.world.path("audit/releases")).unwrap().count(),
        0,
        "nor where it is made"
    );
    // The outbox leads elsewhere.
    fs::remove_file(folder.join("uki.efi")).unwrap();
    office.build("build-a", UKI, "kiosk@2");
    let good = office.good("signing-b");
    fs::create_dir(office.world.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(
        office.world.path("elsewhere"),
        office.world.path("outbox/signing-b"),
    )
    .unwrap();
    assert!(office.refused(good).await.contains("the outbox"));
    assert_eq!(fs::read_dir(office.world.path("elsewhere")).unwrap().count(), 0);
    assert!(
        office.log().iter().skip(2).step_by(2).all(|e| matches!(e.stage, Stage::Failed { .. }))
    );
}

#[tokio::test]
async fn a_kernel_image_without_its_initrd_is_not_signed_even_if_everybody_agrees() {
    let office = Office::new(2);
    office.build("build-a", BINARY, "kiosk@2");
    assert!(office.refused(office.good("signing-a")).await.contains("needs one section"));
    office.build("build-a", UKI, "kiosk@3");
    assert!(office.refused(office.good("signing-a")).await.contains("the build is kiosk@3"));
    assert_eq!(office.left(), 0);
}

#[tokio::test]
async fn a_server_signs_alone_only_where_its_policy_says_so() {
    let office = Office::new(0);
    let alone = Asked { request: None, approvals: vec![], ..office.good("signing-a") };
    assert!(matches!(office.ask(alone).await.unwrap(), Response::Release { .. }));
    let world = World::new();
    fs::create_dir_all(world.path("pki/signing")).unwrap();
    fs::copy(world.path("pki/offline/release.key"), world.path("pki/signing/release.key")).unwrap();
    let error =
        keys::open_signing(&world.path("pki"), b"pass", folders(&world)).err().unwrap().to_string();
    assert!(error.contains("policy.toml") && error.contains("fleeti pki approvers"), "{error}");
    // Without release keys, the request is refused.
    let signer = fleeti_signer::embedded::start(world.service()).unwrap();
    assert_eq!(
        signer.ask(Request::ApprovalPolicy).await.unwrap(),
        Response::ApprovalPolicy { policy: None, release_key: String::new() }
    );
    let asked = Request::SignRelease {
        build: "a".into(),
        out: "b".into(),
        intent: String::new(),
        request: None,
        approvals: vec![],
    };
    assert!(
        matches!(signer.ask(asked).await, Err(SignerError::Refused(reason)) if reason.contains("no release keys"))
    );
}

#[tokio::test]
async fn certificates_do_not_wait_for_a_release_and_two_releases_are_not_signed_at_once() {
    let office = Office::new(0);
    let alone = |out: &str| Asked { request: None, approvals: vec![], ..office.good(out) };
    let (first, second, device) = tokio::join!(
        office.ask(alone("signing-a")),
        office.ask(alone("signing-b")),
        office.signer.ask(crate::device("dev-a", fleeti_signer::lifetimes::DEVICE_S_MIN)),
    );
    assert!(matches!(device.unwrap(), Response::Certificate { .. }));
    assert!(matches!(first.unwrap(), Response::Release { .. }));
    assert!(matches!(second, Err(SignerError::Limited(_))), "{second:?}");
}
