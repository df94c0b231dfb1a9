//! A simulated device: a disk image in a file, an ESP in a folder, the real systemd-sysupdate.

use crate::faulty_server::FaultyServer;
use base64::Engine;
use fleeti_agent::Paths;
use fleeti_agent::privileged::staging;
use fleeti_agent::release_log;
use fleeti_build::cache::Cache;
use fleeti_build::release::partition_uuids;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::id::{Architecture, ReleaseName};
use fleeti_core::manifest::{Artifact, KIND, Manifest, ReferenceValues};
use fleeti_core::update::FailureCode;
use fleeti_core::wire::device::ReleaseProof;
use fleeti_pki::certificate::{self, Period, Role};
use fleeti_pki::manifest::{self, PublicKey};
use fleeti_pki::openpgp::OpenPgpKey;
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_testkit::qemu::Tree;
use fleeti_testkit::release_log::MemoryLog;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

const ROOT: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
const VERITY: &str = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5";
const MIB: u64 = 1 << 20;

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub paths: Paths,
    pub release: SoftKey,
    pub openpgp: OpenPgpKey,
    pub log: MemoryLog,
    disk: PathBuf,
    tree: Tree,
}

/// A release in the form in which a server has it.
pub struct SmallRelease {
    pub manifest: String,
    pub signatures: Vec<(String, String)>,
    pub root_name: String,
    pub root: Vec<u8>,
    /// The number of the audit entry that published it.
    pub number: usize,
}

pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Bench {
    /// Runs `kiosk@1` from slot A; slot B is empty.
    pub fn new() -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::sysupdate(&Cache::discover().unwrap()).unwrap();
        let path = |name: &str| dir.path().join(name);
        for folder in ["lib/trust", "lib/sysupdate.d", "run", "esp/EFI/Linux", "helper", "agent"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        let (release, openpgp) = (
            SoftKey::generate(Algorithm::P384).unwrap(),
            OpenPgpKey::new(Box::new(SoftKey::generate(Algorithm::P256).unwrap())).unwrap(),
        );
        fs::write(
            path("lib/trust/release.pem"),
            PublicKey::of(&release).unwrap().to_pem().unwrap(),
        )
        .unwrap();
        let root = SoftKey::generate(Algorithm::P384).unwrap();
        let root =
            certificate::self_signed(Role::Root, Period::starting(now_s(), 86_400), &root).unwrap();
        fs::write(path("lib/trust/root.pem"), certificate::to_pem(&root).unwrap()).unwrap();
        let log = MemoryLog::new().unwrap();
        fs::write(path("lib/trust/audit.pub"), log.key.to_text()).unwrap();
        fs::write(
            path("lib/image.json"),
            r#"{"minimum_version":"1","hostname":"x","health_checks":[]}"#,
        )
        .unwrap();
        fs::write(path("os-release"), "ID=fleeti\nIMAGE_ID=kiosk\nIMAGE_VERSION=1\n").unwrap();
        // During a rotation: systemd-sysupdate accepts a signature by either key.
        let other = OpenPgpKey::new(Box::new(SoftKey::generate(Algorithm::P256).unwrap())).unwrap();
        fs::write(
            path("keyring.gpg"),
            [other.keyring().unwrap(), openpgp.keyring().unwrap()].concat(),
        )
        .unwrap();
        fs::write(path("esp/EFI/Linux/kiosk_1.efi"), "the running kernel").unwrap();

        // The image's own templates; only the targets are files here.
        let (disk, esp) = (path("disk.raw"), path("esp/EFI/Linux"));
        for (name, text) in [
            ("10-verity.transfer", include_str!("../../../nix/overlay/10-verity.transfer")),
            ("20-root.transfer", include_str!("../../../nix/overlay/20-root.transfer")),
            ("30-uki.transfer", include_str!("../../../nix/overlay/30-uki.transfer")),
        ] {
            let text = text.replace("@LINE@", "kiosk").replace("@MINIMUM@", "1");
            let text = text.replace("Path=auto", &format!("Path={}", disk.display()));
            let text = text.replace(
                "Path=/EFI/Linux\nPathRelativeTo=boot",
                &format!("Path={}", esp.display()),
            );
            fs::write(path("lib/sysupdate.d").join(name), text).unwrap();
        }
        // systemd-sysupdate from its packages, with this device's keyring and os-release.
        let command = tree.command("/usr/lib/systemd/systemd-sysupdate", &[dir.path()]);
        let program = command.get_args().last().unwrap().to_owned();
        let bwrap: Vec<_> = command
            .get_args()
            .filter(|a| *a != program)
            .map(|a| a.to_string_lossy().into_owned())
            .collect();
        let wrapper = path("systemd-sysupdate");
        let script = format!(
            "#!/bin/sh\nexec bwrap {} --cap-add ALL --ro-bind {} /usr/lib/systemd/import-pubring.gpg --ro-bind {} /usr/lib/os-release {} \"$@\"\n",
            bwrap.join(" "),
            path("keyring.gpg").display(),
            path("os-release").display(),
            program.to_string_lossy(),
        );
        fs::write(&wrapper, script).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();

        // What root may do on a device, any user may do in a user namespace.
        let unshare = path("unshare");
        fs::write(&unshare, "#!/bin/sh\nexec unshare --map-root-user \"$@\"\n").unwrap();
        fs::set_permissions(&unshare, fs::Permissions::from_mode(0o755)).unwrap();

        let table = format!(
            "label: gpt\nstart=2048, size=16384, type={ROOT}, name=\"kiosk_1\", uuid=11111111-1111-4111-8111-111111111111\n\
             size=4096, type={VERITY}, name=\"kiosk_1_verity\", uuid=22222222-2222-4222-8222-222222222222\n\
             size=16384, type={ROOT}, name=\"_empty\"\nsize=4096, type={VERITY}, name=\"_empty\"\n"
        );
        fs::File::create(&disk).unwrap().set_len(24 * MIB).unwrap();
        let mut sfdisk = tree.command("sfdisk", &[dir.path()]);
        let mut child = sfdisk.args(["--quiet"]).arg(&disk).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(table.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        let mut file = fs::OpenOptions::new().write(true).open(&disk).unwrap();
        file.seek(SeekFrom::Start(MIB)).unwrap();
        file.write_all(&[1u8; 4096]).unwrap();

        let paths = Paths { sysupdate: wrapper, unshare, ..Paths::below(dir.path()) };
        Self { dir, paths, release, openpgp, log, disk, tree }
    }

    /// Publishes a signed release: puts its `raw/` files on the server at `<prefix>/`, and an entry
    /// in the log.
    pub fn publish(&mut self, server: &FaultyServer, prefix: &str, version: &str) -> SmallRelease {
        let name: ReleaseName = format!("kiosk@{version}").parse().unwrap();
        let root: Vec<u8> = (0..3 * MIB).map(|i| (i % 251) as u8).collect();
        let root_hash = sha256_hex(version.as_bytes());
        let (root_uuid, verity_uuid) = partition_uuids(&root_hash);
        let root_name = format!("kiosk_{version}_{root_uuid}.root");
        let files = [
            (root_name.clone(), root.clone()),
            (format!("kiosk_{version}_{verity_uuid}.verity"), vec![3u8; 65536]),
            (format!("kiosk_{version}.efi"), format!("kernel of {version}").into_bytes()),
        ];
        let sums: String = files.iter().map(|(n, b)| format!("{}  {n}\n", sha256_hex(b))).collect();
        let signature = self.openpgp.sign(sums.as_bytes()).unwrap();
        let all = files.into_iter().chain([
            ("SHA256SUMS".to_owned(), sums.into_bytes()),
            ("SHA256SUMS.gpg".to_owned(), signature),
        ]);
        let mut artifacts = Vec::new();
        for (n, bytes) in all {
            artifacts.push(Artifact {
                path: format!("raw/{n}"),
                size: bytes.len() as u64,
                sha256: sha256_hex(&bytes),
                authenticode: None,
            });
            server.put(&format!("{prefix}/raw/{n}"), bytes);
        }
        let manifest = Manifest {
            kind: KIND.to_owned(),
            release: name.clone(),
            architecture: Architecture::X86_64,
            revision_digest: String::new(),
            lock_digest: String::new(),
            artifacts,
            root_hash,
            reference_values: ReferenceValues {
                systemd_version: "257".into(),
                ..Default::default()
            },
            minimum_version: name.version.clone(),
            created_s: 0,
            critical: vec![],
        };
        let bytes = manifest::to_bytes(&manifest).unwrap();
        let signature = manifest::sign(&bytes, &self.release).unwrap();
        let der = base64::engine::general_purpose::STANDARD.encode(signature.der);
        let number = self.log.publish(&name.to_string(), &sha256_hex(&bytes)).unwrap();
        SmallRelease {
            manifest: String::from_utf8(bytes).unwrap(),
            signatures: vec![(signature.key_id, der)],
            root_name,
            root,
            number,
        }
    }

    pub async fn stage(
        &self,
        release: &SmallRelease,
        url: &str,
    ) -> Result<(), (FailureCode, String)> {
        let proof = self
            .log
            .proof(release.number, release_log::seen(&self.paths).unwrap(), now_s())
            .unwrap();
        self.stage_with(release, Some(&proof), url).await
    }

    pub async fn stage_with(
        &self,
        release: &SmallRelease,
        proof: Option<&ReleaseProof>,
        url: &str,
    ) -> Result<(), (FailureCode, String)> {
        staging::stage(&self.paths, &release.manifest, &release.signatures, proof, url)
            .await
            .map(|_| ())
    }

    /// Labels of the four partitions.
    pub fn labels(&self) -> Vec<String> {
        let output = self
            .tree
            .command("sfdisk", &[self.dir.path()])
            .arg("--json")
            .arg(&self.disk)
            .output()
            .unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let partitions = json["partitiontable"]["partitions"].as_array().unwrap();
        partitions.iter().map(|p| p["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The first `length` bytes of a partition, from number 0.
    pub fn partition(&self, number: usize, length: usize) -> Vec<u8> {
        let start = [MIB, 9 * MIB, 11 * MIB, 19 * MIB][number];
        let mut file = fs::File::open(&self.disk).unwrap();
        file.seek(SeekFrom::Start(start)).unwrap();
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// File names on the ESP.
    pub fn entries(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.dir.path().join("esp/EFI/Linux"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Checks that the running slot and its entry are unchanged, and that nothing that was refused
    /// can boot.
    pub fn assert_untouched(&self) {
        assert_eq!(self.labels(), ["kiosk_1", "kiosk_1_verity", "_empty", "_empty"]);
        assert_eq!(self.partition(0, 4096), [1u8; 4096]);
        assert_eq!(self.entries(), ["kiosk_1.efi"]);
    }

    /// Checks that the release is in the other slot, staged and not bootable.
    pub fn assert_staged(&self, release: &SmallRelease, version: &str) {
        let labels = [
            "kiosk_1".to_owned(),
            "kiosk_1_verity".to_owned(),
            format!("kiosk_{version}"),
            format!("kiosk_{version}_verity"),
        ];
        assert_eq!(self.labels(), labels);
        assert_eq!(self.partition(0, 4096), [1u8; 4096]);
        assert_eq!(self.partition(2, release.root.len()), release.root);
        assert_eq!(self.entries(), ["kiosk_1.efi".to_owned(), format!("kiosk_{version}.staged")]);
    }
}
