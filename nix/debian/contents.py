"""What is in a root file system, file by file, and what must not be in one."""
import hashlib, json, os, re, stat, sys
from archive import entries

HERE = os.path.dirname(os.path.abspath(__file__))
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")


def digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def survey(root, owner, packages, written):
    """One entry for each path. `owner` is that of write_tar, `packages` says which package brings a path."""
    listed = []
    for path in entries(root):
        target = f"{root}/{path}"
        status = os.lstat(target)
        uid, gid, mode = owner(path, status)
        entry = {"path": f"/{path}", "uid": uid, "gid": gid}
        if stat.S_ISLNK(status.st_mode):
            entry |= {"kind": "link", "mode": 0o777, "target": os.readlink(target)}
        elif stat.S_ISDIR(status.st_mode):
            entry |= {"kind": "directory", "mode": mode}
        else:
            entry |= {"kind": "file", "mode": mode, "size": status.st_size, "sha256": digest(target)}
        # A file that the profile or Fleeti wrote over that of a package is theirs.
        if path in packages and path not in written:
            entry["package"] = packages[path]
        listed.append(entry)
    return listed


def name_of(entry):
    return f"{entry['path']} of {entry['package']}" if "package" in entry else entry["path"]


def refuse_bad(root, listed, allowed):
    """Stops the build by path. `allowed` are the profile's own setuid files (security.setuid)."""
    with open(f"{HERE}/setuid.json") as f:
        known = json.load(f)
    errors = []
    for entry in listed:
        kind, mode = entry["kind"], entry["mode"]
        if kind != "link" and mode & 0o002 and not (kind == "directory" and mode & 0o1000):
            errors.append(f"every user can write to {name_of(entry)} (mode {mode:04o}): make it writable for one user or group")
        is_known = entry.get("package") in known.get(entry["path"], {}).get("packages", [])
        if kind == "file" and mode & 0o6000 and not is_known and entry["path"] not in allowed:
            errors.append(f"{name_of(entry)} runs with the rights of its owner or group (mode {mode:04o}): "
                          f"add it to security.setuid, or leave out what brings it")
        if kind == "file" and "package" not in entry and entry["size"] <= 1 << 20:
            with open(f"{root}{entry['path']}", "rb") as f:
                if PRIVATE_KEY.search(f.read()):
                    errors.append(f"{entry['path']} contains a private key, which every device and everyone with the image "
                                  f"would have: make it a secret of the profile")
    present = {entry["path"] for entry in listed if entry["kind"] == "file" and entry["mode"] & 0o6000}
    errors += [f"security.setuid: {path} is no setuid or setgid file of the image: remove it" for path in allowed if path not in present]
    if errors:
        sys.exit("".join(f"error: {line}\n" for line in errors).rstrip())


def write(f, listed, ids):
    """A line for each path, so that text tools can read it as well."""
    f.write(f'{{"users":{json.dumps(ids["passwd"], sort_keys=True)},\n"groups":{json.dumps(ids["group"], sort_keys=True)},\n"files":[\n')
    f.write(",\n".join(json.dumps(entry, sort_keys=True) for entry in listed))
    f.write("\n]}\n")
