//! Documents of a release and desired states in forms that are not documented: each is refused with
//! an error that names it, and changes nothing on the device.

use crate::bench::{Bench, SmallRelease, now_s};
use crate::faulty_server::FaultyServer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleeti_agent::announcements::Announcements;
use fleeti_agent::http::read_document;
use fleeti_agent::privileged::{self, Helper, StageRequest};
use fleeti_agent::release_log;
use fleeti_agent::staging::Staging;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::manifest::BYTES_MAX;
use fleeti_core::update::FailureCode;
use fleeti_core::wire::boot::{BootChange, BootSignatures};
use fleeti_core::wire::device::{DesiredState, Forgiveness};
use fleeti_pki::manifest::PublicKey;
use fleeti_pki::signer::Signer;
use fleeti_testkit::malformed::{self, HttpPeer, Malformed};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Larger than any document.
const HUGE: usize = 100 << 20;
/// Files above this size are compared by length and time.
const READ_MAX: u64 = 1 << 20;

/// What is below a folder. Sockets and what a boot keeps in memory (`run`) do not count.
fn on_disk(folder: &Path) -> BTreeMap<PathBuf, String> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                if path.file_name().unwrap() != "run" {
                    folders.push(path);
                }
                continue;
            }
            let content = if meta.len() <= READ_MAX {
                sha256_hex(&fs::read(&path).unwrap())
            } else {
                format!("{} bytes at {}.{}", meta.len(), meta.mtime(), meta.mtime_nsec())
            };
            found.insert(path, content);
        }
    }
    found
}

/// A device, and the documents of `kiosk@2` on its server.
struct Scene {
    bench: Bench,
    server: FaultyServer,
    release: SmallRelease,
    documents: BTreeMap<&'static str, String>,
    helper: Helper,
}

impl Scene {
    async fn new() -> Self {
        let (mut bench, server) = (Bench::new(), FaultyServer::start());
        let release = bench.publish(&server, "r", "2");
        let proof = bench.log.proof(release.number, 0, now_s()).unwrap();
        let binaries = BTreeMap::from([("raw/kiosk_2.efi".to_owned(), "AA==".to_owned())]);
        let documents = BTreeMap::from([
            ("manifest.json", release.manifest.clone()),
            ("signatures.json", serde_json::to_string(&release.signatures).unwrap()),
            ("proof.json", serde_json::to_string(&proof).unwrap()),
            ("boot.json", serde_json::to_string(&BootSignatures { binaries }).unwrap()),
        ]);
        let paths = bench.paths.clone();
        tokio::spawn(async move { privileged::serve(paths, None).await });
        while !bench.paths.socket().exists() {
            tokio::task::yield_now().await;
        }
        let helper = Helper::at(bench.paths.socket());
        let scene = Self { bench, server, release, documents, helper };
        scene.documents.iter().for_each(|(name, text)| scene.serve(name, text.as_bytes()));
        scene
    }

    fn serve(&self, name: &str, bytes: &[u8]) {
        let path = match name {
            "proof.json" => {
                format!("r/proof.json?size={}", release_log::seen(&self.bench.paths).unwrap())
            }
            name => format!("r/{name}"),
        };
        self.server.put(&path, bytes.to_vec());
    }

    /// Serves a malformed manifest that the release key has signed, as a faulty tool would.
    fn serve_signed(&self, manifest: &str) -> Vec<(String, String)> {
        let key = &self.bench.release;
        let der = STANDARD.encode(key.sign(manifest.as_bytes()).unwrap());
        let signatures = vec![(PublicKey::of(key).unwrap().id(), der)];
        self.serve("manifest.json", manifest.as_bytes());
        self.serve("signatures.json", &serde_json::to_vec(&signatures).unwrap());
        signatures
    }

    async fn stage(&self) -> Result<(), (FailureCode, String)> {
        let staging = Staging {
            paths: self.bench.paths.clone(),
            helper: self.helper.clone(),
            http: reqwest::Client::new(),
            https_url: self.server.url.clone(),
            upstream: format!("{}/r", self.server.url),
            announcements: Arc::new(Announcements::open(&self.bench.paths).unwrap()),
            download_kib_s: None,
            progress: tokio::sync::watch::channel(None).0,
        };
        staging.run().await
    }
}

fn all(good: &str) -> Vec<Malformed> {
    let mut forms = malformed::forms(good).unwrap();
    forms.extend(malformed::values(good).unwrap());
    assert!(forms.len() > 5, "{forms:?}");
    forms
}

/// The code and the beginning of the detail with which each malformed document is refused.
const REFUSED: [(&str, FailureCode, &str); 4] = [
    ("manifest.json", FailureCode::ManifestUntrusted, "manifest is malformed: "),
    ("signatures.json", FailureCode::ManifestUntrusted, "signatures.json: "),
    ("proof.json", FailureCode::NotInLog, "proof.json: "),
    ("boot.json", FailureCode::StageFailed, "boot.json: "),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_document_of_a_release_is_named_and_changes_nothing() {
    let scene = Scene::new().await;
    // A valid proof is remembered, also when the document after it is refused.
    scene.serve("boot.json", b"");
    scene.stage().await.unwrap_err();
    scene.serve("boot.json", scene.documents["boot.json"].as_bytes());
    let before = on_disk(scene.bench.dir.path());
    for (name, code, words) in REFUSED {
        let good = &scene.documents[name];
        for form in all(good) {
            if name == "manifest.json" {
                scene.serve_signed(&form.text);
            } else {
                scene.serve(name, form.text.as_bytes());
            }
            let (found, detail) = scene.stage().await.expect_err(&form.what);
            assert!(found == code && detail.starts_with(words), "{name}: {}: {detail}", form.what);
            assert_eq!(on_disk(scene.bench.dir.path()), before, "{name}: {}", form.what);
        }
        for (bytes, words) in [
            (vec![b' '; HUGE], format!("{name}: the response has more than {BYTES_MAX} bytes")),
            (vec![0xff; 8], format!("{name}: invalid utf-8")),
        ] {
            scene.serve(name, &bytes);
            let (found, detail) = scene.stage().await.unwrap_err();
            assert!(found == FailureCode::Unreachable && detail.starts_with(&words), "{detail}");
            assert_eq!(on_disk(scene.bench.dir.path()), before, "{words}");
        }
        scene.serve(name, good.as_bytes());
        scene.serve("signatures.json", scene.documents["signatures.json"].as_bytes());
    }
    let critical = good_with_critical(&scene.release.manifest);
    scene.serve_signed(&critical);
    let (code, detail) = scene.stage().await.unwrap_err();
    assert_eq!(code, FailureCode::ManifestUntrusted);
    assert!(detail.contains("unknown critical field \"from-the-future\""), "{detail}");
    assert_eq!(on_disk(scene.bench.dir.path()), before);
    // As they are, the documents are accepted.
    scene.documents.iter().for_each(|(name, text)| scene.serve(name, text.as_bytes()));
    scene.stage().await.unwrap();
    scene.bench.assert_staged(&scene.release, "2");
}

fn good_with_critical(manifest: &str) -> String {
    let mut value: serde_json::Value = serde_json::from_str(manifest).unwrap();
    value["critical"] = serde_json::json!(["from-the-future"]);
    value.to_string()
}

/// The helper does not trust the daemon, so it refuses the same documents itself. What it keeps of
/// a staged version stays, so that this version can still be armed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_the_helper_refuses_changes_nothing_of_the_staged_one() {
    let scene = Scene::new().await;
    scene.stage().await.unwrap();
    let before = on_disk(scene.bench.dir.path());
    let kept = scene.bench.paths.helper_state.join("staged.boot.json");
    assert!(fs::read_to_string(kept).unwrap().contains("kiosk_2"), "something is kept");
    let seen = release_log::seen(&scene.bench.paths).unwrap();
    let proof = scene.bench.log.proof(scene.release.number, seen, now_s()).unwrap();
    let url = scene.server.proxy_like("r/raw");
    let mut forms: Vec<_> = all(&scene.release.manifest).into_iter().map(|f| f.text).collect();
    forms.push(good_with_critical(&scene.release.manifest));
    forms.push(" ".repeat(BYTES_MAX + 1));
    for manifest in forms {
        let signatures = scene.serve_signed(&manifest);
        let shown: String = manifest.chars().take(200).collect();
        let (code, detail) = scene
            .helper
            .stage(StageRequest {
                manifest,
                signatures,
                proof: Some(Box::new(proof.clone())),
                boot: BootSignatures::default(),
                url: url.clone(),
                transitions: vec![],
            })
            .await
            .unwrap()
            .expect_err(&shown);
        assert_eq!(code, FailureCode::ManifestUntrusted, "{shown}: {detail}");
        assert!(detail.starts_with("manifest "), "{shown}: {detail}");
        assert_eq!(on_disk(scene.bench.dir.path()), before, "{shown}");
    }
    scene.helper.arm("2".parse().unwrap(), true).await.unwrap();
    assert!(scene.bench.entries().contains(&"kiosk_2+3-0.efi".to_owned()));
}

/// Read before the helper sees it.
#[tokio::test]
async fn a_malformed_change_of_secure_boot_variables_is_named() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let (peer, http) = (HttpPeer::start().unwrap(), reqwest::Client::new());
    let good = r#"{"number":3,"signatures":{"binaries":{"raw/kiosk_2.efi":"AA=="}},
        "writes":[{"variable":"db","append":true,"auth":"AA=="}],"may_end_fallback":false}"#;
    let read = async |text: &str| {
        peer.answers(200, text);
        let response = http.get(&peer.url).send().await.unwrap();
        let read = read_document::<BootChange>("boot/change.json", response, BYTES_MAX).await;
        read.map_err(|e| format!("{e:#}"))
    };
    assert_eq!(read(good).await.unwrap().number, 3);
    for form in all(good) {
        let refused = read(&form.text).await.expect_err(&form.what);
        assert!(refused.starts_with("boot/change.json: "), "{}: {refused}", form.what);
    }
    let refused = read(&" ".repeat(HUGE)).await.unwrap_err();
    assert_eq!(refused, format!("boot/change.json: the response has more than {BYTES_MAX} bytes"));
}

#[test]
fn a_malformed_desired_state_is_named() {
    let good = DesiredState {
        generation: 7,
        release: Some("kiosk@2".parse().unwrap()),
        back: true,
        forgiven: Some(Forgiveness { version: "3".parse().unwrap(), number: 1 }),
        boot_change: Some(1),
        windows: fleeti_core::windows::Windows::default(),
        skip_windows_until_s: None,
        critical: vec!["release".into()],
    };
    let text = serde_json::to_string(&good).unwrap();
    assert_eq!(DesiredState::parse(text.as_bytes()).unwrap(), good);
    for form in all(&text) {
        let refused = DesiredState::parse(form.text.as_bytes()).expect_err(&form.what).to_string();
        assert!(refused.starts_with("desired state is malformed: "), "{}: {refused}", form.what);
    }
    let unknown = DesiredState { critical: vec!["release".into(), "window".into()], ..good };
    let refused = DesiredState::parse(&serde_json::to_vec(&unknown).unwrap()).unwrap_err();
    assert!(refused.to_string().contains("unknown critical field \"window\""), "{refused}");
}
