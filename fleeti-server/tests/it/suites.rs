//! The index of a suite: a worker uploads it, searches and checks use it.

use crate::pages::Browser;
use crate::workers::{without_nix, worker};
use crate::world::World;
use fleeti_build::build::Request;
use fleeti_client::{ClientError, WholeIndex, WorkerClient};
use fleeti_core::canonical::sha256_hex;
use fleeti_core::profile::{
    INDEX_MAX, IndexHead, IndexParts, IndexedPackage, Profile, SecurityVersion, Severity, TEXT_MAX,
};
use fleeti_core::wire::updates::PinFleet;
use fleeti_core::wire::worker::CHUNK_MAX;
use fleeti_server::remote_worker::Builder;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// An index with so many other packages that it needs several uploads.
fn index(suite: &str, extra: &str) -> String {
    let mut parts = IndexParts::default();
    let mut add = |name: &str, summary: &str| {
        let package = IndexedPackage {
            version: "1.26".to_owned(),
            size_kib: 1383,
            summary: summary.to_owned(),
            ..IndexedPackage::default()
        };
        parts.packages.insert(name.to_owned(), package);
    };
    add("nginx", "small, powerful web server");
    add("bash", "GNU Bourne Again SHell");
    add("openssh-server", "secure shell <b>server</b>");
    add(extra, "one more");
    for i in 0..5000 {
        add(&format!("filler-{i:05}"), &"words ".repeat(10));
    }
    let by = BTreeSet::from(["nginx".to_owned()]);
    parts.units.insert("nginx.service".to_owned(), by);
    let by = BTreeSet::from(["bash".to_owned()]);
    parts.programs.insert("/usr/bin/bash".to_owned(), by);
    let head = IndexHead { suite: suite.to_owned(), snapshot: "0".repeat(64), has_contents: true };
    parts.to_text(&head)
}

/// A builder that only makes an index.
pub struct Maker(pub PathBuf);

impl Builder for Maker {
    fn build(&self, _: &Request, _: &mut dyn FnMut(&str)) -> Result<(), String> {
        Err("makes an index only".to_owned())
    }
    fn index(&self) -> Result<Option<PathBuf>, String> {
        Ok(Some(self.0.clone()))
    }
}

fn document(more: &str) -> String {
    format!("schema = 1\nname = \"kiosk\"\narchitecture = \"x86_64\"\n{more}")
}

fn status<T>(result: Result<T, ClientError>) -> u16 {
    match result {
        Ok(_) => 200,
        Err(ClientError::Refused(problem)) => problem.status,
        Err(e) => panic!("{e}"),
    }
}

/// Uploads a text in parts, and returns the status of the first part that is refused.
pub async fn upload(client: &WorkerClient, suite: &str, text: &str, digest: &str) -> u16 {
    let whole = WholeIndex { digest: digest.to_owned(), size: text.len() as u64 };
    for (i, bytes) in text.as_bytes().chunks(CHUNK_MAX).enumerate() {
        let offset = (i * CHUNK_MAX) as u64;
        let stored = status(client.put_index(suite, &whole, offset, bytes.to_vec()).await);
        if stored != 200 {
            return stored;
        }
    }
    200
}

#[actix_web::test]
async fn a_worker_brings_the_index_and_profiles_are_checked_against_it() {
    let world = without_nix().await;
    let nothing = world.client.search_packages("nginx", 5).await.unwrap();
    assert!(nothing.suite.is_none() && nothing.packages.is_empty());
    let wrong = document(
        "software.packages = [\"ngnix\", \"nginx\"]\n[[services]]\nname = \"ngnix.service\"\n\
         [[users]]\nname = \"ops\"\ngroups = [\"whele\"]\n",
    );
    let unchecked = world.client.check_profile_text(&wrong).await.unwrap();
    assert!(unchecked.suite.is_none() && unchecked.profile.is_some());

    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made");
    fs::write(&made, index("trixie", "one")).unwrap();
    let builder = worker(&world, "builder", Arc::new(Maker(made.clone()))).await;
    builder.worker.share_index().await.unwrap();
    let digest = builder.client.known_index("trixie").await.unwrap().digest.unwrap();
    assert_eq!(digest, sha256_hex(&fs::read(&made).unwrap()));
    // The server has it already.
    builder.worker.share_index().await.unwrap();

    let found = world.client.search_packages("web server", 5).await.unwrap();
    assert_eq!(found.suite.as_ref().unwrap().digest, digest);
    assert_eq!(found.packages.len(), 1);
    let nginx = &found.packages[0];
    assert_eq!(
        (nginx.name.as_str(), nginx.version.as_str(), nginx.size_kib),
        ("nginx", "1.26", 1383)
    );
    let found = world.client.search_packages("nginx", 5).await.unwrap();
    assert_eq!((found.packages.len(), found.units[0].name.as_str()), (1, "nginx.service"));
    assert_eq!(world.client.search_packages("filler", 100).await.unwrap().packages.len(), 100);

    let checked = world.client.check_profile_text(&wrong).await.unwrap();
    assert_eq!(checked.suite.unwrap().suite, "trixie");
    let said: Vec<_> = checked
        .findings
        .iter()
        .map(|f| (f.severity, f.line, f.path.as_str(), f.remedy.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            (Severity::Error, 4, "software.packages[0]", "did you mean nginx?"),
            (Severity::Warning, 6, "services[0].name", "did you mean nginx.service?"),
            (Severity::Warning, 9, "users[0].groups[0]", "correct the name, or add it to groups"),
        ]
    );
    assert_eq!(status(world.client.save_profile_text(&wrong).await), 422);
    let text = document("software.packages = [\"ngnix\"]\n");
    let profile: Profile = fleeti_core::profile::check(&text).unwrap();
    let Err(ClientError::Refused(problem)) = world.client.save_profile(&profile).await else {
        panic!("a package that does not exist was saved")
    };
    assert_eq!(problem.errors[0].path, "software.packages[0]");
    let right = wrong.replace("ngnix\", \"", "").replace("ngnix", "nginx");
    world.client.save_profile_text(&right).await.unwrap();
}

#[actix_web::test]
async fn an_index_that_is_not_one_is_refused_and_the_last_good_one_stays() {
    let world = without_nix().await;
    let client = worker(&world, "builder", Arc::new(Maker(PathBuf::new()))).await.client;
    let good = index("trixie", "one");
    let digest = sha256_hex(good.as_bytes());
    assert_eq!(upload(&client, "trixie", &good, &digest).await, 200);
    let folder = world.dir.path().join("suites");
    let kept = fs::read(folder.join("trixie.index")).unwrap();
    assert_eq!(kept, good.as_bytes());

    let of = |text: &str| sha256_hex(text.as_bytes());
    let unsorted = good.replacen("P\tfiller-00000", "P\tzzz", 1);
    let escaping = good.replacen("small, powerful", "\u{1b}[2Jsmall", 1);
    for (what, suite, text, digest, refused) in [
        ("another digest", "trixie", good.as_str(), "1".repeat(64), 422),
        ("no digest", "trixie", &good, "xyz".to_owned(), 422),
        ("another suite", "sid", &good, digest.clone(), 404),
        ("a path", "..%2F..%2Fx", &good, digest.clone(), 404),
        ("no index", "trixie", "[]", of("[]"), 422),
        ("an empty text", "trixie", " ", of(" "), 422),
        ("a half", "trixie", &good[..good.len() / 2], of(&good[..good.len() / 2]), 422),
        ("lines that are not sorted", "trixie", &unsorted, of(&unsorted), 422),
        ("a sequence for terminals", "trixie", &escaping, of(&escaping), 422),
    ] {
        assert_eq!(upload(&client, suite, text, &digest).await, refused, "{what}");
    }
    let other = index("sid", "one");
    assert_eq!(upload(&client, "trixie", &other, &of(&other)).await, 422, "says another suite");
    assert_eq!(fs::read(folder.join("trixie.index")).unwrap(), kept);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing else stays");
    let known = client.known_index("trixie").await.unwrap().digest;
    assert_eq!(known.as_deref(), Some(digest.as_str()));
    assert_eq!(world.client.search_packages("one", 5).await.unwrap().packages[0].name, "one");
}

#[actix_web::test]
async fn an_upload_has_limits_and_may_be_repeated_but_not_mixed() {
    let world = without_nix().await;
    let first = worker(&world, "first", Arc::new(Maker(PathBuf::new()))).await.client;
    let second = worker(&world, "second", Arc::new(Maker(PathBuf::new()))).await.client;
    let text = index("trixie", "one");
    let (half, rest) = text.as_bytes().split_at(CHUNK_MAX);
    let whole = WholeIndex { digest: sha256_hex(text.as_bytes()), size: text.len() as u64 };
    let put = async |client: &WorkerClient, whole: &WholeIndex, offset: usize, bytes: &[u8]| {
        status(client.put_index("trixie", whole, offset as u64, bytes.to_vec()).await)
    };
    // More than an index may have, more than was announced, and more than one upload may have.
    let huge = WholeIndex { size: INDEX_MAX + 1, ..whole.clone() };
    assert_eq!(put(&first, &huge, 0, b"x").await, 413);
    let small = WholeIndex { size: 1, ..whole.clone() };
    assert_eq!(put(&first, &small, 0, b"xy").await, 413);
    assert_eq!(put(&first, &whole, usize::MAX, b"xy").await, 413);
    assert_eq!(put(&first, &whole, 0, &vec![b'x'; CHUNK_MAX + 1]).await, 413);
    // A part without those before it.
    assert_eq!(put(&first, &whole, CHUNK_MAX, &rest[..1]).await, 409);
    assert_eq!(put(&first, &whole, 0, half).await, 200);
    assert_eq!(put(&first, &whole, 0, half).await, 200, "an answer that was lost");
    assert_eq!(put(&first, &whole, CHUNK_MAX + 1, &rest[..1]).await, 409, "a hole");
    // Another worker begins; the first one must begin again.
    assert_eq!(put(&second, &whole, 0, half).await, 200);
    assert_eq!(put(&first, &whole, CHUNK_MAX, &rest[..1]).await, 409);
    for (i, bytes) in rest.chunks(CHUNK_MAX).enumerate() {
        assert_eq!(put(&second, &whole, (i + 1) * CHUNK_MAX, bytes).await, 200);
    }
    let (i, last) = rest.chunks(CHUNK_MAX).enumerate().next_back().unwrap();
    let repeated = put(&second, &whole, (i + 1) * CHUNK_MAX, last).await;
    assert_eq!(repeated, 200, "the answer to the last part was lost");
    let known = first.known_index("trixie").await.unwrap().digest;
    assert_eq!(known, Some(whole.digest));
}

#[actix_web::test]
async fn only_a_worker_uploads_an_index_and_only_an_administrator_searches() {
    let world = without_nix().await;
    let worker = worker(&world, "builder", Arc::new(Maker(PathBuf::new()))).await;
    let api = format!("http://{}", world.server.addresses.api);
    let admin = fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
    let text = index("trixie", "one");
    let whole = WholeIndex { digest: sha256_hex(text.as_bytes()), size: text.len() as u64 };
    for token in [admin.trim(), "", "nonsense"] {
        let stranger = WorkerClient::new(&api, token, None).unwrap();
        let put = stranger.put_index("trixie", &whole, 0, b"x".to_vec()).await;
        assert_eq!(status(put), 401, "{token:?}");
        assert_eq!(status(stranger.known_index("trixie").await), 401);
    }
    assert!(!world.dir.path().join("suites").exists());
    world.client.remove_worker(&"builder".parse().unwrap()).await.unwrap();
    let removed = worker.client.put_index("trixie", &whole, 0, b"x".to_vec()).await;
    assert_eq!(status(removed), 401);
    let anonymous = reqwest::get(format!("{api}/api/v1/profiles/packages?q=a")).await.unwrap();
    assert_eq!(anonymous.status(), 401);
}

#[actix_web::test]
async fn a_search_has_limits_and_a_file_that_is_no_index_checks_nothing() {
    let world: World = without_nix().await;
    assert_eq!(status(world.client.search_packages(&"x".repeat(201), 5).await), 422);
    assert_eq!(status(world.client.search_packages("x", 0).await), 422);
    assert_eq!(status(world.client.search_packages("x", 101).await), 422);
    let folder = world.dir.path().join("suites");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("trixie.index"), vec![b'x'; TEXT_MAX]).unwrap();
    let found = world.client.search_packages("x", 5).await.unwrap();
    assert!(found.suite.is_none());
    let checked = world.client.check_profile_text(&document("")).await.unwrap();
    assert!(checked.profile.is_some() && checked.suite.is_none());
}

#[actix_web::test]
async fn a_profile_and_a_fleet_say_which_fixes_their_build_lacks_and_since_when() {
    let world = World::new().await;
    let build = world.client.create_build(&crate::builds::request("a")).await.unwrap();
    let folder = world.dir.path().join("builds").join(&build.id);
    std::fs::create_dir_all(&folder).unwrap();
    let package = serde_json::json!({"name": "nginx", "version": "1.26-1", "sha256": "a".repeat(64),
        "size": 1, "path": "pool/x.deb"});
    let lock = serde_json::json!({"suite": "trixie", "architecture": "amd64", "requested": {},
        "sets": {"device": [package]}});
    std::fs::write(folder.join("lock.json"), lock.to_string()).unwrap();
    let mut tx = world.server.control.db.write().await.unwrap();
    let directory = folder.display().to_string();
    fleeti_testkit::synthetic::end_build(&mut tx, &build.id, Some(&directory)).await.unwrap();
    tx.commit().await.unwrap();
    let browser = crate::pages::Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let path = "/profiles/kiosk/1";
    let page = browser.get(path, &session).await.text().await.unwrap();
    assert!(!page.contains("A fix is waiting"), "there is no index: {page}");

    let mut parts = IndexParts::default();
    let fix = SecurityVersion { version: "1.26-1+deb13u1".to_owned(), since_s: 1_795_252_544 };
    parts.security.insert("nginx".to_owned(), fix);
    let head =
        IndexHead { suite: "trixie".to_owned(), snapshot: "0".repeat(64), has_contents: true };
    let index = world.dir.path().join("suites/trixie.index");
    std::fs::create_dir_all(index.parent().unwrap()).unwrap();
    std::fs::write(&index, parts.to_text(&head)).unwrap();
    world.enroll().await;
    let fleet = browser.get("/fleets/demo", &session).await.text().await.unwrap();
    assert!(!fleet.contains("A fix is waiting"), "its devices run no release: {fleet}");
    crate::rollout::publish_release(&world, "kiosk@1").await;
    let release = Some("kiosk@1".parse().unwrap());
    let pin = PinFleet { release, reason: "the stand of the fair".into() };
    world.client.pin_fleet(&"demo".parse().unwrap(), &pin).await.unwrap();
    for path in [path, "/fleets/demo"] {
        let page = browser.get(path, &session).await.text().await.unwrap();
        for text in
            ["A fix is waiting", "kiosk@1 lacks 1 security update,", "1.26-1+deb13u1", "2026-11-21"]
        {
            assert!(page.contains(text), "{path}: {text}: {page}");
        }
    }
}

#[actix_web::test]
async fn the_editor_searches_names_of_each_kind_and_says_what_to_do_without_an_index() {
    let world = without_nix().await;
    let browser = Browser::new(&world);
    let session = browser.sign_in(&world).await;
    let get = async |query: &str| {
        let answer = browser.get(&format!("/profiles/search?{query}"), &session).await;
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, nothing) = get("of=package&q=nginx").await;
    assert!(status == 200 && nothing.contains("fleeti worker add"), "{nothing}");
    let client = worker(&world, "builder", Arc::new(Maker(PathBuf::new()))).await.client;
    let text = index("trixie", "one");
    assert_eq!(upload(&client, "trixie", &text, &sha256_hex(text.as_bytes())).await, 200);

    let (_, packages) = get("of=package&q=web%20server").await;
    for shown in ["data-value=\"nginx\"", "1.26", "1.3 MiB", "small, powerful", "1 package"] {
        assert!(packages.contains(shown), "{shown}: {packages}");
    }
    let (_, shell) = get("of=package&q=openssh").await;
    assert!(!shell.contains("<b>server"), "a summary is no markup: {shell}");
    let (_, many) = get("of=package&q=filler").await;
    assert_eq!(many.matches("role=\"option\"").count(), 20, "{many}");
    for (kind, words, found) in [
        ("unit", "ngin", "nginx.service"),
        ("program", "bash", "/usr/bin/bash"),
        ("group", "vide", "video"),
        ("user", "www", "www-data"),
    ] {
        let (_, names) = get(&format!("of={kind}&q={words}")).await;
        assert!(names.contains(&format!("data-value=\"{found}\"")), "{names}");
    }
    let (_, none) = get("of=unit&q=").await;
    assert!(!none.contains("role=\"option\""), "{none}");
    let long = format!("of=package&q={}", "x".repeat(201));
    for odd in ["of=colour&q=a", "q=a", "of=unit", "of=unit&q=a&limit=9", &long] {
        assert_eq!(get(odd).await.0, 422, "{odd}");
    }
}
