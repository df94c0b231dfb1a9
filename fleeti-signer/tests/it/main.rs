//! Integration tests of the signing service, with its callers and with attackers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::too_many_lines, reason = "a scenario or a table is read from its beginning")]

mod answers;
mod boot;
mod disk;
mod log;
mod policy;
mod process;
mod release;
mod token;

use fleeti_pki::hierarchy;
use fleeti_pki::sealed::Sealing;
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_pki::transparency::note::LogKey;
use fleeti_signer::keys;
use fleeti_signer::limits::Limits;
use fleeti_signer::service::SigningService;
use fleeti_signer_client::wire::{Occasion, Request, Response};
use std::path::PathBuf;

const NOW_S: u64 = 1_800_000_000;

struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for file in hierarchy::create(Sealing::for_tests(b"pass"), NOW_S).unwrap() {
            let path = dir.path().join("pki").join(&file.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file.bytes).unwrap();
        }
        std::fs::write(dir.path().join("passphrase"), "pass\n").unwrap();
        Self { dir }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn service(&self) -> SigningService {
        let keys = keys::open(
            &self.path("pki"),
            b"pass",
            Some("http://fleeti.example/pki/device.crl".into()),
        )
        .unwrap();
        SigningService::open(keys, &self.path("audit"), Limits::default()).unwrap()
    }
    fn log_key(&self) -> LogKey {
        LogKey::from_text(&std::fs::read_to_string(self.path("pki/public/audit.pub")).unwrap())
            .unwrap()
    }
}

fn csr() -> String {
    fleeti_pki::csr::create(&SoftKey::generate(Algorithm::P256).unwrap()).unwrap()
}

fn device(id: &str, valid_s: u64) -> Request {
    let protection = fleeti_pki::certificate::Protection::Software;
    Request::CertifyDevice {
        device: id.parse().unwrap(),
        csr_pem: csr(),
        valid_s,
        protection,
        occasion: Occasion::Enrollment,
        issuer: None,
    }
}

fn one(service: &mut SigningService, request: Request) -> Response {
    service.perform(NOW_S, vec![request]).unwrap().pop().unwrap()
}

fn refusal(service: &mut SigningService, request: Request) -> String {
    match one(service, request) {
        Response::Refused { reason } => reason,
        other => panic!("{other:?}"),
    }
}
