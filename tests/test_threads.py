"""The threads that the library starts: they see, and keep, nothing of whoever had them started."""

import processes
import pytest

INHERITING = {"PYTHON_THREAD_INHERIT_CONTEXT": "1", "PYTHON_CONTEXT_AWARE_WARNINGS": "1"}
"""From CPython 3.14 on; the default of free-threaded builds."""

PREAMBLE = (
    processes.PREAMBLE
    + """
import asyncio, concurrent.futures, contextvars, gc, weakref
from tsignals import *
import inside

inside.end_idle_threads_soon(60)
request = contextvars.ContextVar("request", default=None)

class Request:
    pass

def in_a_request(function, *arguments):
    "Call it in a context with a request; return that, weakly."
    def call():
        request.set(Request())
        function(*arguments)
        return weakref.ref(request.get())
    return contextvars.copy_context().run(call)

def assert_gone(reference):
    deadline = time.monotonic() + 60
    while reference() is not None:  # a worker may still be on its way to sleep
        assert time.monotonic() < deadline
        gc.collect()
        time.sleep(0.001)

def threads(prefix):
    return [t for t in threading.enumerate() if t.name.startswith(prefix)]
"""
)


def succeeds(script: str, **environment: str) -> None:
    done = processes.run(script, PREAMBLE, **environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


inheriting = pytest.mark.parametrize(
    "environment", [{}, INHERITING], ids=["by default", "inheriting"]
)


@pytest.mark.slow
@inheriting
def test_worker_starts_in_an_empty_context(environment: dict[str, str]) -> None:
    """So do the initializer, what is submitted, and callbacks of what ran there."""
    succeeds(
        """
        seen = []
        look = lambda *future: seen.append(request.get())
        pool = WorkerPool(1, initializer=look, thread_name_prefix="pool")
        def submit():
            future = pool.submit(look)
            future.result(60)
            slow = threading.Event()
            future = pool.submit(slow.wait, 60)
            future.add_done_callback(look)
            called = threading.Event()
            future.add_done_callback(lambda future: called.set())
            slow.set()
            assert called.wait(60)
            assert pool.drain(60)
        reference = in_a_request(submit)
        assert seen == [None] * 3, seen
        assert len(threads("pool")) == 1
        assert_gone(reference)
        """,
        **environment,
    )


@pytest.mark.slow
@inheriting
@pytest.mark.parametrize("terms", ["", "ordered=True", "tracked=True"])
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_only_the_delivery_sees_the_senders_context(
    kind: str, terms: str, environment: dict[str, str]
) -> None:
    """The worker, or the event loop and its thread, keeps nothing of it."""
    succeeds(
        f"""
        order = Signal(executor=WorkerPool(1, thread_name_prefix="pool"))
        {kind} sees(**named):
            return type(request.get())
        order.connect(sees, {terms})
        def send():
            assert order.send_async(None).results(60) == [(sees, Request)]
            assert order.executor.drain(60)
        reference = in_a_request(send)
        assert len(threads("pool")) == 1
        assert_gone(reference)
        """,
        **environment,
    )


@pytest.mark.slow
@inheriting
def test_threads_of_asend_keep_nothing_of_the_senders_context(environment: dict[str, str]) -> None:
    succeeds(
        """
        order, seen = Signal(), []
        def sees(**named):
            seen.append(type(request.get()))
        order.connect(sees)
        def send():
            asyncio.run(order.asend(None))
        reference = in_a_request(send)
        assert seen == [Request]
        [thread] = threads("tsignals-asend")
        assert_gone(reference)
        # Nor has it anything of it where nobody brings it along.
        done = threading.Event()
        inside.run_in_cached_thread(lambda: seen.append(request.get()), done.set)
        assert done.wait(60)
        assert threads("tsignals-asend") == [thread]
        assert seen == [Request, None]
        """,
        **environment,
    )


@pytest.mark.slow
@inheriting
def test_background_receiver_keeps_nothing_of_the_senders_context(
    environment: dict[str, str],
) -> None:
    succeeds(
        """
        order = Signal(executor=WorkerPool(1, thread_name_prefix="pool"))
        @background
        def sees(sender, **named):
            return type(request.get())
        order.connect(sees)
        def send():
            [(_, delivery)] = order.send(None)
            assert delivery.result(60) is Request
            assert order.executor.drain(60)
        reference = in_a_request(send)
        assert len(threads("pool")) == 1
        assert_gone(reference)
        """,
        **environment,
    )
