//! What is in an image that was built with the real Nix: the programs of the image itself read the
//! configuration that the profile became.

use crate::dpkg::extract;
use crate::{cache, profile, request};
use fleeti_build::build::{self, BuildRecord};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The unpacked root file system of an image.
struct Unpacked {
    root: PathBuf,
}

impl Unpacked {
    /// `out` is the directory of the build, below `dir`.
    fn of(record: &BuildRecord, out: &Path, dir: &Path) -> Self {
        let root = dir.join("root");
        extract(&record.derivations["root"].output, &out.join("root.erofs"), &root, dir);
        // Programs open it; the image has none, because the kernel makes it.
        std::fs::create_dir_all(root.join("dev")).unwrap();
        std::fs::write(root.join("dev/null"), "").unwrap();
        Self { root }
    }

    fn text(&self, path: &str) -> String {
        let file = self.root.join(path.trim_start_matches('/'));
        std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// User id, group id and permission bits of a file.
    fn owner(&self, path: &str) -> (u32, u32, u32) {
        let found = self.root.join(path.trim_start_matches('/')).symlink_metadata().unwrap();
        (found.uid(), found.gid(), found.mode() & 0o7777)
    }

    fn has(&self, path: &str) -> bool {
        self.root.join(path.trim_start_matches('/')).symlink_metadata().is_ok()
    }

    /// A program of the image, in the image, without a network.
    fn run(&self, command: &[&str]) -> Output {
        let output = Command::new("unshare")
            .args(["--net", "chroot"])
            .arg(&self.root)
            .args(command)
            .env("PATH", "/usr/sbin:/usr/bin")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{command:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }
}

#[test]
fn the_gateway_is_what_its_profile_says() {
    let dir = tempfile::tempdir().unwrap();
    let request = request(dir.path(), profile("gateway"), "build");
    let record = build::run(&request, &cache(), &mut |_| {}).unwrap();
    let image = Unpacked::of(&record, &request.out, dir.path());

    let line_of = |path: &str, name: &str| {
        let text = image.text(path);
        text.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap().to_owned()
    };
    assert_eq!(line_of("/etc/passwd", "ops"), "ops:x:2000:2000:Operators:/var/home/ops:/bin/bash");
    assert_eq!(
        line_of("/etc/passwd", "guest"),
        "guest:x:1000:1000:A contractor:/var/home/guest:/bin/bash"
    );
    assert_eq!(line_of("/etc/group", "operators"), "operators:x:3000:ops,guest");
    // 2028-01-01, the first day on which the account is closed.
    assert_eq!(line_of("/etc/shadow", "guest"), "guest:!*:19000:0:99999:7::21184:");

    assert_eq!(image.owner("/etc/gateway/operators.txt"), (0, 3000, 0o640));
    assert_eq!(image.owner("/etc/sudoers.d/60-operators"), (0, 0, 0o440));

    // What programs of the image read without complaint.
    image.run(&["visudo", "-c", "-f", "/etc/sudoers.d/60-operators"]);
    image.run(&["visudo", "-c", "-f", "/etc/sudoers.d/60-packet-filter"]);
    image.run(&["nft", "-c", "-f", "/etc/nftables.conf"]);
    let date = image.run(&["date", "-d", "2026-07-01T00:00:00Z", "+%Z"]);
    assert_eq!(String::from_utf8_lossy(&date.stdout).trim(), "CEST");

    for path in [
        "/etc/systemd/system/sysinit.target.wants/nftables.service",
        "/etc/systemd/system/timers.target.wants/traffic.timer",
        "/etc/systemd/system/multi-user.target.wants/ssh.service",
        "/etc/systemd/system/local-fs.target.requires/var-lib-traffic.mount",
        "/srv/captures",
    ] {
        assert!(image.has(path), "{path}");
    }

    let uki = std::fs::read(request.out.join("uki.efi")).unwrap();
    let section =
        fleeti_pki::pe::sections(&uki).unwrap().into_iter().find(|s| s.name == ".cmdline");
    let text = String::from_utf8_lossy(&uki[section.unwrap().range]).into_owned();
    assert!(text.contains("systemd.show_status=auto lockdown=integrity"), "{text}");
}

#[test]
fn an_account_that_no_package_creates_stops_the_build_by_its_field() {
    let dir = tempfile::tempdir().unwrap();
    let mut profile = profile("kiosk");
    profile.files[0].owner = "nginx".into();
    let error = build::run(&request(dir.path(), profile, "build"), &cache(), &mut |_| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains("files[0].owner: the image has no user nginx"), "{error}");
}

#[test]
fn an_id_that_is_used_twice_stops_the_build_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut profile = profile("kiosk");
    profile.users[0].id = Some(2000);
    profile.groups.push(fleeti_core::profile::Group { name: "sensors".into(), id: Some(2000) });
    let error = build::run(&request(dir.path(), profile, "build"), &cache(), &mut |_| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains("group sensors: id 2000 is that of user kiosk"), "{error}");
}
