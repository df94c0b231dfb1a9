"""What an installation brought into being, and by which package: users, groups, units that start, other names of units, programs.

Links say whose they are by what they lead to. Who made a user or a group is written nowhere: the texts of scripts are
searched for its name. If that finds nobody, no script of this installation counts as known.
"""
import os, re
import finish, members

COMMAND = re.compile(r"\b(adduser|addgroup|useradd|groupadd|sysusers)\b")
UNITS = re.compile(r"etc/systemd/system/(?:[^/]+\.(wants|requires|upholds)/)?([^/]+)")
SHIPPED = re.compile(r"usr/lib/systemd/system/[^/]+\.(?:wants|requires|upholds)/([^/]+)")
PROGRAM = re.compile(r"usr/s?bin/[^/]+")


def names(path):
    with open(path) as f:
        return {line.split(":")[0] for line in f if line.strip()}


def made(root):
    """Users and groups that are not those of every Debian system."""
    return [names(f"{root}/etc/{table}") - names(f"{root}/usr/share/base-passwd/{table}.master") for table in ("passwd", "group")]


def texts(root, packages):
    """{package: its scripts and its files of sysusers.d}, lines that are continued joined."""
    found = {}
    for package in packages:
        lines = [text.replace("\\\n", " ") for text in package["scripts"].values()]
        for path in sorted(package["paths"]):
            if re.fullmatch(r"usr/lib/sysusers\.d/[^/]+\.conf", path) and os.path.isfile(f"{root}/{path}"):
                with open(f"{root}/{path}") as f:
                    lines += [f"sysusers {line}" for line in f if not line.startswith("#")]
        found[package["name"]] = "\n".join(lines)
    return found


def makers(name, scripts):
    """Packages that make a user or a group: a command with its name, or a script that has both, or one that has its name."""
    word = re.compile(rf"(?<![\w.$/-]){re.escape(name)}(?![\w-])")
    naming = {package: text for package, text in scripts.items() if word.search(text)}
    making = {package: text for package, text in naming.items() if COMMAND.search(text)}
    by_line = [package for package, text in making.items() if any(COMMAND.search(line) and word.search(line) for line in text.split("\n"))]
    # Nobody spells the name: it is computed. If only one script makes accounts, it is known by whom.
    computing = [package for package, text in scripts.items() if COMMAND.search(text)]
    return by_line or list(making) or list(naming) or (computing if len(computing) == 1 else [])


def alternatives(database):
    """[(link, what it can lead to)] of update-alternatives, for masters and slaves."""
    found, folder = [], f"{database}/alternatives"
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        with open(f"{folder}/{name}") as f:
            lines = f.read().split("\n")
        end = lines.index("", 1) if "" in lines[1:] else len(lines)
        links = [lines[1], *lines[3:end:2]]
        step = len(links) + 1  # a choice, its priority, and one line for each slave
        for at in range(end + 1, len(lines) - step + 1, step):
            if not lines[at]:
                break
            found += [(link, target) for link, target in zip(links, [lines[at], *lines[at + 2:at + step]]) if target]
    return found


class Brought:
    def __init__(self, packages):
        kinds = ("users", "groups", "enabled", "units", "programs")
        self.by = {package["name"]: {kind: set() for kind in kinds} | {"is_whole": True} for package in packages}
        self.owners = {}
        for package in packages:
            for path, member in package["paths"].items():
                if member[0] != "d":
                    self.owners.setdefault(path, package["name"])

    def add(self, package, kind, name):
        if package in self.by:
            self.by[package][kind].add(name)

    def accounts(self, root, packages):
        scripts = texts(root, packages)
        for kind, found in zip(("users", "groups"), made(root)):
            for name in sorted(found):
                by = makers(name, scripts)
                for package in by:
                    self.add(package, kind, name)
                for package in packages if not by else []:
                    self.by[package["name"]]["is_whole"] &= not package["scripts"]

    def links(self, root, database, found):
        for path, entry in found.items():
            unit = UNITS.fullmatch(path) if entry[0] == "l" else None
            if unit:
                target = members.path_of(os.path.join(os.path.dirname(path), os.readlink(f"{root}/{path}")))
                self.add(self.owners.get(target), "enabled" if unit[1] else "units", unit[2])
        for path, package in self.owners.items():
            unit = SHIPPED.fullmatch(path)
            if unit:
                self.add(package, "enabled", unit[1])
        for link, target in alternatives(database):
            if PROGRAM.fullmatch(members.path_of(link)):
                self.add(self.owners.get(members.path_of(target)), "programs", "/" + members.path_of(link))
        with open(f"{root}/etc/shells") if os.path.exists(f"{root}/etc/shells") else open(os.devnull) as f:
            for line in f:
                path = members.path_of(line.strip())
                if PROGRAM.fullmatch(path):
                    self.add(self.owners.get(path), "programs", f"/{path}")


def read(root, database, packages, found):
    """{package: {"users", "groups", "enabled", "units", "programs": [name], "is_whole"}} of an installed tree."""
    brought = Brought(packages)
    brought.accounts(root, packages)
    brought.links(root, database, found)
    for package, unit in finish.MADE["first_boot"].items():
        brought.add(package, "enabled", f"fleeti-{unit['name']}.service")
    return {name: {kind: sorted(value) if kind != "is_whole" else value for kind, value in by.items()} for name, by in brought.by.items()}
