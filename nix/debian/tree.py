"""Unpacks .debs into one tree without root: owners, modes and setuid bits go to a manifest.

usage: tree.py DEBS.json OUT

Maintainer scripts are not run. Later steps reproduce what debhelper generates (units by presets, users by
systemd-sysusers, directories by systemd-tmpfiles, links by update-alternatives lines). A script with other
commands must be in maintainer-scripts.json, with a reason; otherwise the build fails and names the package.
"""
import fnmatch, io, json, os, re, shutil, subprocess, sys, tarfile

HERE = os.path.dirname(os.path.abspath(__file__))
EXCLUDE = [line for line in open(f"{HERE}/exclude.txt").read().split("\n") if line and not line.startswith("#")]
KEEP = re.compile(r"usr/share/doc/[^/]+/copyright$")
GENERATED_BY = {"dh_installsystemd", "dh_installsystemduser", "dh_installtmpfiles", "dh_installsysusers", "dh_makeshlibs",
                "dh_python3", "dh_installinit", "dh_installdeb", "dh_installudev", "dh_installsysctl", "dh_installmime",
                "dh_ucf", "dh_installmodules", "dh_installinitramfs"}


def excluded(name):
    return not KEEP.search(name) and any(fnmatch.fnmatch(name, pattern) for pattern in EXCLUDE)


def unpack(deb, root, meta):
    process = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
    real_root = os.path.realpath(root)
    with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
        for member in archive:
            name = os.path.normpath(member.name)
            if name == "." or excluded(name):
                continue
            if name.startswith(("..", "/")):
                sys.exit(f"error: {deb}: path {member.name} leaves the tree")
            # The parent may be a merged-usr link: follow it, but stay within the tree.
            parent, base = os.path.split(name)
            real_parent = os.path.realpath(os.path.join(root, parent))
            if os.path.commonpath([real_parent, real_root]) != real_root:
                sys.exit(f"error: {deb}: path {member.name} leaves the tree")
            os.makedirs(real_parent, exist_ok=True)
            target = os.path.join(real_parent, base)
            relative = os.path.relpath(target, real_root)
            if member.isdir():
                if os.path.islink(target):
                    continue
                os.makedirs(target, exist_ok=True)
            else:
                if os.path.lexists(target):
                    os.unlink(target)
                if member.issym():
                    os.symlink(member.linkname, target)
                elif member.islnk():
                    source = os.path.join(root, os.path.normpath(member.linkname))
                    if not os.path.exists(source):
                        continue
                    shutil.copyfile(source, target, follow_symlinks=False)
                elif member.isreg():
                    with open(target, "wb") as out:
                        shutil.copyfileobj(archive.extractfile(member), out)
                else:
                    continue
                if not member.issym():
                    os.chmod(target, 0o755 if member.mode & 0o111 else 0o644)
            meta[relative] = [member.uname, member.gname, member.uid, member.gid, member.mode & 0o7777]
    if process.wait():
        sys.exit(f"error: dpkg-deb failed on {deb}")


def control(deb):
    data = subprocess.run(["dpkg-deb", "--ctrl-tarfile", deb], stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        files = {os.path.normpath(m.name): archive.extractfile(m).read().decode(errors="replace")
                 for m in archive if m.isreg()}
    package = re.search(r"^Package: (\S+)$", files["control"], re.M).group(1)
    version = re.search(r"^Version: (\S+)$", files["control"], re.M).group(1)
    return package, version, {k: v for k, v in files.items() if k in ("preinst", "postinst")}


def leftover(script):
    """Lines of a maintainer script other than debhelper's and update-alternatives --install."""
    text = script.replace("\\\n", " ")

    def drop(match):
        return "" if match.group(1).split("/")[0] in GENERATED_BY else match.group(0)
    text = re.sub(r"# Automatically added by (\S+?)\n.*?# End automatically added section\n?", drop, text, flags=re.S)
    text = re.sub(r"^\s*(update-alternatives|/usr/bin/update-alternatives)\s+(--quiet\s+)?--install .*$", "", text, flags=re.M)
    noise = re.compile(r"^(#.*|set -e.*|exit 0|:|;;|esac|fi|true|then|\*\).*|case \"?\$\{?1\}?\"? in|[a-z|-]*\)"
                       r"|if \[ \"?\$1\"? = \"?configure\"? \];?( then)?|echo .*|abort-.*)$")
    return [line for line in (raw.strip() for raw in text.split("\n")) if line and not noise.match(line)]


def enabled_units(scripts):
    """Units that the package enables on a first installation, in debhelper's snippet or its own code."""
    text = scripts.get("postinst", "")
    # debhelper's other snippet preserves the state of an upgraded unit, and does nothing on a first installation.
    kept = set(re.findall(r"deb-systemd-helper debian-installed '([^']+)'", text))
    units = set(re.findall(r"deb-systemd-helper enable '([^']+)'", text)) - kept
    return units | set(re.findall(r"^\s*systemctl \S+ enable (\S+)", text, re.M))


def alternatives(scripts):
    for script in scripts.values():
        for line in script.replace("\\\n", " ").split("\n"):
            words = line.split()
            if "update-alternatives" in line and "--install" in words and "$" not in line:
                words = words[words.index("--install") + 1:]
                link, name, path, priority = words[:4]
                rest = words[4:]
                slaves = [rest[i + 1:i + 4] for i, word in enumerate(rest) if word == "--slave"]
                yield name, int(priority), [[link, name, path]] + slaves


def main():
    debs_file, out = sys.argv[1:3]
    debs = json.load(open(debs_file))
    root = f"{out}/root"
    os.makedirs(root)
    # base-files first: it contains the merged-usr links.
    debs.sort(key=lambda d: ("-base-files_" not in d, os.path.basename(d).split("-", 1)[1]))
    meta, packages, chosen, unknown, enabled = {}, [], {}, {}, set()
    reasons = json.load(open(f"{HERE}/maintainer-scripts.json"))
    for deb in debs:
        package, version, scripts = control(deb)
        packages.append({"name": package, "version": version})
        enabled.update(enabled_units(scripts))
        rest = [line for script in scripts.values() for line in leftover(script)]
        if rest and package not in reasons and not package.startswith("linux-image-"):
            unknown[package] = rest[:12]
        unpack(deb, root, meta)
        for name, priority, links in alternatives(scripts):
            if name not in chosen or priority > chosen[name][0]:
                chosen[name] = (priority, links)
    if unknown:
        for package, lines in sorted(unknown.items()):
            print(f"error: this base does not reproduce these lines of the maintainer script of {package}:", file=sys.stderr)
            for line in lines:
                print(f"    {line}", file=sys.stderr)
        sys.exit("hint: remove the package, or reproduce the lines and describe how in nix/debian/maintainer-scripts.json")
    os.makedirs(f"{root}/etc/alternatives", exist_ok=True)
    for _, links in chosen.values():
        for link, name, path in links:
            if os.path.lexists(root + path):
                os.makedirs(os.path.dirname(root + link), exist_ok=True)
                for target, at in ((path, f"{root}/etc/alternatives/{name}"), (f"/etc/alternatives/{name}", root + link)):
                    if os.path.lexists(at):
                        os.unlink(at)
                    os.symlink(target, at)
    kernel = os.listdir(f"{root}/usr/lib/modules")[0]
    subprocess.run(["depmod", "-b", root, "-a", kernel], check=True)
    with open(f"{out}/meta.json", "w") as f:
        json.dump(meta, f, sort_keys=True)
    with open(f"{out}/enabled.json", "w") as f:
        json.dump(sorted(enabled), f)
    with open(f"{out}/packages.json", "w") as f:
        json.dump(packages, f)


main()
