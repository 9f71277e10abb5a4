"""send_robust: errors become responses, are logged, and can be told from returned ones."""

import copy
import functools
import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from helpers import TIMEOUT, BaseBoom, Boom, Ear, Latch, Running, Thing, ignore, raiser

from tsignals import Outcomes, Signal, WorkerPool


class Failing:
    """A callable object without a ``__qualname__``, as awkward as they come."""

    def __call__(self, **named: Any) -> None:
        raise Boom("object")

    def method(self, **named: Any) -> None:
        raise Boom("method")

    @classmethod
    def class_method(cls, **named: Any) -> None:
        raise Boom("class method")


class Unprintable(Failing):
    """One that cannot even be shown."""

    def __repr__(self) -> str:
        raise AssertionError("repr")


class FailingToBeMade:
    def __init__(self, **named: Any) -> None:
        raise Boom("class")


class UnprintableBoom(Boom):
    def __str__(self) -> str:
        raise AssertionError("str")

    __repr__ = __str__


def fails(*args: object, **named: Any) -> None:
    raise Boom("function")


EVERY_KIND: dict[str, tuple[Callable[..., Any], str]] = {
    "function": (fails, "function"),
    "lambda": (lambda **named: fails(), "function"),
    "partial": (functools.partial(fails, 1), "function"),
    "partial of a method": (functools.partial(functools.partial(Failing().method)), "method"),
    "object": (Failing(), "object"),
    "method": (Failing().method, "method"),
    "class method": (Failing.class_method, "class method"),
    "class": (FailingToBeMade, "class"),
    "unprintable object": (Unprintable(), "object"),
    "unprintable object's method": (Unprintable().method, "method"),
}


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "tsignals")
    return caplog


def test_every_receiver_is_called_and_errors_are_responses() -> None:
    signal, first, last, error = Signal(), Ear("first", 1), Ear("last", 2), Boom()
    raising = raiser(error)
    for receiver in (first, raising, last):
        signal.connect(receiver)
    outcomes = signal.send_robust(Thing(), size=3)
    assert outcomes == [(first, 1), (raising, error), (last, 2)]
    assert outcomes[1][1] is error
    assert type(outcomes) is Outcomes
    assert isinstance(outcomes, list)
    assert [call["size"] for call in first.calls + last.calls] == [3, 3]


def test_outcomes_without_errors_are_the_responses() -> None:
    signal, ear = Signal(), Ear(response="yes")
    signal.connect(ear)
    outcomes = signal.send_robust(None)
    assert outcomes == [(ear, "yes")]
    assert outcomes.errors == []
    assert outcomes.raise_errors() is None  # type: ignore[func-returns-value]


def test_outcomes_of_nobody_hold_no_errors() -> None:
    outcomes = Signal().send_robust(None)
    assert type(outcomes) is Outcomes
    assert outcomes == outcomes.errors == []
    outcomes.raise_errors()


def test_error_brings_its_traceback() -> None:
    signal = Signal()
    signal.connect(fails)
    [(_, error)] = signal.send_robust(None)
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[-1] == "fails"


@pytest.mark.parametrize("error", [BaseBoom(), KeyboardInterrupt(), SystemExit()])
def test_what_is_no_exception_propagates_and_the_rest_are_not_called(error: BaseException) -> None:
    signal, before, raising, after = Signal(), Ear(), raiser(error), Ear()
    for receiver in (before, raising, after):
        signal.connect(receiver)
    with pytest.raises(type(error)) as info:
        signal.send_robust(None)
    assert info.value is error
    assert (len(before.calls), len(after.calls)) == (1, 0)


def test_outcomes_of_several_sends_may_be_put_together() -> None:
    signal, error, ear = Signal(), Boom(), Ear(response="yes")
    raising = raiser(error)
    signal.connect(raising)
    signal.connect(ear)
    total = Outcomes()
    total += signal.send_robust(None)
    total.extend(signal.send_robust(None))
    total.extend([(ear, error)])  # which nobody has raised
    assert type(total) is Outcomes
    assert total == [(raising, error), (ear, "yes")] * 2 + [(ear, error)]
    assert total.errors == [(raising, error)] * 2
    with pytest.raises(ExceptionGroup) as info:
        total.raise_errors()
    assert info.value.exceptions == (error, error)


@pytest.mark.parametrize("remove", [list.clear, list.pop, lambda each: each.__delitem__(-1)])
def test_what_is_taken_out_of_outcomes_is_no_error_of_theirs(remove: Any) -> None:
    signal, ear, raising = Signal(), Ear(), raiser(Boom())
    signal.connect(ear)
    signal.connect(raising)
    outcomes = signal.send_robust(None)
    remove(outcomes)
    assert outcomes.errors == []
    outcomes.raise_errors()


def test_errors_lists_what_was_raised_and_not_what_was_returned() -> None:
    signal, returned, raised = Signal(), Boom("returned"), Boom("raised")
    returning, raising = Ear(response=returned), raiser(raised)
    both = raiser(returned)  # raises the very exception that the first one returns
    for receiver in (returning, raising, both):
        signal.connect(receiver)
    outcomes = signal.send_robust(None)
    assert outcomes == [(returning, returned), (raising, raised), (both, returned)]
    assert outcomes.errors == [(raising, raised), (both, returned)]


def test_errors_is_a_new_list_each_time() -> None:
    signal = Signal()
    signal.connect(fails)
    outcomes = signal.send_robust(None)
    outcomes.errors.clear()
    assert len(outcomes.errors) == 1


def test_raise_errors_raises_all_of_them_as_one_group() -> None:
    signal, errors = Signal(), [Boom("1"), ValueError("2"), Boom("1")]
    raisers = [raiser(error) for error in errors]
    for receiver in (ignore, *raisers):
        signal.connect(receiver)
    outcomes = signal.send_robust(None)
    for _ in range(2):
        with pytest.raises(ExceptionGroup) as info:
            outcomes.raise_errors()
        assert info.value.message == "3 receivers failed"
        assert list(info.value.exceptions) == errors
        assert all(a is b for a, b in zip(info.value.exceptions, errors, strict=True))


def test_raise_errors_raises_even_a_single_error_as_a_group() -> None:
    signal = Signal()
    signal.connect(fails)
    with pytest.raises(ExceptionGroup) as info:
        signal.send_robust(None).raise_errors()
    assert [str(error) for error in info.value.exceptions] == ["function"]
    assert info.value.message == "1 receiver failed"


def test_raise_errors_raises_a_base_exception_group_where_an_error_demands_it() -> None:
    error, usual = BaseBoom(), Boom()
    receivers = [raiser(usual), raiser(error)]
    with WorkerPool(1) as pool:
        signal = Signal(executor=pool)
        for receiver in receivers:
            signal.connect(receiver)
        outcomes = signal.send_async(None).outcomes(TIMEOUT)
    with pytest.raises(BaseExceptionGroup) as info:
        outcomes.raise_errors()
    assert not isinstance(info.value, ExceptionGroup)
    assert info.value.exceptions == (usual, error)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_failure_of_every_kind_of_callable_is_collected_and_logged_once(
    kind: str, log: pytest.LogCaptureFixture
) -> None:
    receiver, message = EVERY_KIND[kind]
    signal = Signal(name="order.saved")
    signal.connect(receiver, weak=False)
    [(_, error)] = signal.send_robust(None)
    assert isinstance(error, Boom)
    assert str(error) == message
    [record] = log.records
    assert (record.name, record.levelname) == ("tsignals", "ERROR")
    assert record.exc_info is not None
    assert record.exc_info[:2] == (Boom, error)
    assert "order.saved" in record.getMessage()


def test_log_names_the_receiver(log: pytest.LogCaptureFixture) -> None:
    signal = Signal()
    signal.connect(fails)
    signal.send_robust(None)
    assert "fails" in log.records[0].getMessage()


def test_error_that_cannot_be_shown_is_collected_all_the_same(
    log: pytest.LogCaptureFixture,
) -> None:
    signal, error, ear = Signal(), UnprintableBoom(), Ear()
    raising = raiser(error)
    signal.connect(raising)
    signal.connect(ear)
    outcomes = signal.send_robust(None)
    assert outcomes[0][1] is error
    assert len(ear.calls) == len(log.records) == 1


def test_returned_exception_is_not_logged(log: pytest.LogCaptureFixture) -> None:
    signal, ear = Signal(), Ear(response=Boom())
    signal.connect(ear)
    signal.send_robust(None)
    assert log.records == []


def test_robust_send_lets_receivers_change_the_signal() -> None:
    signal, ear = Signal(), Ear()

    def swaps(**named: Any) -> None:
        signal.disconnect(swaps)
        signal.connect(ear)
        raise Boom

    signal.connect(swaps)
    assert [receiver for receiver, _ in signal.send_robust(None)] == [swaps]
    assert [receiver for receiver, _ in signal.send_robust(None)] == [ear]


def gives_an_error(**named: Any) -> Exception:
    return Boom()


def test_nested_robust_sends_keep_their_errors_apart() -> None:
    signal, inner = Signal(), Signal()
    inner.connect(fails)

    def sends(**named: Any) -> Outcomes:
        return inner.send_robust(None)

    signal.connect(sends)
    outcomes = signal.send_robust(None)
    assert outcomes.errors == []
    [(_, nested)] = outcomes
    assert [str(error) for _, error in nested.errors] == ["function"]


TO_OTHERS: dict[str, Callable[[Outcomes], Outcomes]] = {
    "made of it": Outcomes,
    "made of a plain copy": lambda outcomes: Outcomes(list(outcomes)),
    "made of a part": lambda outcomes: Outcomes(outcomes[:]),
    "copied": copy.copy,
    "pickled": lambda outcomes: pickle.loads(pickle.dumps(outcomes)),
    "appended": lambda outcomes: put(Outcomes.append, outcomes),
    "inserted": lambda outcomes: put(lambda others, pair: others.insert(0, pair), outcomes),
    "in a slice": lambda outcomes: put(
        lambda others, pair: others.__setitem__(slice(0), [pair]), outcomes
    ),
    "extended": lambda outcomes: put(lambda others, pair: others.extend([pair]), outcomes),
}


def put(how: Callable[[Outcomes, Any], object], outcomes: Outcomes) -> Outcomes:
    others = Outcomes()
    for pair in outcomes:
        how(others, pair)
    return others


@pytest.mark.parametrize("way", TO_OTHERS)
def test_what_was_raised_is_known_wherever_its_pair_goes(way: str) -> None:
    signal = Signal()
    signal.connect(fails)
    signal.connect(gives_an_error)
    others = TO_OTHERS[way](signal.send_robust(None))
    assert len(others) == 2
    [(receiver, error)] = others.errors
    assert receiver is fails
    assert str(error) == "function"
    with pytest.raises(ExceptionGroup):
        others.raise_errors()


@pytest.mark.parametrize("change", [copy.copy, lambda outcomes: outcomes[:], list])
def test_outcomes_can_be_copied_as_lists_can(change: Callable[[Outcomes], Any]) -> None:
    signal = Signal()
    signal.connect(fails)
    outcomes = signal.send_robust(None)
    assert change(outcomes) == list(outcomes)


def test_outcomes_can_be_pickled() -> None:
    signal = Signal()
    signal.connect(ignore)
    outcomes = pickle.loads(pickle.dumps(signal.send_robust(None)))
    assert outcomes == [(ignore, None)]
    assert outcomes.errors == []


def test_no_lock_is_held_while_a_failure_may_come() -> None:
    signal, gate = Signal(), Latch()
    signal.connect(gate)
    sending = Running(signal.send_robust, None)
    assert gate.entered.wait(TIMEOUT)
    assert Running(signal.disconnect, gate).result()
    gate.opened.set()
    assert sending.result() == [(gate, "through")]
