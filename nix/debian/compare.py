"""Compares an image's root with a real dpkg installation of the same packages. Needs root.

usage: compare.py PACKAGES.json IMAGE_TREE WORK

PACKAGES.json: [{"name", "path", "extra"}]: the .debs; `extra` packages are needed only to run dpkg.
Every difference in path, type, owner, mode, link target or content must be in `differences.json`
({pattern: reason}). A pattern without a match is an error too, so that the list stays current.
"""
import fnmatch, glob, hashlib, json, os, stat, subprocess, sys
from members import path_of

HERE = os.path.dirname(os.path.abspath(__file__))


def install(packages, work):
    """A real installation with mmdebstrap, from a repository of exactly these packages."""
    repository, target = f"{work}/repository", f"{work}/dpkg"
    os.makedirs(repository)
    stanzas = []
    for package in packages:
        name = f"{package['name']}.deb"
        os.symlink(package["path"], f"{repository}/{name}")
        control = subprocess.run(["dpkg-deb", "-f", package["path"]], capture_output=True, text=True, check=True).stdout
        data = open(package["path"], "rb").read()
        stanzas.append(f"{control.rstrip()}\nFilename: ./{name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n")
    with open(f"{repository}/Packages", "w") as f:
        f.write("\n".join(stanzas))
    subprocess.run(["mmdebstrap", "--quiet", "--mode=root", "--variant=custom", "--skip=check/qemu",
                    "--include=" + ",".join(p["name"] for p in packages), "trixie", target,
                    f"deb [trusted=yes] copy://{repository} ./"], check=True, stdout=subprocess.DEVNULL)
    return target


def names(root):
    """Owner names by id: ids of system users depend on the order of their creation."""
    tables = {}
    for table in ("passwd", "group"):
        rows = [row.split(":") for row in open(f"{root}/etc/{table}").read().split("\n") if row]
        tables[table] = {int(row[2]): row[0] for row in rows}
    return tables


def describe(root):
    tables, found = names(root), {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, root)
            status = os.lstat(path)
            owner = tables["passwd"].get(status.st_uid, status.st_uid), tables["group"].get(status.st_gid, status.st_gid)
            entry = {"owner": "%s:%s" % owner}
            if stat.S_ISLNK(status.st_mode):
                entry["link"] = os.readlink(path)
            else:
                entry["mode"] = oct(stat.S_IMODE(status.st_mode))
                if stat.S_ISREG(status.st_mode):
                    entry["content"] = hashlib.sha256(open(path, "rb").read()).hexdigest()
                else:
                    entry["type"] = stat.S_IFMT(status.st_mode)
            found[relative] = entry
    return found


def main():
    packages, image, work = json.load(open(sys.argv[1])), sys.argv[2], os.path.abspath(sys.argv[3])
    target = install(packages, work)
    extra = set()
    for package in (p for p in packages if p["extra"]):
        for listing in glob.glob(f"{target}/var/lib/dpkg/info/{package['name']}.list") + glob.glob(f"{target}/var/lib/dpkg/info/{package['name']}:*.list"):
            extra |= {path_of(line.strip()) for line in open(listing)}
    for listing in glob.glob(f"{target}/var/lib/dpkg/info/*.list"):
        package = os.path.basename(listing).removesuffix(".list").split(":")[0]
        if not any(p["extra"] and p["name"] == package for p in packages):
            extra -= {path_of(line.strip()) for line in open(listing)}
    exclude = json.load(open(f"{HERE}/exclude.json"))
    in_image = {p["name"] for p in packages if not p["extra"]}
    left_out = [*exclude["unpack"], *(p for p, entry in exclude["image"].items() if entry.get("unless") not in in_image),
                *json.load(open(f"{HERE}/made.json"))["removed"]]
    reasons = json.load(open(f"{HERE}/differences.json"))
    used, unexplained = set(), []
    real, ours = describe(target), describe(image)
    for path in sorted(real.keys() | ours.keys()):
        a, b = real.get(path), ours.get(path)
        if a == b or (b is None and (path in extra or any(fnmatch.fnmatch(path, p) for p in left_out))):
            continue
        matching = [pattern for pattern in reasons if fnmatch.fnmatch(path, pattern)]
        used.update(matching)
        if not matching:
            what = "only dpkg has it" if b is None else "only the image has it" if a is None else \
                ", ".join(f"{k}: dpkg {a.get(k)}, image {b.get(k)}" for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k))
            unexplained.append(f"{path}: {what}")
    for line in unexplained:
        print(line)
    print(f"{len(real)} paths of dpkg, {len(ours)} of the image, {len(unexplained)} differences without a reason", file=sys.stderr)
    with open(f"{work}/used.json", "w") as f:
        json.dump(sorted(used), f)
    sys.exit(1 if unexplained else 0)


main()
