//! A disk that fills up: the server announces it in time, serves devices all the same, and
//! continues by itself once there is room.

use crate::peer::Peer;
use crate::rollout::publish_release;
use crate::world::{World, write_keys};
use fleeti_control::releases::retention;
use fleeti_control::settings::Retention;
use fleeti_core::wire::problem::Problem;
use fleeti_store::sql;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// A small disk, mounted while this value exists.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mib: u32) -> Option<Self> {
        let size = format!("size={mib}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).status();
        if mounted.is_ok_and(|s| s.success()) {
            return Some(Self(at.to_owned()));
        }
        eprintln!(
            "SKIPPED: a disk cannot be mounted here, so nothing was tested; run this as root"
        );
        None
    }
    /// Fills the disk except for this many MiB.
    fn fill_but(&self, mib: u64) {
        let mut file = std::fs::File::create(self.0.join("filling")).unwrap();
        let free =
            || rustix::fs::statvfs(&self.0).map(|found| found.f_bavail * found.f_frsize).unwrap();
        for size in [1 << 20, 4096, 1] {
            while free() >= (mib << 20) + size
                && file.write_all(&vec![7; usize::try_from(size).unwrap()]).is_ok()
            {}
        }
    }
    fn make_room(&self) {
        std::fs::remove_file(self.0.join("filling")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

async fn readyz(world: &World) -> (u16, String) {
    fleeti_control::health::look(&world.server.control).await;
    let answer =
        reqwest::get(format!("http://{}/readyz", world.server.addresses.api)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn upload(world: &World, name: &str) -> u16 {
    let token = std::fs::read_to_string(world.dir.path().join("admin.token")).unwrap();
    let url =
        format!("http://{}/api/v1/releases/{name}/files/manifest.json", world.server.addresses.api);
    let answer =
        reqwest::Client::new().put(url).bearer_auth(token.trim()).body("{}").send().await.unwrap();
    let code = answer.status().as_u16();
    if code == 507 {
        assert_eq!(answer.json::<Problem>().await.unwrap().kind, "urn:fleeti:problem:full");
    }
    code
}

#[actix_web::test]
async fn a_disk_that_fills_is_announced_and_devices_are_served_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path(), 96) else { return };
    write_keys(dir.path());
    let world = World::start(dir, |config| config.disk_floor = Some(16 << 20)).await;
    let device = world.enroll().await;
    assert_eq!((readyz(&world).await.0, upload(&world, "kiosk@7").await), (200, 204));
    disk.fill_but(24);
    let (code, text) = readyz(&world).await;
    assert!(code == 503 && text.contains("the disk is getting full"), "{text}");
    assert_eq!(upload(&world, "kiosk@7").await, 204, "there is room still");
    std::fs::write(dir_of(&world).join("more"), vec![7; 12 << 20]).unwrap();
    let (code, text) = readyz(&world).await;
    assert!(code == 503 && text.contains("nearly full"), "{text}");
    assert_eq!(upload(&world, "kiosk@7").await, 507);
    // Filled to the last byte: no act can be stored, and connected devices are served.
    std::fs::remove_file(dir_of(&world).join("more")).unwrap();
    disk.make_room();
    disk.fill_but(0);
    let http = world.https((*device.tls).clone());
    assert_eq!(http.get(world.url("/desired")).send().await.unwrap().status(), 200);
    let mut session = Peer::session(&world, &device).await;
    session.is_alive().await;
    // No acknowledged act is lost, and freeing space is enough.
    let refused = world.client.create_enrollment(&"demo".parse().unwrap(), 3600).await;
    disk.make_room();
    let another = world.enroll().await;
    Peer::session(&world, &another).await.is_alive().await;
    publish_release(&world, "kiosk@2").await;
    let log = world.audit().await;
    assert!(log.contains(another.id.as_str()), "the audit log goes on: {log} {refused:?}");
    assert_eq!(readyz(&world).await.0, 200);
}

/// The disk of the audit log is often another one, and of another user.
#[actix_web::test]
async fn a_disk_of_the_audit_log_that_fills_is_announced() {
    let dir = tempfile::tempdir().unwrap();
    let audit = dir.path().join("audit");
    std::fs::create_dir(&audit).unwrap();
    let Some(disk) = SmallDisk::mount(&audit, 64) else { return };
    write_keys(dir.path());
    let world = World::start(dir, |_| {}).await;
    assert_eq!(readyz(&world).await.0, 200);
    disk.fill_but(5);
    let (code, text) = readyz(&world).await;
    assert!(code == 503 && text.contains("the disk of the audit log is getting full"), "{text}");
    world.enroll().await;
    disk.make_room();
    assert_eq!(readyz(&world).await.0, 200);
}

fn dir_of(world: &World) -> &Path {
    world.dir.path()
}

/// The newest builds and builds of releases stay; older builds and abandoned uploads are removed.
#[actix_web::test]
async fn old_builds_and_uploads_make_room_but_those_that_count_stay() {
    let world =
        World::with(|config| config.retention = Retention { builds: 2, upload_s: 3600 }).await;
    publish_release(&world, "kiosk@2").await;
    let db = &world.server.control.db;
    for (n, release) in
        ["kiosk@1", "kiosk@2", "kiosk@3", "kiosk@4", "kiosk@5"].into_iter().enumerate()
    {
        let folder = dir_of(&world).join("builds").join(format!("build-{n}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("image"), "bytes").unwrap();
        let sql = "INSERT INTO builds (id, release_name, created_s, phase, lease_until_s, request, detail, revision, directory) \
                   VALUES ($1, $2, $3, 'succeeded', 0, '{}', 'done', 1, $4)";
        let query = sql::query(sql)
            .bind(format!("build-{n}"))
            .bind(release)
            .bind(i64::try_from(n).unwrap());
        query.bind(folder.display().to_string()).execute(db.writer()).await.unwrap();
    }
    assert_eq!(upload(&world, "kiosk@9").await, 204);
    let upload = dir_of(&world).join("releases/.staging/kiosk@9");
    let two_hours_ago = SystemTime::now() - Duration::from_secs(7200);
    let all = std::fs::read_dir(&upload).unwrap().map(|entry| entry.unwrap().path());
    for path in all.chain([upload.clone()]) {
        std::fs::File::open(path).unwrap().set_modified(two_hours_ago).unwrap();
    }
    assert_eq!(retention::make_room(&world.server.control).await.unwrap(), (2, 1));
    let left = |n: u32| dir_of(&world).join(format!("builds/build-{n}/image")).exists();
    assert_eq!(
        [left(0), left(1), left(2), left(3), left(4)],
        [false, true, false, true, true],
        "one is a release, two are the newest"
    );
    assert!(!upload.exists());
    assert_eq!(retention::make_room(&world.server.control).await.unwrap(), (0, 0));
    assert!(world.client.build("build-0").await.unwrap().directory.is_none());
}
