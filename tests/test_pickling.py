"""Pickling and copying: a signal is an address, not a value."""

import copy
import pickle
import sys
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import signals_for_tests
from helpers import Ear, in_new_process
from signals_for_tests import Order, make

from tsignals import Signal, receiver_failed

kept_here = make()

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
PICKLERS = [pickle.dumps, pickle._dumps]  # type: ignore[attr-defined]

FINDABLE = {
    "a module's": signals_for_tests.saved,
    "a module's under two names": signals_for_tests.known_by_two_names,
    "a named one": signals_for_tests.named,
    "a class's": Order.placed,
    "an inner class's": Order.Line.added,
    "made there and kept here": kept_here,
    "a subclass's": signals_for_tests.special,
    "our own": receiver_failed,
}

findable = pytest.mark.parametrize("signal", FINDABLE.values(), ids=FINDABLE.keys())


@pytest.fixture
def module() -> Iterator[Any]:
    """A module of the test's own."""
    made = types.ModuleType("made_for_a_test")
    sys.modules[made.__name__] = made
    yield made
    sys.modules.pop(made.__name__, None)


@findable
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dumps", PICKLERS, ids=["C", "Python"])
def test_signal_is_pickled_by_reference(signal: Signal, protocol: int, dumps: Any) -> None:
    assert pickle.loads(dumps(signal, protocol)) is signal
    assert pickle.loads(dumps({"in": [signal]}, protocol))["in"][0] is signal


def test_pickle_holds_no_receivers() -> None:
    ear = Ear()
    before = pickle.dumps(signals_for_tests.saved)
    with signals_for_tests.saved.connect(ear.hear, weak=False):
        assert pickle.dumps(signals_for_tests.saved) == before


@pytest.mark.slow
def test_other_process_finds_the_signal_by_its_address() -> None:
    signals = [signals_for_tests.saved, Order.placed, Order.Line.added, receiver_failed]
    in_new_process(find_again, pickle.dumps(signals))


def find_again(pickled: bytes) -> None:
    found = pickle.loads(pickled)
    expected = [signals_for_tests.saved, Order.placed, Order.Line.added, receiver_failed]
    assert [id(signal) for signal in found] == [id(signal) for signal in expected]


@pytest.mark.slow
def test_signal_that_is_nowhere_to_be_found_cannot_be_pickled() -> None:
    signal = make()
    nowhere = [signal, Signal(name="a name is no address"), Signal(name="signals_for_tests.saved")]
    for each in nowhere:
        for protocol in PROTOCOLS:
            with pytest.raises(pickle.PicklingError):
                pickle.dumps(each, protocol)


def test_signal_of_an_instance_is_nowhere_to_be_found() -> None:
    class Local:
        signal = Signal()

    Order.instance = Local()  # type: ignore[attr-defined]
    try:
        with pytest.raises(pickle.PicklingError):
            pickle.dumps(Local.signal)
    finally:
        del Order.instance  # type: ignore[attr-defined]


def test_signal_is_found_in_any_loaded_module(module: Any) -> None:
    signal = make()
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(signal)
    module.late = signal
    pickled = pickle.dumps(signal)
    assert pickle.loads(pickled) is signal
    assert b"made_for_a_test" in pickled


def test_signal_is_found_in_a_class_of_any_loaded_module(module: Any) -> None:
    signal = make()
    module.Box = type("Box", (), {"late": signal})
    module.Box.__module__ = module.__name__
    assert pickle.loads(pickle.dumps(signal)) is signal


def test_module_that_made_the_signal_is_looked_through_first(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module.copied = signals_for_tests.saved
    others = {name: each for name, each in sys.modules.items() if each is not module}
    # Before the one that made it.
    monkeypatch.setattr(sys, "modules", {module.__name__: module, **others})
    assert b"signals_for_tests" in pickle.dumps(signals_for_tests.saved)


@pytest.mark.slow
def test_signal_is_found_by_identity_not_by_the_name_it_once_had(
    module: Any,
) -> None:
    first, second = make(), make()
    module.signal = first
    assert pickle.loads(pickle.dumps(first)) is first
    module.signal = second
    assert pickle.loads(pickle.dumps(second)) is second
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(first)
    module.other_name = first
    assert pickle.loads(pickle.dumps(first)) is first


def test_signal_that_is_gone_when_it_is_unpickled_is_an_error(module: Any) -> None:
    module.gone = make()
    pickled = pickle.dumps(module.gone)
    del module.gone
    with pytest.raises(pickle.UnpicklingError, match="gone"):
        pickle.loads(pickled)
    sys.modules.pop(module.__name__)
    with pytest.raises(ImportError):
        pickle.loads(pickled)


def test_modules_that_dislike_being_looked_at_do_no_harm(module: Any) -> None:
    class Hostile(types.ModuleType):
        def __getattribute__(self, name: str) -> Any:  # a lazy module would load itself here
            raise AssertionError(name)

    class Touchy:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

        __hash__ = None  # type: ignore[assignment]

        @property  # type: ignore[misc]
        def __class__(self) -> Any:  # a lazy object would make itself here
            raise AssertionError("asked for its class")

    odd: dict[str, Any] = {"odd_none": None, "odd_3": 3, "odd_hostile": Hostile("odd_hostile")}
    module.touchy = Touchy()
    module.__dict__["no identifier"] = kept_here
    signal = make()
    sys.modules.update(odd)
    try:
        with pytest.raises(pickle.PicklingError):
            pickle.dumps(signal)
        assert "Signal" in repr(signal)
        module.late = signal
        assert pickle.loads(pickle.dumps(signal)) is signal
    finally:
        for name in odd:
            sys.modules.pop(name)


@pytest.mark.parametrize("signal", [Signal(), make(), *FINDABLE.values()])
def test_copy_and_deepcopy_return_the_same_signal(signal: Signal) -> None:
    assert copy.copy(signal) is signal
    assert copy.deepcopy(signal) is signal
    assert copy.deepcopy({"in": [signal]})["in"][0] is signal


@pytest.mark.parametrize(
    ("module", "path"),
    [
        ("os", "getcwd"),
        ("builtins", "exec"),
        ("tsignals", "Signal"),
        ("tsignals", "Signal.send"),
        ("tsignals", "no_such"),
        ("signals_for_tests", "lazy"),
    ],
)
def test_what_unpickling_calls_returns_signals_and_nothing_else(
    module: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lazy(name: str) -> Any:
        raise AssertionError(f"{name} was asked for")

    monkeypatch.setattr(signals_for_tests, "__getattr__", lazy, raising=False)
    load, _ = signals_for_tests.saved.__reduce__()
    assert load("signals_for_tests", "saved") is signals_for_tests.saved
    with pytest.raises(pickle.UnpicklingError, match="there is no signal"):
        load(module, path)


def test_connection_is_copied_as_itself_with_what_keeps_it() -> None:
    connection = signals_for_tests.saved.connect(lambda **named: None, weak=False)
    with connection:
        keeper = {"connections": [connection]}
        assert copy.copy(connection) is connection
        assert copy.deepcopy(keeper) == keeper


def test_what_only_says_that_it_is_a_signal_is_not_unpickled(module: Any) -> None:
    module.signal = make()
    pickled = pickle.dumps(module.signal)
    module.signal = mock.Mock(spec=Signal)
    with pytest.raises(pickle.UnpicklingError, match="signal"):
        pickle.loads(pickled)


def test_signal_whose_name_has_a_dot_is_nowhere_to_be_found(module: Any) -> None:
    """It could not be told from that of a class, and would not be found again."""
    signal = Signal()
    setattr(module, "order.placed", signal)
    with pytest.raises(pickle.PicklingError, match="it is no attribute"):
        pickle.dumps(signal)
    module.placed = signal
    assert pickle.loads(pickle.dumps(signal)) is signal
