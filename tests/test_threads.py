"""The threads that the library starts see, and keep, nothing of whoever had them started.

And what other threads import meanwhile harms none.
"""

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


@pytest.mark.once
def test_asyncio_of_which_another_thread_has_imported_half_runs_nothing() -> None:
    done = processes.run(
        """
        import logging, types
        from tsignals import QueueFull, Signal, WorkerPool

        half = types.ModuleType("asyncio")
        sys.modules.update({"asyncio": half, "asyncio.exceptions": half})
        sys.modules.update({"multiprocessing.process": half, "multiprocessing.util": half})

        def hear(**named): pass

        def fail(**named):
            raise ValueError

        def wait(**named):
            opened.wait(60)

        signal = Signal()
        connection = signal.connect(hear, tracked=True)
        signal.send(None)
        assert connection.disconnect(wait=True)

        opened = threading.Event()
        with WorkerPool(1, max_pending=1, block_timeout=0) as pool:
            signal = Signal(executor=pool)
            signal.connect(wait)
            deliveries = signal.send_async(None)
            while not deliveries[0][1].running():
                time.sleep(0.001)
            signal.send_async(None)
            try:
                signal.send_async(None)
            except QueueFull:
                opened.set()
            else:
                os._exit(1)

        from tsignals.observing import Observer, observe

        class Ends(Observer):
            def ended(self, event):
                ends.append(event.outcome)

        logging.getLogger("tsignals").addHandler(logging.NullHandler())
        ends = []
        signal = Signal()
        signal.connect(fail)
        with observe(Ends()):
            signal.send_robust(None)
        assert ends == ["failed"], ends

        if hasattr(os, "fork"):
            with WorkerPool(1):
                child = os.fork()
                if not child:
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
        """
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
