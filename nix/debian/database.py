"""The part of dpkg's database that describes an image, for scanners and `dpkg --root`. No device installs packages: what only
that needs (scripts, triggers, questions) is left out.

It is in /usr/lib/sysimage/dpkg. /var/lib/dpkg of a device is a link to it, made at boot; that of the image has a copy of
`status`, because scanners of file systems follow no links."""
import os, subprocess
import members

FOLDER = "usr/lib/sysimage/dpkg"
LINK = "var/lib/dpkg"
# Files of a package, its digests and its configuration files (dpkg(1)).
KEPT = ("list", "md5sums", "conffiles")


def stanzas(text):
    return {stanza.split("\n", 1)[0].removeprefix("Package: "): stanza for stanza in text.strip().split("\n\n")}


def unpacked(deb):
    """The stanza, the files and the digests of a package that dpkg did not install."""
    control = subprocess.run(["dpkg-deb", "--field", deb], capture_output=True, text=True, check=True).stdout.strip()
    first, rest = control.split("\n", 1)
    package = members.one(deb)
    listing = "/.\n" + "".join(f"/{path}\n" for path in package["paths"])
    return f"{first}\nStatus: install ok installed\n{rest}", listing


def write(tree, database, device, kernel):
    """`device`: names of the packages that dpkg installed and that stay; `kernel`: .debs that were only unpacked."""
    with open(f"{database}/status") as f:
        found = {name: stanza for name, stanza in stanzas(f.read()).items() if name in device}
    if missing := sorted(device - found.keys()):
        raise RuntimeError(f"dpkg's database has no {', '.join(missing)}")
    files = {}
    for name in os.listdir(f"{database}/info"):
        package, _, kind = name.rpartition(".")
        if name == "format" or package.split(":")[0] in device and kind in KEPT:
            with open(f"{database}/info/{name}", "rb") as f:
                files[f"info/{name}"] = f.read()
    for deb in kernel:
        name = members.name_of(deb)
        if name not in found:
            found[name], listing = unpacked(deb)
            files[f"info/{name}.list"] = listing.encode()
    files["status"] = "".join(f"{found[name]}\n\n" for name in sorted(found)).encode()
    for name in ("diversions", "statoverride", "arch"):
        if os.path.exists(f"{database}/{name}"):
            with open(f"{database}/{name}", "rb") as f:
                files[name] = f.read()
    for name, content in sorted(files.items()):
        put(tree, f"{FOLDER}/{name}", content)
    # As other links below /var, it becomes a line of tmpfiles.d.
    tree.add_folder(os.path.dirname(LINK))
    os.symlink(f"../../{FOLDER}", f"{tree.root}/{LINK}")
    tree.found[LINK] = ["l", 0, 0, 0o777, 0o777]


def put(tree, path, content):
    tree.add_folder(os.path.dirname(path))
    with open(f"{tree.root}/{path}", "wb") as f:
        f.write(content)
    tree.found[path] = ["f", 0, 0, 0o644, 0o644]


def show_in_image(tree):
    """Puts it into the image's own /var, which a device hides, when the rest of /var was moved."""
    with open(f"{tree.root}/{FOLDER}/status", "rb") as f:
        put(tree, f"{LINK}/status", f.read())
    os.symlink(f"../../../{FOLDER}/info", f"{tree.root}/{LINK}/info")
    tree.found[f"{LINK}/info"] = ["l", 0, 0, 0o777, 0o777]
