"""A small systemd initrd from a tree of packages: an allow-list of programs, and the libraries that they link to.

usage: initrd.py TREE OUT
"""
import glob, lzma, os, re, shutil, subprocess, sys
import kmod
from archive import write_cpio

TREE, OUT = sys.argv[1] + "/root", sys.argv[2]
ROOT = os.path.abspath("initrd")
SYSTEMD = "usr/lib/systemd"
UNITS = f"{SYSTEMD}/system"
LIBRARIES = ["usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/systemd", "usr/lib/systemd"]
PROGRAMS = [f"{SYSTEMD}/{p}" for p in """systemd systemd-executor systemd-udevd systemd-journald systemd-modules-load
    systemd-sysctl systemd-shutdown systemd-veritysetup systemd-sysroot-fstab-check systemd-pcrextend
    systemd-volatile-root""".split()]
PROGRAMS += [f"{SYSTEMD}/system-generators/systemd-{g}-generator" for g in "fstab gpt-auto veritysetup".split()]
PROGRAMS += [f"usr/bin/{p}" for p in "systemctl udevadm systemd-tmpfiles kmod mount umount bash".split()]
PROGRAMS += [f"usr/sbin/{p}" for p in "modprobe dmsetup".split()]
FOLDERS = [UNITS, "usr/lib/udev", "usr/lib/modprobe.d", "usr/lib/tmpfiles.d/20-systemd-stub.conf",
           "usr/lib/tmpfiles.d/static-nodes-permissions.conf", "usr/lib/tmpfiles.d/systemd.conf",
           "usr/lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"]
# Libraries that are opened at run time and named in no ELF header.
OPENED = """libcryptsetup.so.12 libtss2-esys.so.0 libtss2-rc.so.0 libtss2-mu.so.0 libtss2-tcti-device.so.0 libkmod.so.2
    liblzma.so.5 libzstd.so.1 liblz4.so.1 libcap.so.2 libblkid.so.1 libmount.so.1 libcrypt.so.1 libnss_files.so.2""".split()
MODULES = os.environ["MODULES"].split()
LOADED_EARLY = "sha256_ssse3 efi_pstore virtio_blk dm_mod dm_verity erofs".split()
WANTED = {
    "sysinit": """systemd-journald.service systemd-modules-load.service systemd-udev-trigger.service systemd-udevd.service
        systemd-tmpfiles-setup-dev-early.service systemd-tmpfiles-setup-dev.service systemd-tmpfiles-setup.service
        veritysetup.target kmod-static-nodes.service""".split(),
    "sockets": "systemd-journald-dev-log.socket systemd-journald.socket systemd-udevd-control.socket systemd-udevd-kernel.socket".split(),
    "initrd": ["systemd-pcrphase-initrd.service"],
}
done = set()


def linked(path):
    with open(path, "rb") as f:
        if f.read(4) != b"\x7fELF":
            return []
    text = subprocess.run(["readelf", "-d", path], capture_output=True, text=True).stdout
    return re.findall(r"\(NEEDED\).*\[(.*)\]", text)


def library(name):
    for folder in LIBRARIES:
        if os.path.lexists(f"{TREE}/{folder}/{name}"):
            return add(f"{folder}/{name}")


def add(relative):
    if relative in done:
        return
    done.add(relative)
    source, target = f"{TREE}/{relative}", f"{ROOT}/{relative}"
    if not os.path.lexists(source):
        sys.exit(f"error: the initrd needs {relative}, which is in no package of its set")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(source):
        link = os.readlink(source)
        if not os.path.lexists(target):
            os.symlink(link, target)
        pointed = link.lstrip("/") if link.startswith("/") else os.path.normpath(os.path.join(os.path.dirname(relative), link))
        if os.path.lexists(f"{TREE}/{pointed}"):
            add(pointed)
    elif os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
        for name in sorted(os.listdir(source)):
            add(f"{relative}/{name}")
    else:
        shutil.copyfile(source, target)
        os.chmod(target, 0o755 if os.stat(source).st_mode & 0o111 else 0o644)
        for name in linked(source):
            library(name)


def write(relative, text):
    path = f"{ROOT}/{relative}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "w") as f:
        f.write(text)


def modules(kernel):
    base = f"usr/lib/modules/{kernel}"
    needed, absent = kmod.closure(f"{TREE}/{base}", MODULES)
    if absent:
        sys.exit(f"error: the kernel {kernel} has no {' '.join(absent)}, which the initrd needs: with kernel.flavour = \"generic\" it has "
                 "more, and hardware.initrd_drivers names sets of them")
    for path in sorted(needed):
        target = f"{ROOT}/{base}/" + path.removesuffix(".xz")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        data = open(f"{TREE}/{base}/{path}", "rb").read()
        with open(target, "wb") as f:  # decompressed, because the whole initrd is compressed once
            f.write(lzma.decompress(data) if path.endswith(".xz") else data)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copyfile(f"{TREE}/{base}/{name}", f"{ROOT}/{base}/{name}")
    subprocess.run(["depmod", "-b", ROOT, "-a", kernel], check=True)
    present = {kmod.plain(path) for path in needed}
    write("etc/modules-load.d/fleeti.conf", "".join(f"{m}\n" for m in LOADED_EARLY if m in present))


def units():
    for target in ("sysinit", "sockets", "initrd", "local-fs", "timers", "basic", "multi-user", "graphical", "remote-fs",
                   "initrd-root-fs", "initrd-root-device"):
        folder = f"{ROOT}/{UNITS}/{target}.target.wants"
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            if name not in WANTED.get(target, []):
                os.unlink(f"{folder}/{name}")
    # A failed boot must reboot; otherwise boot counting does not reach the other slot.
    for name in ("emergency.service", "rescue.service"):
        write(f"{UNITS}/{name}", f"""[Unit]
Description=Reboot instead of {name}
DefaultDependencies=no
SuccessAction=reboot-force
FailureAction=reboot-force

[Service]
Type=oneshot
ExecStart=/usr/bin/bash -c 'echo "fleeti: the initrd failed, rebooting" >/dev/console'
""")
    write("etc/systemd/system.conf.d/fleeti.conf", "[Manager]\nDefaultDeviceTimeoutSec=60s\n")
    path = f"{ROOT}/{UNITS}/default.target"
    if os.path.lexists(path):
        os.unlink(path)
    os.symlink("initrd.target", path)


def main():
    for folder in "usr/bin usr/sbin usr/lib usr/lib64 etc proc sys dev run tmp var sysroot efi".split():
        os.makedirs(f"{ROOT}/{folder}")
    for link in "bin sbin lib lib64".split():
        os.symlink(f"usr/{link}", f"{ROOT}/{link}")
    for item in PROGRAMS + FOLDERS:
        add(item)
    for name in OPENED:
        library(name)
    shutil.rmtree(f"{ROOT}/usr/lib/udev/hwdb.d", ignore_errors=True)
    kernel = os.listdir(f"{TREE}/usr/lib/modules")[0]
    modules(kernel)
    units()
    for name in ("passwd", "group"):
        shutil.copyfile(f"{TREE}/usr/share/base-passwd/{name}.master", f"{ROOT}/etc/{name}")
    write("etc/initrd-release", 'NAME="Fleeti initrd"\nID=fleeti-initrd\nVERSION_ID=1\n')
    os.symlink("initrd-release", f"{ROOT}/etc/os-release")
    write("etc/machine-id", "")
    os.symlink("usr/lib/systemd/systemd", f"{ROOT}/init")
    write_cpio(ROOT, "initrd.cpio", int(os.environ["SOURCE_DATE_EPOCH"]))
    os.makedirs(OUT)
    subprocess.run(["zstd", "-qf", "-12", "-T2", "initrd.cpio", "-o", f"{OUT}/initrd.zst"], check=True)


main()
