//! What a change of a profile is said to do to a device, held against the trees and the images that
//! are built from both profiles.

mod edits;
mod items;
mod tree;

use crate::dpkg::extract;
use crate::{cache, repository, request, trust};
use edits::Random;
use fleeti_build::base::Maker;
use fleeti_build::base::debian::{Debian, kernel_command_line};
use fleeti_build::build;
use fleeti_build::contents::Contents;
use fleeti_build::lock::Lock;
use fleeti_build::overlay::{Overlay, Trust};
use fleeti_build::package::Package;
use fleeti_build::suite;
use fleeti_core::canonical::sha256_hex;
use fleeti_core::profile::{Effects, Image, Profile, Revision, effects};
use items::Items;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use tree::Built;

/// Number of edits that are held against trees.
const EDITS: u64 = 200;
/// The first seed of edits that are held against images.
const IMAGES: u64 = 1000;
/// Least precision and recall over changed items.
const LEAST: f64 = 0.99;

/// An edit: the profiles before and after it.
struct Edited {
    what: String,
    before: Profile,
    after: Profile,
}

fn edited(seed: u64) -> Edited {
    let mut random = Random::new(seed);
    let name = ["kiosk", "gateway"][usize::from(seed.is_multiple_of(2))];
    let path = repository().join("examples/profiles").join(format!("{name}.toml"));
    let text = fs::read_to_string(path).unwrap();
    let example = fleeti_core::profile::check(&text).unwrap();
    // Every fifth image has other packages, which a random edit seldom changes.
    let (what, other) = if seed >= IMAGES && seed.is_multiple_of(5) {
        edits::packages_of_images(&text, &mut random)
    } else {
        edits::edit(&text, &mut random)
    };
    // What an edit adds, another one removes.
    let what = format!("seed {seed}, {name}, {what}");
    if seed % 4 < 2 {
        Edited { what, before: example, after: other }
    } else {
        Edited { what, before: other, after: example }
    }
}

/// How predictions did.
#[derive(Default)]
struct Score {
    right: usize,
    wrong: usize,
    missed: usize,
    kinds: BTreeMap<String, usize>,
    /// What was wrong or missed.
    notes: Vec<String>,
}

impl Score {
    fn add(&mut self, what: &str, predicted: &Items, seen: &Items) {
        let wrong: Vec<_> = predicted.difference(seen).collect();
        let missed: Vec<_> = seen.difference(predicted).collect();
        self.right += predicted.intersection(seen).count();
        self.wrong += wrong.len();
        self.missed += missed.len();
        for item in seen {
            let kind = item.split_once(' ').map_or(item.as_str(), |(kind, _)| kind);
            *self.kinds.entry(kind.to_owned()).or_default() += 1;
        }
        if !wrong.is_empty() || !missed.is_empty() {
            self.notes.push(format!(
                "{what}: predicted and not seen {wrong:?}, seen and not predicted {missed:?}"
            ));
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a few thousand items")]
    fn judge(&self) {
        let share = |others: usize| self.right as f64 / (self.right + others) as f64;
        let (precision, recall) = (share(self.wrong), share(self.missed));
        println!("{}", self.notes.join("\n"));
        println!("items that changed: {:?}", self.kinds);
        println!(
            "precision {precision:.4}, recall {recall:.4} over {} items",
            self.right + self.missed
        );
        assert!(precision >= LEAST && recall >= LEAST, "{}", self.notes.join("\n"));
    }
}

/// Units that packages of the small trees start, as an index would know them (`trees.py`).
const ENABLED: [(&str, &str); 2] = [("openssh-server", "ssh.service"), ("cron", "cron.service")];

fn predicted(edited: &Edited) -> Effects {
    let image = |profile| {
        let mut installed = suite::installed(profile, None).unwrap();
        let is_there = |(package, _): &(&str, &str)| installed.packages.contains(*package);
        let enabled: Vec<_> = ENABLED.iter().filter(|unit| is_there(unit)).collect();
        installed.enabled.extend(enabled.into_iter().map(|(_, unit)| (*unit).to_owned()));
        Image { profile, installed }
    };
    effects(&image(&edited.before), &image(&edited.after))
}

fn asked_for(profile: &Profile) -> BTreeSet<String> {
    let revision = Revision::new(1, profile.clone()).unwrap();
    Debian.packages(&revision).remove("device").unwrap().into_iter().collect()
}

fn overlay(profile: &Profile, trust: &Path) -> String {
    let release = format!("{}@1", profile.name).parse().unwrap();
    let trust = Trust::read(trust).unwrap();
    Overlay::new(profile, &release, &"1".parse().unwrap(), &trust).unwrap().to_json()
}

#[test]
fn predictions_of_two_hundred_edits_are_held_against_the_trees_that_they_make() {
    let dir = tempfile::tempdir().unwrap();
    let (jobs, trust) = (dir.path().join("jobs"), trust(dir.path()));
    let edits: Vec<_> = (0..EDITS).map(edited).collect();
    let mut trees: BTreeMap<_, _> = BTreeMap::new();
    let key = |profile: &Profile| (overlay(profile, &trust), asked_for(profile));
    for profile in edits.iter().flat_map(|edited| [&edited.before, &edited.after]) {
        let number = trees.len().to_string();
        if let Entry::Vacant(place) = trees.entry(key(profile)) {
            let job = jobs.join(&number);
            fs::create_dir_all(&job).unwrap();
            fs::write(job.join("overlay.json"), &place.key().0).unwrap();
            let packages = serde_json::to_vec(&place.key().1).unwrap();
            fs::write(job.join("packages.json"), packages).unwrap();
            place.insert(number);
        }
    }
    let made = Command::new("python3")
        .arg(repository().join("fleeti-build/tests/it/radius/trees.py"))
        .arg(repository().join("nix/debian"))
        .arg(&jobs)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let built = |profile: &Profile| Built {
        entries: tree::listed(&jobs.join(&trees[&key(profile)]).join("tree.json")),
        command_line: kernel_command_line(profile),
        packages: asked_for(profile),
        measured: BTreeMap::new(),
    };
    let mut score = Score::default();
    for edited in &edits {
        let mut effects = predicted(edited);
        // Without an image nothing is measured.
        effects.pcrs.clear();
        let seen = items::seen(&built(&edited.before), &built(&edited.after), &|_| false);
        score.add(&edited.what, &items::predicted(&effects), &seen);
    }
    score.judge();
}

/// An image that was really built.
struct BuiltImage {
    built: Built,
    root_hash: String,
    /// Digests of its packages by name.
    debs: BTreeMap<String, String>,
    /// Paths that packages bring, and that their scripts made or changed.
    packaged: BTreeSet<String>,
}

/// Builds an image, and reads what is in it.
fn build_image(dir: &Path, profile: &Profile, name: &str) -> BuiltImage {
    let request = request(dir, profile.clone(), name);
    let record = build::run(&request, &cache(), &mut |_| {}).unwrap();
    let root = dir.join(format!("{name}-root"));
    extract(&record.derivations["root"].output, &request.out.join("root.erofs"), &root, dir);
    let uki = fs::read(request.out.join("uki.efi")).unwrap();
    let section = |name: &str| {
        let sections = fleeti_pki::pe::sections(&uki).unwrap();
        &uki[sections.into_iter().find(|section| section.name == name).unwrap().range]
    };
    let lock = Lock::read(&request.out.join("lock.json")).unwrap();
    let deb = |package: &Package| (package.name.to_string(), package.sha256.to_string());
    let debs: BTreeMap<_, _> = lock.set("device").iter().map(deb).collect();
    let built = Built {
        entries: tree::unpacked(&root),
        command_line: String::from_utf8_lossy(section(".cmdline"))
            .trim_end_matches('\0')
            .to_owned(),
        packages: debs.keys().cloned().collect(),
        measured: [
            (4, sha256_hex(&uki)),
            (9, sha256_hex(section(".initrd"))),
            (11, format!("{:?}", record.reference_values.pcr11)),
        ]
        .into(),
    };
    let changes = fs::read(request.out.join("scripts.json")).unwrap();
    let changes: Vec<serde_json::Value> = serde_json::from_slice(&changes).unwrap();
    let path = |change: &serde_json::Value| {
        change["path"].as_str().unwrap().trim_start_matches('/').to_owned()
    };
    let contents = Contents::read(&request.out).unwrap();
    let brought = contents.files.into_iter().filter(|entry| entry.package.is_some());
    let brought = brought.map(|entry| entry.path.trim_start_matches('/').to_owned());
    let packaged = changes.iter().map(path).chain(brought).collect();
    fs::remove_dir_all(&root).unwrap();
    fs::remove_dir_all(&request.out).unwrap();
    BuiltImage { built, root_hash: record.root_hash, debs, packaged }
}

/// Files that are made from those of all packages.
const CACHES: &[&str] = &[
    "etc/alternatives/",
    "etc/ld.so.cache",
    "etc/pam.d/common-",
    "etc/shells",
    "etc/ssl/certs/",
    "etc/subgid",
    "etc/subuid",
    "usr/lib/tmpfiles.d/zz-fleeti-packages.conf",
    "usr/share/factory/var/",
];

/// Whether a file comes or goes with packages, if some differ: in each image that has it, a package
/// brings it or scripts made it.
fn of_packages(before: &BuiltImage, after: &BuiltImage) -> impl Fn(&str) -> bool + use<> {
    let is_any = before.debs != after.debs;
    let images = [before, after].map(|image| {
        let all: BTreeSet<String> = image.built.entries.keys().cloned().collect();
        (all, image.packaged.clone())
    });
    move |path: &str| {
        let is_packaged =
            images.iter().all(|(all, packaged)| !all.contains(path) || packaged.contains(path));
        is_any && (is_packaged || CACHES.iter().any(|cache| path.starts_with(cache)))
    }
}

#[test]
#[ignore = "long: builds 22 images"]
fn predictions_of_twenty_edits_are_held_against_the_images_that_they_make() {
    let dir = tempfile::tempdir().unwrap();
    suite::refresh(&cache(), &mut |_| {}).unwrap();
    let edits: Vec<_> = (IMAGES..IMAGES + 20).map(edited).collect();
    let mut images: Vec<(Profile, BuiltImage)> = Vec::new();
    for profile in edits.iter().flat_map(|edited| [&edited.before, &edited.after]) {
        if !images.iter().any(|(known, _)| known == profile) {
            let built = build_image(dir.path(), profile, &format!("image-{}", images.len()));
            images.push((profile.clone(), built));
        }
    }
    let built = |profile: &Profile| &images.iter().find(|(known, _)| known == profile).unwrap().1;
    // After the builds: what packages bring is known once they were installed.
    let index = suite::load(&cache()).unwrap().unwrap();
    let image =
        |profile| Image { profile, installed: suite::installed(profile, Some(&index)).unwrap() };
    let mut score = Score::default();
    for edited in &edits {
        let (before, after) = (built(&edited.before), built(&edited.after));
        let effects = effects(&image(&edited.before), &image(&edited.after));
        let seen = items::seen(&before.built, &after.built, &of_packages(before, after));
        println!("{}: {seen:?}", edited.what);
        score.add(&edited.what, &items::predicted(&effects), &seen);
        let is_other_tree = before.built.entries != after.built.entries;
        assert_eq!(before.root_hash != after.root_hash, is_other_tree, "{}", edited.what);
    }
    score.judge();
}
