//! Which kernel modules an initrd has.

use crate::repository;
use std::fs;
use std::process::Command;

/// What `kmod.py` says that modules need, of a kernel with these files of depmod.
fn needed(wanted: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        (
            "modules.dep",
            "kernel/fs/erofs.ko.xz: kernel/lib/libcrc32c.ko.xz\nkernel/lib/libcrc32c.ko.xz:\n\
             kernel/crypto/crc32c-intel.ko.xz:\nkernel/crypto/crc32c_generic.ko.xz:\n\
             kernel/fs/other.ko: kernel/fs/erofs.ko.xz\nkernel/a-b.ko:\n",
        ),
        (
            "modules.softdep",
            "# Soft dependencies extracted from modules themselves.\n\
             softdep libcrc32c pre: crc32c nowhere\nsoftdep a_b pre: a_b post: a-b\n",
        ),
        (
            "modules.alias",
            "# Aliases extracted from modules themselves.\nalias crc32c crc32c_intel\n\
             alias crc32c crc32c_generic\nalias fs-erofs erofs\n",
        ),
        ("modules.builtin", "kernel/fs/vfat.ko\n"),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let script = "import sys; sys.dont_write_bytecode = True; sys.path.insert(0, sys.argv[1])\n\
                  import kmod; found, absent = kmod.closure(sys.argv[2], sys.argv[3].split())\n\
                  print(*sorted(map(kmod.plain, found)), \"-\", *absent)";
    let output = Command::new("python3")
        .args(["-c", script])
        .args([repository().join("nix/debian"), dir.path().into(), wanted.into()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_module_brings_what_it_asks_the_kernel_for_under_another_name() {
    // Without crc32c, erofs does not load, and the root file system is not mounted.
    assert_eq!(needed("erofs"), "crc32c_generic crc32c_intel erofs libcrc32c -");
    assert_eq!(needed("a_b vfat"), "a_b -", "itself once, and what is built in not at all");
    assert_eq!(needed("erofs zfs"), "crc32c_generic crc32c_intel erofs libcrc32c - zfs");
}
