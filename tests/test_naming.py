"""How a signal is called in reprs and logs: by name, by address, or by where it was made."""

import _thread
import inspect
import logging
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import inside
import pytest
import signals_for_tests
from helpers import TIMEOUT, Boom, raiser, wait_until
from signals_for_tests import LINE_OF_MAKE, Order, make

from tsignals import Signal, receiver_failed

kept_here = make()


def test_repr_shows_the_name_it_was_given() -> None:
    assert "order.saved" in repr(Signal(name="order.saved"))
    assert "order.named" in repr(signals_for_tests.named)


@pytest.mark.parametrize(
    ("signal", "address"),
    [
        (signals_for_tests.saved, "signals_for_tests.saved"),
        (signals_for_tests.known_by_two_names, "signals_for_tests.known_by_two_names"),
        (signals_for_tests.special, "signals_for_tests.special"),
        (Order.placed, "Order.placed"),
        (Order.Line.added, "Order.Line.added"),
        (kept_here, "test_naming.kept_here"),
        (receiver_failed, "receiver_failed"),
    ],
)
def test_repr_shows_where_an_unnamed_signal_is_an_attribute(signal: Signal, address: str) -> None:
    assert address in repr(signal)


def test_repr_shows_where_a_signal_was_made_when_it_is_no_attribute() -> None:
    frame = inspect.currentframe()
    assert frame is not None
    line = frame.f_lineno + 1
    signal = Signal()
    assert "test_naming" in repr(signal)
    assert str(line) in repr(signal)
    assert "signals_for_tests" in repr(make())
    assert str(LINE_OF_MAKE) in repr(make())


def test_repr_of_a_subclass_made_elsewhere_shows_where_that_was() -> None:
    class Noisy(Signal):
        def __init__(self) -> None:
            super().__init__()

    assert "test_naming" in repr(Noisy())
    assert "Noisy" in repr(Noisy())


def test_signal_is_named_by_the_attribute_it_has_now(monkeypatch: pytest.MonkeyPatch) -> None:
    signal = make()
    assert "late" not in repr(signal)
    monkeypatch.setattr(signals_for_tests, "late", signal, raising=False)
    assert "signals_for_tests.late" in repr(signal)
    monkeypatch.delattr(signals_for_tests, "late")
    assert "late" not in repr(signal)


def test_two_signals_can_be_told_apart_by_their_reprs() -> None:
    shown = {repr(signal) for signal in (signals_for_tests.saved, Order.placed, kept_here)}
    assert len(shown) == 3


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, ()),
        ([], ()),
        (["toppings", "size"], ("toppings", "size")),
        (("size",), ("size",)),
        (iter(["size", "crust"]), ("size", "crust")),
    ],
)
def test_providing_args_is_kept_as_a_tuple_and_shown(given: Any, kept: tuple[str, ...]) -> None:
    signal = Signal(given)
    assert signal.providing_args == kept
    for name in kept:
        assert name in repr(signal)


@pytest.mark.parametrize("text", ["order", b"order"])
def test_providing_args_is_not_taken_for_its_letters(text: Any) -> None:
    with pytest.raises(TypeError, match="name="):
        Signal(text)


@pytest.mark.parametrize("nothing", [5, "pool", ThreadPoolExecutor])
def test_what_is_no_executor_is_refused_when_it_is_assigned(nothing: Any) -> None:
    signal = Signal()
    with pytest.raises(TypeError, match=r"must be a concurrent\.futures\.Executor"):
        signal.executor = nothing
    assert signal.executor is None
    with pytest.raises(TypeError, match="name must be a str"):
        Signal(name=5)  # type: ignore[arg-type]


def test_providing_args_is_never_enforced() -> None:
    signal, heard = Signal(providing_args=["size"]), list[Any]()

    def hears(signal: Signal, sender: object, **named: Any) -> None:
        heard.append(named)

    signal.connect(hears)
    signal.send(None)
    signal.send(None, crust="thin")
    assert heard == [{}, {"crust": "thin"}]


def test_name_and_executor_are_given_by_name_only() -> None:
    anything: Any = Signal
    with pytest.raises(TypeError):
        anything(None, False, "name")


@pytest.mark.parametrize(
    ("signal", "name"),
    [
        (Signal(name="order.saved"), "order.saved"),
        (signals_for_tests.saved, "signals_for_tests.saved"),
        (Order.placed, "Order.placed"),
        (kept_here, "test_naming.kept_here"),
        (make(), "signals_for_tests"),
    ],
)
def test_logs_name_the_signal_as_its_repr_does(
    signal: Signal, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    raising = raiser(Boom())
    with signal.connect(raising), caplog.at_level(logging.ERROR, "tsignals"):
        signal.send_robust(None)
    [record] = caplog.records
    assert name in record.getMessage()
    assert name in repr(signal)


def test_logs_name_a_signal_by_the_module_that_holds_it_wherever_it_was_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module: Any = types.ModuleType("another_home")
    module.signal = make()
    monkeypatch.setitem(sys.modules, "another_home", module)
    raising = raiser(Boom())
    with module.signal.connect(raising), caplog.at_level(logging.ERROR, "tsignals"):
        module.signal.send_robust(None)
    [record] = caplog.records
    assert "signal 'another_home.signal' failed" in record.getMessage()


def test_attribute_of_a_module_that_is_not_loaded_is_no_address() -> None:
    module: Any = types.ModuleType("never_loaded")
    module.signal = Signal()
    assert "never_loaded" not in repr(module.signal)


def test_signal_whose_module_was_unloaded_is_named_after_where_it_was_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module: Any = types.ModuleType("passing")
    module.signal = Signal()
    monkeypatch.setitem(sys.modules, "passing", module)
    assert "passing.signal" in repr(module.signal)
    monkeypatch.delitem(sys.modules, "passing")
    assert "passing" not in repr(module.signal)
    assert "test_naming" in repr(module.signal)


def test_signal_made_where_no_python_code_calls_has_a_label_too() -> None:
    signal = Signal.__new__(Signal)
    _thread.start_new_thread(Signal.__init__, (signal,))
    wait_until(lambda: inside.is_made(signal))
    assert "?" in inside.label_of(signal)


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that are looked into for signals, each time."""
    visits = list[str]()
    walk = inside.WALK_FOR_NAMES.now

    def counting(namespace: Any, module: str, *more: Any) -> Any:
        if not more:  # no class in it
            visits.append(module)
        return walk(namespace, module, *more)

    inside.WALK_FOR_NAMES.patch(monkeypatch, counting)
    return visits


@pytest.mark.slow
def test_signals_that_are_nowhere_to_be_found_do_not_cost_a_search_each(
    visits: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    raising = raiser(Boom())
    with caplog.at_level(logging.ERROR, "tsignals"):
        for _ in range(100):
            signal = Signal()
            with signal.connect(raising):
                signal.send_robust(None)
    assert len(caplog.records) == 100
    assert all("made at" in record.getMessage() for record in caplog.records)
    # One search of all modules at most; then each signal asks the module that made it.
    others = [module for module in visits if module != __name__]
    assert len(others) < 3 * len(sys.modules)
    assert visits.count(__name__) < 400


def test_signal_that_is_nowhere_to_be_found_is_looked_for_once(
    visits: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it fails, until it is an attribute."""
    signal, raising = Signal(), raiser(Boom())
    with signal.connect(raising), caplog.at_level(logging.ERROR, "tsignals"):
        signal.send_robust(None)
        once = len(visits)
        for _ in range(5):
            signal.send_robust(None)
        assert len(visits) == once
        monkeypatch.setattr(sys.modules[__name__], "found_late", signal, raising=False)
        signal.send_robust(None)
    *before, last = [record.getMessage() for record in caplog.records]
    assert all("made at" in message for message in before)
    assert f"signal '{__name__}.found_late' failed" in last


@pytest.mark.parametrize("text", ["two\nlines", "a\x1b[31mb", "tab\tbed", "back\rwards"])
def test_names_in_logs_stay_on_their_line(text: str, caplog: pytest.LogCaptureFixture) -> None:
    def receiver(**named: Any) -> None:
        raise Boom

    receiver.__qualname__ = text
    signal = Signal(name=text)
    signal.connect(receiver)
    assert "\n" not in repr(signal.receivers[0])
    with caplog.at_level(logging.ERROR, "tsignals"):
        signal.send_robust(None)
        signal.send_async(None).wait(TIMEOUT)
    for record in caplog.records:
        assert text not in record.getMessage()
        assert record.getMessage().isprintable()
    assert len(caplog.records) == 2


def test_class_that_is_its_own_attribute_is_looked_into_once() -> None:
    module: Any = types.ModuleType("looped")
    module.Loop = type("Loop", (), {"__module__": "looped"})
    module.Loop.Loop = module.Loop
    sys.modules["looped"] = module
    try:
        assert "made at" in repr(Signal())
    finally:
        del sys.modules["looped"]


def test_class_somewhere_that_cannot_be_asked_keeps_no_failure_from_being_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Shy(type):
        def __getattribute__(cls, name: str) -> Any:
            raise Boom

    module: Any = types.ModuleType("shy")
    module.Odd = Shy("Odd", (), {"__module__": "shy", "signal": Signal()})
    monkeypatch.setitem(sys.modules, "shy", module)

    def receiver(**named: Any) -> None:
        raise Boom

    signal = Signal()
    signal.connect(receiver)
    assert len(signal.send_robust(None).errors) == 1
    assert len(caplog.records) == 1
    assert "made at" in repr(signal)
    assert "Odd.signal" in repr(vars(type)["__dict__"].__get__(module.Odd)["signal"])


def test_modules_that_come_in_place_of_others_are_looked_into() -> None:
    """As many as before are not the same."""

    def label_in(name: str) -> str:
        module = types.ModuleType(name)
        module.saved = Signal()  # type: ignore[attr-defined]
        sys.modules[name] = module
        try:
            return inside.label_of(module.saved)  # type: ignore[attr-defined]
        finally:
            del sys.modules[name]

    assert [label_in("plugged_a"), label_in("plugged_b")] == [
        "'plugged_a.saved'",
        "'plugged_b.saved'",
    ]
