//! `fleeti profile import --adopt` on a constructed system: a server with nginx, PostgreSQL and
//! three users.

use crate::fleeti_in;
use fleeti_core::profile::{Profile, UnitState, check};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const STATUS: &str = "\
Package: dpkg
Status: install ok installed
Essential: yes
Priority: required
Architecture: amd64

Package: nginx
Status: install ok installed
Priority: optional
Architecture: amd64
Conffiles:
 /etc/nginx/nginx.conf 00000000000000000000000000000000
 /etc/nginx/mime.types 09b8e9c5a8e6ac5a5a4d7a0c4d4b3e10

Package: postgresql
Status: install ok installed
Priority: optional
Architecture: all

Package: postgresql-common
Status: install ok installed
Priority: optional
Architecture: all

Package: openssh-server
Status: install ok installed
Priority: optional
Architecture: amd64

Package: sudo
Status: install ok installed
Priority: optional
Architecture: amd64

Package: unattended-upgrades
Status: install ok installed
Priority: optional
Architecture: all
";

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBW0DJ0kmw8M2QtUUmz3JwFwfLcj6uB9gTZ6wxVtU7dS ada";

/// Path, mode and content of each file.
const FILES: &[(&str, u32, &str)] = &[
    (
        "usr/lib/os-release",
        0o644,
        "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_CODENAME=bookworm\n",
    ),
    ("var/lib/dpkg/status", 0o644, STATUS),
    (
        "var/lib/apt/extended_states",
        0o644,
        "Package: postgresql-common\nArchitecture: all\nAuto-Installed: 1\n",
    ),
    ("var/lib/dpkg/info/nginx.list", 0o644, "/lib/systemd/system/nginx.service\n"),
    ("var/lib/dpkg/info/postgresql-common.list", 0o644, "/lib/systemd/system/postgresql.service\n"),
    ("var/lib/dpkg/info/postgresql-common.postinst", 0o755, "adduser --system postgres\n"),
    ("etc/hostname", 0o644, "shop01\n"),
    (
        "etc/passwd",
        0o644,
        "root:x:0:0::/root:/bin/bash\npostgres:x:112:120::/var/lib/postgresql:/bin/bash\n\
        ada:x:1000:1000:Ada:/home/ada:/bin/bash\nbob:x:1001:1001:Bob:/home/bob:/bin/bash\n\
        deploy:x:1002:1002::/home/deploy:/bin/sh\n",
    ),
    (
        "etc/group",
        0o644,
        "root:x:0:\nsudo:x:27:ada\npostgres:x:120:\nada:x:1000:\nbob:x:1001:\ndeploy:x:1002:\nweb:x:1500:ada,bob\n",
    ),
    (
        "etc/shadow",
        0o640,
        "ada:$y$j9T$hunter22salt$hunter22hash:19000:0:99999:7:::\nbob:!:19000::::::\n",
    ),
    (
        "etc/sudoers.d/deploy",
        0o440,
        "deploy ALL=(root) NOPASSWD: /usr/bin/systemctl restart shop.service\n",
    ),
    ("home/ada/.ssh/authorized_keys", 0o600, KEY),
    ("etc/nginx/nginx.conf", 0o644, "worker_processes 4;\n"),
    ("etc/nginx/sites-available/shop", 0o644, "server { listen 80; }\n"),
    (
        "etc/ssl/private/shop.key",
        0o600,
        "-----BEGIN PRIVATE KEY-----\nhunter22\n-----END PRIVATE KEY-----\n",
    ),
    ("etc/postgresql/15/main/postgresql.conf", 0o644, "max_connections = 200\n"),
    ("etc/postgresql/15/main/pg_hba.conf", 0o640, "local all all peer\n"),
    ("var/lib/postgresql/15/main/PG_VERSION", 0o600, "15\n"),
    ("etc/shop.env", 0o644, "DB_PASSWORD=hunter22\n"),
    ("etc/systemd/system/shop.service", 0o644, "[Service]\nExecStart=/opt/shop/run\nUser=deploy\n"),
    ("opt/shop/run", 0o755, "\u{7f}ELF"),
    (
        "etc/network/interfaces",
        0o644,
        "auto ens3\niface ens3 inet static\n  address 192.0.2.10/24\n  gateway 192.0.2.1\n",
    ),
    ("etc/sysctl.d/90-shop.conf", 0o644, "net.core.somaxconn = 1024\n"),
];

/// A server with nginx, PostgreSQL and three users.
pub(crate) fn write_system(root: &Path) {
    for (path, mode, text) in FILES {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
    }
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    let sites = root.join("etc/nginx/sites-enabled");
    for folder in [&wants, &sites] {
        fs::create_dir_all(folder).unwrap();
    }
    for unit in ["nginx.service", "postgresql.service"] {
        symlink(format!("/lib/systemd/system/{unit}"), wants.join(unit)).unwrap();
    }
    symlink("/etc/systemd/system/shop.service", wants.join("shop.service")).unwrap();
    symlink("../sites-available/shop", sites.join("shop")).unwrap();
}

/// Runs `fleeti profile import --adopt --root system ARGUMENTS`.
fn import(folder: &Path, arguments: &[&str]) -> String {
    let fixed = ["profile", "import", "--adopt", "--root", "system"];
    fleeti_in(folder, &[&fixed[..], arguments].concat())
}

fn profile(path: &Path) -> Profile {
    check(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_server_with_nginx_postgresql_and_three_users_becomes_a_profile_that_passes_the_check() {
    let folder = tempfile::tempdir().unwrap();
    write_system(&folder.path().join("system"));
    let said = import(folder.path(), &[]);
    assert!(said.starts_with("exit 0\n--- stdout\nwrote shop01.toml: "), "{said}");
    let file = folder.path().join("shop01.toml");
    let text = fs::read_to_string(&file).unwrap();
    let profile = profile(&file);
    assert_eq!(profile.software.packages, ["nginx", "openssh-server", "postgresql", "sudo"]);
    let users: Vec<_> = profile.users.iter().map(|u| (u.name.as_str(), u.id)).collect();
    assert_eq!(users, [("ada", Some(1000)), ("bob", Some(1001)), ("deploy", Some(1002))]);
    assert_eq!(profile.users[0].ssh_keys, [KEY]);
    let services: Vec<_> = profile.services.iter().map(|s| (s.name.as_str(), s.state)).collect();
    let enabled = UnitState::Enabled;
    assert_eq!(
        services,
        [("shop.service", enabled), ("nginx.service", enabled), ("postgresql.service", enabled)]
    );
    let files: Vec<_> = profile.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        files,
        [
            "/etc/nginx/nginx.conf",
            "/etc/nginx/sites-enabled/shop",
            "/etc/postgresql/15/main/postgresql.conf"
        ]
    );
    assert_eq!(profile.state.directories[0].path, "/var/lib/postgresql");
    assert_eq!(profile.network.interfaces[0].addresses, ["192.0.2.10/24"]);
    assert_eq!(profile.sudo[0].users, ["deploy"]);
    for line in ["private key", "password of ada", "pg_hba.conf", "/opt/shop/run", "DB_PASSWORD"] {
        assert_eq!(said.contains(line), line != "DB_PASSWORD", "{line} in {said}");
    }
    assert!(!format!("{said}{text}").contains("hunter22"), "{said}{text}");
    let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);

    let again = import(folder.path(), &[]);
    assert!(again.starts_with("exit 1\n") && again.contains("exists already"), "{again}");
    // A file that replaces one is private too, whatever the mode of the old one.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let included = ["--force", "--include", "/etc/postgresql"];
    assert!(import(folder.path(), &included).starts_with("exit 0\n"));
    assert_eq!((self::profile(&file).files.len(), mode()), (4, 0o600));
    let more = ["--force", "--password-hashes", "--include", "/etc/postgresql"];
    assert!(import(folder.path(), &more).starts_with("exit 0\n"));
    let profile = self::profile(&file);
    assert_eq!(profile.users[0].password_hash.as_deref(), Some("$y$j9T$hunter22salt$hunter22hash"));
    assert_eq!(profile.files.len(), 4);
    assert_eq!(mode(), 0o600);
}

#[test]
fn the_list_is_one_json_document_and_a_profile_goes_to_stdout() {
    let folder = tempfile::tempdir().unwrap();
    write_system(&folder.path().join("system"));
    let said = import(folder.path(), &["-o", "json", "--out", "-"]);
    let (stdout, _) = said.split_once("--- stderr\n").unwrap();
    let json: Value = serde_json::from_str(stdout.split_once("--- stdout\n").unwrap().1).unwrap();
    let of = |list: &str, subject: &str| {
        let found = json[list].as_array().unwrap().iter().find(|n| n["subject"] == subject);
        found.unwrap_or_else(|| panic!("{subject} in {list} of {json:#}")).clone()
    };
    let key = of("not_taken", "/etc/ssl/private/shop.key");
    assert_eq!(key["area"], "secrets");
    assert!(key["next"].as_str().unwrap().contains("fleeti secret set"), "{key}");
    of("taken", "/var/lib/postgresql");
    of("replaced", "unattended-upgrades");
    assert!(check(json["text"].as_str().unwrap()).is_ok());

    let said = import(folder.path(), &["--out", "-"]);
    let (stdout, stderr) = said.split_once("--- stderr\n").unwrap();
    let text = stdout.split_once("--- stdout\n").unwrap().1;
    assert!(check(text).is_ok() && stderr.contains("not taken ("), "{said}");
}

#[test]
fn a_hostile_system_leads_nowhere_blocks_nothing_and_cannot_move_the_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("system");
    write_system(&root);
    let outside = folder.path().join("outside");
    fs::write(&outside, "hunter22 outside\n").unwrap();
    let evil = "x\u{1b}[2J\u{202e}y";
    for path in ["etc/motd", "etc/cron.d/link", "usr/local/bin/tool"] {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        symlink(&outside, root.join(path)).unwrap();
    }
    fs::remove_file(root.join("home/ada/.ssh/authorized_keys")).unwrap();
    let up = "../../../../../../outside";
    symlink(up, root.join("home/ada/.ssh/authorized_keys")).unwrap();
    let fifo = root.join("etc/fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    fs::write(root.join(format!("etc/\u{202e}{}", "n".repeat(200))), "x\n").unwrap();
    fs::write(root.join("etc/blob"), b"\xff\xfe\x00").unwrap();
    fs::File::create(root.join("etc/huge")).unwrap().set_len(1 << 40).unwrap();
    fs::write(root.join("etc/hostname"), format!("{evil}\n")).unwrap();
    let passwd = fs::read_to_string(root.join("etc/passwd")).unwrap();
    let more =
        format!("{evil}:x:1003:1003:{evil}:/home/../../outside:/bin/{evil}\n0day:x:1004:1004:::\n");
    fs::write(root.join("etc/passwd"), passwd + &more).unwrap();
    fs::write(
        root.join("etc/systemd/system/e.service"),
        format!("[Service]\nUser=0day\n#{evil}\n"),
    )
    .unwrap();
    fs::write(root.join("etc/systemd/system/dbus.service"), "[Service]\nExecStart=/x\n").unwrap();

    let said = import(folder.path(), &["web"]);
    assert!(said.starts_with("exit 0\n"), "{said}");
    let text = fs::read_to_string(folder.path().join("web.toml")).unwrap();
    assert!(check(&text).is_ok());
    for shown in [&said, &text] {
        assert!(!shown.contains("hunter22 outside"), "{shown}");
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
    }
    for name in ["0day", "e.service", "dbus.service", "/etc/fifo", "/etc/blob", "/etc/huge"] {
        assert!(said.contains(name), "{name} in {said}");
    }
}

#[test]
fn a_folder_that_is_no_system_is_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let said = import(folder.path(), &["web"]);
    assert!(said.starts_with("exit 1\n") && said.contains("system: "), "{said}");
    fs::create_dir(folder.path().join("system")).unwrap();
    let said = import(folder.path(), &["web"]);
    assert!(said.contains("not the root of a Debian system") && said.contains("--root"), "{said}");
}
