"""Runs a command, and all that it starts, where it can write into one tree and reach no process of the build.

usage: apart.py outside ROOT COMMAND...

The command has its own ids of processes, so that nothing of it goes on after its end, and its own mounts, so that nothing
that it mounts hides a file afterwards. Mounts outside of the tree are read-only, and settings of the kernel. Further user
namespaces keep it from changing that, and from reaching processes outside through an earlier /proc.
"""
import os, re, subprocess, sys

BUSYBOX = os.environ["B"]
KERNEL = ("acpi", "bus", "fs", "irq", "sys", "sysrq-trigger")  # of /proc


def mounts():
    """Paths of what is mounted, once for each mount (proc(5), mountinfo)."""
    with open("/proc/self/mountinfo") as f:
        paths = [line.split()[4] for line in f]
    return [re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), path) for path in paths]


def mount(*words):
    subprocess.run([BUSYBOX, "mount", *words], check=True)


def is_writable(path, root):
    """Whether the command may write into what is mounted there."""
    return f"{path}/".startswith(f"{root}/") and not f"{path}/".startswith(f"{root}/run/fleeti/debs/")


def again(stage, root, command, *options):
    os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--mount", *options, sys.executable, __file__, stage, root, *command])


def outside(root, command):
    for path in mounts():
        # A new proc may not show more than the one that is there: that one stays writable, below it.
        if not is_writable(path, root) and path != "/proc":
            mount("-o", "remount,bind,ro", path)
    again("processes", root, command, "--pid", "--fork", "--kill-child")


def processes(root, command):
    mount("-t", "tmpfs", "-o", "mode=1777", "none", "/tmp")
    for proc in ("/proc", f"{root}/proc"):
        mount("-t", "proc", "none", proc)
        # Where root builds, the id of the build is root's, and these are the kernel's settings.
        for path in (f"{proc}/{name}" for name in KERNEL if os.path.lexists(f"{proc}/{name}")):
            mount("--bind", path, path)
            mount("-o", "remount,bind,ro", path)
    again("command", root, command)


def run(root, command):
    before = mounts()
    code = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
    more = sorted({path for path in mounts() if path not in before})
    for path in more:
        print(f"error: a script of a package mounted something at {path.removeprefix(root)}", file=sys.stderr)
    sys.exit(1 if code or more else 0)


if __name__ == "__main__":
    {"outside": outside, "processes": processes, "command": run}[sys.argv[1]](sys.argv[2], sys.argv[3:])
