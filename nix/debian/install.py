"""Installs .debs into a tree with Debian's own apt and dpkg, maintainer scripts included, without root.

usage: install.py SETS.json OUT   (SETS: {"device": [...], "installer": [...], "kernel": [...]}, paths of .debs)

A build has one user id, so nothing can have another owner. fakeroot remembers owners, and the modes that Nix refuses
(setuid). Everything that writes into the tree runs under one fakeroot. Afterwards hold.py holds what fakeroot remembers
against the packages' own lists of members, and finish.py removes what scripts make by chance or time.
"""
import json, os, shutil, stat, subprocess, sys
import brought, database, finish, hold, ids, members
from owners import another_file

HERE = os.path.dirname(os.path.abspath(__file__))
BUSYBOX = os.environ["B"]
STATE = "/run/fleeti"  # the same path outside and inside the tree: fakeroot's library must be in both
LIBRARY = "/usr/lib/x86_64-linux-gnu/libfakeroot/libfakeroot-tcp.so"
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", "TZ": "UTC", "TERM": "dumb",
    "SOURCE_DATE_EPOCH": os.environ["SOURCE_DATE_EPOCH"],
    "DEBIAN_FRONTEND": "noninteractive", "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "SYSTEMD_OFFLINE": "1",
    # A threaded dpkg-deb can hang under fakeroot.
    "DPKG_DEB_THREADS_MAX": "1",
    "PYTHONHASHSEED": "0", "PERL_HASH_SEED": "0",
}


def run(command, **more):
    subprocess.run(command, check=True, **more)


def mount(*words):
    run([BUSYBOX, "mount", *words])


def start_fakeroot():
    """Starts the server of owners. Returns the variables that put a process under fakeroot, and the server."""
    os.makedirs(STATE)
    shutil.copyfile(LIBRARY, f"{STATE}/libfakeroot.so")
    server = subprocess.Popen([sys.executable, f"{HERE}/owners.py", "/build/owners.json"], stdout=subprocess.PIPE, text=True)
    # A real chown to an id that is not mapped fails with EINVAL, which fakeroot does not forgive: it must not try.
    under = {"LD_PRELOAD": f"{STATE}/libfakeroot.so", "FAKEROOTKEY": server.stdout.readline().strip(), "FAKEROOTDONTTRYCHOWN": "1"}
    return under, server


def remembered(server):
    server.terminate()
    if server.wait():
        sys.exit("error: the server of owners failed")
    with open("/build/owners.json") as f:
        return json.load(f)


def unpack_first(debs, root, under):
    """Unpacks the packages that dpkg itself needs. dpkg unpacks them once more, when it installs them."""
    debs = sorted(debs, key=lambda deb: "-base-files_" not in deb)  # it has the links of merged /usr
    for deb in debs:
        data = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
        run(["tar", "-x", "-p", "--keep-directory-symlink", "-C", root], stdin=data.stdout, env=under)
        data.stdout.close()
        if data.wait():
            sys.exit(f"error: dpkg-deb failed on {deb}")


def prepare(root):
    """What scripts expect of a running system: /dev, empty /tmp and /run, and no service that starts."""
    mount("--rbind", root, root)
    for folder in ("proc", "dev", "tmp", "run", "sys"):
        os.makedirs(f"{root}/{folder}", exist_ok=True)
    for folder in ("dev", "tmp", "run"):
        mount("-t", "tmpfs", "-o", "mode=0755", "none", f"{root}/{folder}")
    os.chmod(f"{root}/tmp", 0o1777)
    # dpkg waits for the disk after every step of a package: its database is in memory until the end.
    os.rename(f"{root}/var/lib/dpkg", f"{root}/var/lib/dpkg-first")
    os.makedirs(f"{root}/var/lib/dpkg")
    mount("-t", "tmpfs", "-o", "mode=0755", "none", f"{root}/var/lib/dpkg")
    shutil.copytree(f"{root}/var/lib/dpkg-first", f"{root}/var/lib/dpkg", dirs_exist_ok=True)
    shutil.rmtree(f"{root}/var/lib/dpkg-first")
    for device in ("null", "zero", "full", "random", "urandom"):
        open(f"{root}/dev/{device}", "w").close()
        mount("--bind", f"/dev/{device}", f"{root}/dev/{device}")
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(target, f"{root}/dev/{name}")
    for folder in ("dev/shm", "run/lock", "run/fleeti/debs"):
        os.makedirs(f"{root}/{folder}")
    shutil.copyfile(f"{STATE}/libfakeroot.so", f"{root}{STATE}/libfakeroot.so")
    mount("--rbind", "/nix/store", f"{root}{STATE}/debs")
    # Scripts name users before base-passwd is configured, which makes the same files.
    for table in ("passwd", "group"):
        shutil.copyfile(f"{root}/usr/share/base-passwd/{table}.master", f"{root}/etc/{table}")
    with open(f"{root}/usr/sbin/policy-rc.d", "w") as f:
        f.write("#!/bin/sh\nexit 101\n")
    os.chmod(f"{root}/usr/sbin/policy-rc.d", 0o755)
    with open(f"{root}/etc/dpkg/dpkg.cfg.d/fleeti", "w") as f:
        f.write(finish.dpkg_options())


def install(debs, root, fakeroot):
    """apt orders the packages: dpkg alone ignores Pre-Depends when it unpacks many. It runs apart from this process."""
    state = f"{root}{STATE}/apt"
    for folder in ("lists/partial", "archives/partial", "log", "etc/preferences.d", "etc/sources.list.d"):
        os.makedirs(f"{state}/{folder}")
    open(f"{state}/etc/sources.list", "w").close()
    options = {
        "Dir::State": state, "Dir::State::status": f"{root}/var/lib/dpkg/status", "Dir::State::lists": f"{state}/lists",
        "Dir::Cache": state, "Dir::Cache::archives": f"{state}/archives", "Dir::Log": f"{state}/log", "Dir::Etc": f"{state}/etc",
        "APT::Architecture": "amd64", "APT::Architectures": "amd64",
        "APT::Install-Recommends": "false", "APT::Sandbox::User": "root",
        "Dpkg::Use-Pty": "false", "DPkg::Chroot-Directory": root, "DPkg::Path": ENVIRONMENT["PATH"],
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    words += [f"-oDpkg::Options::={option}" for option in ("--force-unsafe-io", "--force-confdef", "--force-confold")]
    packages = [f"{root}{STATE}/debs/{os.path.basename(deb)}" for deb in debs]
    command = ["env", *(f"{name}={value}" for name, value in fakeroot.items()), "apt-get", "-y", "-q", *words, "install", *packages]
    apart = ["unshare", "--mount", sys.executable, f"{HERE}/apart.py", "outside", root, *command]
    if subprocess.run(apart, env=ENVIRONMENT | {"B": BUSYBOX, "PYTHONDONTWRITEBYTECODE": "1"}).returncode:
        sys.exit("error: apt did not install the packages; the lines above name the package and what its scripts said")


def survey(root, owners):
    """{path: [kind, uid, gid, mode, real mode]} of the tree. Nothing is mounted in it: that would hide files."""
    device = os.lstat(root).st_dev
    found = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if status.st_dev != device:
                sys.exit(f"error: something is mounted at /{os.path.relpath(path, root)} of the tree")
            uid, gid, mode = owners.get(f"{status.st_dev}:{status.st_ino}", (0, 0, status.st_mode))
            if another_file(mode, status.st_mode):
                uid, gid, mode = 0, 0, status.st_mode
            kind = {stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFREG: "f"}.get(stat.S_IFMT(mode), "?")
            found[os.path.relpath(path, root)] = [kind, uid, gid, stat.S_IMODE(mode), stat.S_IMODE(status.st_mode)]
    return found


def add_kernel(tree, debs, out):
    """The kernel is unpacked: its scripts would make an initrd, and images have their own."""
    before = set(tree.found)
    for deb in debs:
        run(["dpkg-deb", "-x", deb, tree.root])
    kernel = os.listdir(f"{tree.root}/usr/lib/modules")[0]
    shutil.copyfile(f"{tree.root}/boot/vmlinuz-{kernel}", f"{out}/vmlinuz")
    run(["depmod", "-b", tree.root, "-a", kernel])
    for path, entry in survey(tree.root, {}).items():
        if path not in before:
            mode = 0o777 if entry[0] == "l" else 0o755 if entry[0] == "d" or entry[4] & 0o111 else 0o644
            tree.found[path] = [entry[0], 0, 0, mode, mode]


def link_libraries(root, debs):
    """Runs ldconfig as libc-bin has it: nothing of the tree runs outside of apart.py."""
    deb = next(deb for deb in debs if members.name_of(deb) == "libc-bin")
    run(["dpkg-deb", "-x", deb, "/build/libc-bin"])
    run(["/build/libc-bin/usr/sbin/ldconfig", "-r", root])


def save(out, name, value):
    with open(f"{out}/{name}", "w") as f:
        json.dump(value, f, sort_keys=True, indent=1)
        f.write("\n")


def main():
    sets, out = json.load(open(sys.argv[1])), sys.argv[2]
    root = f"{out}/root"
    os.makedirs(root)
    fakeroot, server = start_fakeroot()
    names = {members.name_of(deb) for deb in sets["device"]}
    build_only = [deb for deb in sets["installer"] if members.name_of(deb) not in names]
    everything = sets["device"] + build_only
    listed = members.read(everything)  # before any script runs
    unpack_first(sets["installer"], root, ENVIRONMENT | fakeroot)
    prepare(root)
    install(everything, root, fakeroot)
    shutil.copytree(f"{root}/var/lib/dpkg", "/build/dpkg")
    for path in ("var/lib/dpkg", "run", "tmp", "dev"):
        run([BUSYBOX, "umount", "-l", f"{root}/{path}"])
    tree = finish.Tree(root, survey(root, remembered(server)))
    holding = hold.Holding(root, "/build/dpkg", listed, tree.found, finish.not_unpacked)
    holding.run()
    save(out, "scripts.json", holding.changes)
    if holding.errors:
        sys.exit("".join(f"error: {line}\n" for line in holding.errors))
    device = listed[:len(sets["device"])]
    save(out, "brought.json", brought.read(root, "/build/dpkg", listed, tree.found))
    finish.remove_build_only(tree, listed[len(device):], device)
    add_kernel(tree, sets["kernel"], out)
    brought_by = {path: package["name"] for package in [*device, *members.read(sets["kernel"])] for path, entry in package["paths"].items()
                  if entry[0] != "d"}
    finish.remove_made(tree, names)
    finish.fix_made(tree, int(ENVIRONMENT["SOURCE_DATE_EPOCH"]))
    finish.make_at_boot(tree, names)
    database.write(tree, "/build/dpkg", names, sets["kernel"])
    save(out, "enabled.json", finish.enabled_units(tree))
    moved = finish.move_var(tree, holding.names)
    database.show_in_image(tree)
    brought_by |= {copy: brought_by[path] for path, copy in moved.items() if path in brought_by}
    save(out, "packages.json", {path: name for path, name in brought_by.items() if path in tree.found})
    save(out, "ids.json", ids.renumber(root, json.loads(os.environ["IDS"])))
    save(out, "meta.json", {path: [*holding.names.of(uid, gid), uid, gid, mode] for path, (_, uid, gid, mode, _) in tree.found.items()})
    link_libraries(root, everything)
    finish.readable(root)


main()
