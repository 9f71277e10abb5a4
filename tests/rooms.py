"""The rooms of the package: as docs/explanation/design.md draws them, and as they import."""

import ast
import functools
import itertools
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path

import tsignals

PACKAGE = Path(tsignals.__file__).parent
DESIGN = Path(__file__).parents[1] / "docs" / "explanation" / "design.md"
FRONT = "front"
TOOLS = {"__main__", "_demo"}

Line = list[tuple[str, int]]
"""The names in a line of a drawing, each with the side of the bar on which it stands."""


def modules() -> list[str]:
    """The modules and packages in the package, by name."""
    return sorted(module.name for module in pkgutil.iter_modules(tsignals.__path__))


@functools.cache
def beside() -> list[str]:
    """What stands beside the core: modules that connect it to frameworks, and tools."""
    return [name for name in modules() if not name.startswith("_") or name in TOOLS]


def packages() -> dict[str, list[str]]:
    """The packages of the core, and the modules in each but for its ``__init__``."""
    found = {FRONT: ["__init__"]}
    for name in modules():
        if name in beside():
            continue
        if (PACKAGE / name).is_dir():
            found[name] = sorted(
                path.stem for path in (PACKAGE / name).glob("*.py") if path.stem != "__init__"
            )
        else:
            found[FRONT].append(name)
    return found


def core() -> list[str]:
    """All modules of the core: ``_signal``, ``_pool.state``; ``_pool`` is what stands in its
    ``__init__``.
    """
    inner = packages()
    front = inner.pop(FRONT)
    return [*front, *inner, *(f"{package}.{each}" for package in inner for each in inner[package])]


def path_of(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def package_of(module: str) -> str:
    package, dot, _ = module.partition(".")
    return package if dot or (PACKAGE / package).is_dir() else FRONT


# -- What is drawn --


def blocks(kind: str) -> Iterator[list[str]]:
    """The lines of each fenced block of a kind."""
    for part in DESIGN.read_text(encoding="utf-8").split(f"```{kind}\n")[1:]:
        yield part.partition("```")[0].splitlines()


@functools.cache
def drawn_packages() -> list[Line]:
    """The packages of the core, line by line from the top."""
    [lines] = blocks("packages")
    known = packages()
    drawn = []
    for line in lines:
        words = iter(line.split())
        names: Line = []
        side = 0
        for word in itertools.takewhile(lambda word: word in known or word == "|", words):
            if word == "|":
                side = 1
                names = [(name, -1) for name, _ in names]
            else:
                names.append((word, side))
        drawn.append(names)
    return drawn


def drawn_modules(known: dict[str, list[str]]) -> dict[str, list[list[str]]]:
    """For each package in ``known`` its modules, line by line from the top."""
    drawn: dict[str, list[list[str]]] = {}
    for lines in blocks("rooms"):
        for line in lines:
            if not line.startswith(" "):
                package = line.strip()
            elif package in known:
                names = line.strip().partition("   ")[0].split()  # what they are for comes after
                drawn.setdefault(package, []).append(names)
    return drawn


def below(lines: list[list[str]], name: str) -> set[str]:
    """What stands in the lines under that of ``name``."""
    [own] = [number for number, line in enumerate(lines) if name in line]
    return set(itertools.chain(*lines[own + 1 :]))


# -- What is imported --


def statements(body: list[ast.stmt], late: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """All statements, and whether they are within a function, or for type checkers alone."""
    for statement in body:
        yield statement, late
        within = late or isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(statement, ast.If):
            within = within or ast.unparse(statement.test) == "TYPE_CHECKING"
        for field in ("body", "orelse", "finalbody"):
            yield from statements(getattr(statement, field, []), within)
        for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            yield from statements(part.body, within)


@functools.cache
def imports_of(path: Path) -> frozenset[tuple[str, bool]]:
    """The modules that a file imports, by full name, and whether it does so late or never."""
    found = set()
    for statement, late in statements(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(statement, ast.Import):
            found |= {(alias.name, late) for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"{path} imports relatively"
            assert statement.module is not None
            for alias in statement.names:
                found.add((source(statement.module, alias.name), late))
    return frozenset(found)


def source(module: str, name: str) -> str:
    """The module that ``from module import name`` needs."""
    if module.partition(".")[0] != "tsignals":
        return module
    inner = f"{module}.{name}".partition(".")[2]
    if path_of(inner).is_file():
        return f"tsignals.{inner}"
    return "tsignals.__init__" if module == "tsignals" else module


def own_imports(module: str) -> set[str]:
    """The modules of ours that one imports, for annotations and within functions too."""
    names = {name for name, _ in imports_of(path_of(module)) if name.startswith("tsignals.")}
    return {name.removeprefix("tsignals.") for name in names}


def early_imports(module: str) -> set[str]:
    """Those of them that are imported when this one is."""
    names = {name for name, late in imports_of(path_of(module)) if not late}
    return {name.removeprefix("tsignals.") for name in names if name.startswith("tsignals.")}


def reach(*modules: str, imports: Callable[[str], set[str]] = own_imports) -> set[str]:
    """Modules, and all of ours that they import through others."""
    found, left = set[str](), set(modules)
    while left:
        found |= left
        left = set[str]().union(*map(imports, left)) - found
    return found
