"""Prints the reference of the Python package as Markdown: python3 python_reference.py PACKAGE_FOLDER

Reads the sources only; the package need not be installed.
"""
import ast, os, sys

folder = sys.argv[1]
# What callers do not see; the operations for asyncio are those of `_resources`.
HIDDEN = ("__init__.py", "_aio.py", "_base.py", "_extras.py", "_aio_extras.py", "_aio_resources.py")


def signature(node, skip_self):
    """The head of a function, without its decorators and its first argument if that is `self`."""
    node.body, node.decorator_list = [ast.Expr(ast.Constant(...))], []
    if skip_self and node.args.args:
        node.args.args.pop(0)
    return ast.unparse(node).removesuffix(":\n    ...").replace("\n", " ")


def words(node):
    return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())


def is_public(name):
    return not name.startswith("_")


def show_class(node):
    bases = ", ".join(ast.unparse(b) for b in node.bases)
    print(f"\n### {node.name}\n")
    print(words(node) or f"A kind of `{bases}`." if bases else words(node))
    lines = []
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and is_public(ast.unparse(part.target)):
            lines.append(f"{ast.unparse(part.target)}: {ast.unparse(part.annotation)}")
        elif isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)) and is_public(part.name):
            said = words(part)
            lines.append(signature(part, True) + (f"  # {said}" if said else ""))
    if lines:
        print("\n```python\n" + "\n".join(lines) + "\n```")


names = sorted(os.listdir(folder), key=lambda n: (n in ("models.py",), n.lstrip("_")))
print("# Python\n\nThe package `fleeti`, module by module. Names that begin with an underscore are internal;")
print("their public classes are reached from `fleeti`. Examples: [fleeti for Python](../../bindings/python/index.md).")
for name in names:
    if not name.endswith((".py", ".pyi")) or name in HIDDEN:
        continue
    tree = ast.parse(open(os.path.join(folder, name), encoding="utf-8").read())
    shown = [n for n in tree.body if isinstance(n, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and is_public(n.name)]
    if not shown:
        continue
    print(f"\n## fleeti.{name.rsplit('.', 1)[0]}\n\n{words(tree)}")
    for node in shown:
        if isinstance(node, ast.ClassDef):
            show_class(node)
        else:
            print(f"\n### {node.name}\n\n{words(node)}\n\n```python\n{signature(node, False)}\n```")
