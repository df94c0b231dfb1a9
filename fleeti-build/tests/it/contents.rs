//! What is in an image that was built with the real Nix: the programs of the image itself read the
//! configuration that the profile became.

use crate::dpkg::extract;
use crate::{cache, profile, repository, request};
use fleeti_build::build::{self, BuildRecord};
use fleeti_build::contents::{Contents, Kind};
use fleeti_build::file::sha256_file;
use fleeti_build::lock::Lock;
use std::collections::BTreeSet;
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

    /// Every path, with what the build says of it.
    fn is_listed(&self, contents: &Contents) {
        let found = Command::new("find")
            .arg(&self.root)
            .args(["-mindepth", "1", "-printf", "/%P\\0"])
            .output()
            .unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        let mut paths: BTreeSet<&str> = found.split_terminator('\0').collect();
        for made_here in ["/dev", "/dev/null"] {
            assert!(paths.remove(made_here));
        }
        let listed = contents.files.iter().map(|e| e.path.as_str()).filter(|p| *p != "/dev");
        assert_eq!(listed.collect::<BTreeSet<_>>(), paths);
        for entry in contents.files.iter().filter(|entry| entry.path != "/dev") {
            let file = self.root.join(entry.path.trim_start_matches('/'));
            let status = file.symlink_metadata().unwrap();
            assert_eq!((entry.uid, entry.gid), (status.uid(), status.gid()), "{entry:?}");
            assert_eq!(entry.mode, status.mode() & 0o7777, "{entry:?}");
            match entry.kind {
                Kind::File => assert_eq!(entry.sha256, Some(sha256_file(&file).unwrap())),
                Kind::Link => {
                    assert_eq!(entry.target.as_deref(), std::fs::read_link(&file).unwrap().to_str())
                }
                Kind::Directory => assert!(status.is_dir(), "{entry:?}"),
            }
        }
        let of = |path: &str| contents.files.iter().find(|e| e.path == path).unwrap();
        assert_eq!(of("/usr/bin/bash").package.as_deref(), Some("bash"));
        assert_eq!(of("/etc/gateway/operators.txt").package, None);
        assert!(of("/usr/bin/sudo").is_setuid());
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

    image.is_listed(&Contents::read(&request.out).unwrap());
    is_known_to_dpkg(&image, &Lock::read(&request.out.join("lock.json")).unwrap());

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

/// Scanners find the packages in the image's own `/var`, and on a device by a link into `/usr`.
fn is_known_to_dpkg(image: &Unpacked, lock: &Lock) {
    let mut expected: Vec<_> = ["device", "kernel"]
        .iter()
        .flat_map(|set| lock.set(set))
        .map(|p| format!("{} {} ii", p.name, p.version))
        .collect();
    expected.sort();
    for folder in ["var/lib/dpkg", "usr/lib/sysimage/dpkg"] {
        let query = |arguments: &[&str]| {
            let mut command = Command::new("dpkg-query");
            command.arg("--admindir").arg(image.root.join(folder)).args(arguments);
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        };
        let listed = query(&["-W", "-f", "${Package} ${Version} ${db:Status-Abbrev}\n"]);
        let mut found: Vec<_> = listed.lines().map(str::trim_end).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{folder}");
        assert_eq!(query(&["-S", "/usr/bin/sudo"]), "sudo: /usr/bin/sudo\n", "{folder}");
    }
    let line = "L \"/var/lib/dpkg\" - - - - ../../usr/lib/sysimage/dpkg";
    assert!(image.text("/usr/lib/tmpfiles.d/zz-fleeti-packages.conf").lines().any(|l| l == line));
}

/// What the build says of files in a root file system.
fn refused(entries: &str, allowed: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "-----BEGIN EC PRIVATE KEY-----\nMHcC\n").unwrap();
    std::fs::create_dir(dir.path().join("opt")).unwrap();
    std::fs::write(dir.path().join("opt/c"), "a program").unwrap();
    let script = format!(
        "import contents\ndef file(path, mode, package=None, kind='file', size=1):\n    \
         return {{'path': path, 'kind': kind, 'mode': mode, 'size': size}} | \
         ({{'package': package}} if package else {{}})\n\
         contents.refuse_bad({:?}, [{entries}], {allowed})",
        dir.path()
    );
    let run = Command::new("python3")
        .args(["-B", "-c", &script])
        .current_dir(repository().join("nix/debian"))
        .output()
        .unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.code() == Some(i32::from(!said.is_empty())), "{said}");
    said
}

#[test]
fn what_no_image_should_have_stops_the_build_by_its_path() {
    let su = "file('/usr/bin/su', 0o4755, 'util-linux')";
    assert_eq!(refused(su, "[]"), "");
    for (entries, allowed, expected) in [
        ("file('/opt/a', 0o666, 'app')", "[]", "every user can write to /opt/a of app (mode 0666)"),
        (
            "file('/opt/b', 0o777, kind='directory')",
            "[]",
            "every user can write to /opt/b (mode 0777)",
        ),
        ("file('/opt/c', 0o4755, 'app')", "[]", "/opt/c of app runs with the rights of its owner"),
        ("file('/opt/c', 0o2755)", "[]", "/opt/c runs with the rights of its owner"),
        // Another package that brings the path of a known program.
        ("file('/usr/bin/su', 0o4755, 'app')", "[]", "/usr/bin/su of app runs with the rights"),
        (su, "['/opt/gone']", "security.setuid: /opt/gone is no setuid or setgid file"),
        ("file('/key', 0o600)", "[]", "/key contains a private key"),
    ] {
        let said = refused(entries, allowed);
        assert!(said.starts_with(&format!("error: {expected}")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    for (entries, allowed) in [
        ("file('/tmp', 0o1777, kind='directory')", "[]"),
        ("file('/a', 0o777, kind='link')", "[]"),
        ("file('/opt/c', 0o4755, 'app')", "['/opt/c']"),
        // A package's own key is public anyway, such as the example of a library.
        ("file('/key', 0o644, 'app')", "[]"),
    ] {
        assert_eq!(refused(entries, allowed), "");
    }
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
