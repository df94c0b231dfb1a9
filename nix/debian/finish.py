"""What becomes of an installed tree: what is left out, what scripts make by chance or time, and how /var comes to a device."""
import fnmatch, glob, json, os, re, shutil, stat
import java

HERE = os.path.dirname(os.path.abspath(__file__))
COPYRIGHT = re.compile(r"usr/share/doc/[^/]+/copyright")
FACTORY = "usr/share/factory/var"


def read(name):
    with open(f"{HERE}/{name}") as f:
        return json.load(f)


EXCLUDE, MADE = read("exclude.json"), read("made.json")


def dpkg_options():
    """dpkg does not unpack what no script and no device reads."""
    lines = [f"path-exclude=/{pattern}" for pattern in EXCLUDE["unpack"]]
    return "".join(f"{line}\n" for line in lines + ["path-include=/usr/share/doc/*/copyright"])


def not_unpacked(path):
    return not COPYRIGHT.fullmatch(path) and any(fnmatch.fnmatch(path, pattern) for pattern in EXCLUDE["unpack"])


class Tree:
    """A tree and what is known of its files: {path: [kind, uid, gid, mode, real mode]}."""
    def __init__(self, root, found):
        self.root, self.found = root, found

    def remove(self, path):
        entry = self.found.pop(path, None)
        target = f"{self.root}/{path}"
        if entry and entry[0] == "d":
            shutil.rmtree(target)
            for below in [other for other in self.found if other.startswith(f"{path}/")]:
                del self.found[below]
        elif os.path.lexists(target):
            os.unlink(target)

    def add_folder(self, path):
        """Makes a folder of root's and those above it, if they are not there."""
        parts = path.split("/")
        for folder in ("/".join(parts[:n]) for n in range(1, len(parts) + 1)):
            if not os.path.lexists(f"{self.root}/{folder}"):
                os.mkdir(f"{self.root}/{folder}")
                self.found[folder] = ["d", 0, 0, 0o755, 0o755]

    def remove_empty(self, paths):
        """Folders of removed files, if nothing else is in them."""
        for path in sorted(paths, key=lambda p: -p.count("/")):
            if self.found.get(path, " ")[0] == "d" and not os.listdir(f"{self.root}/{path}"):
                os.rmdir(f"{self.root}/{path}")
                del self.found[path]


def remove_build_only(tree, build_only, device):
    """Removes the packages that are there for scripts alone, and the alternatives that lead to them."""
    kept = {path for package in device for path in package["paths"]}
    gone = {path for package in build_only for path in package["paths"] if path not in kept}
    for path in gone:
        if tree.found.get(path, "d")[0] != "d":
            tree.remove(path)
    tree.remove_empty(gone)
    while True:
        dangling = [path for path, entry in tree.found.items() if entry[0] == "l" and leads_nowhere(tree, path, gone)]
        if not dangling:
            return
        gone |= set(dangling)
        for path in dangling:
            tree.remove(path)


def leads_nowhere(tree, path, gone):
    link = os.readlink(f"{tree.root}/{path}")
    target = os.path.normpath(link.lstrip("/") if link.startswith("/") else os.path.join(os.path.dirname(path), link))
    return target in gone and target not in tree.found


def remove_made(tree, packages):
    """Removes what an image does not contain, with these packages."""
    patterns = [*MADE["removed"], *(pattern for pattern, entry in EXCLUDE["image"].items() if entry.get("unless") not in packages)]
    for path in sorted(tree.found, reverse=True):
        if path not in tree.found:
            continue
        if any(fnmatch.fnmatch(path, pattern) for pattern in patterns):
            tree.remove(path)
        elif not_unpacked(path) and (tree.found[path][0] != "d" or not os.listdir(f"{tree.root}/{path}")):
            tree.remove(path)
    for path, entry in list(tree.found.items()):
        if path.startswith("etc/alternatives/") and entry[0] == "l" and not_unpacked(os.readlink(f"{tree.root}/{path}").lstrip("/")):
            tree.remove(path)


def fix_made(tree, epoch):
    """Takes times out of files that are otherwise the same each time."""
    for path in MADE["fixed"]:
        if path in tree.found:
            with open(f"{tree.root}/{path}", "rb") as f:
                store = f.read()
            with open(f"{tree.root}/{path}", "wb") as f:
                f.write(java.without_times(store, epoch))


def make_at_boot(tree, packages):
    """Replaces what scripts make by chance with links, and adds the units that make it on a device."""
    for path, entry in MADE["links"].items():
        if path in tree.found:
            for link in [other for other, found in tree.found.items() if found[0] == "l" and os.path.dirname(other) == os.path.dirname(path)
                         and os.readlink(f"{tree.root}/{other}") == os.path.basename(path)]:
                tree.remove(link)  # by the hash of the certificate
            tree.remove(path)
            os.symlink(entry["to"], f"{tree.root}/{path}")
            tree.found[path] = ["l", 0, 0, 0o777, 0o777]
    units = "usr/lib/systemd/system"
    for package, unit in MADE["first_boot"].items():
        if package not in packages:
            continue
        name = f"fleeti-{unit['name']}.service"
        add(tree, f"{HERE}/first-boot/{unit['name']}.service", f"{units}/{name}", 0o644)
        add(tree, f"{HERE}/first-boot/{unit['name']}.sh", f"usr/lib/fleeti/first-boot/{unit['name']}.sh", 0o755)
        wants = f"{units}/{unit['wanted_by']}.wants"
        tree.add_folder(wants)
        os.symlink(f"../{name}", f"{tree.root}/{wants}/{name}")
        tree.found[f"{wants}/{name}"] = ["l", 0, 0, 0o777, 0o777]


def add(tree, source, path, mode):
    tree.add_folder(os.path.dirname(path))
    shutil.copyfile(source, f"{tree.root}/{path}")
    os.chmod(f"{tree.root}/{path}", mode)
    tree.found[path] = ["f", 0, 0, mode, mode]


def enabled_units(tree):
    """Links by which scripts enabled units, [path, target]. Presets make them again: the profile may disable a unit."""
    links = []
    for path, entry in sorted(tree.found.items()):
        if entry[0] == "l" and re.fullmatch(r"etc/systemd/system/(.+\.(wants|requires|upholds)/)?[^/]+", path):
            target = os.readlink(f"{tree.root}/{path}")
            if target != "/dev/null":
                links.append([path, target])
                tree.remove(path)
    tree.remove_empty([path for path in tree.found if re.fullmatch(r"etc/systemd/system/.+\.(wants|requires|upholds)", path)])
    return links


def quoted(path):
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def move_var(tree, names):
    """/var is in memory on a device: systemd-tmpfiles makes it at each boot from a copy in /usr. Returns {path: copy}."""
    named, copies = set(), {}
    for listing in glob.glob(f"{tree.root}/usr/lib/tmpfiles.d/*.conf"):
        with open(listing) as f:
            words = [line.split() for line in f]
        # The other kinds of lines change what exists.
        named |= {word[1].rstrip("/") for word in words if len(word) > 1 and word[0][0] in "dDvqQfFLCcbp"}
    lines = []
    for path in sorted(path for path in tree.found if path.startswith("var/")):
        kind, uid, gid, mode, _ = tree.found[path]
        if f"/{path}" in named or path in ("var/run", "var/lock"):
            continue
        user, group = names.of(uid, gid)
        if kind == "l":
            lines.append(f"L {quoted('/' + path)} - - - - {os.readlink(f'{tree.root}/{path}')}")
        elif kind == "d":
            lines.append(f"d {quoted('/' + path)} {mode:04o} {user} {group} -")
        elif kind == "f":
            target = f"{FACTORY}/{path.removeprefix('var/')}"
            tree.add_folder(os.path.dirname(target))
            shutil.copyfile(f"{tree.root}/{path}", f"{tree.root}/{target}")
            # The copy has the same owner: what others must not read, they must not read there either.
            tree.found[target] = [kind, uid, gid, mode, mode]
            copies[path] = target
            lines.append(f"C {quoted('/' + path)} {mode:04o} {user} {group} - /{target}")
    listing = "usr/lib/tmpfiles.d/zz-fleeti-packages.conf"
    tree.found[listing] = ["f", 0, 0, 0o644, 0o644]
    with open(f"{tree.root}/{listing}", "w") as f:
        f.write("# Folders and files of packages below /var.\n" + "".join(f"{line}\n" for line in lines))
    for path in [path for path in tree.found if path.startswith("var/") and path.count("/") == 1]:
        tree.remove(path)
    return copies


def readable(root):
    """Nix keeps only whether a file can be run; owners and modes are in meta.json."""
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode):
                os.chmod(path, 0o755 if stat.S_ISDIR(mode) or mode & 0o111 else 0o644)
