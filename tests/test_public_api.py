"""What the package shows: names, signatures, types, and rooms that import in one direction."""

import importlib.metadata
import importlib.util
import inspect
import os
import sys
import types
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import Any

import inside
import processes
import pytest
from rooms import PACKAGE, modules

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
    "Namespace",
    "PoolStats",
    "Prepared",
    "Retry",
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


def signature(function: Any) -> str:
    """The names, defaults and kinds of a function's parameters, without their types."""
    parameters = inspect.signature(function).parameters.values()
    bare = [each.replace(annotation=each.empty) for each in parameters]
    return str(inspect.Signature(bare))


def test_all_names_exactly_what_is_promised() -> None:
    assert sorted(tsignals.__all__) == sorted(NAMES)
    assert all(hasattr(tsignals, name) for name in NAMES)


def test_nothing_else_is_at_the_top_level_but_submodules() -> None:
    # What begins with "@" is pytest's, for which the package is a plugin, too.
    public = {name for name in vars(tsignals) if not name.startswith(("_", "@"))}
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
    "Signal": "asend asend_robust connect declare disconnect executor has_listeners here prepare "
    "receivers send send_async send_robust via",
    "Connection": "connected disconnect dispatch_uid once ordered priority receiver retry "
    "sender tracked weak",
    "WorkerPool": "all drain stats unfinished",
    "Delivery": "receiver sender signal",
    "Deliveries": "as_completed cancel futures outcomes results wait",
    "Outcomes": "errors raise_errors",
    "Failure": "attempts exception mode named queued_seconds ran_seconds receiver sender signal "
    "thread_name",
    "Prepared": "deliveries drop submit",
    "PoolStats": "cancelled completed dropped failed idle pending refused running submitted "
    "workers",
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


@pytest.fixture
def sent() -> Iterator[Any]:
    """A pool, a signal, its connection, and the deliveries of a send that is over."""
    with tsignals.WorkerPool(1) as pool:
        signal = tsignals.Signal(executor=pool)
        connection = signal.connect(lambda **named: None, weak=False)
        deliveries = signal.send_async(None)
        deliveries.wait(60)
        yield pool, signal, connection, deliveries


def test_what_is_made_often_or_for_long_keeps_no_dictionary(sent: Any) -> None:
    pool, signal, connection, deliveries = sent
    failure = tsignals.Failure(signal, None, print, Exception(), "send", "", 0.0, 0.0)
    core = inside.core_of(pool)
    for thing in (connection, deliveries, failure, core, core.config):
        assert not hasattr(thing, "__dict__"), type(thing)


def test_public_objects_show_documented_names_only(sent: Any) -> None:
    pool, signal, connection, deliveries = sent
    for thing in (signal, connection, pool, deliveries, deliveries[0][1]):
        attributes = set(vars(thing)) if hasattr(thing, "__dict__") else set()
        shown = {each for each in attributes if not each.startswith("_")}
        assert shown <= {"name", "providing_args", "use_caching", "signal"}


async def hears_on_the_loop(**named: object) -> None:
    pass


@pytest.mark.parametrize(
    "options",
    [{}, {"ordered": True}, {"tracked": True}, {"retry": tsignals.Retry(OSError)}],
    ids=lambda options: " ".join(options) or "plain",
)
@pytest.mark.parametrize("receivers", ["one", "two", "async", "held"])
def test_every_delivery_shows_documented_names_only(receivers: str, options: Any) -> None:
    with tsignals.WorkerPool(1) as pool:
        signal = tsignals.Signal(executor=pool)
        for uid in range(1, 3 if receivers == "two" else 2):
            receiver: Any = hears_on_the_loop if receivers == "async" else lambda **named: None
            signal.connect(receiver, weak=False, dispatch_uid=uid, **options)
        if receivers == "held":
            prepared = signal.prepare(None)
            prepared.submit()
            deliveries = prepared.deliveries
        else:
            deliveries = signal.send_async(None)
        for delivery in deliveries.futures:
            shown = {each for each in dir(delivery) if not each.startswith("_")}
            assert shown - {*dir(Future())} == {"receiver", "sender", "signal"}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (
            tsignals.Signal,
            "(providing_args=None, use_caching=False, *, name=None, executor=None, "
            "slow_after=None)",
        ),
        (
            tsignals.Signal.connect,
            "(self, receiver, sender=None, weak=True, dispatch_uid=None, *, "
            "priority=0, ordered=False, tracked=False, once=False, retry=None)",
        ),
        (
            tsignals.Signal.disconnect,
            "(self, receiver=None, sender=None, dispatch_uid=None, *, wait=False)",
        ),
        (tsignals.Signal.has_listeners, "(self, sender=None)"),
        (tsignals.Connection.disconnect, "(self, wait=False)"),
        (tsignals.background, "(function=None, *, executor=None, ordered=False, retry=None)"),
        (
            tsignals.WorkerPool,
            "(max_workers=None, *, max_pending=10000, overflow='block', block_timeout=None, "
            "thread_name_prefix='tsignals', initializer=None, initargs=(), around=None, idle=None)",
        ),
        (tsignals.WorkerPool.shutdown, "(self, wait=True, *, cancel_futures=False, timeout=None)"),
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


BESIDE = {
    "asgi": "SignalMiddleware",
    "django": "after_commit connections on_commit",
    "http": "got_request_exception request_finished request_started",
    "inspecting": "ReceiverEntry SignalEntry connections",
    "observing": "Event Observation Observer background_of hands_over is_captured observe "
    "receiver_name set_slow_after signal_name stats_by_pool waited_in_queue",
    "opentelemetry": "Instrumentation instrument",
    "prometheus": "Instrumentation instrument",
    "sqlalchemy": "after_commit install on_commit post_delete post_save pre_delete pre_save "
    "uninstall",
    "testing": "Captured Sent Steps capture connected fresh_pool inline muted",
    "tracing": "Call NotCalled Send Trace trace",
    "wsgi": "SignalMiddleware",
}
"""The public names of the modules that stand beside the core."""


def beside_the_core(module: str) -> Any:
    return pytest.importorskip(f"tsignals.{module}", exc_type=ImportError)


def test_no_other_module_is_public() -> None:
    assert set(BESIDE) == {name for name in modules() if not name.startswith("_")}


@pytest.mark.parametrize("module", BESIDE)
def test_modules_beside_show_what_is_promised_and_say_what_it_is(module: str) -> None:
    found = beside_the_core(module)
    assert sorted(found.__all__) == sorted(BESIDE[module].split())
    for name in found.__all__:
        assert inspect.getdoc(getattr(found, name)), f"{module}.{name} has no docstring"


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("asgi", "SignalMiddleware", "(app, *, sender=None, background=False, executor=None)"),
        ("django", "after_commit", "(signal, sender, *, using=None, **named)"),
        (
            "django",
            "on_commit",
            "(function=None, *, using=None, executor=None, ordered=False, retry=None)",
        ),
        ("inspecting", "connections", "(*what, unheard=False)"),
        ("observing", "observe", "(observer)"),
        ("observing", "set_slow_after", "(seconds)"),
        (
            "opentelemetry",
            "instrument",
            "(tracer_provider=None, meter_provider=None, links=False)",
        ),
        ("prometheus", "instrument", "(registry=None)"),
        ("sqlalchemy", "after_commit", "(session, /, signal, sender, **named)"),
        ("sqlalchemy", "install", "(target)"),
        ("sqlalchemy", "on_commit", "(function=None, *, executor=None, ordered=False, retry=None)"),
        ("sqlalchemy", "uninstall", "(target)"),
        ("testing", "Steps", "()"),
        ("testing", "capture", "(*signals)"),
        ("testing", "connected", "(signal, receiver, **arguments)"),
        ("testing", "fresh_pool", "(max_workers=4, *, timeout=10.0, **arguments)"),
        ("testing", "inline", "()"),
        ("testing", "muted", "(*signals, receivers=None)"),
        ("tracing", "trace", "()"),
        ("wsgi", "SignalMiddleware", "(app, *, sender=None, background=False, executor=None)"),
    ],
)
def test_signatures_beside_the_core_are_as_promised(module: str, name: str, expected: str) -> None:
    assert signature(getattr(beside_the_core(module), name)) == expected


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
    try:
        required = importlib.metadata.requires("tsignals") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the source is tested, and nothing is installed")
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
    done = processes.command(
        [sys.executable, "-W", "error", "-c", code],
    )
    assert (done.stdout.strip(), done.returncode) == ("['tsignals']", 0), done.stderr


@pytest.mark.slow
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
    done = processes.command(  # -S: nothing that an installation loads at its start
        [sys.executable, "-S", "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )
    assert (done.stdout.strip(), done.returncode) == ("['tsignals']", 0), done.stderr


def test_the_package_can_be_found_without_being_imported() -> None:
    spec = importlib.util.find_spec("tsignals")
    assert spec is not None
    assert spec.origin is not None
