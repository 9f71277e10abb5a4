"""``tsignals.tracing``: what a trace records, what it leaves out, and how it is shown."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import chrome_traces
import pytest
from executor_signals import doubles, elsewhere
from helpers import TIMEOUT, Boom, Ear, Latch, Thing, awaited, together, wait_until
from inside import observers_now, pauses_of
from pools import held

from tsignals import QueueFull, Retry, Signal, WorkerPool, background, receiver_failed
from tsignals.tracing import Trace, trace


@pytest.fixture(autouse=True)
def nobody_observes_afterwards() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    assert not observers_now()


class Shop:
    """A sender."""


class Rival:
    """Another one."""


def plain(**named: Any) -> None: ...


def failing(**named: Any) -> None:
    raise Boom("no\nstock")


def signal_to(name: str, *receivers: Any, **arguments: Any) -> Signal:
    signal = Signal(name=name, **arguments)
    for each in receivers:
        signal.connect(each, weak=False)
    return signal


def sending(signal: Signal, sender: object = None) -> Callable[..., None]:
    def send_on(**named: Any) -> None:
        signal.send(sender)

    send_on.__qualname__ = "send_on"
    return send_on


def shown(trace: Trace) -> str:
    """Its tree, with all durations as one letter, and names without their module."""
    text = re.sub(r"[\d.]+ (µs|ms|s)\b", "T", str(trace)).replace("test_tracing.", "")
    return re.sub(r"(tsignals-asend|pool)_\d+", r"\1", text)


# -- What is recorded --


def test_sends_are_a_tree() -> None:
    inner = signal_to("inner", plain)
    outer = signal_to("outer", sending(inner, Shop), plain)
    with trace() as t:
        outer.send(Shop)
        inner.send("next")
    assert shown(t) == (
        "outer from Shop, send  T\n"
        "├─ send_on  ran T\n"
        "│  └─ inner from Shop, send  T\n"
        "│     └─ plain  ran T\n"
        "└─ plain  ran T\n"
        "inner from 'next', send  T\n"
        "└─ plain  ran T"
    )
    assert [send.name for send in t.sends] == ["outer", "inner", "inner"]
    assert [send.name for send in t.roots] == ["outer", "inner"]
    first, second, third = t.sends
    assert second.parent is first.calls[0]
    assert first.calls[0].sends == [second]
    assert third.parent is None
    assert first.signal is outer
    assert t.over


def test_what_ends_between_two_attempts_did_not_run_meanwhile() -> None:
    retry = Retry(Boom, wait_initial=3000, wait_max=3000, timeout=None)
    signal = Signal(name="paid")
    signal.connect(failing, retry=retry)
    with WorkerPool(1, thread_name_prefix="pool") as pool:
        with trace() as t:
            deliveries = signal.via(pool).send_async(Shop)
            wait_until(lambda: pauses_of(pool) == 1)
            assert deliveries.cancel() == 1
        [[call]] = [send.calls for send in t.sends]
        wait_until(lambda: t.over)
    assert (call.outcome, call.ran_seconds, call.attempts) == ("cancelled", None, 1)
    assert "ran" not in shown(t)


def test_data_says_how_each_call_went() -> None:
    with trace() as t:
        signal_to("all", plain, failing).send_robust(Shop, size=1)
    [send] = t.sends
    good, bad = send.calls
    assert (send.mode, send.sender, send.heard) == ("send_robust", "test_tracing.Shop", True)
    assert (send.thread_name, send.thread_id) == (
        threading.current_thread().name,
        threading.get_ident(),
    )
    assert (good.name, good.place, good.outcome, good.error) == (
        "test_tracing.plain",
        0,
        "completed",
        None,
    )
    assert (bad.outcome, bad.error) == ("failed", "Boom: no stock")
    assert good.where is not None
    assert re.fullmatch(r".*test_tracing.py:\d+", good.where)
    assert good.thread_id == send.thread_id
    assert good.queued_seconds == 0.0
    assert good.ran_seconds is not None
    assert bad.ran_seconds is not None
    assert send.started_ns <= (good.started_ns or 0) <= (good.ended_ns or 0) <= send.ended_ns
    assert send.seconds >= good.ran_seconds + bad.ran_seconds


def test_who_is_connected_and_not_called_is_said_with_the_reason() -> None:
    signal = signal_to("paid", failing, plain)
    signal.connect(failing, sender="x")
    pool = WorkerPool(1, thread_name_prefix="pool")
    signal.connect(background(plain, executor=pool), sender=Rival, weak=False, priority=-1)
    with pool, trace() as t:
        with pytest.raises(Boom):
            signal.send(Shop)
        signal.send_robust(Shop)
        signal.send_robust(Rival)
    assert t.wait(TIMEOUT)
    assert shown(t) == (
        "paid from Shop, send  T\n"
        "├─ failing  ran T, failed: Boom: no stock\n"
        "├─ plain  not called: failing had failed\n"
        "├─ failing  connected and not called: it hears 'x'\n"
        "└─ plain  connected and not called: it hears Rival\n"
        "paid from Shop, send_robust  T\n"
        "├─ failing  ran T, failed: Boom: no stock\n"
        "├─ plain  ran T\n"
        "├─ failing  connected and not called: it hears 'x'\n"
        "└─ plain  connected and not called: it hears Rival\n"
        "paid from Rival, send_robust  T\n"
        "├─ failing  ran T, failed: Boom: no stock\n"
        "├─ plain  ran T\n"
        "├─ plain  ran T\n"
        "│  └─ paid from Rival, background\n"
        "│     └─ plain  waited T, ran T, in pool\n"
        "└─ failing  connected and not called: it hears 'x'"
    )
    first, second, *_ = t.sends
    assert [each.why for each in first.not_called] == [
        "it hears 'x'",
        "it hears test_tracing.Rival",
    ]
    assert first.not_called is second.not_called  # said once, however many sends there are


def test_signals_that_nobody_hears_are_named() -> None:
    quiet, told = signal_to("quiet"), signal_to("told", plain)
    only_rival = signal_to("rival's")
    only_rival.connect(plain, sender=Rival)
    with trace() as t:
        for _ in range(2):
            quiet.send(None)
            told.send(None)
            only_rival.send(Shop)
            quiet.send_async(None)
    assert t.unheard == ["quiet", "rival's"]
    assert "quiet, send: nobody heard it\n" in str(t)
    assert "rival's from test_tracing.Shop, send: nobody heard it\n└─ test_tracing.plain" in str(t)


def test_an_empty_trace_says_so() -> None:
    with trace() as t:
        pass
    assert (str(t), t.sends, t.unheard, t.over) == ("nothing was sent", [], [], True)
    assert repr(t) == "<Trace of 0 sends, over>"


# -- Pools --


def test_deliveries_say_how_long_they_waited_and_where_they_ran() -> None:
    inner = signal_to("inner", plain)
    with WorkerPool(1, thread_name_prefix="pool") as pool:
        outer = signal_to("outer", sending(inner), failing, executor=pool)
        with trace() as t:
            with held(pool):
                deliveries = outer.send_async(Shop)
                assert shown(t) == (
                    "outer from Shop, send_async\n├─ send_on  not called yet\n"
                    "└─ failing  not called yet"
                )
                assert not t.over
            assert deliveries.wait(TIMEOUT)
        assert t.wait(TIMEOUT)
    assert shown(t) == (
        "outer from Shop, send_async\n"
        "├─ send_on  waited T, ran T, in pool\n"
        "│  └─ inner, send  T\n"
        "│     └─ plain  ran T\n"
        "└─ failing  waited T, ran T, in pool, failed: Boom: no stock"
    )
    first, second = t.roots[0].calls
    assert first.queued_seconds is not None
    assert second.queued_seconds is not None
    assert 0 < first.queued_seconds <= second.queued_seconds
    assert first.thread_name == "pool_0"
    assert first.sends[0].thread_name == "pool_0"


def test_trace_goes_on_until_all_that_its_block_caused_has_ended() -> None:
    last = signal_to("last", plain)
    with WorkerPool(2) as pool:
        latch = Latch()
        middle = signal_to("middle", latch, sending(last), executor=pool)
        first = signal_to("first", lambda **named: middle.send_async(None), executor=pool)
        with trace() as t:
            first.send_async(None)
        last.send("after the block")
        assert latch.entered.wait(TIMEOUT)
        assert not t.wait(0.01)
        assert repr(t).endswith("going on>")
        assert "under way" in str(t)
        latch.opened.set()
        assert t.wait(TIMEOUT)
        assert t.wait()  # and once more
    assert sorted(send.name for send in t.sends) == ["first", "last", "middle"]


def test_close_ends_it_at_once() -> None:
    with WorkerPool(1) as pool:
        latch = Latch()
        signal = signal_to("slow", latch, executor=pool)
        with trace() as t:
            signal.send_async(None)
            assert latch.entered.wait(TIMEOUT)
        t.close()
        t.close()
        assert t.over
        assert not observers_now()
        latch.opened.set()
    assert t.sends[0].calls[0].outcome is None
    assert "under way" in str(t)


def test_what_ran_in_another_process_says_how_it_ended() -> None:
    with ProcessPoolExecutor(1) as executor, elsewhere.connect(doubles), trace() as t:
        elsewhere.via(executor).send_async(None, value=1).results(TIMEOUT)
        wait_until(lambda: t.sends[0].calls[0].outcome is not None)
    assert str(t).endswith("executor_signals.doubles  completed elsewhere")


def test_what_never_ran_says_why() -> None:
    with WorkerPool(1, max_pending=1, overflow="raise") as pool:
        signal = signal_to("full", plain, executor=pool)
        with trace() as t:
            with held(pool):
                signal.send_async(None).cancel()
                signal.prepare(None).drop()
                signal.send_async(None)
                with pytest.raises(QueueFull):
                    signal.send_async(None)
        assert t.wait(TIMEOUT)
    outcomes = [send.calls[0].outcome for send in t.sends]
    assert outcomes == ["cancelled", "dropped", "completed", "refused"]
    assert "plain  waited T, refused: QueueFull: " in shown(t)


def test_background_receivers_of_other_libraries_are_recorded() -> None:
    blinker = pytest.importorskip("blinker")
    paid = blinker.signal("paid")
    inner = signal_to("inner", plain)
    with WorkerPool(1, thread_name_prefix="pool") as pool:

        @background(executor=pool)
        def hear(sender: object) -> None:
            inner.send(None)

        with paid.connected_to(hear), trace() as t:
            paid.send(Shop)
        assert t.wait(TIMEOUT)
    # blinker does not say which signal it is.
    assert [send.name for send in t.sends] == ["a signal of another library", "inner"]
    assert t.sends[1].parent is t.sends[0].calls[0]


def test_failures_that_are_told_belong_to_the_call_that_failed() -> None:
    def hear_of(failure: Any, **named: Any) -> None: ...

    with receiver_failed.connect(hear_of), trace() as t:
        signal_to("all", failing).send_robust(None)
    assert t.sends[1].parent is t.sends[0].calls[0]
    assert t.sends[1].mode == "receiver_failed"


# -- Async receivers --


def test_async_siblings_keep_their_sends_apart() -> None:
    """They run side by side in one context."""
    inner = signal_to("inner", plain)

    async def main() -> Trace:
        first, second = asyncio.Event(), asyncio.Event()

        async def one(**named: Any) -> None:
            inner.send("one, first")
            first.set()
            await second.wait()
            inner.send("one, again")

        async def two(**named: Any) -> None:
            await first.wait()
            inner.send("two, first")
            second.set()
            await asyncio.sleep(0)
            await inner.asend("two, again")

        outer = signal_to("outer", sending(inner, "sync"), one, two)
        with trace() as t:
            await outer.asend(Shop)
            inner.send("afterwards")
        return t

    t = asyncio.run(main())
    senders = [[send.sender for send in call.sends] for call in t.roots[0].calls]
    assert senders == [
        ["'sync'"],
        ["'one, first'", "'one, again'"],
        ["'two, first'", "'two, again'"],
    ]
    assert [send.sender for send in t.roots] == ["test_tracing.Shop", "'afterwards'"]
    assert [call.is_async for call in t.roots[0].calls] == [False, True, True]
    assert t.over


def test_async_deliveries_are_recorded() -> None:
    inner = signal_to("inner", plain)

    async def hear(**named: Any) -> None:
        await asyncio.sleep(0)
        inner.send(None)

    with WorkerPool(1) as pool, trace() as t:
        signal_to("outer", hear, executor=pool).send_async(None).results(TIMEOUT)
    assert t.wait(TIMEOUT)
    [call] = t.roots[0].calls
    assert call.is_async
    assert [send.name for send in call.sends] == ["inner"]


def test_send_with_async_receivers_is_recorded() -> None:
    inner = signal_to("inner", plain)

    async def hear(**named: Any) -> None:
        await asyncio.sleep(0)
        inner.send(None)

    with trace() as t:
        signal_to("outer", hear, plain).send(None)
    assert [call.is_async for call in t.roots[0].calls] == [True, False]
    assert t.roots[0].calls[0].sends[0].name == "inner"


# -- Whose sends --


def test_tasks_on_one_loop_do_not_mix() -> None:
    inner = signal_to("inner", plain)
    outer = signal_to("outer", sending(inner))

    async def main() -> list[Trace]:
        turns = [asyncio.Event() for _ in range(2)]

        async def work(mine: int) -> Trace:
            other = 1 - mine
            with trace() as t:
                for _ in range(5):
                    await turns[mine].wait()
                    turns[mine].clear()
                    await outer.asend(mine)
                    turns[other].set()
            turns[other].set()
            return t

        turns[0].set()
        return await asyncio.gather(work(0), work(1))

    traces = asyncio.run(main())
    for mine, t in enumerate(traces):
        assert {send.sender for send in t.roots} == {str(mine)}
        assert len(t.sends) == 10
        assert t.over


def test_requests_of_a_threaded_server_do_not_mix() -> None:
    from http.client import HTTPConnection
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    both = threading.Barrier(2)
    traces: dict[str, Trace] = {}
    with WorkerPool(4) as pool:
        inner = signal_to("inner", plain)
        asked = signal_to("asked", sending(inner, "receiver"), executor=pool)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with trace() as t:
                    both.wait(TIMEOUT)
                    for _ in range(20):
                        asked.send(self.path)
                        asked.send_async(self.path)
                    both.wait(TIMEOUT)
                traces[self.path] = t
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        def ask(path: str) -> int:
            connection = HTTPConnection("127.0.0.1", server.server_port, timeout=TIMEOUT)
            with contextlib.closing(connection):
                connection.request("GET", path)
                return connection.getresponse().status

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            serving.start()
            assert together(lambda: ask("/one"), lambda: ask("/two")) == [204, 204]
            server.shutdown()
            serving.join(TIMEOUT)
        for path, t in traces.items():
            assert t.wait(TIMEOUT)
            assert {send.sender for send in t.roots} == {repr(path)}
            assert len(t.roots) == 40
            assert len(t.sends) == 80
    assert set(traces) == {"/one", "/two"}


def test_other_threads_are_left_out_unless_they_have_the_context() -> None:
    signal = signal_to("any", plain)
    with trace() as t, ThreadPoolExecutor(1) as executor:
        executor.submit(contextvars.Context().run, signal.send, "stranger").result(TIMEOUT)
        executor.submit(contextvars.copy_context().run, signal.send, "child").result(TIMEOUT)
    assert [send.sender for send in t.sends] == ["'child'"]


def test_traces_nest() -> None:
    inner = signal_to("inner", plain)
    kept = []

    def look(**named: Any) -> None:
        with trace() as t:
            inner.send("seen by both")
        kept.append(t)

    outer = signal_to("outer", look, sending(inner, "seen by one"))
    with trace() as t:
        outer.send(None)
    assert [send.sender for send in kept[0].sends] == ["'seen by both'"]
    assert kept[0].roots == kept[0].sends
    assert [send.sender for send in t.sends] == [None, "'seen by both'", "'seen by one'"]
    assert [len(call.sends) for call in t.roots[0].calls] == [1, 1]


def test_a_trace_records_one_block() -> None:
    with trace() as t:
        pass
    with pytest.raises(RuntimeError, match="call trace\\(\\) once more"), t:
        pass


def test_block_may_end_in_another_context() -> None:
    signal = signal_to("any", plain)

    def block() -> Iterator[Trace]:
        with trace() as t:
            yield t

    generator = block()
    here = contextvars.copy_context()
    t = here.run(next, generator)
    here.run(signal.send, "in it")
    signal.send("not in it")
    contextvars.copy_context().run(lambda: list(generator))
    here.run(signal.send, "too late")
    assert [send.sender for send in t.sends] == ["'in it'"]
    assert t.over


def test_receiver_that_begins_a_trace_may_leave_it_to_another_to_end() -> None:
    started, finished = Signal(), Signal()
    inner = signal_to("inner", plain)
    stack = contextlib.ExitStack()
    kept = []

    def begin(**named: Any) -> None:
        kept.append(stack.enter_context(trace()))

    def end(**named: Any) -> None:
        stack.close()

    with started.connect(begin), finished.connect(end), trace() as whole:
        started.send(None)
        inner.send("between")
        finished.send(None)
        inner.send("after")
    [t] = kept
    assert [send.sender for send in t.roots if send.name == "inner"] == ["'between'"]
    assert [send.sender for send in whole.roots if send.name == "inner"] == ["'between'", "'after'"]


def test_trace_keeps_no_receiver_and_no_sender_alive() -> None:
    signal, ear, thing = Signal(name="any"), Ear(), Thing()
    signal.connect(ear.hear)
    gone = weakref.ref(ear), weakref.ref(thing)
    with trace() as t:
        signal.send(thing, value=thing)
        del ear, thing
        gc.collect()
        assert [reference() for reference in gone] == [None, None]
        signal.send(None)
    assert [send.heard for send in t.sends] == [True, False]
    assert t.sends[0].calls[0].name == "helpers.Ear.hear"


def test_a_forked_child_is_not_traced() -> None:
    import processes

    if not hasattr(processes.os, "fork"):
        pytest.skip("there is no fork")
    signal = signal_to("any", plain)
    with trace() as t:
        signal.send(None)

        def child() -> None:
            signal.send(None)
            assert t.over
            assert len(t.sends) == 1
            assert not observers_now()

        assert processes.forked(child) == 0
        signal.send(None)
    assert len(t.sends) == 2


def test_asend_leaves_the_context_of_its_sender_as_it_was() -> None:
    signal = signal_to("any", plain)

    async def main() -> bool:
        before = dict(contextvars.copy_context())
        await signal.asend(None)
        return dict(contextvars.copy_context()) == before

    with trace():
        assert awaited(main)


# -- For Perfetto --


def record(path: Path) -> Trace:
    """A bit of everything."""
    inner = signal_to("inner", plain, failing)
    quiet = signal_to("quiet")

    async def tick(**named: Any) -> None:
        await asyncio.sleep(0.001)
        quiet.send(None)

    def robustly(**named: Any) -> None:
        inner.send_robust('é"\n')

    with WorkerPool(2, thread_name_prefix="pool", max_pending=3, overflow="caller_runs") as pool:
        outer = signal_to("outer", robustly, tick, background(plain), failing, executor=pool)
        outer.connect(plain, sender=Rival)
        with trace() as t:
            outer.send_robust(Shop)
            with held(pool, 2):
                outer.send_async(Shop).cancel()
                outer.send_async(Shop)
                for _ in range(2):
                    outer.send_async(Shop)  # it runs here
            asyncio.run(both(outer))
        assert t.wait(TIMEOUT)
    t.to_chrome(path)
    return t


async def both(signal: Signal) -> None:
    await asyncio.gather(
        signal.asend_robust(1), signal.asend_robust(2), signal.here.asend_robust(3)
    )


def test_file_for_perfetto_is_as_it_should_be(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    t = record(path)
    events = chrome_traces.read(path)
    calls = [call for send in t.sends for call in send.calls if call.started_ns is not None]
    whole = chrome_traces.of(events, "X", cat="receiver")
    pairs = chrome_traces.of(events, "b", cat="receiver")
    starts = [e for e in whole if e["name"].endswith(" starts")]
    assert len(whole) - len(starts) == sum(not call.is_async for call in calls)
    assert len(pairs) == sum(call.is_async for call in calls)
    in_pools = [c for c in calls if c.send.mode in ("send_async", "background")]
    assert len(chrome_traces.of(events, "s")) == len(in_pools)
    waits = chrome_traces.of(events, "b", cat="queue")
    cancelled = [
        c for s in t.sends for c in s.calls if c.outcome == "cancelled" and not c.started_ns
    ]
    assert len(waits) == len(in_pools) + len(cancelled)
    assert cancelled
    sends = chrome_traces.of(events, "X", "b", cat="send")
    assert len(sends) == len(t.sends)
    assert {e["ph"] for e in sends if "asend" in e["name"]} == {"b"}
    names = {e["args"]["name"] for e in chrome_traces.of(events, "M")}
    assert {"tsignals", threading.current_thread().name} <= names
    assert names & {"pool_0", "pool_1"}  # either worker may have run all that is traced
    failed = [e for e in whole if e["args"].get("outcome") == "failed"]
    assert failed
    assert {e["args"]["error"] for e in failed} == {"Boom: no stock"}
    [unheard] = {e["args"]["heard"] for e in sends if "quiet" in e["name"]}
    assert unheard == "by nobody"
    assert any("hears test_tracing.Rival" in e["args"].get("not called", "") for e in sends)


def test_what_is_under_way_is_drawn_until_now(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"

    def look(**named: Any) -> None:
        t.to_chrome(path)

    with trace() as t:
        signal_to("outer", sending(signal_to("inner", look))).send(None)
    events = chrome_traces.read(path)
    assert len(chrome_traces.of(events, "X")) == 4
    assert {e["args"]["outcome"] for e in chrome_traces.of(events, "X", cat="receiver")} == {None}


def test_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with trace() as t:
        pass
    with pytest.raises(OSError, match="nowhere"):
        t.to_chrome(tmp_path / "nowhere" / "trace.json")
