"""Makes the root trees of many overlays from small trees of packages, with the build's own root.py.

usage: trees.py SCRIPTS JOBS   (JOBS/NAME/{overlay,packages}.json; writes JOBS/NAME/tree.json, or stops with the name)
"""
import json, os, runpy, shutil, sys, tarfile

SCRIPTS, JOBS = sys.argv[1:3]
TREES = f"{JOBS}/../packages"
ACCOUNTS = {"root": 0, "daemon": 1, "www-data": 33, "nobody": 65534}
GROUPS = {"root": 0, "daemon": 1, "adm": 4, "tty": 5, "dialout": 20, "sudo": 27, "audio": 29, "www-data": 33, "shadow": 42,
          "video": 44, "plugdev": 46, "users": 100, "systemd-journal": 999, "nogroup": 65534}
UNITS = {"openssh-server": ("ssh.service", "multi-user.target"), "cron": ("cron.service", "multi-user.target"),
         "nftables": ("nftables.service", "sysinit.target"), "systemd": ("systemd-networkd.service", "multi-user.target"),
         "systemd-resolved": ("systemd-resolved.service", "sysinit.target"),
         "systemd-timesyncd": ("systemd-timesyncd.service", "sysinit.target")}
ENABLED = ["openssh-server", "cron"]  # their scripts enable their units
ZONES = ["Etc/UTC", "Europe/Berlin", "Asia/Tokyo", "America/New_York"]


def installed(tree, units):
    """Makes a tree as install.py leaves it, with what the sections of a profile meet."""
    root = f"{tree}/root"
    texts = {
        "etc/passwd": "".join(f"{name}:x:{number}:{number}::/:/usr/sbin/nologin\n" for name, number in ACCOUNTS.items()),
        "etc/shadow": "".join(f"{name}:*:19000:0:99999:7:::\n" for name in ACCOUNTS),
        "etc/group": "".join(f"{name}:x:{number}:\n" for name, number in GROUPS.items()),
        "etc/gshadow": "".join(f"{name}:*::\n" for name in GROUPS),
        "usr/lib/modules/6/modules.dep": "", "usr/lib/systemd/system-preset/90-systemd.preset": "",
        **{f"usr/share/zoneinfo/{zone}": zone for zone in ZONES},
        **{f"usr/lib/systemd/system/{unit}": f"[Service]\nExecStart=/bin/true\n[Install]\nWantedBy={target}\n"
           for unit, target in units.values()},
    }
    for path, text in texts.items():
        os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
        with open(f"{root}/{path}", "w") as f:
            f.write(text)
    from archive import entries
    meta = {path: ["root", "root", 0, 0, 0o755 if os.path.isdir(f"{root}/{path}") else 0o644] for path in entries(root)}
    enabled = [[f"etc/systemd/system/{units[name][1]}.wants/{units[name][0]}", f"/usr/lib/systemd/system/{units[name][0]}"]
               for name in ENABLED if name in units]
    for name, value in (("meta", meta), ("enabled", enabled), ("ids", {}), ("scripts", []), ("brought", {}), ("packages", {})):
        with open(f"{tree}/{name}.json", "w") as f:
            json.dump(value, f)
    open(f"{tree}/vmlinuz", "w").close()


def no_libraries():
    """The agent is any file: the small trees have no libraries, so nothing asks for some."""
    os.makedirs(f"{TREES}/bin")
    with open(f"{TREES}/bin/readelf", "w") as f:
        f.write("#!/bin/sh\n")
    os.chmod(f"{TREES}/bin/readelf", 0o755)
    os.environ["PATH"] = f"{TREES}/bin:{os.environ['PATH']}"


def make(job, worker):
    os.chdir(job)
    with open("packages.json") as f:
        packages = json.load(f)
    units = {name: unit for name, unit in UNITS.items() if name in packages}
    packages = f"{TREES}/{worker}-" + "-".join(units)
    if not os.path.isdir(packages):
        installed(packages, units)
    sys.argv = ["root.py", packages, "overlay.json", f"{packages}/vmlinuz", f"{job}/out"]
    runpy.run_path(f"{SCRIPTS}/root.py", run_name="__main__")
    tree = {}
    with tarfile.open("root.tar") as archive:
        for member in archive:
            kind = "d" if member.isdir() else "l" if member.issym() else "f"
            text = member.linkname if kind == "l" else archive.extractfile(member).read().decode(errors="replace") if kind == "f" else ""
            tree[member.name.removeprefix("./")] = [kind, member.mode, member.uid, member.gid, text]
    for name in ("root", "out"):
        shutil.rmtree(name)
    os.unlink("root.tar")
    with open("tree.json", "w") as f:
        json.dump(tree, f)


def main():
    sys.path.insert(0, SCRIPTS)
    sys.dont_write_bytecode = True
    os.environ |= {"SOURCE_DATE_EPOCH": "1767225600", "LOCALE": ""}  # nothing to compile: the trees have no glibc
    no_libraries()
    jobs = sorted(os.listdir(JOBS))
    workers = []
    for n in range(os.cpu_count() or 1):
        worker = os.fork()
        if not worker:
            for job in jobs[n::os.cpu_count() or 1]:
                try:
                    make(f"{JOBS}/{job}", n)
                except SystemExit as e:
                    print(f"{job}: {e}", file=sys.stderr, flush=True)
                    os._exit(1)
            os._exit(0)
        workers.append(worker)
    sys.exit(any([os.waitpid(worker, 0)[1] for worker in workers]))


main()
