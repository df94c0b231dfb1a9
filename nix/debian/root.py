"""The root tree of one image: a tree of packages, the additions of a profile, and the agent.

usage: root.py TREE OVERLAY.json AGENT OUT   (writes ./root.tar and OUT/{vmlinuz,os-release,...})
"""
import datetime, fnmatch, glob, json, os, re, shutil, subprocess, sys
import contents
from archive import entries, write_tar

TREE, OVERLAY, AGENT, OUT = sys.argv[1:5]
EPOCH = int(os.environ["SOURCE_DATE_EPOCH"])
ROOT = os.path.abspath("root")
SHADOW_DAYS = 19000  # constant, so that images do not depend on the day of the build


def read(path):
    with open(f"{ROOT}/{path}") as f:
        return f.read()


def write(path, text, mode=0o644):
    target = f"{ROOT}/{path}"
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.lexists(target):
        os.unlink(target)
    with open(target, "w") as f:
        f.write(text)
    os.chmod(target, mode)


def refuse_links_on_the_way(path):
    """Rejects paths through a link of a package: it could lead out of the image, or to a protected file."""
    parts = path.split("/")[:-1]
    for n in range(1, len(parts) + 1):
        folder = "/".join(parts[:n])
        if os.path.islink(f"{ROOT}/{folder}"):
            sys.exit(f"error: cannot write /{path}: /{folder} is a link")


def refuse_unknown(meta):
    """Every path of the tree of packages was surveyed: what is not in `meta` got there afterwards."""
    for path in entries(ROOT):
        if path not in meta:
            sys.exit(f"error: /{path} is in the tree of packages, and not in its list of owners")


def expiry(date):
    """The first day on which an account cannot log in, days since 1970-01-01 (shadow(5))."""
    return (datetime.date.fromisoformat(date) - datetime.date(1970, 1, 1)).days + 1


def numbers(users, groups, used):
    """Ids of the profile's users and groups: those that it names, and the next free ones for the others."""
    taken = dict(used)
    for kind, entries in (("user", users), ("group", groups)):
        for entry in entries:
            if entry["id"] is not None:
                if entry["id"] in taken:
                    sys.exit(f"error: {kind} {entry['name']}: id {entry['id']} is that of {taken[entry['id']]}")
                taken[entry["id"]] = f"{kind} {entry['name']}"
    free = (number for number in range(1000, 60000) if number not in taken)
    # Users first: a new group does not change the ids of users, which own files on the data partition.
    return [[entry["id"] if entry["id"] is not None else next(free) for entry in entries] for entries in (users, groups)]


def accounts(users, own_groups):
    lines = lambda path: [line.split(":") for line in read(path).split("\n") if line]
    subprocess.run(["systemd-sysusers", f"--root={ROOT}"], check=True)
    groups = {g[0]: g for g in lines("etc/group")}
    passwd, shadow = lines("etc/passwd"), lines("etc/shadow")
    gshadow = {g[0]: g for g in lines("etc/gshadow")}
    used = {int(row[2]): f"{kind} {row[0]} of a package"
            for kind, rows in (("user", passwd), ("group", groups.values())) for row in rows}
    user_ids, group_ids = numbers(users, own_groups, used)
    for kind, entries in (("user", users), ("group", own_groups)):
        for entry in entries:
            if entry["name"] in groups or any(row[0] == entry["name"] for row in passwd):
                sys.exit(f"error: {kind} {entry['name']}: a user or group of a package has this name")
    for gid, group in zip(group_ids, own_groups):
        if any(user["name"] == group["name"] for user in users):
            sys.exit(f"error: group {group['name']}: the user of this name has a group of its own")
        groups[group["name"]] = [group["name"], "x", str(gid), ""]
        gshadow[group["name"]] = [group["name"], "!*", "", ""]
    for uid, user in zip(user_ids, users):
        name = user["name"]
        passwd.append([name, "x", str(uid), str(uid), user["comment"], f"/var/home/{name}", user["shell"]])
        until = str(expiry(user["expires"])) if user["expires"] else ""
        shadow.append([name, user.get("password_hash") or "!*", str(SHADOW_DAYS), "0", "99999", "7", "", until, ""])
        groups[name] = [name, "x", str(uid), ""]
        gshadow[name] = [name, "!*", "", ""]
    for user in users:
        name = user["name"]
        for group in user["groups"]:
            if group not in groups:
                sys.exit(f"error: user {name} is in group {group}, which neither a package nor the profile creates")
            for table in (groups, gshadow):
                members = [m for m in table[group][3].split(",") if m]
                table[group][3] = ",".join(members + [name])
    join = lambda rows: "".join(":".join(row) + "\n" for row in rows)
    for row in shadow:
        row[2] = str(SHADOW_DAYS)
    write("etc/passwd", join(passwd))
    write("etc/shadow", join(shadow))
    write("etc/group", join(groups.values()))
    write("etc/gshadow", join(gshadow.values()))
    for stale in glob.glob(f"{ROOT}/etc/*-") + [f"{ROOT}/etc/.pwd.lock"]:
        if os.path.isfile(stale):
            os.unlink(stale)


def check_names(needs, ids, zone):
    """Accounts that fields of the profile name, and its time zone, must be in the image."""
    absent = [f"{need['field']}: the image has no {need['kind']} {need['name']}" for need in needs
              if need["name"] not in ids["passwd" if need["kind"] == "user" else "group"]]
    # Without the package of time zones the link leads nowhere, which means UTC.
    if zone != "/usr/share/zoneinfo/Etc/UTC" and not os.path.isfile(f"{ROOT}{zone}"):
        absent.append(f"identity.time_zone: the image has no {zone}")
    if absent:
        sys.exit("".join(f"error: {line}\n" for line in absent).rstrip())


def needed_libraries():
    """Checks that the image has every library and versioned symbol that the agent needs, which is built elsewhere."""
    text = subprocess.run(["readelf", "-dV", "--wide", AGENT], capture_output=True, text=True, check=True).stdout
    folders = ["usr/lib/x86_64-linux-gnu", "usr/lib64"]
    absent = []
    for name in re.findall(r"\(NEEDED\).*\[(.*)\]", text):
        path = next((f"{ROOT}/{f}/{name}" for f in folders if os.path.exists(f"{ROOT}/{f}/{name}")), None)
        if not path:
            absent.append(name)
            continue
        section = re.search(rf"File: {re.escape(name)}  Cnt: .*\n((?:\s+0x.*Name: .*\n)*)", text)
        offered = subprocess.run(["readelf", "-V", "--wide", path], capture_output=True, text=True).stdout
        for symbol in re.findall(r"Name: (\S+)", section.group(1) if section else ""):
            if f"Name: {symbol}\n" not in offered and f"Name: {symbol} " not in offered:
                absent.append(f"{name} ({symbol})")
    if absent:
        sys.exit(f"error: the agent needs {', '.join(absent)}, which the image does not have")


def preset(unit):
    """What the presets of Fleeti and of the profile say of a unit (systemd.preset(5)): the first line that fits counts."""
    for listing in ("00-fleeti.preset", "01-fleeti-profile.preset"):
        for line in read(f"usr/lib/systemd/system-preset/{listing}").split("\n"):
            words = line.split()
            if len(words) > 1 and fnmatch.fnmatchcase(unit, words[1]):
                return words[0]
    return None


def enable_units():
    """Scripts of packages enabled units; here presets do, so that Fleeti and the profile can decide otherwise."""
    links = json.load(open(f"{TREE}/enabled.json"))
    units = {os.path.basename(path) if path.count("/") > 3 else os.path.basename(target) for path, target in links}
    write("usr/lib/systemd/system-preset/02-debian-packages.preset",
          "".join(f"enable {re.sub('@(.+)[.]', '@.', unit)} {''.join(re.findall('@(.+)[.]', unit))}".rstrip() + "\n"
                  for unit in sorted(units)) + "disable *\n")
    subprocess.run(["systemctl", f"--root={ROOT}", "preset-all", "--preset-mode=enable-only"], check=True,
                   stderr=subprocess.DEVNULL)
    # A script can also link a unit without an [Install] section.
    for path, target in links:
        unit = os.path.basename(target)
        there = os.path.lexists(f"{ROOT}{target}") if target.startswith("/") else True
        if not os.path.lexists(f"{ROOT}/{path}") and there and preset(os.path.basename(path)) != "disable" and preset(unit) != "disable":
            os.makedirs(os.path.dirname(f"{ROOT}/{path}"), exist_ok=True)
            os.symlink(target, f"{ROOT}/{path}")


def compile_locale(name):
    """Compiles a locale of glibc, NAME.UTF-8 (locale(7)). Returns its files with their modes."""
    source = name[:name.rindex(".")]
    folder = f"usr/lib/locale/{source}.utf8"
    if not os.path.exists(f"/usr/share/i18n/locales/{source}"):
        sys.exit(f"error: identity.locale: glibc has no locale {source}")
    os.makedirs(f"{ROOT}/usr/lib/locale", exist_ok=True)
    subprocess.run(["localedef", "--no-warnings=ascii", "-i", source, "-f", "UTF-8", f"{ROOT}/{folder}"], check=True)
    return {f"{folder}/{path}": 0o644 for path in entries(f"{ROOT}/{folder}") if os.path.isfile(f"{ROOT}/{folder}/{path}")}


def main():
    subprocess.run(["cp", "-a", "--no-preserve=ownership", f"{TREE}/root", ROOT], check=True)
    subprocess.run(["chmod", "-R", "u+w", ROOT], check=True)
    meta = json.load(open(f"{TREE}/meta.json"))
    refuse_unknown(meta)
    overlay = json.load(open(OVERLAY))
    os.makedirs(OUT)
    kernel = os.listdir(f"{ROOT}/usr/lib/modules")[0]
    for name in ("vmlinuz", "ids.json", "scripts.json", "brought.json"):
        shutil.copyfile(f"{TREE}/{name}", f"{OUT}/{name}")
    with open(f"{OUT}/kernel-version", "w") as f:
        f.write(kernel)

    os.unlink(f"{ROOT}/etc/os-release") if os.path.lexists(f"{ROOT}/etc/os-release") else None
    os.symlink("../usr/lib/os-release", f"{ROOT}/etc/os-release")
    # Write files first: accounts need the overlay's sysusers.d files, presets its units.
    written, owned = {}, {}
    for entry in overlay["files"]:
        path = entry["path"].lstrip("/")
        refuse_links_on_the_way(path)
        if "link" in entry:
            target = f"{ROOT}/{path}"
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.lexists(target):
                os.unlink(target)
            os.symlink(entry["link"], target)
        elif "base64" in entry:
            import base64
            write(path, "")
            with open(f"{ROOT}/{path}", "wb") as f:
                f.write(base64.b64decode(entry["base64"]))
            written[path] = int(entry["mode"], 8)
        else:
            write(path, entry["content"])
            written[path] = int(entry["mode"], 8)
        owned[path] = (entry.get("owner", "root"), entry.get("group", "root"))
    if os.environ["LOCALE"]:
        written |= compile_locale(os.environ["LOCALE"])
    accounts(overlay["users"], overlay["groups"])
    needed_libraries()
    shutil.copyfile(AGENT, f"{ROOT}/usr/lib/fleeti/fleeti-agent")
    written["usr/lib/fleeti/fleeti-agent"] = 0o755
    write("etc/machine-id", "")  # empty on a read-only /etc: each boot has a transient id
    for folder in overlay["directories"]:
        os.makedirs(f"{ROOT}{folder}", exist_ok=True)
    enable_units()
    shutil.copyfile(f"{ROOT}/usr/lib/os-release", f"{OUT}/os-release")

    ids = {}
    for table in ("passwd", "group"):
        ids[table] = {row.split(":")[0]: int(row.split(":")[2]) for row in read(f"etc/{table}").split("\n") if row}
    check_names(overlay["needs"], ids, os.readlink(f"{ROOT}/etc/localtime"))

    def owner(relative, status):
        if relative in written:
            user, group = owned.get(relative, ("root", "root"))
            return ids["passwd"][user], ids["group"][group], written[relative]
        if relative in meta:
            user, group, uid, gid, mode = meta[relative]
            return ids["passwd"].get(user, uid), ids["group"].get(group, gid), mode
        return 0, 0, 0o755 if os.path.isdir(f"{ROOT}/{relative}") or status.st_mode & 0o111 else 0o644
    listed = contents.survey(ROOT, owner, json.load(open(f"{TREE}/packages.json")), written)
    contents.refuse_bad(ROOT, listed, overlay["setuid"])
    with open(f"{OUT}/contents.json", "w") as f:
        contents.write(f, listed, ids)
    write_tar(ROOT, "root.tar", EPOCH, owner)


main()
