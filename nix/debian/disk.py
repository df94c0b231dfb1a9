"""The unsigned disk image, by systemd-repart: ESP, slot A filled, slot B empty.

usage: disk.py PARTITIONS.json ROOT UKI OUT
"""
import json, os, shutil, subprocess, sys

DEFS, ROOT, UKI, OUT = sys.argv[1:5]
EPOCH = os.environ["SOURCE_DATE_EPOCH"]


def main():
    spec = json.load(open(DEFS))
    work = os.path.abspath("disk")
    for folder in ("EFI/BOOT", "EFI/systemd", "EFI/Linux", "loader"):
        os.makedirs(f"{work}/esp/{folder}")
    os.makedirs(f"{work}/defs")
    shutil.copyfile(f"{UKI}/systemd-boot.efi", f"{work}/esp/EFI/BOOT/BOOTX64.EFI")
    shutil.copyfile(f"{UKI}/systemd-boot.efi", f"{work}/esp/EFI/systemd/systemd-bootx64.efi")
    shutil.copyfile(f"{UKI}/uki.efi", f"{work}/esp/EFI/Linux/{spec['uki_name']}")
    with open(f"{work}/esp/loader/loader.conf", "w") as f:
        f.write("timeout 0\neditor no\nconsole-mode keep\n")
    subprocess.run(["find", f"{work}/esp", "-exec", "touch", "-hd", f"@{EPOCH}", "{}", "+"], check=True)
    root_hash = open(f"{ROOT}/roothash").read().strip()
    guid = lambda h: f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:32]}"
    values = {"ROOT": ROOT, "ROOT_UUID": guid(root_hash[:32]), "VERITY_UUID": guid(root_hash[32:])}
    for name, text in spec["definitions"].items():
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        with open(f"{work}/defs/{name}", "w") as f:
            f.write(text)
    os.makedirs(OUT)
    # 512-byte sectors in the FAT as well: the only size that both firmware and mtools support.
    result = subprocess.run(
        ["systemd-repart", "--empty=create", "--size=auto", "--dry-run=no", "--offline=yes", "--architecture=x86-64",
         "--sector-size=512", f"--seed={spec['seed']}", f"--copy-source={work}", f"--definitions={work}/defs", "--no-pager",
         f"{OUT}/disk.raw"], capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)


main()
