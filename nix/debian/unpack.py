"""Unpacks .debs into one tree: for the initrd, which takes single files from them.

usage: unpack.py DEBS.json OUT
"""
import json, os, subprocess, sys, tarfile


def main():
    debs, root = json.load(open(sys.argv[1])), f"{sys.argv[2]}/root"
    os.makedirs(root)
    debs.sort(key=lambda deb: ("-base-files_" not in deb, os.path.basename(deb).split("-", 1)[1]))  # links of merged /usr first
    for deb in debs:
        data = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
        with tarfile.open(fileobj=data.stdout, mode="r|") as archive:
            for member in archive:
                member.uid, member.gid, member.uname, member.gname = 0, 0, "", ""
                # Without setuid, which Nix refuses, and never out of the tree.
                archive.extract(member, root, filter="tar")
        if data.wait():
            sys.exit(f"error: dpkg-deb failed on {deb}")
    kernel = os.listdir(f"{root}/usr/lib/modules")[0]
    subprocess.run(["depmod", "-b", root, "-a", kernel], check=True)


main()
