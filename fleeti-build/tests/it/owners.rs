//! The server that remembers owners while packages are installed, and the check of what it
//! remembers.

use crate::repository;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Functions of fakeroot's protocol.
const CHOWN: u32 = 0;
const CHMOD: u32 = 1;
const STAT: u32 = 3;
const UNLINK: u32 = 4;
/// Size of a message, bytes.
const SIZE: usize = 1080;

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(out: &Path) -> Self {
        let mut child = Command::new("python3")
            .arg(repository().join("nix/debian/owners.py"))
            .arg(out)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }

    fn client(&self) -> TcpStream {
        let client = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        client.set_nodelay(true).unwrap();
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A file as the kernel shows it, and the owner that a message gives it.
#[derive(Clone, Copy)]
struct File {
    inode: u64,
    mode: u32,
    uid: u32,
    gid: u32,
}

fn message(function: u32, file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [function, file.uid, file.gid] {
        bytes.extend(word.to_be_bytes());
    }
    for long in [file.inode, 7, 0] {
        bytes.extend(long.to_be_bytes());
    }
    bytes.extend(file.mode.to_be_bytes());
    bytes.extend(1_u32.to_be_bytes());
    bytes.resize(SIZE, 0);
    bytes
}

/// Owner and mode of a file, as the server remembers it.
fn remembered(client: &mut TcpStream, file: File) -> (u32, u32, u32) {
    client.write_all(&message(STAT, file)).unwrap();
    let mut reply = [0; SIZE];
    client.read_exact(&mut reply).unwrap();
    let word = |at: usize| u32::from_be_bytes(reply[at..at + 4].try_into().unwrap());
    (word(4), word(8), word(36))
}

#[test]
fn a_message_that_arrives_in_parts_counts_when_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("owners.json"));
    let real = File { inode: 5, mode: 0o100_644, uid: 0, gid: 0 };
    let (mut slow, mut other) = (server.client(), server.client());
    let chown = message(CHOWN, File { uid: 33, gid: 42, ..real });
    slow.write_all(&chown[..100]).unwrap();
    // An answer to another client shows that the server has read what there is.
    assert_eq!(remembered(&mut other, real), (0, 0, real.mode));
    slow.write_all(&chown[100..]).unwrap();
    assert_eq!(remembered(&mut slow, real), (33, 42, real.mode));
    assert_eq!(remembered(&mut other, real), (33, 42, real.mode));
}

#[test]
fn a_change_of_a_process_that_has_ended_counts_before_the_question_of_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("owners.json"));
    for inode in 0..50 {
        let real = File { inode, mode: 0o100_755, uid: 0, gid: 0 };
        let mut first = server.client();
        let mut second = server.client();
        first.write_all(&message(CHOWN, File { uid: 1, gid: 2, ..real })).unwrap();
        first.write_all(&message(CHMOD, File { mode: 0o104_755, ..real })).unwrap();
        drop(first);
        // Nix refuses the special bit, so the kernel still shows the old mode.
        assert_eq!(remembered(&mut second, real), (1, 2, 0o104_755));
        second.write_all(&message(UNLINK, real)).unwrap();
        assert_eq!(remembered(&mut second, real), (0, 0, real.mode));
    }
}

#[test]
fn an_inode_that_is_used_again_has_nothing_of_the_earlier_file() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("owners.json"));
    let mut client = server.client();
    let folder = File { inode: 9, mode: 0o040_755, uid: 0, gid: 0 };
    client.write_all(&message(CHOWN, File { uid: 5, gid: 5, ..folder })).unwrap();
    let file = File { mode: 0o100_644, ..folder };
    assert_eq!(remembered(&mut client, file), (0, 0, file.mode));
    client.write_all(&message(CHOWN, File { uid: 6, gid: 6, ..file })).unwrap();
    let private = File { mode: 0o100_600, ..file };
    assert_eq!(remembered(&mut client, private), (0, 0, private.mode));
}

/// Holds a tree with `usr/bin/tool` against its package, which ships it as root's with mode 0755.
/// `entry` is what was found (`[kind, uid, gid, mode, real mode]`), `script` the postinst.
/// Returns what was changed and what nobody explains.
fn held(entry: &str, script: &str, overrides: &str) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    for folder in ["etc", "usr/bin", "dpkg"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nwww:x:33:33::/:/bin/sh\n")
        .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nwww:x:33:\n").unwrap();
    std::fs::write(root.join("usr/bin/tool"), "tool").unwrap();
    std::fs::write(root.join("dpkg/statoverride"), overrides).unwrap();
    let driver = "import json, sys; sys.path.insert(0, sys.argv[1]); import hold\n\
        root, entry, script = sys.argv[2:]\n\
        tool = {'name': 'tool', 'paths': {'usr/bin/tool': ['f', 'root', 'root', 0, 0, 0o755, '']}, 'md5': {},\n\
        'version': '1', 'scripts': {'postinst': script}}\n\
        folder = ['d', 'root', 'root', 0, 0, 0o755, '']\n\
        others = [{'name': str(n), 'paths': {'usr/bin': folder}, 'md5': {}, 'version': '1', 'scripts': {}} for n in range(9)]\n\
        found = {'usr/bin': ['d', 0, 0, 0o755, 0o755], 'usr/bin/tool': json.loads(entry)}\n\
        h = hold.Holding(root, root + '/dpkg', [tool, *others], found, lambda path: False)\n\
        h.run(); print(json.dumps(h.changes)); print(json.dumps(h.errors))";
    let output = Command::new("python3")
        .args(["-B", "-c", driver])
        .arg(repository().join("nix/debian"))
        .arg(&root)
        .args([entry, script])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (changes, errors) = text.split_once('\n').unwrap_or_else(|| {
        panic!("{}", String::from_utf8_lossy(&output.stderr));
    });
    (changes.to_owned(), errors.trim().to_owned())
}

#[test]
fn a_path_that_is_not_as_its_package_says_needs_a_script_that_explains_it() {
    // 0o4755 is 2541, 0o755 is 493.
    let as_shipped = held(r#"["f", 0, 0, 493, 493]"#, "", "");
    assert_eq!(as_shipped, ("[]".into(), "[]".into()));

    let (_, errors) = held(r#"["f", 33, 33, 2541, 493]"#, "true", "");
    assert!(
        errors.contains("/usr/bin/tool of package tool: www:www 4755 instead of root:root 755"),
        "{errors}"
    );

    let (changes, errors) =
        held(r#"["f", 33, 33, 2541, 493]"#, "chown www /usr/bin/tool; chmod u+s /usr/bin/tool", "");
    assert!(errors == "[]" && changes.contains("www:www 4755"), "{changes} {errors}");
    // Another path with the same beginning explains nothing, nor does a folder of all packages.
    let (_, errors) =
        held(r#"["f", 33, 33, 2541, 493]"#, "chown www /usr/bin/tool-two; ls /usr/bin", "");
    assert!(errors.contains("/usr/bin/tool of package tool"), "{errors}");

    let (changes, errors) = held(r#"["f", 0, 33, 1517, 493]"#, "", "root www 2755 /usr/bin/tool\n");
    assert!(errors == "[]" && changes.contains("dpkg-statoverride"), "{changes} {errors}");
}

/// Holds a path that no package ships against a script and the package with this name.
fn made(path: &str, entry: &str, script: &str, package: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for folder in ["etc", "dpkg"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nwww:x:33:33::/:/bin/sh\n")
        .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nwww:x:33:\nshadow:x:42:\n").unwrap();
    let driver = "import json, sys; sys.path.insert(0, sys.argv[1]); import hold\n\
        root, path, entry, script, name = sys.argv[2:]\n\
        package = {'name': name, 'paths': {}, 'md5': {}, 'version': '1', 'scripts': {'postinst': script}}\n\
        h = hold.Holding(root, root + '/dpkg', [package], {path: json.loads(entry)}, lambda path: False)\n\
        h.run(); print(json.dumps(h.errors))";
    let output = Command::new("python3")
        .args(["-B", "-c", driver])
        .arg(repository().join("nix/debian"))
        .arg(root)
        .args([path, entry, script, package])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_pattern_explains_neither_a_setuid_mode_nor_another_owner() {
    let path = "usr/lib/python3/dist-packages/x";
    // 0o644 is 420, 0o755 is 493, 0o4755 is 2541, 0o640 is 416.
    let (plain, owned, setuid) =
        (r#"["f", 0, 0, 420, 420]"#, r#"["f", 33, 0, 420, 420]"#, r#"["f", 0, 0, 2541, 493]"#);
    assert_eq!(made(path, plain, "", "python3"), "[]");
    for entry in [owned, setuid] {
        assert!(made(path, entry, "", "python3").contains(path), "{entry}");
    }
    // A folder above it explains an owner, but no setuid bit.
    let script = "chown -R www /usr/lib/python3; chmod -R u+s /usr/lib/python3";
    assert_eq!(made(path, owned, script, "python3"), "[]");
    assert!(made(path, setuid, script, "python3").contains("4755"));
    assert_eq!(made(path, setuid, &format!("chmod u+s /{path}"), "python3"), "[]");
    // An entry explains the owner that it says.
    assert_eq!(made("etc/shadow", r#"["f", 0, 42, 416, 416]"#, "", "passwd"), "[]");
    assert!(made("etc/shadow", r#"["f", 33, 42, 416, 416]"#, "", "passwd").contains("www:shadow"));
}
