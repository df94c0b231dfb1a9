"""The unsigned UKI, built with ukify, and its predicted measurements.

usage: uki.py ROOT INITRD OUT   (COMMAND_LINE, SBAT and PCR name files)
"""
import os, re, shutil, subprocess, sys

ROOT, INITRD, OUT = sys.argv[1:4]
BOOT = "/usr/lib/systemd/boot/efi"


def read(path):
    with open(path) as f:
        return f.read()


def main():
    os.makedirs(OUT)
    root_hash = read(f"{ROOT}/roothash").strip()
    if not re.fullmatch("[0-9a-f]{64}", root_hash):
        sys.exit("error: veritysetup printed no root hash")
    template = read(os.environ["COMMAND_LINE"])
    if template.count("@ROOT_HASH@") != 1:
        sys.exit("error: the command line has no placeholder for the root hash")
    # As files: ukify uses their content unchanged.
    with open("cmdline", "w") as f:
        f.write(template.replace("@ROOT_HASH@", root_hash))
    with open(f"{OUT}/pcr11.txt", "w") as measured:
        subprocess.run(
            ["ukify", "build", f"--linux={ROOT}/vmlinuz", f"--initrd={INITRD}/initrd.zst", f"--os-release=@{ROOT}/os-release",
             "--cmdline=@cmdline", f"--uname={read(f'{ROOT}/kernel-version')}", f"--stub={BOOT}/linuxx64.efi.stub",
             f"--sbat=@{os.environ['SBAT']}", f"--pcrpkey={os.environ['PCR']}", "--measure", f"--output={OUT}/uki.efi"],
            stdout=measured, check=True)
    shutil.copyfile(f"{BOOT}/systemd-bootx64.efi", f"{OUT}/systemd-boot.efi")
    version = subprocess.run(["systemd-measure", "--version"], capture_output=True, text=True, check=True).stdout
    with open(f"{OUT}/systemd-version", "w") as f:
        f.write(version.split("\n")[0] + "\n")


main()
