"""What packages say of their own files: the members of .debs."""
import io, os, re, subprocess, tarfile


def name_of(deb):
    """Name of a package by its file in the store, `HASH-NAME_VERSION.deb`."""
    return os.path.basename(deb).split("-", 1)[1].split("_")[0]


def path_of(member):
    """Path in an image. Some packages still name folders of a system without merged /usr."""
    path = os.path.normpath(member).lstrip("/")
    first = path.split("/")[0]
    return f"usr/{path}" if first in ("bin", "sbin", "lib", "lib32", "lib64", "libx32") and path != first else path


def one(deb):
    """{"name", "paths": {path: [kind, user, group, uid, gid, mode, link]}, "md5": {path: hash}, "scripts": {name: text}}"""
    paths = {}
    process = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
    with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
        for member in archive:
            path = path_of(member.name)
            if path != ".":
                kind = "d" if member.isdir() else "l" if member.issym() else "f"
                # A hard link has the owner and the mode of the member that it names.
                same = paths.get(path_of(member.linkname)) if member.islnk() else None
                paths[path] = same or [kind, member.uname, member.gname, member.uid, member.gid, member.mode & 0o7777,
                                       member.linkname]
    if process.wait():
        raise RuntimeError(f"dpkg-deb failed on {deb}")
    data = subprocess.run(["dpkg-deb", "--ctrl-tarfile", deb], stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        control = {os.path.normpath(m.name): archive.extractfile(m).read().decode(errors="replace")
                   for m in archive if m.isreg()}
    sums = re.findall(r"^(\S+)  (.*)$", control.get("md5sums", ""), re.M)
    return {"name": name_of(deb), "paths": paths, "md5": {path_of(path): value for value, path in sums},
            "scripts": {k: v for k, v in control.items() if k in ("preinst", "postinst", "config", "triggers")}}


def read(debs):
    return [one(deb) for deb in debs]
