"""Numbers of the users and groups that packages make: the same ones in every image of a line.

Scripts take the next free number, so a number depends on the order of packages. Here a name has the number that the lock
or ids.json says, or else one that follows from the name alone.
"""
import hashlib, json, os

HERE = os.path.dirname(os.path.abspath(__file__))
FIRST, LAST = 101, 989  # the numbers that Debian's scripts choose from; Fleeti's own user has 990


def table():
    with open(f"{HERE}/ids.json") as f:
        return json.load(f)


def numbers(names, fixed):
    """{name: number} of the names. `fixed` are numbers that a line has used; a number is never used again."""
    known = fixed | {name: number for name, number in table().items() if name not in fixed and number not in fixed.values()}
    taken = set(known.values())
    chosen = {}
    for name in sorted(names):
        if name in known:
            chosen[name] = known[name]
            continue
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % (LAST - FIRST + 1)
        while FIRST + number in taken:
            number = (number + 1) % (LAST - FIRST + 1)
        chosen[name] = FIRST + number
        taken.add(FIRST + number)
    return chosen


def renumber(root, fixed):
    """Gives the users and groups of a tree their numbers. Returns those of the names that scripts made."""
    rows = {}
    for name in ("passwd", "group"):
        with open(f"{root}/etc/{name}") as f:
            rows[name] = [line.split(":") for line in f.read().split("\n") if line]
    made = {row[0] for table in rows.values() for row in table if FIRST <= int(row[2]) <= 999}
    chosen = numbers(made, fixed)
    groups = {row[2]: str(chosen.get(row[0], row[2])) for row in rows["group"]}
    for row in rows["group"]:
        row[2] = groups[row[2]]
    for row in rows["passwd"]:
        row[2], row[3] = str(chosen.get(row[0], row[2])), groups.get(row[3], row[3])
    for name, table_rows in rows.items():
        with open(f"{root}/etc/{name}", "w") as f:
            f.write("".join(":".join(row) + "\n" for row in sorted(table_rows, key=lambda row: int(row[2]))))
    return chosen
