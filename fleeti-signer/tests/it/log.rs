//! The audit log on disk: no acknowledged entry is lost, and no removal goes unnoticed.

use crate::NOW_S;
use fleeti_pki::audit::{Act, Defect, Entry, Stage};
use fleeti_pki::signer::{Algorithm, SoftKey};
use fleeti_pki::transparency::note::{Checkpoint, LogKey};
use fleeti_pki::transparency::tree::{
    MemoryTree, TreeHead, leaf_hash, verify_consistency, verify_inclusion,
};
use fleeti_signer::log::{AuditLog, LogError};
use std::path::Path;

struct Log {
    dir: tempfile::TempDir,
    signer: SoftKey,
    key: LogKey,
}

impl Log {
    fn new() -> Self {
        let signer = SoftKey::generate(Algorithm::Ed25519).unwrap();
        let key = LogKey::of("test/log", &signer).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), signer, key }
    }
    fn open(&self) -> Result<AuditLog, LogError> {
        AuditLog::open(self.dir.path(), &self.key)
    }
    /// A log with entries on disk, and a checkpoint over the first ones.
    fn with(entries: u64, stated: u64) -> Self {
        let this = Self::new();
        let mut log = this.open().unwrap();
        for i in 0..entries {
            if i == stated {
                this.state(&mut log);
            }
            append(&mut log, i);
        }
        if stated == entries {
            this.state(&mut log);
        }
        log.commit().unwrap();
        this
    }
    fn state(&self, log: &mut AuditLog) {
        log.commit().unwrap();
        let checkpoint = Checkpoint {
            origin: "test/log".into(),
            size: log.size(),
            root: log.root(log.size()).unwrap(),
        };
        log.keep_checkpoint(&self.key.sign(&checkpoint, NOW_S, &self.signer).unwrap()).unwrap();
    }
    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("log")
    }
}

fn append(log: &mut AuditLog, i: u64) {
    log.append(NOW_S + i, Act::new("admin", "test", format!("subject-{i}")), Stage::Done).unwrap();
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let mut lines: Vec<_> =
        std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    change(&mut lines);
    std::fs::write(path, lines.iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
}

fn defect(log: &Log) -> Defect {
    match log.open() {
        Err(LogError::Defect { source, .. }) => source,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the log opens"),
    }
}

#[test]
fn what_was_committed_is_there_after_a_kill_and_nothing_else() {
    let world = Log::with(5, 3);
    let mut log = world.open().unwrap();
    append(&mut log, 5);
    log.commit().unwrap();
    append(&mut log, 6); // killed before the flush
    drop(log);
    let mut log = world.open().unwrap();
    assert_eq!(log.size(), 6);
    let subjects: Vec<_> = log
        .entries(4, 10)
        .unwrap()
        .iter()
        .map(|l| Entry::parse(l.as_bytes()).unwrap().act.subject)
        .collect();
    assert_eq!(subjects, ["subject-4", "subject-5"]);
    append(&mut log, 7);
    log.commit().unwrap();
    assert_eq!(world.open().unwrap().size(), 7);
}

#[test]
fn hashes_that_came_to_the_disk_before_their_entries_are_forgotten() {
    /// More entries than the write buffer holds.
    const MANY: u64 = 20_000;
    let world = Log::with(5, 5);
    let root_of_lines = || {
        let mut tree = MemoryTree::default();
        std::fs::read_to_string(world.file())
            .unwrap()
            .lines()
            .for_each(|line| tree.push(leaf_hash(line.as_bytes())));
        tree.root()
    };
    let mut log = world.open().unwrap();
    (0..MANY).for_each(|i| append(&mut log, i));
    drop(log); // killed before the flush
    assert!(
        std::fs::metadata(world.dir.path().join("level-00")).unwrap().len() > 5 * 32,
        "nothing was written before the flush"
    );
    let mut log = world.open().unwrap();
    assert_eq!((log.size(), log.root(5).unwrap()), (5, root_of_lines()));
    (0..MANY).for_each(|i| append(&mut log, MANY + i));
    log.commit().unwrap();
    assert_eq!(log.root(5 + MANY).unwrap(), root_of_lines());
    let log = world.open().unwrap();
    assert_eq!((log.size(), log.root(5 + MANY).unwrap()), (5 + MANY, root_of_lines()));
    assert_eq!(log.entries(4 + MANY, 2).unwrap().len(), 1);
}

#[test]
fn half_a_line_was_never_acknowledged_and_is_cut_off() {
    let world = Log::with(5, 5);
    let whole = std::fs::read(world.file()).unwrap();
    for torn in [&b"{"[..], &whole[..40]] {
        std::fs::write(world.file(), [&whole, torn].concat()).unwrap();
        assert_eq!(world.open().unwrap().size(), 5);
        assert_eq!(std::fs::read(world.file()).unwrap(), whole);
    }
}

#[test]
fn pages_that_never_reached_the_disk_are_cut_off_and_changed_ones_are_not() {
    let world = Log::with(5, 3);
    let whole = std::fs::read(world.file()).unwrap();
    // A large batch whose first page is missing, and one of which only the file size arrived.
    for torn in [[vec![0; 4096], whole.clone()].concat(), vec![0; 10_000]] {
        std::fs::write(world.file(), [&whole[..], &torn].concat()).unwrap();
        assert_eq!(world.open().unwrap().size(), 5);
        assert_eq!(std::fs::read(world.file()).unwrap(), whole);
    }
    std::fs::write(world.file(), [&whole[..], &vec![b'x'; 10_000]].concat()).unwrap();
    assert!(
        matches!(defect(&world), Defect::Malformed { number: 5, .. }),
        "no power cut writes letters"
    );
    // Entries that a checkpoint covers were on disk: nothing of them is cut off, whatever is
    // missing.
    let mut holed = whole.clone();
    holed[10..20].fill(0);
    std::fs::write(world.file(), &holed).unwrap();
    std::fs::remove_file(world.dir.path().join("offsets")).unwrap();
    assert!(matches!(defect(&world), Defect::Truncated { size: 0, signed: 3 }));
    assert_eq!(std::fs::read(world.file()).unwrap(), holed, "and it is left as it was found");
}

#[test]
fn offsets_and_hashes_are_made_anew_from_the_log() {
    let world = Log::with(37, 20);
    let root = { world.open().unwrap().root(37).unwrap() };
    for name in ["offsets", "level-00", "level-02"] {
        std::fs::remove_file(world.dir.path().join(name)).unwrap();
        let log = world.open().unwrap();
        assert_eq!((log.size(), log.root(37).unwrap()), (37, root), "{name} is gone");
        std::fs::write(world.dir.path().join(name), [7; 64]).unwrap();
        let log = world.open().unwrap();
        assert_eq!((log.size(), log.root(37).unwrap()), (37, root), "{name} is damaged");
        assert_eq!(log.entries(36, 1).unwrap().len(), 1);
    }
}

#[test]
fn a_log_that_was_changed_is_not_opened() {
    let world = Log::with(10, 10);
    change(&world.file(), |l| l.truncate(9));
    assert!(matches!(defect(&world), Defect::Truncated { size: 9, signed: 10 }));
    let world = Log::with(10, 5);
    change(&world.file(), |l| drop(l.remove(7)));
    assert!(matches!(defect(&world), Defect::Order { expected: 7, found: 8 }));
    let world = Log::with(10, 5);
    change(&world.file(), |l| l.swap(6, 7));
    assert!(matches!(defect(&world), Defect::Order { expected: 6, found: 7 }));
    // An attacker rewrites the log and all derived files from the beginning: another history.
    let (world, other) = (Log::with(10, 10), Log::new());
    let mut log = other.open().unwrap();
    for i in 0..12 {
        append(&mut log, 100 + i);
    }
    log.commit().unwrap();
    for entry in std::fs::read_dir(other.dir.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), world.dir.path().join(entry.file_name())).unwrap();
    }
    assert!(matches!(defect(&world), Defect::Fork { size: 10 }));
}

#[test]
fn a_checkpoint_by_another_key_is_not_believed() {
    let world = Log::with(4, 4);
    let stranger = SoftKey::generate(Algorithm::Ed25519).unwrap();
    let key = LogKey::of("test/log", &stranger).unwrap();
    let forged = key
        .sign(&Checkpoint { origin: "test/log".into(), size: 0, root: [0; 32] }, NOW_S, &stranger)
        .unwrap();
    std::fs::write(world.dir.path().join("checkpoint"), forged).unwrap();
    assert!(matches!(world.open(), Err(LogError::Pki(_))));
}

#[test]
fn every_entry_has_a_proof_and_every_size_leads_to_every_later_one() {
    let world = Log::with(33, 7);
    let log = world.open().unwrap();
    let root = log.root(33).unwrap();
    for (number, line) in (0..).zip(log.entries(0, 100).unwrap()) {
        verify_inclusion(
            &leaf_hash(line.as_bytes()),
            number,
            33,
            &log.inclusion(number, 33).unwrap(),
            &root,
        )
        .unwrap();
        let old = log.root(number).unwrap();
        let (old, new) =
            (TreeHead { size: number, root: &old }, TreeHead { size: 33, root: &root });
        verify_consistency(old, new, &log.consistency(number, 33).unwrap()).unwrap();
    }
    assert!(matches!(log.inclusion(33, 33), Err(LogError::NoEntry { number: 33, size: 33 })));
    assert!(matches!(log.consistency(3, 34), Err(LogError::NoEntry { .. })));
}
