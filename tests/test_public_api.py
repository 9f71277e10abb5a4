"""What the package shows: names, signatures, types, and rooms that import in one direction."""

import ast
import importlib.metadata
import importlib.util
import inspect
import itertools
import os
import pkgutil
import subprocess
import sys
import types
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

import tsignals

NAMES = {
    "Signal",
    "receiver",
    "Connection",
    "WorkerPool",
    "Delivery",
    "Deliveries",
    "Outcomes",
    "Failure",
    "PoolStats",
    "Prepared",
    "background",
    "receiver_failed",
    "get_default_executor",
    "set_default_executor",
    "set_sync_runner",
    "TsignalsError",
    "PoolClosed",
    "QueueFull",
    "DeliveryDropped",
    "DeliveryLost",
}
PACKAGE = Path(tsignals.__file__).parent


TOOLS = {"__main__", "_demo"}


def modules() -> list[str]:
    """The modules and packages in the package, by name."""
    return sorted(module.name for module in pkgutil.iter_modules(tsignals.__path__))


def rooms() -> list[str]:
    """The modules of the core."""
    return [name for name in modules() if name.startswith("_") and name not in TOOLS]


def beside() -> list[str]:
    """What stands beside the core: modules that connect it to frameworks, and tools."""
    return [name for name in modules() if name not in rooms()]


def signature(function: Any) -> str:
    """The names, defaults and kinds of a function's parameters, without their types."""
    parameters = inspect.signature(function).parameters.values()
    bare = [each.replace(annotation=each.empty) for each in parameters]
    return str(inspect.Signature(bare))


def test_all_names_exactly_what_is_promised() -> None:
    assert sorted(tsignals.__all__) == sorted(NAMES)
    assert all(hasattr(tsignals, name) for name in NAMES)


def test_nothing_else_is_at_the_top_level_but_submodules() -> None:
    public = {name for name in vars(tsignals) if not name.startswith("_")}
    loaded = {name for name in public if isinstance(vars(tsignals)[name], types.ModuleType)}
    assert public - loaded == NAMES
    assert loaded <= set(modules())


def test_star_import_brings_the_names() -> None:
    namespace: dict[str, Any] = {}
    exec("from tsignals import *", namespace)
    assert namespace.keys() - {"__builtins__"} == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_says_what_it_is(name: str) -> None:
    thing = getattr(tsignals, name)
    assert inspect.getdoc(thing), f"{name} has no docstring"
    if isinstance(thing, type) or inspect.isfunction(thing):
        assert thing.__name__ == name


def test_public_methods_have_docstrings() -> None:
    for name in sorted(NAMES):
        thing = getattr(tsignals, name)
        if isinstance(thing, type):
            for method, value in vars(thing).items():
                if callable(value) and not method.startswith("_"):
                    assert inspect.getdoc(value), f"{name}.{method} has no docstring"


SHOWN = {
    "Signal": "asend asend_robust connect disconnect executor has_listeners here prepare receivers "
    "send send_async send_robust via",
    "Connection": "connected disconnect dispatch_uid ordered priority receiver sender tracked weak",
    "WorkerPool": "drain stats",
    "Delivery": "receiver sender signal",
    "Deliveries": "as_completed cancel futures outcomes results wait",
    "Outcomes": "errors raise_errors",
    "Failure": "attempts exception mode named queued_seconds ran_seconds receiver sender signal "
    "thread_name",
    "Prepared": "deliveries drop submit",
    "PoolStats": "cancelled completed dropped failed idle pending running submitted workers",
}


@pytest.mark.parametrize("name", SHOWN)
def test_public_classes_show_documented_names_only(name: str) -> None:
    shown = getattr(tsignals, name)
    inherited = {
        each
        for base in shown.__mro__
        if not base.__module__.startswith("tsignals")
        for each in dir(base)
    }
    public = {each for each in dir(shown) if not each.startswith("_")}
    assert public - inherited == set(SHOWN[name].split())


def test_public_objects_show_documented_names_only() -> None:
    with tsignals.WorkerPool(1) as pool:
        signal = tsignals.Signal(executor=pool)
        connection = signal.connect(lambda **named: None, weak=False)
        deliveries = signal.send_async(None)
        deliveries.wait(60)
        for thing in (signal, connection, pool, deliveries, deliveries[0][1]):
            attributes = set(vars(thing)) if hasattr(thing, "__dict__") else set()
            shown = {each for each in attributes if not each.startswith("_")}
            assert shown <= {"name", "providing_args", "use_caching", "signal"}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (
            tsignals.Signal,
            "(providing_args=None, use_caching=False, *, name=None, executor=None)",
        ),
        (
            tsignals.Signal.connect,
            "(self, receiver, sender=None, weak=True, dispatch_uid=None, *, "
            "priority=0, ordered=False, tracked=False)",
        ),
        (
            tsignals.Signal.disconnect,
            "(self, receiver=None, sender=None, dispatch_uid=None, *, wait=False)",
        ),
        (tsignals.Signal.has_listeners, "(self, sender=None)"),
        (tsignals.Connection.disconnect, "(self, wait=False)"),
        (tsignals.background, "(function=None, *, executor=None, ordered=False)"),
        (
            tsignals.WorkerPool,
            "(max_workers=None, *, max_pending=10000, overflow='block', block_timeout=None, "
            "thread_name_prefix='tsignals', initializer=None, initargs=(), around=None, idle=None)",
        ),
        (tsignals.WorkerPool.shutdown, "(self, wait=True, *, cancel_futures=False)"),
        (tsignals.WorkerPool.drain, "(self, timeout=None)"),
        (tsignals.WorkerPool.stats, "(self)"),
        (tsignals.Deliveries.wait, "(self, timeout=None)"),
        (tsignals.Deliveries.results, "(self, timeout=None)"),
        (tsignals.Deliveries.outcomes, "(self, timeout=None)"),
        (tsignals.Deliveries.as_completed, "(self, timeout=None)"),
        (tsignals.Deliveries.cancel, "(self)"),
        (tsignals.get_default_executor, "()"),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_signatures_are_as_promised(function: Any, expected: str) -> None:
    assert signature(function) == expected


@pytest.mark.parametrize("verb", ["send", "send_robust", "send_async", "asend", "asend_robust"])
def test_senders_and_named_values_are_all_that_a_send_takes(verb: str) -> None:
    parameters = list(inspect.signature(getattr(tsignals.Signal, verb)).parameters.values())
    assert [each.name for each in parameters][1:] == ["sender", "named"]
    assert [each.kind for each in parameters] == [
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_KEYWORD,
    ]


def test_types_extend_those_of_the_standard_library() -> None:
    assert issubclass(tsignals.WorkerPool, Executor)
    assert issubclass(tsignals.Delivery, Future)
    assert issubclass(tsignals.Deliveries, list)
    assert issubclass(tsignals.Outcomes, list)
    assert type(tsignals.receiver_failed) is tsignals.Signal


def test_errors_have_one_base() -> None:
    errors = {name for name in NAMES if name.endswith(("Error", "Closed", "Full"))}
    errors |= {"DeliveryDropped", "DeliveryLost"}
    assert len(errors) == 5
    for name in errors:
        error = getattr(tsignals, name)
        assert issubclass(error, tsignals.TsignalsError)
        assert issubclass(error, Exception)
    assert issubclass(tsignals.PoolClosed, RuntimeError)


def test_the_package_is_marked_as_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_the_package_needs_nothing_to_run() -> None:
    required = importlib.metadata.requires("tsignals") or []
    assert [each for each in required if "extra ==" not in each] == []


def test_importing_the_package_starts_no_thread_and_loads_no_other_package() -> None:
    code = (
        "import sys, threading\n"
        "before = set(sys.modules)\n"
        "import tsignals\n"
        "assert threading.active_count() == 1\n"
        "assert 'asyncio' not in sys.modules\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, timeout=150, text=True
    )
    assert (done.stdout.strip(), done.returncode) == ("['tsignals']", 0), done.stderr


@pytest.mark.parametrize(
    ("imported", "unwanted"),
    [
        ("tsignals", "asyncio tsignals.http tsignals.wsgi tsignals.asgi"),
        ("tsignals.http, tsignals.wsgi", "asyncio tsignals.asgi"),
        ("tsignals.http, tsignals.wsgi, tsignals.asgi", ""),
    ],
)
def test_signals_of_requests_load_no_framework_and_are_loaded_by_nobody_else(
    imported: str, unwanted: str
) -> None:
    code = (
        f"import sys, {imported}\n"
        f"assert not set({unwanted.split()!r}) & set(sys.modules)\n"
        "top = {name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names\n"
        "print(sorted(name for name in top if not name.startswith('_')))\n"
    )
    done = subprocess.run(  # -S: nothing that an installation loads at its start
        [sys.executable, "-S", "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        timeout=150,
        text=True,
    )
    assert (done.stdout.strip(), done.returncode) == ("['tsignals']", 0), done.stderr


# The rooms, as docs/explanation/design.md draws them.

DESIGN = PACKAGE.parent / "docs" / "explanation" / "design.md"
# These import asyncio, and are imported when they are first needed.
LATE = {"_aio", "_loop", "_sync_ones"}


def drawing() -> list[list[str]]:
    """The rooms, line by line, from the top."""
    _, _, block = DESIGN.read_text().partition("```rooms\n")
    known = {*rooms(), "__init__"}
    lines = block.partition("```")[0].splitlines()
    return [list(itertools.takewhile(known.__contains__, line.split())) for line in lines]


def statements(body: list[ast.stmt], late: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """All statements, and whether they are within a function."""
    for statement in body:
        yield statement, late
        within = late or isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef)
        for field in ("body", "orelse", "finalbody"):
            yield from statements(getattr(statement, field, []), within)
        for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            yield from statements(part.body, within)


def imports(room: str) -> set[tuple[str, bool]]:
    """The modules that a room imports, by full name, and whether it does so late."""
    return imports_of(PACKAGE / f"{room}.py")


def imports_of(path: Path) -> set[tuple[str, bool]]:
    room = path.stem
    found = set()
    for statement, late in statements(ast.parse(path.read_text()).body):
        if isinstance(statement, ast.Import):
            found |= {(alias.name, late) for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"{room} imports relatively"
            assert statement.module is not None
            if statement.module == "tsignals":
                names = {alias.name for alias in statement.names}
                parts = {name if name in rooms() else "__init__" for name in names}
                found |= {(f"tsignals.{part}", late) for part in parts}
            else:
                found.add((statement.module, late))
    return found


def own_imports(room: str) -> set[str]:
    """The rooms that a room imports, for annotations and within functions too."""
    names = {name for name, _ in imports(room) if name.startswith("tsignals.")}
    return {name.removeprefix("tsignals.") for name in names}


EVERY_ROOM = [*rooms(), "__init__"]


def test_every_room_is_in_the_drawing() -> None:
    assert sorted(itertools.chain(*drawing())) == sorted(EVERY_ROOM)


@pytest.mark.parametrize("room", EVERY_ROOM)
def test_rooms_import_from_the_lines_below_their_own(room: str) -> None:
    lines = drawing()
    [own] = [number for number, line in enumerate(lines) if room in line]
    assert own_imports(room) <= set(itertools.chain(*lines[own + 1 :]))


def reach(room: str) -> set[str]:
    """A room, and all that it imports through others."""
    found, left = set[str](), {room}
    while left:
        found |= left
        left = set[str]().union(*map(own_imports, left)) - found
    return found


def test_the_pool_knows_nothing_of_signals() -> None:
    assert not reach("_pool") & {"_signal", "_registry", "_plan", "_connection", "_dispatch"}


def test_the_registry_knows_nothing_of_threads_and_pools() -> None:
    assert not reach("_registry") & {"_pool", "_engine", "_delivery", "_dispatch", "_future"}


@pytest.mark.parametrize("late", sorted(LATE))
def test_asyncio_is_imported_when_it_is_first_needed(late: str) -> None:
    importing = {room for room in EVERY_ROOM if f"tsignals.{late}" in dict(imports(room))}
    assert importing
    assert all((f"tsignals.{late}", False) not in imports(room) for room in importing - LATE)


@pytest.mark.parametrize("room", EVERY_ROOM)
def test_rooms_import_the_standard_library_and_nothing_else(room: str) -> None:
    top = {name.partition(".")[0] for name, _ in imports(room)}
    assert top <= sys.stdlib_module_names | {"tsignals"}


def files_of(module: str) -> list[Path]:
    """The files of a module or a package."""
    return [
        path
        for path in (PACKAGE / f"{module}.py", *(PACKAGE / module).rglob("*.py"))
        if path.is_file()
    ]


@pytest.mark.parametrize("module", beside())
def test_what_connects_to_frameworks_uses_public_names_only(module: str) -> None:
    for path in files_of(module):
        for name, _ in imports_of(path):
            ours = name.partition(".")[0] == "tsignals"
            own = name.startswith(f"tsignals.{module}")
            assert own or not ours or name.split(".")[1] in {"__init__", *beside()}, (path, name)


def test_the_core_imports_nothing_of_what_stands_beside_it() -> None:
    for room in EVERY_ROOM:
        names = {name.partition(".")[2].partition(".")[0] for name, _ in imports(room)}
        assert not names & set(beside()), room


def test_the_shop_window_holds_no_logic() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr)
    assert all(isinstance(statement, allowed) for statement in tree.body)


def test_no_room_asserts_what_a_caller_may_get_wrong() -> None:
    """``assert`` is gone under ``-O``: arguments are checked with ``raise``."""
    for room in EVERY_ROOM:
        for function in ast.walk(ast.parse((PACKAGE / f"{room}.py").read_text())):
            if isinstance(function, ast.FunctionDef) and not function.name.startswith("_"):
                parameters = {each.arg for each in function.args.args} - {"self"}
                for statement in ast.walk(function):
                    if isinstance(statement, ast.Assert):
                        names = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)}
                        assert not names & parameters, f"{room}.{function.name}"


def test_the_package_can_be_found_without_being_imported() -> None:
    spec = importlib.util.find_spec("tsignals")
    assert spec is not None
    assert spec.origin is not None


def test_there_is_no_lock_in_the_package() -> None:
    """Changes are single atomic steps; so there is none to be held by whom one interrupts."""
    locks = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "allocate_lock"}
    sources = [*PACKAGE.glob("*.py")]
    assert len(sources) > 20
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            name = getattr(node, "attr", getattr(node, "id", getattr(node, "name", None)))
            assert name not in locks, f"{source.name}:{getattr(node, 'lineno', 0)} uses {name}"
