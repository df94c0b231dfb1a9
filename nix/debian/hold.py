"""Holds an installed tree against the packages' own lists of members, and says what their scripts changed.

A path is as its package says, or something explains the difference: dpkg-statoverride, or a maintainer script, its triggers,
or a sysusers.d or tmpfiles.d file of a package that names the path or a folder above it. Setuid, setgid and sticky modes need a text that names
the path itself. script-changes.json explains plain files of root's, and other owners and modes only where it says so.
Otherwise the build fails.
"""
import collections, fnmatch, hashlib, json, os, re, sys
import members

HERE = os.path.dirname(os.path.abspath(__file__))
SPECIAL = 0o7000
SHARED = 5  # packages: a folder of more is nobody's own


class Names:
    """Users and groups of a tree, by number and by name."""
    def __init__(self, root):
        self.ids, self.names = {}, {}
        for table in ("passwd", "group"):
            with open(f"{root}/etc/{table}") as f:
                rows = [line.split(":") for line in f.read().split("\n") if line]
            self.ids[table] = {row[0]: int(row[2]) for row in rows}
            self.names[table] = {int(row[2]): row[0] for row in rows}

    def of(self, uid, gid):
        return self.names["passwd"].get(uid, str(uid)), self.names["group"].get(gid, str(gid))

    def possible(self, table, name, number):
        """dpkg takes the number of a name that does not exist yet when it unpacks."""
        return {self.ids[table].get(name, number), number}


def diversions(database):
    """[(from, to, package)] of dpkg-divert."""
    try:
        with open(f"{database}/diversions") as f:
            lines = [line.strip() for line in f]
    except FileNotFoundError:
        return []
    return [(lines[i].lstrip("/"), lines[i + 1].lstrip("/"), lines[i + 2]) for i in range(0, len(lines) - 2, 3)]


def expected(packages, database):
    """{path: [(package, member)]}"""
    moved = diversions(database)
    found = {}
    for package in packages:
        for path, member in package["paths"].items():
            for source, target, by in moved:
                if path == source and package["name"] != by:
                    path = target
            found.setdefault(path, []).append((package["name"], member))
    return found


def overrides(database):
    """{path: (user, group, mode)} of dpkg-statoverride."""
    found = {}
    if not os.path.exists(f"{database}/statoverride"):
        return found
    with open(f"{database}/statoverride") as f:
        for line in f:
            user, group, mode, path = line.split(None, 3)
            found[members.path_of(path.strip())] = (user, group, int(mode, 8))
    return found


class Scripts:
    """Who names a path: maintainer scripts, files of sysusers.d and tmpfiles.d, and the list of changes that no script spells out."""
    def __init__(self, root, packages):
        self.texts, self.spelled = {}, {}
        for package in packages:
            text = "\n".join(package["scripts"].values())
            for path in package["paths"]:
                if re.fullmatch(r"usr/lib/(tmpfiles|sysusers)\.d/[^/]+\.conf", path) and os.path.isfile(f"{root}/{path}"):
                    with open(f"{root}/{path}") as f:
                        text += f.read()
            if text:
                self.texts[package["name"]] = text
        with open(f"{HERE}/script-changes.json") as f:
            self.listed = json.load(f)
        self.installed = {package["name"] for package in packages}
        shared = collections.Counter(path for package in packages for path, member in package["paths"].items() if member[0] == "d")
        # A script that names /usr/bin does not explain each file in it.
        self.shared = {path for path, packages in shared.items() if packages > SHARED}

    def spelling(self, path):
        """Packages with a text that has exactly this path."""
        if path not in self.spelled:
            pattern = re.compile(re.escape(path) + r"(?![\w.-])")
            self.spelled[path] = sorted(name for name, text in self.texts.items() if path in text and pattern.search(text))
        return self.spelled[path]

    def naming(self, path, owner="root:root", special=None):
        """Packages that explain a path with this owner, and with this setuid, setgid or sticky mode."""
        if special:
            entry = self.listed.get(path, {})
            listed = (entry.get("owner"), entry.get("mode")) == (owner, f"{special:o}") and entry["package"] in self.installed
            return self.spelling(path) or ([entry["package"]] if listed else [])
        parts = path.split("/")
        for depth in range(len(parts), 1, -1):
            named = "/".join(parts[:depth])
            by = [] if named in self.shared and named != path else self.spelling(named)
            if by:
                return by
        for pattern, entry in self.listed.items():
            if fnmatch.fnmatch(path, pattern) and entry["package"] in self.installed and owner in ("root:root", entry.get("owner")):
                return [entry["package"]]
        return []


def md5(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "md5").hexdigest()


class Holding:
    """`found` is {path: [kind, uid, gid, mode, real mode]}. After `run`, it is right, and `changes` and `errors` are full."""
    def __init__(self, root, database, packages, found, left_out):
        self.root, self.found, self.left_out = root, found, left_out
        self.names, self.scripts = Names(root), Scripts(root, packages)
        self.expected, self.overrides = expected(packages, database), overrides(database)
        self.md5 = {path: (package["name"], value) for package in packages for path, value in package["md5"].items()}
        self.changes, self.errors = [], []

    def change(self, path, what, needs_reason, package=None):
        _, uid, gid, mode, _ = self.found.get(path, ("", 0, 0, 0, 0))
        shipped = any(mode == member[5] for _, member in self.expected.get(path, []))
        special = mode if mode & SPECIAL and not shipped else None
        by = self.scripts.naming(path, ":".join(self.names.of(uid, gid)), special)
        if not by and needs_reason:
            of = f" of package {package}" if package else ""
            self.errors.append(f"/{path}{of}: {what}, and no script of a package explains it")
        self.changes.append({"path": f"/{path}", "change": what, "packages": by})

    def matches(self, entry, member):
        kind, uid, gid, mode, _ = entry
        if kind != member[0]:
            return False
        owner = uid in self.names.possible("passwd", member[1], member[3]) and gid in self.names.possible("group", member[2], member[4])
        return owner and (kind == "l" or mode == member[5])

    def shipped(self, path, entry, candidates):
        if any(self.matches(entry, member) for _, member in candidates):
            target = os.readlink(f"{self.root}/{path}") if entry[0] == "l" else ""
            if entry[0] == "l" and all(target != member[6] for _, member in candidates):
                self.change(path, f"a link to {target}", False)
            return
        kind, uid, gid, mode, real = entry
        package, member = candidates[0]
        if path in self.overrides:
            user, group, wanted = self.overrides[path]
            if (*self.names.of(uid, gid), mode) == (user, group, wanted):
                return self.change(path, f"{user}:{group} {mode:o} by dpkg-statoverride", False)
        said = f"{member[1]}:{member[2]} {member[5]:o}"
        now = "{}:{} {:o}".format(*self.names.of(uid, gid), mode)
        if kind == member[0] and kind != "l" and not self.scripts.naming(path) and (mode == member[5] or real & 0o777 == member[5] & 0o777) \
                and (uid, gid) == (0, 0):
            # No script touched it, and the file system agrees with the package: fakeroot lost it.
            print(f"note: /{path} of {package} was remembered as {now}; restored to {said}", file=sys.stderr)
            entry[1] = min(self.names.possible("passwd", member[1], member[3]))
            entry[2] = min(self.names.possible("group", member[2], member[4]))
            entry[3] = member[5]
            return
        if kind != member[0]:
            return self.change(path, f"another kind of file ({kind}) than in the package ({member[0]})", True, package)
        self.change(path, f"{now} instead of {said}", True, package)

    def made(self, path, entry):
        kind, uid, gid, mode, _ = entry
        plain = (uid, gid) == (0, 0) and not mode & SPECIAL and (kind == "l" or mode & 0o777)
        self.change(path, "made" if plain else "made, {}:{} {:o}".format(*self.names.of(uid, gid), mode), not plain or kind == "?")

    def run(self):
        for path, entry in sorted(self.found.items()):
            candidates = self.expected.get(path)
            if candidates:
                self.shipped(path, entry, candidates)
            else:
                self.made(path, entry)
        for path in sorted(self.expected.keys() - self.found.keys()):
            if not self.left_out(path):
                self.change(path, "removed", True, self.expected[path][0][0])
        for path, (package, value) in sorted(self.md5.items()):
            if self.found.get(path, " ")[0] == "f" and md5(f"{self.root}/{path}") != value:
                self.change(path, "another content", True, package)
