"""Which files kernel modules need: their dependencies (modules.dep(5)) and soft dependencies (modprobe.d(5))."""
import os, re


def plain(path):
    """The name of a module. The kernel takes a dash for an underscore."""
    return re.sub(r"\.ko.*", "", os.path.basename(path)).replace("-", "_")


def lines(folder, name):
    """The lines of a file that depmod writes, without comments. A kernel may lack the file."""
    if not os.path.exists(f"{folder}/{name}"):
        return []
    with open(f"{folder}/{name}") as f:
        return [line.split() for line in f if line.strip() and not line.startswith("#")]


def closure(folder, wanted):
    """The files that modules need, relative to the folder of their kernel, and the modules that it does not have.

    A soft dependency may name an alias that several modules have, such as crc32c: each of them is taken. One that the kernel
    does not have is left out, as modprobe does.
    """
    depends, by_name, alternatives, soft = {}, {}, {}, {}
    for path, *needs in lines(folder, "modules.dep"):
        path = path.removesuffix(":")
        depends[path], by_name[plain(path)] = needs, path
    for _, alias, module in lines(folder, "modules.alias"):
        alternatives.setdefault(plain(alias), []).append(module)
    for _, module, *names in lines(folder, "modules.softdep"):
        soft.setdefault(module, []).extend(name for name in names if name not in ("pre:", "post:"))
    built_in = {plain(path) for path, in lines(folder, "modules.builtin")}
    absent = [module for module in wanted if module not in by_name and module not in built_in]
    todo, seen = [by_name[module] for module in wanted if module in by_name], set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        todo += depends[path]
        for name in map(plain, soft.get(plain(path), [])):
            todo += [by_name[module] for module in [name, *alternatives.get(name, [])] if module in by_name]
    return seen, absent
