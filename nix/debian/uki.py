"""The unsigned UKI, built with ukify, and its predicted measurements.

usage: uki.py ROOT INITRD OUT   (COMMAND_LINE, SBAT and PCR name files)
"""
import glob, os, re, shutil, subprocess, sys
from archive import write_cpio

ROOT, INITRD, OUT = sys.argv[1:4]
BOOT = "/usr/lib/systemd/boot/efi"


def read(path):
    with open(path) as f:
        return f.read()


def microcode(vendors):
    """An uncompressed archive with the microcode of these vendors, each VENDOR=TREE. None without vendors."""
    for vendor, tree in (vendor.split("=") for vendor in vendors):
        folder, name = {"amd": ("amd-ucode", "AuthenticAMD.bin"), "intel": ("intel-ucode", "GenuineIntel.bin")}[vendor]
        parts = sorted(glob.glob(f"{tree}/root/usr/lib/firmware/{folder}/*"))
        parts = [part for part in parts if re.search("[.]bin$|/[0-9a-f]{2}-[0-9a-f]{2}-[0-9a-f]{2}$", part)]
        if not parts:
            sys.exit(f"error: hardware.firmware: the packages have no microcode in /usr/lib/firmware/{folder}")
        os.makedirs("early/kernel/x86/microcode", exist_ok=True)
        with open(f"early/kernel/x86/microcode/{name}", "wb") as f:
            for part in parts:
                with open(part, "rb") as g:
                    f.write(g.read())
    if vendors:
        write_cpio("early", "early.cpio", int(os.environ["SOURCE_DATE_EPOCH"]))
    return ["early.cpio"] if vendors else []


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
    # The kernel looks for microcode before it unpacks the initrd (Documentation/arch/x86/microcode.rst).
    initrds = [f"--initrd={initrd}" for initrd in [*microcode(os.environ["MICROCODE"].split()), f"{INITRD}/initrd.zst"]]
    with open(f"{OUT}/pcr11.txt", "w") as measured:
        subprocess.run(
            ["ukify", "build", f"--linux={ROOT}/vmlinuz", *initrds, f"--os-release=@{ROOT}/os-release",
             "--cmdline=@cmdline", f"--uname={read(f'{ROOT}/kernel-version')}", f"--stub={BOOT}/linuxx64.efi.stub",
             f"--sbat=@{os.environ['SBAT']}", f"--pcrpkey={os.environ['PCR']}", "--measure", f"--output={OUT}/uki.efi"],
            stdout=measured, check=True)
    shutil.copyfile(f"{BOOT}/systemd-bootx64.efi", f"{OUT}/systemd-boot.efi")
    version = subprocess.run(["systemd-measure", "--version"], capture_output=True, text=True, check=True).stdout
    with open(f"{OUT}/systemd-version", "w") as f:
        f.write(version.split("\n")[0] + "\n")


main()
