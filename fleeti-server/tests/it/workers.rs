//! Build workers: a real server, the real worker, and a builder without Nix.

use crate::builds::request;
use crate::world::World;
use fleeti_build::build::{BuildRecord, FileRecord, RecordedInputs, Request};
use fleeti_build::file::sha256_file;
use fleeti_build::lock::Lock;
use fleeti_client::{ClientError, Piece, WorkerClient};
use fleeti_core::id::ReleaseName;
use fleeti_core::manifest::ReferenceValues;
use fleeti_core::profile::Revision;
use fleeti_core::wire::api::{Build, BuildPhase};
use fleeti_core::wire::worker::{ARTIFACTS, CHUNK_MAX, Finish, LOG_MAX, Outcome, Renew};
use fleeti_server::remote_worker::{Builder, RemoteWorker};
use fleeti_store::sql;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

const LEASE: &str = "00112233445566778899aabbccddeeff";

/// Writes the files of a build; two of them are larger than one upload, with a hole.
struct Fake;

impl Builder for Fake {
    fn build(&self, request: &Request, line: &mut dyn FnMut(&str)) -> Result<(), String> {
        line("resolving packages");
        if !request.trust.join("root.pem").exists() {
            return Err("the organisation's root is not here".into());
        }
        make(request, request.revision);
        line("done \u{1b}[31mred");
        Ok(())
    }
}

fn make(request: &Request, revision: u32) {
    let revision = Revision::new(revision, request.profile.clone()).unwrap();
    let out = &request.out;
    let lock = Lock {
        suite: "trixie".into(),
        architecture: "amd64".into(),
        requested: BTreeMap::new(),
        sets: BTreeMap::new(),
        ids: fleeti_build::ids::Ids::default(),
        snapshots: BTreeMap::new(),
        sources: None,
    };
    lock.write(&out.join("lock.json")).unwrap();
    let mut files = BTreeMap::new();
    for name in ARTIFACTS.into_iter().filter(|name| *name != "lock.json") {
        let path = out.join(name);
        fs::write(
            &path,
            format!("this is {name}\n").repeat(if name == "root.erofs" { 400_000 } else { 3 }),
        )
        .unwrap();
        if name == "disk.raw" {
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(3 * CHUNK_MAX as u64 + 5)
                .unwrap();
        }
        let size = fs::metadata(&path).unwrap().len();
        files.insert(
            name.parse().unwrap(),
            FileRecord { size, sha256: sha256_file(&path).unwrap() },
        );
    }
    let record = BuildRecord {
        schema: 1,
        release: ReleaseName {
            line: request.profile.name.clone(),
            version: request.version.clone(),
        },
        architecture: request.profile.architecture,
        minimum_version: request.version.clone(),
        inputs: RecordedInputs {
            revision: revision.number,
            revision_digest: revision.digest,
            lock_digest: lock.digest(),
            agent_digest: "0".repeat(64),
        },
        derivations: BTreeMap::new(),
        nix_version: "2.8.0".into(),
        root_hash: "1".repeat(64),
        reference_values: ReferenceValues {
            systemd_version: "257".into(),
            ..ReferenceValues::default()
        },
        files,
    };
    fs::write(out.join("build.json"), serde_json::to_vec_pretty(&record).unwrap()).unwrap();
}

/// A worker with its own token and folder.
pub struct Started {
    pub client: WorkerClient,
    pub worker: RemoteWorker,
    _work: tempfile::TempDir,
}

pub async fn worker(world: &World, name: &str, builder: Arc<dyn Builder>) -> Started {
    let token = world.client.add_worker(&name.parse().unwrap()).await.unwrap().token;
    let client =
        WorkerClient::new(&format!("http://{}", world.server.addresses.api), token.expose(), None)
            .unwrap();
    let work = tempfile::tempdir().unwrap();
    let worker = RemoteWorker {
        client: client.clone(),
        work: work.path().to_owned(),
        agent: "/nowhere/agent".into(),
        builder,
    };
    Started { client, worker, _work: work }
}

async fn queued(world: &World) -> Build {
    world.client.create_build(&request("a")).await.unwrap()
}

/// A server that builds nothing itself.
pub async fn without_nix() -> World {
    World::with(|config| config.local_worker = false).await
}

/// Makes the lease of every build expire.
async fn end_leases(world: &World) {
    let mut tx = world.server.control.db.write().await.unwrap();
    sql::query("UPDATE builds SET lease_until_s = 1").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

fn piece(offset: u64, bytes: &[u8]) -> Piece {
    Piece { offset, bytes: bytes.to_vec() }
}

#[actix_web::test]
async fn a_worker_elsewhere_builds_and_the_server_has_every_byte_and_the_log() {
    let world = without_nix().await;
    let build = queued(&world).await;
    let started = worker(&world, "builder-1", Arc::new(Fake)).await;
    assert!(started.worker.one().await.unwrap());
    let done = world.client.build(&build.id).await.unwrap();
    assert_eq!((done.phase, done.detail.as_str()), (BuildPhase::Succeeded, "done"));
    let directory = Path::new(done.directory.as_ref().unwrap()).to_owned();
    let record = BuildRecord::read(&directory).unwrap();
    for (name, file) in &record.files {
        let path = directory.join(name);
        assert_eq!(
            (fs::metadata(&path).unwrap().len(), &sha256_file(&path).unwrap()),
            (file.size, &file.sha256),
            "{name}"
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640,
            "{name}: the signer's group reads it, others do not"
        );
    }
    assert_eq!(
        fs::read_to_string(directory.join("build.log")).unwrap(),
        "resolving packages\ndone \u{1b}[31mred\n"
    );
    assert!(!directory.join("incoming").exists());
    assert_eq!(fs::read_dir(&started.worker.work).unwrap().count(), 0, "the worker keeps nothing");
    assert!(world.audit().await.contains("worker.add"));
    assert!(world.client.workers().await.unwrap()[0].seen_s.is_some());
}

#[actix_web::test]
async fn a_worker_that_is_killed_loses_nothing_and_changes_nothing_afterwards() {
    let world = without_nix().await;
    let build = queued(&world).await;
    let (first, second) = (
        worker(&world, "first", Arc::new(Fake)).await,
        worker(&world, "second", Arc::new(Fake)).await,
    );
    let job = first.client.claim(LEASE).await.unwrap().unwrap();
    assert_eq!(
        first.client.claim(LEASE).await.unwrap().unwrap().build,
        job.build,
        "an answer that was lost is given again"
    );
    first.client.append_log(&job.build, LEASE, piece(0, b"half a build\n")).await.unwrap();
    first.client.put_file(&job.build, LEASE, "root.erofs", piece(0, b"half a root")).await.unwrap();
    // The worker was killed, so its lease is not renewed.
    end_leases(&world).await;
    assert!(second.worker.one().await.unwrap());
    assert_eq!(world.client.build(&build.id).await.unwrap().phase, BuildPhase::Succeeded);
    let log = fs::read_to_string(world.dir.path().join("builds").join(&build.id).join("build.log"))
        .unwrap();
    assert!(log.starts_with("half a build\nresolving packages\n"), "{log}");
    // The first worker was only suspended, and continues: all its requests are refused.
    let renew = Renew { lease: LEASE.into(), detail: "still here".into() };
    let finish = Finish { lease: LEASE.into(), outcome: Outcome::Failed { detail: "no".into() } };
    for late in [
        first.client.renew(&job.build, &renew).await,
        first.client.append_log(&job.build, LEASE, piece(0, b"x")).await,
        first.client.put_file(&job.build, LEASE, "root.erofs", piece(0, b"x")).await,
        first.client.finish(&job.build, &finish).await,
    ] {
        assert!(matches!(&late, Err(ClientError::Refused(p)) if p.status == 409), "{late:?}");
    }
    assert_eq!(world.client.build(&build.id).await.unwrap().phase, BuildPhase::Succeeded);
}

#[actix_web::test]
async fn one_worker_cannot_touch_the_build_of_another() {
    let world = without_nix().await;
    let build = queued(&world).await;
    let (first, second) = (
        worker(&world, "first", Arc::new(Fake)).await,
        worker(&world, "second", Arc::new(Fake)).await,
    );
    first.client.claim(LEASE).await.unwrap().unwrap();
    let renew = Renew { lease: LEASE.into(), detail: String::new() };
    assert!(
        second.client.renew(&build.id, &renew).await.is_err(),
        "the lease is of another worker"
    );
    for id in ["build-x", "..%2f..%2fbuild", "%2e%2e"] {
        let refused = first.client.put_file(id, LEASE, "root.erofs", piece(0, b"x")).await;
        assert!(
            matches!(&refused, Err(ClientError::Refused(p)) if p.status == 409 || p.status == 404),
            "{refused:?}"
        );
    }
}

/// A build whose files or inputs differ from its record, or from the request, fails.
#[actix_web::test]
async fn what_is_not_what_the_record_says_is_no_build() {
    type Change = fn(&Path);
    let cases: [(&str, Change); 5] = [
        ("root.erofs does not match the record", |out| {
            fs::write(out.join("root.erofs"), "another").unwrap()
        }),
        ("does not match the build", |out| replace(out, "\"revision\": 1", "\"revision\": 2")),
        ("does not match the build", |out| replace(out, "kiosk@1", "kiosk@2")),
        ("lock.json", |out| replace(out, "\"lock_digest\": \"", "\"lock_digest\": \"0")),
        ("uki.efi", |out| replace(out, "\"uki.efi\"", "\"../../uki.efi\"")),
    ];
    struct Lying(Change);
    impl Builder for Lying {
        fn build(&self, request: &Request, line: &mut dyn FnMut(&str)) -> Result<(), String> {
            Fake.build(request, line)?;
            (self.0)(&request.out);
            Ok(())
        }
    }
    let world = without_nix().await;
    for (number, (word, change)) in cases.into_iter().enumerate() {
        let build = queued(&world).await;
        let started = worker(&world, &format!("adversary-{number}"), Arc::new(Lying(change))).await;
        let refused = started.worker.one().await.unwrap_err();
        let failed = world.client.build(&build.id).await.unwrap();
        assert_eq!((failed.phase, failed.directory), (BuildPhase::Failed, None), "{word}");
        assert!(failed.detail.contains(word), "{word}: {} ({refused:#})", failed.detail);
    }
    assert!(
        !world.dir.path().join("uki.efi").exists()
            && !world.dir.path().join("builds/uki.efi").exists()
    );
}

fn replace(out: &Path, from: &str, to: &str) {
    let path = out.join("build.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    let longer = text.replacen(from, to, 1);
    // The result keeps the length of a digest.
    fs::write(path, if from.ends_with('"') { cut_digest(&longer, to) } else { longer }).unwrap();
}

fn cut_digest(text: &str, begin: &str) -> String {
    let Some(at) = text.find(begin).filter(|_| begin.ends_with('0')) else {
        return text.to_owned();
    };
    let end = at + begin.len() + 63;
    format!("{}{}", &text[..end], &text[end + 1..])
}

#[actix_web::test]
async fn a_build_that_fails_says_why_and_nothing_that_moves_a_cursor() {
    struct Failing;
    impl Builder for Failing {
        fn build(&self, _: &Request, _: &mut dyn FnMut(&str)) -> Result<(), String> {
            Err("no package\n\u{1b}[2Jof that name".into())
        }
    }
    let world = without_nix().await;
    let build = queued(&world).await;
    assert!(worker(&world, "builder", Arc::new(Failing)).await.worker.one().await.unwrap());
    let failed = world.client.build(&build.id).await.unwrap();
    assert_eq!(
        (failed.phase, failed.detail.as_str()),
        (BuildPhase::Failed, "no package\n\\u{1b}[2Jof that name")
    );
}

/// Uploads and log lines have limits, and repeating one changes nothing.
#[actix_web::test]
async fn what_a_worker_sends_has_limits_and_may_come_twice() {
    let world = without_nix().await;
    queued(&world).await;
    let client = worker(&world, "builder", Arc::new(Fake)).await.client;
    let job = client.claim(LEASE).await.unwrap().unwrap();
    let status = |r: Result<(), ClientError>| match r {
        Ok(()) => 204,
        Err(ClientError::Refused(p)) => p.status,
        Err(e) => panic!("{e}"),
    };
    let log = async |offset, bytes: &[u8]| {
        status(client.append_log(&job.build, LEASE, piece(offset, bytes)).await)
    };
    assert_eq!(
        [
            log(0, b"one\n").await,
            log(0, b"one\n").await,
            log(0, b"one\ntwo\n").await,
            log(100, b"x").await
        ],
        [204, 204, 204, 409]
    );
    let path = world.dir.path().join("builds").join(&job.build).join("build.log");
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    fs::File::options().write(true).open(&path).unwrap().set_len(LOG_MAX).unwrap();
    assert_eq!(log(LOG_MAX, b"x").await, 413);
    let put = async |name: &str, offset, length: usize| {
        status(client.put_file(&job.build, LEASE, name, piece(offset, &vec![1; length])).await)
    };
    assert_eq!(put("root.erofs", 0, CHUNK_MAX).await, 204);
    assert_eq!(put("root.erofs", 0, CHUNK_MAX + 1).await, 413);
    assert_eq!(put("root.erofs", u64::MAX, 1).await, 413);
    assert_eq!(put("root.erofs", 8 << 30, 1).await, 413);
    for name in ["build.json", "build.log", "..%2fx", "%2e%2e", "root.erofs%00"] {
        assert!([404, 422, 400].contains(&put(name, 0, 1).await), "{name}");
    }
    assert!(matches!(client.claim("short").await, Err(ClientError::Refused(p)) if p.status == 422));
}

#[actix_web::test]
async fn the_token_of_a_worker_opens_builds_and_nothing_else_and_no_other_token_opens_those() {
    let world = without_nix().await;
    let token = world.client.add_worker(&"builder".parse().unwrap()).await.unwrap().token;
    let api = format!("http://{}", world.server.addresses.api);
    let http =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let ask = async |method: &str, path: &str, token: &str| {
        let request =
            http.request(method.parse().unwrap(), format!("{api}{path}")).bearer_auth(token);
        request
            .header("content-type", "application/json")
            .body("{}")
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    let document: serde_json::Value =
        http.get(format!("{api}/api/v1/openapi.json")).send().await.unwrap().json().await.unwrap();
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path
            .split('/')
            .map(|part| if part.starts_with('{') { "x" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        let is_method = |m: &str| ["get", "put", "post", "delete", "patch"].contains(&m);
        for (method, operation) in methods.as_object().unwrap().iter().filter(|(m, _)| is_method(m))
        {
            let status = ask(&method.to_uppercase(), &path, token.expose()).await;
            // The document says which operations are public; a token makes no difference there.
            if operation["security"] == serde_json::json!([{}]) {
                assert_eq!(
                    status,
                    http.get(format!("{api}{path}")).send().await.unwrap().status().as_u16(),
                    "{method} {path}"
                );
                continue;
            }
            assert_eq!(status, 401, "{method} {path}");
            asked += 1;
        }
    }
    assert!(asked > 50, "{asked}");
    for page in ["/", "/devices", "/builds", "/trust", "/audit", "/live"] {
        assert_eq!(ask("GET", page, token.expose()).await, 303, "{page}");
    }
    let admin = fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
    let of_workers = ["claim", "builds/x/renew", "builds/x/finish"].map(|p| ("POST", p));
    for (method, path) in of_workers.into_iter().chain([
        ("PUT", "builds/x/log?lease=x&offset=0"),
        ("PUT", "builds/x/files/root.erofs?lease=x&offset=0"),
    ]) {
        for other in [admin.trim(), "", "x", &"0".repeat(64)] {
            assert_eq!(
                ask(method, &format!("/worker/v1/{path}"), other).await,
                401,
                "{method} {path}"
            );
        }
    }
    assert_eq!(ask("POST", "/worker/v1/nothing", token.expose()).await, 404);
    world.client.remove_worker(&"builder".parse().unwrap()).await.unwrap();
    assert_eq!(ask("POST", "/worker/v1/claim", token.expose()).await, 401, "it was removed");
    assert_eq!(
        world.audit().await.matches("worker.refused").count(),
        1,
        "guesses do not fill the log"
    );
}

#[actix_web::test]
async fn a_worker_is_added_once_and_its_token_is_kept_nowhere() {
    let world = without_nix().await;
    let name = "builder".parse().unwrap();
    let token = world.client.add_worker(&name).await.unwrap().token;
    assert!(
        matches!(world.client.add_worker(&name).await, Err(ClientError::Refused(p)) if p.status == 409)
    );
    assert!(!world.is_kept(token.expose()).await);
    assert!(world.client.remove_worker(&name).await.unwrap().is_empty());
    assert!(
        matches!(world.client.remove_worker(&name).await, Err(ClientError::Refused(p)) if p.status == 404)
    );
}

#[actix_web::test]
async fn a_worker_that_waits_gets_a_build_as_soon_as_there_is_one() {
    let world = without_nix().await;
    let started = worker(&world, "builder", Arc::new(Fake)).await;
    let (one, build) = futures::join!(started.worker.one(), async {
        // The worker's claim is on its way or already waiting; both must work.
        world.client.workers().await.unwrap();
        queued(&world).await
    });
    assert!(one.unwrap());
    assert_eq!(world.client.build(&build.id).await.unwrap().phase, BuildPhase::Succeeded);
}
