"""Subinterpreters: where pools are refused and all else works; and what receivers run in."""

import concurrent.futures
import contextvars
import functools
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import executor_signals
import processes
import pytest
from executor_signals import NeedsTwo
from helpers import TIMEOUT, wait_until
from pools import told
from test_executors import connected

from tsignals import background

# What measures coverage says that it cannot do so in other interpreters.
pytestmark = pytest.mark.unmeasured

# Code in a subinterpreter, by the names that the module has had. (All of it in processes of their
# own: what is under test is how these end.)

PREAMBLE = (
    processes.PREAMBLE
    + """
try:
    import _interpreters as interpreters
    def create(isolated):
        return interpreters.create("isolated" if isolated else "legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    def create(isolated):
        return interpreters.create(isolated=isolated)

def run_in(interpreter, code):
    failed = interpreters.run_string(interpreter, code)  # or it raises
    assert failed is None, failed.formatted

def run_inside(isolated, code):
    interpreter = create(isolated)
    run_in(interpreter, code)
    interpreters.destroy(interpreter)
"""
)


@functools.cache
def interpreters_are_there() -> bool:
    return any(
        processes.run(f"import {name}", "").returncode == 0
        for name in ("_interpreters", "_xxsubinterpreters")
    )


@pytest.fixture(params=[False, True], ids=["one GIL", "isolated"])
def within(request: pytest.FixtureRequest) -> Iterator[Callable[[str], None]]:
    """Runs code in a subinterpreter; fails unless all goes well, until the process has ended."""
    if not interpreters_are_there():
        pytest.skip("has no subinterpreters")

    def run(code: str) -> None:
        done = processes.run(
            f"run_inside({request.param}, {INSIDE + code!r})\nprint('the end')", PREAMBLE
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")

    yield run


INSIDE = """
import threading
from tsignals import *
import tsignals

order = Signal()
heard = []

def hears(n, **named):
    heard.append(n)
    return n

def fails(**named):
    raise ZeroDivisionError

async def hears_async(n, **named):
    return -n

def refused(function, *arguments, **named):
    try:
        function(*arguments, **named)
    except RuntimeError as error:
        return "subinterpreter" in str(error) and "use send()" in str(error)
    return False
"""


def test_signals_work_in_a_subinterpreter(within: Callable[[str], None]) -> None:
    within("""
import inside
inside.SAFE_LOG.put(lambda *arguments, **named: None)
connection = order.connect(hears, tracked=True)
order.connect(fails)
outcomes = order.send_robust(None, n=1)
assert outcomes[0] == (hears, 1)
assert [type(error) for _, error in outcomes.errors] == [ZeroDivisionError]
assert order.disconnect(fails)
assert order.send(None, n=2) == [(hears, 2)]
assert connection.disconnect(wait=5)
assert heard == [1, 2]
assert threading.active_count() == 1
""")


def test_slow_receivers_are_not_looked_at_in_a_subinterpreter(
    within: Callable[[str], None],
) -> None:
    """The thread that looks would be there at its end, which aborts the process."""
    within("""
import time
slow = Signal(slow_after=0.001)
slow.connect(lambda **named: time.sleep(0.02), weak=False)
slow.send(None)
assert threading.active_count() == 1
""")


@pytest.mark.parametrize("isolated", [False, True], ids=["one GIL", "isolated"])
def test_slow_receivers_are_shown_while_another_interpreter_runs(isolated: bool) -> None:
    """``sys._current_frames`` reads the threads of that one, too, which have another GIL."""
    if not interpreters_are_there():
        pytest.skip("has no subinterpreters")
    done = processes.run(
        f"""
        import logging, threading, time
        from tsignals import Signal

        def nap(**named):
            while told < turn:
                time.sleep(0.001)

        def tell(record):
            global told, shown
            told += 1
            shown += ", in nap" in record.getMessage()  # not where it had only begun
            return False

        told = shown = turn = 0
        logging.getLogger("tsignals").addFilter(tell)
        interpreter = create({isolated})
        busy = threading.Thread(
            target=run_in, args=(interpreter, "n = 0\\nwhile n < 5_000_000: n += 1")
        )
        busy.start()
        signal = Signal(slow_after=0.005)
        for turn in range(1, 21):
            def each(**named): nap()  # another one: each is named once in a minute
            with signal.connect(each):
                signal.send(None)
        busy.join()
        interpreters.destroy(interpreter)
        print("the end", shown > 0)
        """,
        PREAMBLE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "the end True\n", "")


needs_3_13 = pytest.mark.skipif(
    sys.version_info < (3, 13),
    reason="asyncio corrupts memory in an isolated one; one that ends does not wait for threads",
)


@needs_3_13
def test_async_receivers_and_asend_work_in_a_subinterpreter(within: Callable[[str], None]) -> None:
    """Its end waits for their threads."""
    within("""
import asyncio
order.connect(hears)
order.connect(hears_async)
assert [response for _, response in order.send(None, n=1)] == [1, -1]
pairs = asyncio.run(order.asend(None, n=1))
assert [response for _, response in pairs] == [1, -1]
""")


def test_pool_is_refused_in_a_subinterpreter(within: Callable[[str], None]) -> None:
    """However one comes by it, and nothing is left of it."""
    within("""
order.connect(hears)
assert refused(WorkerPool)
assert refused(get_default_executor)
assert refused(order.send_async, None, n=1)
assert order.disconnect(hears)
order.connect(background(hears), weak=False)
assert refused(order.send, None, n=1)
assert refused(order.send_async, None, n=1)
order.connect(hears_async)
assert refused(order.send_async, None, n=1)
assert heard == []
assert WorkerPool not in map(type, __import__("gc").get_objects())
assert threading.active_count() == 1
""")


@needs_3_13
def test_other_executor_works_in_a_subinterpreter(within: Callable[[str], None]) -> None:
    within("""
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(1) as threads:
    order.executor = threads
    order.connect(hears)
    assert order.send_async(None, n=1).results(10) == [(hears, 1)]
""")


def test_pool_of_the_main_interpreter_works_beside_others() -> None:
    if not interpreters_are_there():
        pytest.skip("has no subinterpreters")
    done = processes.run(
        f"""
        from tsignals import *
        order = Signal(executor=WorkerPool(2))
        hears = lambda n, **named: n
        order.connect(hears)
        for isolated in (False, True):
            interpreter = create(isolated)
            run_in(interpreter, {INSIDE!r})
            assert order.send_async(None, n=1).results(10) == [(hears, 1)]
            interpreters.destroy(interpreter)
            assert order.send_async(None, n=2).results(10) == [(hears, 2)]
        """,
        PREAMBLE,
    )
    assert (done.returncode, done.stderr) == (0, "")


# Receivers in other interpreters

InterpreterPool: Any = getattr(concurrent.futures, "InterpreterPoolExecutor", None)
needs_pool = pytest.mark.skipif(InterpreterPool is None, reason="needs Python 3.14")


@pytest.fixture(scope="module")
def others() -> Iterator[concurrent.futures.Executor]:
    with InterpreterPool(1) as executor:
        executor.submit(int).result(TIMEOUT)  # its thread is there from now on
        yield executor


@needs_pool
def test_receivers_run_in_other_interpreters(others: concurrent.futures.Executor) -> None:
    """Their modules are found where they are here, though that interpreter has another path."""
    receivers = executor_signals.doubles, executor_signals.same_signal
    with connected(others, *receivers) as signal:
        responses = signal.send_async(None, value=5).results(TIMEOUT)
        assert responses == [(receivers[0], 10), (receivers[1], True)]


@needs_pool
def test_async_and_background_receivers_run_there(others: concurrent.futures.Executor) -> None:
    with connected(others, executor_signals.doubles_async) as signal:
        assert signal.send_async(None, value=5).results(TIMEOUT)[0][1] == 10
    with connected(others, executor_signals.in_background) as signal:
        assert signal.send_async(None, value=5).results(TIMEOUT)[0][1] == (10, os.getpid())
        assert signal.send(None, value=4)[0][1].result(TIMEOUT) == (8, os.getpid())


@needs_pool
def test_receiver_there_may_use_plain_signals_and_no_pool(
    others: concurrent.futures.Executor,
) -> None:
    with connected(others, executor_signals.sends) as signal:
        [(_, [doubled, refused])] = signal.send_async(None, value=5).results(TIMEOUT)
    assert doubled == 10
    assert "subinterpreter" in refused


@needs_pool
def test_failure_there_is_told_here(others: concurrent.futures.Executor) -> None:
    with connected(others, executor_signals.fails) as signal, told() as hears:
        outcomes = signal.send_async("sender").outcomes(TIMEOUT)
        wait_until(lambda: hears.failures)
    [(_, error)] = outcomes.errors
    assert type(error) is NeedsTwo
    assert hears.errors == [error]
    assert hears.failures[0].sender == "sender"


@needs_pool
def test_tracked_receiver_there_is_waited_for(others: concurrent.futures.Executor) -> None:
    with connected(others) as signal:
        connection = signal.connect(executor_signals.doubles, tracked=True)
        [(_, delivery)] = signal.send_async(None, value=5)
        assert connection.disconnect(wait=TIMEOUT) is True
        assert delivery.done()
        assert delivery.cancelled() or delivery.result(0) == 10


@needs_pool
def test_context_stays_in_this_interpreter(others: concurrent.futures.Executor) -> None:
    variable: contextvars.ContextVar[object] = contextvars.ContextVar("variable")
    variable.set(threading.Lock())  # cannot be pickled
    with connected(others, executor_signals.doubles) as signal:
        assert signal.send_async(None, value=5).results(TIMEOUT)[0][1] == 10


@needs_pool
def test_what_cannot_go_there_fails_alone_and_says_why(
    others: concurrent.futures.Executor,
) -> None:
    local = background(lambda **named: None, executor=others)
    receivers = local, executor_signals.doubles, executor_signals.gives_a_lock
    with connected(others, *receivers) as signal, told() as hears:
        outcomes = signal.send_async(None, value=1).outcomes(TIMEOUT)
        wait_until(lambda: len(hears.errors) == 2)
        sent = signal.send_async(None, value=threading.Lock()).outcomes(TIMEOUT)
    assert outcomes[1][1] == 2
    [(_, going), (_, coming)] = outcomes.errors
    assert type(going) is pickle.PicklingError
    assert "another interpreter" in str(going)
    assert "the response of receiver gives_a_lock" in str(coming)
    assert [type(error) for _, error in sent.errors] == [pickle.PicklingError] * 3


PROGRAM = """
import sys
from concurrent.futures import InterpreterPoolExecutor
from tsignals import Signal

order = Signal()

def doubles(n, **named):
    return 2 * n

if __name__ == "__main__":
    def late(**named):
        pass

    with InterpreterPoolExecutor(1) as order.executor:
        order.connect(doubles)
        order.connect(late)
        outcomes = order.send_async(None, n=2).outcomes(60)
        assert outcomes[0] == (doubles, 4), outcomes
        print(outcomes[1][1])
"""


@needs_pool
def test_receivers_of_the_program_itself_run_there(tmp_path: Path) -> None:
    """But for those that it defines only where it is the program; these say so."""
    (tmp_path / "program.py").write_text(PROGRAM)
    done = processes.command(
        [sys.executable, tmp_path / "program.py"],
        env=processes.environment(),
    )
    assert done.returncode == 0, done.stderr
    assert "cannot call receiver late in another interpreter" in done.stdout
    assert "can be imported there" in done.stdout


@needs_pool
def test_receivers_of_no_file_say_that_they_cannot_run_there() -> None:
    done = processes.run(PROGRAM.replace("assert outcomes[0]", "print(outcomes[0][1])\n#"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("in another interpreter") == 2
