//! A root CA ceremony as its operators run it: files in, files out, without a network.

use crate::fleeti;
use std::path::{Path, PathBuf};

struct Table {
    dir: tempfile::TempDir,
}

impl Table {
    /// Three operators, each with a passphrase of their own.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("passphrases")).unwrap();
        for name in ["alice", "bob", "carol"] {
            std::fs::write(
                dir.path().join("passphrases").join(name),
                format!("the passphrase of {name}\n"),
            )
            .unwrap();
        }
        std::fs::write(dir.path().join("passphrase"), "of the organisation\n").unwrap();
        Self { dir }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    /// `@` stands for the folder.
    fn run(&self, command: &str) -> String {
        let dir = self.dir.path().display().to_string();
        let words: Vec<String> =
            command.split_whitespace().map(|w| w.replace('@', &format!("{dir}/"))).collect();
        fleeti(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }
    fn good(&self, command: &str) -> String {
        let said = self.run(command);
        assert!(said.starts_with("exit 0\n"), "{command}: {said}");
        said
    }
    fn refused(&self, command: &str, why: &str) {
        let said = self.run(command);
        assert!(said.starts_with("exit 1\n") && said.contains(why), "{command}: {said}");
    }
}

const CREATE: &str = "pki root create @root --operator alice --operator bob --operator carol --threshold 2 --passphrases @passphrases";

fn openssl_verifies(root: &Path, certificate: &Path) -> bool {
    let mut openssl = std::process::Command::new("openssl");
    openssl
        .args(["verify", "-x509_strict", "-CAfile"])
        .arg(root)
        .arg(certificate)
        .output()
        .unwrap()
        .status
        .success()
}

#[test]
fn two_of_three_operators_make_an_organisation_and_revoke_an_intermediate() {
    let t = Table::new();
    let said = t.good(CREATE);
    assert!(said.contains("2 of 3 operators open"), "{said}");
    t.refused(CREATE, "exists already");
    t.good("pki init @org --root @root/root.pem --passphrase-file @passphrase");
    for purpose in ["device", "server", "operator"] {
        let sign = format!(
            "pki root sign @root @org/requests/{purpose}-ca.csr --purpose {purpose} --out @org/public/{purpose}-ca.pem \
             --share @root/shares/carol.share --share @root/shares/alice.share --passphrases @passphrases"
        );
        t.good(&sign);
        assert!(
            openssl_verifies(
                &t.path("root/root.pem"),
                &t.path(&format!("org/public/{purpose}-ca.pem"))
            ),
            "{purpose}"
        );
    }
    let revoke = "pki root crl @root --revoke @org/public/server-ca.pem --reason key-compromise --share @root/shares/bob.share --share @root/shares/carol.share --passphrases @passphrases";
    t.good(revoke);
    t.refused(revoke, "not an intermediate of the bundle");
    let transcript = t.good("pki root transcript @root");
    let lines: Vec<_> = transcript
        .lines()
        .filter(|l| l.contains("root.") || l.contains("    by "))
        .map(str::trim)
        .collect();
    assert_eq!(lines.len(), 2 * 10, "{transcript}");
    assert!(
        lines[1].ends_with("by alice, bob, carol")
            && lines[5].ends_with("by alice, carol")
            && lines[17].ends_with("by bob, carol"),
        "{transcript}"
    );
    // The key of a later request has the next number.
    t.good("pki request device --pki @org --passphrase-file @passphrase");
    assert!(
        t.path("org/online/device-ca-2.key").exists() && t.path("org/device-ca-2.csr").exists()
    );
}

#[test]
fn too_few_wrong_or_foreign_shares_open_nothing() {
    let t = Table::new();
    t.good(CREATE);
    let crl = |shares: &str| format!("pki root crl @root --passphrases @passphrases {shares}");
    t.refused(&crl("--share @root/shares/alice.share"), "1 of 2 operators are present");
    t.refused(
        &crl("--share @root/shares/alice.share --share @root/shares/alice.share"),
        "1 of 2 operators are present",
    );
    // A threshold that an attacker has lowered.
    let share = std::fs::read_to_string(t.path("root/shares/alice.share")).unwrap();
    std::fs::write(t.path("forged.share"), share.replace("\"threshold\": 2", "\"threshold\": 1"))
        .unwrap();
    t.refused(
        &crl("--share @forged.share"),
        "the passphrase is wrong, or the key is not for this purpose",
    );
    std::fs::write(t.path("renamed.share"), share.replace("\"alice\"", "\"bob\"")).unwrap();
    t.refused(
        &crl("--share @renamed.share --share @root/shares/carol.share"),
        "the passphrase is wrong",
    );
    t.good(&CREATE.replace("@root ", "@other "));
    t.refused(
        &crl("--share @root/shares/alice.share --share @other/shares/bob.share"),
        "a share of another root",
    );
    std::fs::write(t.path("passphrases/bob"), "not the passphrase").unwrap();
    t.refused(
        &crl("--share @root/shares/alice.share --share @root/shares/bob.share"),
        "the passphrase is wrong",
    );
    // An attacker has changed the transcript on the USB stick.
    let text = std::fs::read_to_string(t.path("root/transcript")).unwrap();
    std::fs::write(t.path("root/transcript"), text.replace("alice", "mallo")).unwrap();
    t.refused("pki root transcript @root", "does not verify with this key");
    t.refused(
        &crl("--share @root/shares/alice.share --share @root/shares/carol.share"),
        "does not verify with this key",
    );
}

#[test]
fn numbers_and_names_that_make_no_sense_make_no_root() {
    let t = Table::new();
    t.refused(
        &CREATE.replace("--threshold 2", "--threshold 4"),
        "between 1 and the number of operators",
    );
    t.refused(
        &CREATE.replace("--threshold 2", "--threshold 0"),
        "between 1 and the number of operators",
    );
    t.refused(&CREATE.replace("--operator bob", "--operator alice"), "different names");
    t.refused(&CREATE.replace("--operator bob", "--operator ../bob"), "different names");
    assert!(!t.path("root").exists());
}

#[test]
fn a_root_that_was_made_on_one_machine_is_taken_over_with_what_it_has_signed() {
    let t = Table::new();
    t.good("pki init @org --passphrase-file @passphrase");
    t.good(&format!("{CREATE} --adopt @org --passphrase-file @passphrase"));
    assert_eq!(
        std::fs::read(t.path("root/root.pem")).unwrap(),
        std::fs::read(t.path("org/public/root.pem")).unwrap()
    );
    let bundle = std::fs::read_to_string(t.path("root/bundle.json")).unwrap();
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 3);
    t.good("pki root crl @root --revoke @org/public/device-ca.pem --share @root/shares/alice.share --share @root/shares/bob.share --passphrases @passphrases");
}

#[test]
fn the_key_of_sha256sums_is_rotated_by_its_keyring_first() {
    let t = Table::new();
    t.good("pki init @org --passphrase-file @passphrase");
    let shown = |said: String| {
        said.lines()
            .filter(|l| l.starts_with("  "))
            .map(|l| l.trim().to_owned())
            .collect::<Vec<_>>()
    };
    let old = shown(t.good("pki openpgp-keys @org/public"));
    t.good("pki openpgp-key @new.key --passphrase-file @passphrase");
    let both = shown(t.good("pki openpgp-keys @org/public --add @new.gpg"));
    assert_eq!((old.len(), both.len()), (1, 2));
    t.refused("pki openpgp-keys @org/public --remove 00", "there is no OpenPGP key 00");
    let new = shown(t.good(&format!("pki openpgp-keys @org/public --remove {}", old[0])));
    assert_eq!(new, both[1..]);
    t.refused(
        &format!("pki openpgp-keys @org/public --remove {}", new[0]),
        "devices would refuse every release",
    );
}

#[test]
fn approvers_are_named_and_a_server_signs_alone_only_if_the_operator_says_so() {
    let t = Table::new();
    t.refused("pki approvers @signing", "set the number of approvals with --approvals");
    for name in ["alice", "bob"] {
        t.good(&format!("pki approver-key @{name}.key --passphrase-file @passphrase"));
    }
    t.refused(
        "pki approvers @signing --approvals 2 --add alice=@alice.pem --add bob=@bob.pem",
        "than there are approvers other than the requester",
    );
    let said =
        t.good("pki approvers @signing --approvals 1 --add alice=@alice.pem --add bob=@bob.pem");
    assert!(said.contains("approvals needed: 1, requester excluded:"), "{said}");
    t.refused("pki approvers @signing --remove carol", "carol is not an approver");
    t.refused("pki approvers @signing --add eve=@alice.pem", "same name or key");
    let said = t.good("pki approvers @signing --approvals 0");
    assert!(said.contains("the server signs releases without approvals"), "{said}");
}
