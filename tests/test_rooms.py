"""The rooms of the package: what may import what, how long they may be, and what none may hold.

``docs/explanation/design.md`` draws them; this reads the drawing and the imports.
"""

import ast
import contextlib
import dis
import itertools
import re
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from rooms import (
    FRONT,
    PACKAGE,
    TOOLS,
    below,
    beside,
    core,
    drawn_modules,
    drawn_packages,
    early_imports,
    imports_of,
    modules,
    own_imports,
    package_of,
    packages,
    path_of,
    reach,
    statements,
)

pytestmark = pytest.mark.once

CORE = core()
INNER = [package for package in packages() if package != FRONT]
DRAWN = {**packages(), "sqlalchemy": [p.stem for p in (PACKAGE / "sqlalchemy").glob("*.py")]}


def names_in(module: str) -> str:
    return module.partition(".")[2] or module


# -- One direction --


def test_every_package_is_in_the_drawing() -> None:
    drawn = [name for line in drawn_packages() for name, _ in line]
    assert sorted(drawn) == sorted(packages())


@pytest.mark.parametrize("package", DRAWN)
def test_every_room_is_in_the_drawing(package: str) -> None:
    drawn = drawn_modules(DRAWN).get(package, [])
    assert sorted(itertools.chain(*drawn)) == sorted(DRAWN[package])


@pytest.mark.parametrize("module", CORE)
def test_packages_import_from_the_lines_below_their_own(module: str) -> None:
    lines = drawn_packages()
    own = package_of(module)
    [(at, side)] = [(n, s) for n, line in enumerate(lines) for name, s in line if name == own]
    under = {name for line in lines[at + 1 :] for name, other in line if side * other >= 0}
    imported = {other for other in own_imports(module) if other not in beside()}
    above = {other for other in imported if package_of(other) not in under | {own}}
    assert not above, f"{module} imports {sorted(above)}"


@pytest.mark.parametrize("module", [each for each in CORE if each not in INNER])
def test_rooms_import_from_the_lines_below_their_own(module: str) -> None:
    own = package_of(module)
    imported = {names_in(other) for other in own_imports(module) if package_of(other) == own}
    above = imported - below(drawn_modules(DRAWN)[own], names_in(module))
    assert not above, f"{module} imports {sorted(above)}"


@pytest.mark.parametrize("module", DRAWN["sqlalchemy"])
def test_rooms_of_sqlalchemy_import_from_the_lines_below_their_own(module: str) -> None:
    imported = own_imports("sqlalchemy" if module == "__init__" else f"sqlalchemy.{module}")
    own = {names_in(other) for other in imported if other.startswith("sqlalchemy.")}
    assert own <= below(drawn_modules(DRAWN)["sqlalchemy"], module)


def all_in(*some: str) -> list[str]:
    return [module for module in CORE if package_of(module) in some]


def test_the_pool_knows_nothing_of_signals() -> None:
    reached = {package_of(module) for module in reach(*all_in("_pool"))}
    assert reached == {"_pool", "_base"}


def test_who_is_connected_and_how_they_are_called_knows_nothing_of_pools() -> None:
    reached = {package_of(module) for module in reach(*all_in("_registry", "_calling"))}
    assert reached <= {"_registry", "_calling", "_base"}


def test_the_registry_knows_nothing_of_threads() -> None:
    for module in all_in("_registry"):
        imported = {name for name, _ in imports_of(path_of(module))}
        assert not imported & {"threading", "queue", "concurrent.futures"}, module


@pytest.mark.parametrize("package", INNER)
def test_every_package_says_what_lives_there_and_holds_nothing_itself(package: str) -> None:
    tree = ast.parse(path_of(package).read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{package} has no docstring"
    assert len(tree.body) == 1, f"{package} holds more than its docstring"


def test_asyncio_is_imported_when_it_is_first_needed() -> None:
    need_it = {module for module in CORE if ("asyncio", False) in imports_of(path_of(module))}
    assert need_it
    assert not need_it & reach("__init__", imports=early_imports)


@pytest.mark.parametrize("module", CORE)
def test_rooms_import_the_standard_library_and_nothing_else(module: str) -> None:
    top = {name.partition(".")[0] for name, _ in imports_of(path_of(module))}
    assert top <= sys.stdlib_module_names | {"tsignals"}


# -- The core, and what stands beside it --


def files_of(module: str) -> list[Path]:
    """The files of a module or a package."""
    paths = (PACKAGE / f"{module}.py", *(PACKAGE / module).rglob("*.py"))
    return [path for path in paths if path.is_file()]


SEAM = {
    "_base.observers",
    "_base.telling",
    "_base.watches",
    "_calling.sends",
    "_delivery.watched",
}
"""What tells observers."""
TELLS = re.compile(r"announce\(plan|\.awaited\(|@observed|watch\.(?:call|start_in|end_in|done)\b")
"""How the rest of the core has them told."""


def test_observers_are_told_from_few_places() -> None:
    found = [
        f"{module}: {line.strip()}"
        for module in CORE
        if module not in SEAM
        for line in path_of(module).read_text("utf-8").splitlines()
        if TELLS.search(line)
    ]
    assert len(found) == PLACES, found


OPENS = {
    ("django", "_base.definition"),
    ("testing", "_base.definition"),
    ("inspecting", "_base.definition"),
    ("inspecting", "_base.log"),
    ("inspecting", "_registry.shown"),
    ("observing", "_base.definition"),
    ("observing", "_base.events"),
    ("observing", "_base.observers"),
    ("observing", "_base.overrides"),
    ("observing", "_base.slow"),
    ("observing", "_pool.pool"),
    ("observing", "_pool.stats"),
    ("observing", "_registry.naming"),
    ("observing", "_registry.receiver"),
    ("observing", "_signal"),
    ("testing", "_base.event_loops"),
    ("testing", "_base.identity"),
    ("testing", "_base.inbox"),
    ("testing", "_base.log"),
    ("testing", "_base.overrides"),
    ("testing", "_base.stacks"),
    ("testing", "_base.events"),
    ("testing", "_base.timeouts"),
    ("testing", "_default"),
    ("tracing", "_base.event_loops"),
    ("tracing", "_base.events"),
    ("tracing", "_base.identity"),
    ("tracing", "_base.inbox"),
    ("tracing", "_base.timeouts"),
}
"""Which public module shows or sets what is in the core, and where that is."""


@pytest.mark.parametrize("module", beside())
def test_what_connects_to_frameworks_uses_public_names_only(module: str) -> None:
    for path in files_of(module):
        for name, _ in imports_of(path):
            ours = name.partition(".")[0] == "tsignals"
            own = name.startswith(f"tsignals.{module}")
            own = own or (module, name.removeprefix("tsignals.")) in OPENS
            assert own or not ours or name.split(".")[1] in {"__init__", *beside()}, (path, name)


@pytest.mark.parametrize("module", beside())
def test_no_public_module_takes_a_private_name_of_another(module: str) -> None:
    for path in files_of(module):
        for statement, _ in statements(ast.parse(path.read_text("utf-8")).body):
            if isinstance(statement, ast.ImportFrom) and statement.module is not None:
                of = statement.module.removeprefix("tsignals.")
                if of in beside() and module != "__main__" and of != module:
                    private = [each.name for each in statement.names if each.name[0] == "_"]
                    assert not private, (path, of)


def test_the_core_imports_nothing_of_what_stands_beside_it() -> None:
    for module in CORE:
        names = {name.partition(".")[0] for name in own_imports(module)}
        assert not names & set(beside()), module


def test_the_shop_window_holds_no_logic() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr)
    assert all(isinstance(statement, allowed) for statement in tree.body)


# -- What none of them holds --


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_room_asserts_what_a_caller_may_get_wrong() -> None:
    """``assert`` is gone under ``-O``: arguments are checked with ``raise``."""
    for module in CORE:
        for function in functions(ast.parse(path_of(module).read_text(encoding="utf-8"))):
            if not function.name.startswith("_"):
                parameters = {each.arg for each in function.args.args} - {"self"}
                for statement in ast.walk(function):
                    if isinstance(statement, ast.Assert):
                        names = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)}
                        assert not names & parameters, f"{module}.{function.name}"


def test_there_is_no_lock_in_the_core() -> None:
    """Changes are single atomic steps; so there is none to be held by whom one interrupts.

    But for one that guards nothing: a thread sleeps on it, and whoever wakes it lets go of it.
    """
    locks = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "allocate_lock"}
    assert len(CORE) > 30
    core = [path_of(module) for module in CORE if module != "_base.inbox"]
    for source in core + [*PACKAGE.glob("*.py")]:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            name = getattr(node, "attr", getattr(node, "id", getattr(node, "name", None)))
            assert name not in locks, f"{source}:{getattr(node, 'lineno', 0)} uses {name}"


# -- The one door for tests --

TESTS = Path(__file__).parent
# What other libraries call their own inside, and tests ask for.
FOREIGN = {
    "_base",  # concurrent.futures
    "_condition",
    "_create_and_install_waiters",
    "_done_callbacks",  # concurrent.futures
    "_dumps",  # pickle
    "_fields",  # named tuples
    "_get_current_object",  # werkzeug
    "_get_func_parameters",  # django.utils.inspect
    "_is_coroutine",  # asyncio
    "_replace",
    "_state",  # what concurrent.futures reads in any future
}


def scripts(tree: ast.AST) -> Iterator[ast.AST]:
    """What other processes are given to run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value:
            with contextlib.suppress(SyntaxError):
                yield ast.parse(textwrap.dedent(node.value))


def is_ours(node: ast.Attribute, own: set[str]) -> bool:
    """Whether this may be a private attribute of an object of ours."""
    of = node.value
    if isinstance(of, ast.Name) and of.id in {"self", "cls", "os", "sys", "threading"}:
        return False
    return node.attr.startswith("_") and not node.attr.endswith("__") and node.attr not in own


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.stem)
def test_tests_reach_into_the_inside_through_one_door(path: Path) -> None:
    if path.name == "inside.py":
        return
    text = path.read_text("utf-8")
    named = re.findall(r"\btsignals\.(_[a-z]\w*)", text)
    named += re.findall(r"\bfrom tsignals(?:\.\w+)? import [^\n(]*\b_[a-z]\w*", text)
    assert set(named) <= TOOLS
    tree = ast.parse(text)
    own = {each.name for each in functions(tree)}  # of the classes of this test
    nodes = itertools.chain(*map(ast.walk, [tree, *scripts(tree)]))
    private = [n for n in nodes if isinstance(n, ast.Attribute) and is_ours(n, own)]
    assert not [f"{n.lineno}: {n.attr}" for n in private if n.attr not in FOREIGN]


# -- How much of it --

CATCH_ALL = 18  # handlers of BaseException in the core; fewer would be better, and more is no good
PLACES = 8  # that tell observers, but for the seam itself; 6 would be better, and more is no good
ANY = 52  # uses of Any; to be lowered with each that goes


def sources() -> Iterator[tuple[str, str]]:
    """The name of each file, and its text."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).with_suffix("").as_posix(), path.read_text("utf-8")


def test_no_file_has_more_than_300_lines() -> None:
    assert [name for name, text in sources() if text.count("\n") > 300] == []


def test_no_function_has_more_than_50_lines() -> None:
    long = [
        f"{name}:{function.name}"
        for name, text in sources()
        for function in functions(ast.parse(text))
        if function.end_lineno - function.lineno >= 50  # type: ignore[operator]
    ]
    assert long == []


def test_few_handlers_of_every_exception_are_in_the_core() -> None:
    texts = [path_of(module).read_text("utf-8") for module in CORE]
    handlers = sum(len(re.findall(r"\bexcept BaseException\b", text)) for text in texts)
    assert handlers == CATCH_ALL, "fewer is better: then lower CATCH_ALL; more is no good"


def test_few_things_are_of_any_type() -> None:
    found = sum(
        len(re.findall(r"\bAny\b", line))
        for _, text in sources()
        for line in text.splitlines()
        if not line.startswith("from typing import")
    )
    assert found == ANY, "fewer is better: then lower ANY; more is no good"


def test_what_stands_here_is_all_of_the_package() -> None:
    front = [module for module in CORE if package_of(module) == FRONT]
    assert set(modules()) | {"__init__"} == {*front, *INNER, *beside()}


# What CPython 3.13 leaves out of a ``try`` and matters to nobody: its ``finally`` only lets go of
# references, or it runs in a thread in which no signal handler does.
HALF_PROTECTED = {
    "_base.atomic.AtomicReference.compare_and_set",
    "_base.atomic.AtomicReference.get",
    "_base.stacks._suspended_in",
    "_calling.group.Group.run",
    "_pool.atomic_state.AtomicState._look",
    "_pool.atomic_state.AtomicState.add",
    "_pool.atomic_state.AtomicState.admit",
    "_pool.atomic_state.AtomicState.needs_workers",
    "_pool.drops.Drops.log",
    "_pool.drops.Drops.take_lost",
    "_pool.lanes.join",
    "_pool.lanes.standing_before",
    "_pool.pool._each_result",  # a generator's own handler
    "_pool.waiting._as_told",  # the same
}


def half_protected(code: types.CodeType) -> Iterator[str]:
    """The functions in which a jump back is in no ``try``, though both its ends are."""
    bytecode, before = dis.Bytecode(code), 0

    def handlers(offset: int) -> set[int]:
        entries = bytecode.exception_entries  # type: ignore[attr-defined]
        return {each.target for each in entries if each.start <= offset < each.end}

    for each in bytecode:
        if each.opname == "JUMP_BACKWARD":
            if (handlers(each.argval) & handlers(before)) - handlers(each.offset):
                yield code.co_qualname
        before = each.offset
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from half_protected(constant)


@pytest.mark.skipif(sys.version_info[:2] != (3, 13), reason="each CPython has its own")
def test_no_loop_that_an_interrupt_must_not_leave_jumps_back_inside_of_a_try() -> None:
    found = {
        f"{module}.{name}"
        for module in CORE
        for name in half_protected(compile(path_of(module).read_text("utf-8"), module, "exec"))
    }
    assert found == HALF_PROTECTED, "let the loop be a function, and call that in the try"
