"""Archives whose bytes depend only on names, contents, owners and modes."""
import os, stat, tarfile


def entries(root):
    found = []
    for folder, folders, files in os.walk(root):
        found += [os.path.relpath(os.path.join(folder, name), root) for name in folders + files]
    return sorted(found)


def write_tar(root, out, epoch, owner):
    """`owner(relative, lstat) -> (uid, gid, mode)`."""
    with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as archive:
        for relative in [""] + entries(root):
            path = os.path.join(root, relative) if relative else root
            status = os.lstat(path)
            info = tarfile.TarInfo(f"./{relative}")
            info.uid, info.gid, info.mode = owner(relative, status) if relative else (0, 0, 0o755)
            info.mtime = epoch
            if stat.S_ISDIR(status.st_mode):
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            elif stat.S_ISLNK(status.st_mode):
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, os.readlink(path), 0o777
                archive.addfile(info)
            elif stat.S_ISREG(status.st_mode):
                info.size = status.st_size
                with open(path, "rb") as f:
                    archive.addfile(info, f)


def write_cpio(root, out, epoch):
    """newc (Documentation/driver-api/early-userspace/buffer-format.rst); root owns everything."""
    with open(out, "wb") as f:
        def record(ino, name, mode, data=b""):
            encoded = name.encode() + b"\0"
            links = 2 if stat.S_ISDIR(mode) else 1
            header = "070701" + "".join(f"{n:08x}" for n in (ino, mode, 0, 0, links, epoch, len(data), 0, 0, 0, 0, len(encoded), 0))
            head = header.encode() + encoded
            f.write(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))
        for ino, relative in enumerate(entries(root), 2):
            path = os.path.join(root, relative)
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                record(ino, relative, stat.S_IFDIR | 0o755)
            elif stat.S_ISLNK(status.st_mode):
                record(ino, relative, stat.S_IFLNK | 0o777, os.readlink(path).encode())
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as g:
                    record(ino, relative, stat.S_IFREG | (0o755 if status.st_mode & 0o111 else 0o644), g.read())
        record(0, "TRAILER!!!", 0)
