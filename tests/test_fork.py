"""What a fork leaves in the child and in the parent. Each test is a script in a new process."""

import os
import sys
import sysconfig
from pathlib import Path

import processes
import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")

others_at_work = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="free-threaded CPython leaves the locks of built-in objects, such as a plain dict's, "
    "locked in a child whose parent's other threads were using them at the fork",
)

PREAMBLE = (
    processes.PREAMBLE
    + """
import inside
from concurrent import futures
from tsignals import *

WAIT = 60
read, write = os.pipe()
os.set_blocking(read, False)
pool = WorkerPool(1, thread_name_prefix="mail")
saved = Signal(name="saved", executor=pool)
entered, opened = threading.Event(), threading.Event()

def note(n, **named):
    os.write(write, b"%s %d\\n" % (str(n).encode(), os.getpid()))
    return n

def wait(**named):
    entered.set()
    assert opened.wait(WAIT)

def hold():
    future = pool.submit(wait)
    assert entered.wait(WAIT)
    return future

def notes():
    '''What was noted so far: pairs of a word and the process that noted it.'''
    try:
        lines = os.read(read, 100_000).decode().split("\\n")
    except BlockingIOError:
        return []
    return sorted((word, int(pid)) for word, pid in map(str.split, filter(None, lines)))

def fork(function):
    '''Have a forked child call the function and end; return its process id.'''
    pid = os.fork()
    if pid:
        return pid
    end(function)

def end(function):
    signal.alarm(WAIT)
    status = 1
    try:
        function()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)

def check(*pids):
    for pid in pids:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == 0, f"the child ended with {status}"

def responses(deliveries):
    return [response for _, response in deliveries.results(WAIT)]

def is_lost(future):
    return isinstance(future.exception(WAIT), DeliveryLost)

saved.connect(note)
"""
)


def succeeds(script: str, **environment: str) -> None:
    """Fail unless the script ends well, in silence and in time."""
    done = processes.run(script, PREAMBLE, **{"TSIGNALS_EXIT_SECONDS": "1", **environment})
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_child_and_parent_go_on_and_nothing_runs_twice() -> None:
    succeeds("""
        hold()
        for n in range(50):
            saved.send_async(None, n=n)

        def child():
            assert responses(saved.send_async(None, n="child")) == ["child"]
            assert saved.send(None, n="sent") == [(note, "sent")]
            assert pool.drain(WAIT)

        pid = fork(child)
        check(pid)
        opened.set()
        saved.send_async(None, n="parent")
        assert pool.drain(WAIT)
        own = [(str(word), os.getpid()) for word in [*range(50), "parent"]]
        assert notes() == sorted([*own, ("child", pid), ("sent", pid)])
    """)


def test_copies_of_futures_that_were_not_done_are_lost_in_the_child_only() -> None:
    succeeds("""
        ended = pool.submit(int)
        ended.result(WAIT)
        cancelled = None
        running = hold()
        deliveries = saved.send_async(None, n=1)
        queued = deliveries.futures[0]
        cancelled = pool.submit(int)
        assert cancelled.cancel()

        def child():
            assert ended.result() == 0 and cancelled.cancelled()
            for future in (running, queued):
                assert future.done() and is_lost(future)
                assert not future.cancel() and not future.running()
                assert futures.wait([future], WAIT).not_done == set()
                assert list(futures.as_completed([future], WAIT)) == [future]
            (_, error), = deliveries.outcomes(WAIT)
            assert isinstance(error, DeliveryLost)
            assert str(os.getpid()) in str(error)

        check(fork(child))
        assert running.running() and not queued.done()
        opened.set()
        assert running.result(WAIT) is None
        assert responses(deliveries) == [1]
    """)


def test_counters_are_zero_in_the_child_and_untouched_in_the_parent() -> None:
    succeeds("""
        pool.submit(int).result(WAIT)
        hold()
        saved.send_async(None, n=1)
        before = pool.stats()

        def child():
            assert pool.stats() == PoolStats(*[0] * 10)
            pool.submit(int).result(WAIT)
            assert pool.drain(WAIT)
            stats = pool.stats()
            assert (stats.submitted, stats.completed, stats.workers) == (1, 1, 1)

        check(fork(child))
        assert pool.stats() == before
        opened.set()
        assert pool.drain(WAIT)
        assert pool.stats().completed == 3
    """)


def test_callbacks_registered_before_do_not_run_in_the_child() -> None:
    succeeds("""
        running = hold()
        queued, = saved.send_async(None, n="delivery").futures
        running.add_done_callback(lambda future: note("running"))
        queued.add_done_callback(lambda future: note("queued"))

        def child():
            assert is_lost(running) and is_lost(queued)
            queued.add_done_callback(lambda future: note("new"))

        pid = fork(child)
        check(pid)
        opened.set()
        assert pool.drain(WAIT)
        me = os.getpid()
        expected = [("delivery", me), ("queued", me), ("running", me), ("new", pid)]
        deadline = time.monotonic() + WAIT
        seen = notes()
        while len(seen) < 4 and time.monotonic() < deadline:
            seen = sorted(seen + notes())
        assert seen == sorted(expected)
    """)


def test_closed_closing_and_broken_pools_stay_so() -> None:
    succeeds("""
        import logging
        logging.disable()
        closed, broken = WorkerPool(1), WorkerPool(1, initializer=divmod, initargs=(1, 0))
        closed.shutdown()
        assert isinstance(broken.submit(int).exception(WAIT), futures.BrokenExecutor)
        hold()
        queued = pool.submit(int)
        pool.shutdown(wait=False)

        def child():
            for one, error in (
                (closed, PoolClosed), (pool, PoolClosed), (broken, futures.BrokenExecutor)
            ):
                try:
                    one.submit(int)
                except error:
                    pass
                else:
                    raise AssertionError("it took work")
                one.shutdown()
            assert is_lost(queued)

        check(fork(child))
        opened.set()
        assert queued.result(WAIT) == 0
        pool.shutdown()
    """)


def test_delivery_that_forks_goes_on_in_both() -> None:
    succeeds("""
        pids, mine = [], []
        own = threading.Event()

        def forks(**named):
            assert own.wait(WAIT)
            pids.append(os.fork())
            if pids[0]:
                return note("forked")
            signal.alarm(WAIT)
            def child():
                assert is_lost(mine[0]) and is_lost(mine[1])
                assert responses(saved.send_async(None, n="child"))[0] == "child"
                assert pool.drain(WAIT)
            end(child)

        mine += [pool.submit(forks), pool.submit(note, "behind")]
        own.set()
        assert [future.result(WAIT) for future in mine] == ["forked", "behind"]
        check(pids[0])
        me = os.getpid()
        assert notes() == sorted([("forked", me), ("behind", me), ("child", pids[0])])
    """)


def test_delivery_that_forks_may_return_in_the_child() -> None:
    succeeds("""
        pids, mine = [], []
        own = threading.Event()

        def looks_back(worker):
            deadline = time.monotonic() + WAIT
            while worker in threading.enumerate():
                assert time.monotonic() < deadline
            assert is_lost(mine[0])
            assert pool.stats() == PoolStats(*[0] * 10)
            assert pool.submit(note, "new").result(WAIT) == "new"

        def forks(**named):
            assert own.wait(WAIT)
            pids.append(os.fork())
            if not pids[0]:
                worker = threading.current_thread()
                threading.Thread(target=end, args=[lambda: looks_back(worker)]).start()
            return note("on")

        mine.append(pool.submit(forks))
        own.set()
        behind = pool.submit(note, "behind")
        assert (mine[0].result(WAIT), behind.result(WAIT)) == ("on", "behind")
        check(pids[0])
        me, child = os.getpid(), pids[0]
        assert notes() == sorted([("on", me), ("behind", me), ("on", child), ("new", child)])
        assert pool.stats().completed == 2
    """)


def test_process_that_a_delivery_forked_ends_with_its_only_thread() -> None:
    succeeds("""
        def forks():
            pid = os.fork()
            if not pid:
                signal.alarm(WAIT)
            return pid

        check(pool.submit(forks).result(WAIT))
    """)


def test_ordered_receivers_go_on_in_the_child() -> None:
    succeeds("""
        ordered = Signal(executor=pool)
        ordered.connect(wait, ordered=True)
        ordered.connect(note, ordered=True)
        first = ordered.send_async(None, n=1)
        assert entered.wait(WAIT)
        ordered.send_async(None, n=2)

        def child():
            opened.set()
            assert responses(ordered.send_async(None, n=3)) == [None, 3]

        pid = fork(child)
        check(pid)
        opened.set()
        assert responses(first) == [None, 1]
        assert pool.drain(WAIT)
        assert notes() == sorted([("1", os.getpid()), ("2", os.getpid()), ("3", pid)])
    """)


def test_async_receivers_run_on_an_event_loop_of_the_child() -> None:
    succeeds("""
        async def answer(n, **named):
            return note(n)

        asynchronous = Signal(executor=pool)
        asynchronous.connect(answer)
        assert responses(asynchronous.send_async(None, n="warm")) == ["warm"]

        def child():
            assert responses(asynchronous.send_async(None, n="child")) == ["child"]

        pid = fork(child)
        check(pid)
        assert responses(asynchronous.send_async(None, n="parent")) == ["parent"]
        me = os.getpid()
        assert notes() == sorted([("warm", me), ("child", pid), ("parent", me)])
    """)


def test_threads_that_wait_at_the_fork_hold_up_nobody_in_the_child() -> None:
    succeeds("""
        narrow = WorkerPool(1, max_pending=1)
        full = Signal(executor=narrow)
        full.connect(note)
        narrow.submit(wait)
        assert entered.wait(WAIT)
        queued, = full.send_async(None, n="queued").futures
        locked = threading.Event()

        def lock():
            with queued._condition:
                locked.set()
                assert opened.wait(WAIT)

        def started(function, *arguments):
            thread = threading.Thread(target=function, args=arguments, daemon=True)
            thread.start()
            return thread

        threads = [
            started(lambda: full.send_async(None, n="blocked")),
            started(queued.result, WAIT),
            started(futures.wait, [queued], WAIT),
            started(narrow.drain, WAIT),
        ]
        deadline = time.monotonic() + WAIT
        while not (inside.blocked_senders(narrow) and inside.waiting_for_quiet(narrow)):
            assert time.monotonic() < deadline
        threads.append(started(lock))
        assert locked.wait(WAIT)

        def child():
            assert is_lost(queued)
            assert not futures.wait([queued], WAIT).not_done
            assert narrow.drain(WAIT)
            assert responses(full.send_async(None, n="child")) == ["child"]

        pid = fork(child)
        check(pid)
        opened.set()
        for thread in threads:
            thread.join(WAIT)
            assert not thread.is_alive()
        assert narrow.drain(WAIT)
        me = os.getpid()
        assert notes() == sorted([("queued", me), ("blocked", me), ("child", pid)])
    """)


def test_calls_of_tracked_receivers_in_other_threads_are_the_parents() -> None:
    succeeds("""
        tracked = Signal(executor=pool)
        connection = tracked.connect(wait, tracked=True)
        deliveries = tracked.send_async(None)
        assert entered.wait(WAIT)

        def child():
            assert connection.disconnect(wait=True)
            assert tracked.send(None) == []

        check(fork(child))
        opened.set()
        assert responses(deliveries) == [None]
        assert connection.disconnect(wait=WAIT)
    """)


@pytest.mark.parametrize("of", ["a worker", "an event loop"])
def test_handler_that_forks_while_its_thread_waits_for_the_start_of(of: str) -> None:
    succeeds(f"""
        me, pids, began = os.getpid(), [], threading.Thread.start

        async def hears(**named): ...

        def forks(*details):
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            pids.append(os.fork())

        def start(thread):
            while not pids:
                os.kill(me, signal.SIGUSR1)
                time.sleep(0.01)
            began(thread)

        def child():
            threading.Thread.start = began
            assert pool.submit(int).result(WAIT) == 0
            assert waits.send_async(None).wait(WAIT)
            assert pool.drain(WAIT)

        waits = Signal(executor=pool)
        waits.connect(hears, weak=False)
        signal.signal(signal.SIGUSR1, forks)
        threading.Thread.start = start
        try:
            sent = pool.submit(int) if {of!r} == "a worker" else waits.send_async(None)[0][1]
        except RuntimeError as error:
            assert os.getpid() != me and "forked" in str(error)
        else:
            assert os.getpid() == me or is_lost(sent)
        if os.getpid() != me:
            end(child)
        check(*pids)
        assert sent.exception(WAIT) is None
    """)


def test_thread_that_waits_below_the_handler_that_forks_goes_on_in_the_child() -> None:
    succeeds("""
        me, pids = os.getpid(), []

        def forks(*details):
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            pids.append(os.fork())
            if pids[0]:
                opened.set()

        signal.signal(signal.SIGUSR1, forks)

        def interrupts(**named):
            while not pids:  # one that comes just before the wait does not cut it short
                os.kill(me, signal.SIGUSR1)
                time.sleep(0.01)
            wait()

        future = pool.submit(interrupts)
        assert pool.drain(WAIT)
        if os.getpid() != me:
            def child():
                assert is_lost(future)
                assert pool.submit(int).result(WAIT) == 0
            end(child)
        assert future.result(WAIT) is None
        check(*pids)
    """)


def test_tracked_receiver_that_forks_is_waited_for_in_both() -> None:
    succeeds("""
        pids = []
        ended = threading.Event()

        def forks(**named):
            pids.append(os.fork())
            if pids[0]:
                return
            def child():
                with futures.ThreadPoolExecutor(1) as others:
                    try:
                        others.submit(connection.disconnect, wait=0.1).result(WAIT)
                    except TimeoutError:
                        pass
                    else:
                        raise AssertionError("it still runs")
                    assert connection.disconnect(wait=True) is False  # its own call is left out
            end(child)

        signal_of_fork = Signal()
        connection = signal_of_fork.connect(forks, tracked=True)
        signal_of_fork.send(None)
        check(pids[0])
        assert connection.disconnect(wait=WAIT)
    """)


def test_wait_below_the_handler_that_forks_ends_in_the_child() -> None:
    succeeds("""
        me, pids = os.getpid(), []

        def forks(*details):
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            pids.append(os.fork())
            if pids[0]:
                opened.set()
            else:
                signal.alarm(WAIT)

        signal.signal(signal.SIGUSR1, forks)

        def interrupts(**named):
            while not inside.waits_for_receivers():
                time.sleep(0.001)
            while not pids:  # one that comes just before it sleeps does not wake it
                os.kill(me, signal.SIGUSR1)
                time.sleep(0.01)
            wait()

        connection = saved.connect(interrupts, tracked=True)
        sent = saved.send_async(None, n="sent")
        while not pool.stats().running:
            time.sleep(0.001)
        assert connection.disconnect(wait=True)  # in the child nobody is in the receiver
        if os.getpid() != me:
            end(lambda: None)
        assert sent.wait(WAIT)
        check(*pids)
    """)


def test_forked_child_that_ends_normally_runs_what_it_has_queued() -> None:
    succeeds("""
        hold()
        saved.send_async(None, n="parent")
        if not (pid := os.fork()):
            pool.submit(threading.main_thread().join)  # until the end has begun
            saved.send_async(None, n="child")
            sys.exit()
        check(pid)
        opened.set()
        assert pool.drain(WAIT)
        assert notes() == sorted([("parent", os.getpid()), ("child", pid)])
    """)


def test_child_of_multiprocessing_runs_what_is_pending_at_its_end() -> None:
    succeeds("""
        import multiprocessing
        context = multiprocessing.get_context("fork")

        def child():
            made_here = WorkerPool(1)
            ending = threading.Event()
            multiprocessing.util.Finalize(None, ending.set, exitpriority=200)  # the first of all
            for one in (pool, made_here):
                one.submit(ending.wait, WAIT)
                for n in range(3):
                    one.submit(note, f"{n}")

        hold()
        saved.send_async(None, n="parent")
        process = context.Process(target=child)
        process.start()
        process.join(WAIT)
        assert process.exitcode == 0
        opened.set()
        assert pool.drain(WAIT)
        own = [(f"{n}", process.pid) for n in [0, 1, 2] * 2]
        assert notes() == sorted([("parent", os.getpid()), *own])
    """)


def test_child_of_multiprocessing_says_what_it_lost() -> None:
    done = processes.run(
        """
        import multiprocessing

        def child():
            pool.submit(threading.Event().wait)
            saved.send_async(None, n=1)
            saved.send_async(None, n=2)

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(WAIT)
        assert process.exitcode == 0
        """,
        PREAMBLE,
        TSIGNALS_EXIT_SECONDS="0.2",
    )
    assert done.returncode == 0
    lost = "pool 'mail': at exit {} deliveries of {} were queued or still running; they are lost"
    assert done.stderr.splitlines() == [
        lost.format(2, "'saved' to note"),
        lost.format(1, "submit()"),
    ]


def test_caller_that_runs_a_receiver_that_forks_runs_no_further_one_in_the_child() -> None:
    succeeds("""
        narrow = WorkerPool(1, max_pending=1, overflow="caller_runs")
        narrow.submit(wait)
        assert entered.wait(WAIT)
        narrow.submit(int)
        pids = []

        def forks(n, **named):
            pids.append(os.fork())
            return note(n)

        full = Signal(executor=narrow)
        full.connect(forks)
        full.connect(note)
        deliveries = full.send_async(None, n="on")

        def child():
            assert all(map(is_lost, deliveries.futures))
            assert narrow.stats() == PoolStats(*[0] * 10)
            assert narrow.submit(note, "new").result(WAIT) == "new"
            assert narrow.drain(WAIT)

        if not pids[0]:
            end(child)
        check(pids[0])
        assert responses(deliveries) == ["on", "on"]
        opened.set()
        assert narrow.drain(WAIT)
        me = os.getpid()
        assert notes() == sorted([("on", me), ("on", me), ("on", pids[0]), ("new", pids[0])])
    """)


def test_what_another_thread_was_about_to_run_as_its_sender_is_lost_in_the_child() -> None:
    succeeds("""
        narrow = WorkerPool(1, max_pending=1, overflow="caller_runs")
        inner, both = threading.Event(), threading.Barrier(2)

        def stays(**named):
            both.wait(WAIT)
            while not inner.is_set():
                time.sleep(0.01)

        narrow.submit(stays)
        both.wait(WAIT)
        narrow.submit(int)
        full = Signal(executor=narrow)
        full.connect(stays)
        full.connect(note)
        sending = threading.Thread(target=full.send_async, args=[None], kwargs={"n": "on"})
        sending.start()
        both.wait(WAIT)
        left = narrow.unfinished()

        def child():
            assert len(left) == 4 and all(map(is_lost, left))

        check(fork(child))
        inner.set()
        sending.join()
        assert narrow.drain(WAIT)
        assert notes() == [("on", os.getpid())]
    """)


def test_future_whose_callback_forks_keeps_its_result_in_both() -> None:
    succeeds("""
        pids = []

        def child():
            assert ended.result(WAIT) is None
            assert is_lost(behind)
            assert pool.stats() == PoolStats(*[0] * 10)
            assert pool.submit(int).result(WAIT) == 0

        def forks(future):
            pids.append(os.fork())
            if not pids[0]:
                end(child)

        ended = hold()
        ended.add_done_callback(forks)
        behind = pool.submit(int)
        opened.set()
        assert ended.result(WAIT) is None
        assert behind.result(WAIT) == 0
        check(pids[0])
    """)


def test_async_receiver_that_ended_as_another_forked_is_the_parents() -> None:
    succeeds("""
        import asyncio
        pids = []
        known = threading.Event()

        def child(loop):
            deadline = time.monotonic() + WAIT
            while loop in threading.enumerate():
                assert time.monotonic() < deadline
            assert all(map(is_lost, deliveries.futures))
            assert pool.stats() == PoolStats(*[0] * 10)
            assert responses(others.send_async(None, n="new")) == ["new"]

        async def forks(n, **named):
            await asyncio.sleep(0)  # the other ends meanwhile, and the pool is told next
            assert known.wait(WAIT)
            pids.append(os.fork())
            if not pids[0]:
                loop = threading.current_thread()
                threading.Thread(target=end, args=[lambda: child(loop)]).start()
            return n

        async def ends(n, **named):
            return note(n)

        asynchronous, others = Signal(executor=pool), Signal(executor=pool)
        asynchronous.connect(forks)
        asynchronous.connect(ends)
        others.connect(ends)
        deliveries = asynchronous.send_async(None, n="on")
        known.set()
        assert responses(deliveries) == ["on", "on"]
        check(pids[0])
        assert notes() == sorted([("on", os.getpid()), ("new", pids[0])])
    """)


FORKING_HANDLER = (
    PREAMBLE
    + f"""
sys.path.append({str(Path(__file__).parent)!r})
"""
    + """
import logging
from points import FIRST, STRIDE, Handler

logging.disable()  # of drops

def sound(one):
    stats = one.stats()
    assert min(stats) >= 0, stats
    assert stats.submitted == stats.pending + stats.running + sum(stats[5:]), stats
    assert one.drain(WAIT / 3), one.stats()
    assert inside.state_of(one).room_used == 0
    assert one.submit(int).result(WAIT) == 0

def fork_at_every_point(act, raises, **arguments):
    # A handler forks at each point of ``act(one, waiting)``, and may raise in the child.
    at, reached = FIRST - STRIDE, True
    while reached:
        at += STRIDE
        one = WorkerPool(1, **arguments)
        one.submit(wait)
        assert entered.wait(WAIT)
        waiting = one.submit(int)
        pids = []

        def forks():
            pids.append(os.fork())
            if not pids[0]:
                signal.alarm(WAIT)
                if raises:
                    sys.unraisablehook = lambda *_: None  # it may be raised where a generator ends
                    raise KeyboardInterrupt

        mine = os.getpid()
        handler = Handler(at, forks)
        try:
            with handler:
                act(one, waiting)
        except KeyboardInterrupt:
            assert os.getpid() != mine and raises
        reached = handler.reached
        if os.getpid() != mine:
            def child():
                try:
                    sound(one)
                except BaseException:
                    print("at point", at, handler.where, file=sys.stderr)
                    raise
            end(child)
        opened.set()
        check(*pids)
        sound(one)
        one.shutdown()
        entered.clear()
        opened.clear()
    assert at > 10
"""
)

FORKED_CALLS = {
    "cancel": ("waiting.cancel()", {}),
    "submit": ("one.submit(int)", {}),
    "send that the caller runs": (
        "deliver(one)",
        {"max_pending": 1, "overflow": "caller_runs"},
    ),
    "send that drops the oldest": (
        "deliver(one)",
        {"max_pending": 1, "overflow": "drop_oldest"},
    ),
}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_child_forked_as_a_worker_is_about_to_start_counts_and_starts_its_own(moment: str) -> None:
    """By a finalizer, say: between the decision for a thread and its start."""
    succeeds(f"""
        def make(thread, *arguments, **named):
            if not pids and {moment!r} == "before":
                pids.append(os.fork())
            init(thread, *arguments, **named)
            if not pids:
                pids.append(os.fork())

        def child():
            assert is_lost(future)
            assert pool.stats() == PoolStats(*[0] * 10)
            assert pool.submit(int).result(WAIT) == 0
            assert pool.drain(WAIT)
            stats = pool.stats()
            assert (stats.submitted, stats.completed, stats.workers) == (1, 1, 1)

        pids, init = [], threading.Thread.__init__
        threading.Thread.__init__ = make
        future = pool.submit(int)
        if not pids[0]:
            end(child)
        check(*pids)
        assert future.result(WAIT) == 0
        assert pool.stats().workers == 1
    """)


@pytest.mark.unmeasured
@pytest.mark.parametrize("raises", [False, True], ids=["", "and raises in the child"])
@pytest.mark.parametrize("call", FORKED_CALLS)
def test_handler_may_fork_at_any_point_of(call: str, raises: bool) -> None:
    act, arguments = FORKED_CALLS[call]
    done = processes.run(
        f"""
        def deliver(one):
            both = Signal(name="both", executor=one)
            both.connect(ignores)
            both.connect(ignores, dispatch_uid="again")
            both.send_async(None)

        def ignores(**named):
            pass

        def act(one, waiting):
            {act}

        fork_at_every_point(act, {raises}, **{arguments})
        """,
        FORKING_HANDLER,
        TSIGNALS_EXIT_SECONDS="1",
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("moment", ["while it runs", "when it is done, before anybody is told"])
def test_wait_for_a_delivery_below_the_handler_that_forks_ends_in_the_child(
    moment: str,
) -> None:
    succeeds(f"""

        me, pids = os.getpid(), []
        announce = inside.TELL_THOSE_WHO_WAIT.now

        def forks(*details):
            pids.append(os.fork())
            if not pids[0]:
                signal.alarm(WAIT)

        def interrupts(*details, **named):
            while not pids:  # one that comes just before the wait does not cut it short
                os.kill(me, signal.SIGUSR1)
                time.sleep(0.01)

        def announces(*arguments):
            if not pids:
                interrupts()
            announce(*arguments)

        signal.signal(signal.SIGUSR1, lambda *details: pids or forks())
        sent = Signal(executor=pool)
        if {moment!r} == "while it runs":
            sent.connect(interrupts)
        else:
            sent.connect(wait)
            inside.TELL_THOSE_WHO_WAIT.put(announces)
            threading.Timer(0.1, opened.set).start()
        delivery, = sent.send_async(None).futures
        try:
            delivery.result(WAIT)
        except DeliveryLost:
            assert os.getpid() != me
        if os.getpid() != me:
            end(delivery.done)
        check(*pids)
    """)


def test_receiver_that_forks_and_raises_is_told_of_in_both() -> None:
    succeeds("""
        import logging
        logger = logging.getLogger("tsignals")
        logger.addFilter(lambda record: note("logged") is None)  # and no further

        def forks(**named):
            pids.append(os.fork())
            if not pids[0]:
                signal.alarm(WAIT)
            raise ValueError

        def hears(failure, **named):
            assert failure.sender == "sender"
            note(f"told:{type(failure.exception).__name__}")

        pids = []
        forking = Signal(executor=pool)
        forking.connect(forks)
        receiver_failed.connect(hears, sender=forking)
        (_, error), = forking.send_async("sender").outcomes(WAIT)
        assert isinstance(error, ValueError)
        check(pids[0])
        both = [os.getpid(), pids[0]]
        expected = [(word, pid) for pid in both for word in ("logged", "told:ValueError")]
        assert notes() == sorted(expected)
    """)


@pytest.mark.unmeasured
@others_at_work
def test_forks_while_threads_connect_and_send() -> None:
    succeeds("""
        sys.setswitchinterval(1e-5)
        others = WorkerPool(2)
        busy = Signal(executor=others)
        over = threading.Event()
        sent, heard = [], []

        def connects():
            while not over.is_set():
                connection = busy.connect(lambda **named: None, weak=False, tracked=True)
                connection.disconnect(wait=True)

        def sends():
            while not over.is_set():
                sent.append(busy.send(None, n=0))

        def sends_async():
            while not over.is_set():
                sent.append(deliveries := busy.send_async(None, n=0))
                assert deliveries.wait(WAIT)

        def hear(**named):
            heard.append(named)

        busy.connect(hear, ordered=True)
        threads = [threading.Thread(target=work) for work in (connects, sends, sends_async)]
        for thread in threads:
            thread.start()

        def child():
            ear = busy.connect(lambda n, **named: n, weak=False, priority=1)
            assert busy.send(None, n=1)[0][1] == 1
            assert responses(busy.send_async(None, n=2))[0] == 2
            assert others.drain(WAIT)
            assert others.stats().submitted == others.stats().completed
            assert ear.disconnect()

        try:
            for _ in range(30):
                check(fork(child))
        finally:
            over.set()
        for thread in threads:
            thread.join(WAIT)
            assert not thread.is_alive()
        assert others.drain(WAIT)
        assert len(heard) == len(sent)
        stats = others.stats()
        assert stats.submitted == stats.completed + stats.cancelled
    """)


# A fork made in C that runs none of Python's hooks, as some web servers make it

UNTOLD = (
    PREAMBLE
    + """
import asyncio, ctypes
from pathlib import Path

def switches():
    own = threading.get_native_id()
    return {
        thread: Path(f"/proc/self/task/{thread}/status").read_text().partition("voluntary_ctxt")[2]
        for thread in os.listdir("/proc/self/task")
        if int(thread) != own
    }

def fork(function):
    # Nobody may wait for the GIL now: the interpreter would wait for that thread in the child.
    while switches() != (time.sleep(0.02), switches())[1]:
        pass
    # With the GIL held, or it might be another thread's in the child, for ever.
    pid = ctypes.PyDLL(None).fork()
    if pid:
        return pid
    end(function)
"""
)

untold = pytest.mark.skipif(
    not sys.platform.startswith("linux") or bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="no other system tells, and no free-threaded interpreter itself survives such a fork",
)
untold_while_threads_wait = pytest.mark.skipif(
    sys.version_info >= (3, 13) or untold.args[0],
    reason="from 3.13 on, CPython's list of who waits stands on stacks that the child's threads "
    "use anew, and the interpreter itself crashes",
)


def succeeds_untold(script: str, **environment: str) -> None:
    done = processes.run(script, UNTOLD, **{"TSIGNALS_EXIT_SECONDS": "1", **environment})
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@untold
def test_fork_that_nobody_told_of_before_the_pool_has_threads() -> None:
    """As a web server makes it that loads the application first."""
    succeeds_untold("""
        def child():
            for n in range(300):
                assert responses(saved.send_async(None, n=n)) == [n]
            assert pool.stats().completed == 300

        check(fork(child), fork(child))
        assert responses(saved.send_async(None, n="parent")) == ["parent"]
    """)


@untold
@pytest.mark.parametrize("use", ["submit", "drop"])
def test_prepared_send_is_the_parents_when_a_child_that_nobody_told_has_it(use: str) -> None:
    succeeds_untold(f"""
        prepared = saved.prepare(None, n="prepared")

        def child():
            prepared.{use}()
            assert inside.fork_is_noticed()
            assert is_lost(prepared.deliveries[0][1])
            assert responses(saved.send_async(None, n="child")) == ["child"]

        check(fork(child))
        prepared.submit()
        assert responses(prepared.deliveries) == ["prepared"]
        assert [pid for word, pid in notes() if word == "prepared"] == [os.getpid()]
    """)


@untold
def test_tracked_call_with_which_a_child_begins_that_nobody_told_is_waited_for() -> None:
    succeeds_untold("""
        tracked = Signal()
        connection = tracked.connect(wait, tracked=True)

        def child():
            sending = threading.Thread(target=tracked.send, args=[None])
            sending.start()
            assert entered.wait(WAIT)
            try:
                connection.disconnect(wait=0)
            except TimeoutError:
                opened.set()
            assert opened.is_set(), "it was not waited for"
            sending.join(WAIT)

        check(fork(child))
        assert connection.connected
    """)


@untold
@pytest.mark.parametrize("use", ["WorkerPool.all()", "pool.stats()", "pool.drain(WAIT)"])
def test_fork_that_nobody_told_of_is_noticed_by_who_only_looks(use: str) -> None:
    succeeds_untold(f"""
        def child():
            {use}
            assert inside.fork_is_noticed()

        check(fork(child))
    """)


RECEIVERS = {
    "plain": "connect(receives)",
    "ordered": "connect(receives, ordered=True)",
    "tracked": "connect(receives, tracked=True)",
    "async": "connect(receives_async)",
    "background": "connect(background(receives), weak=False)",
    "elsewhere, with around": "connect(receives)",
}


@untold_while_threads_wait
@pytest.mark.parametrize("kind", RECEIVERS)
def test_child_that_nobody_told_of_the_fork_loses_nothing_and_repeats_nothing(kind: str) -> None:
    """Though the parent's idle workers seem to be there."""
    around = "nullcontext" if "around" in kind else "None"
    succeeds_untold(f"""
        from contextlib import nullcontext
        order = Signal(executor=WorkerPool(4, around={around}))
        def receives(n, **named): return note(n)
        async def receives_async(n, **named): return note(n)
        order.{RECEIVERS[kind]}

        def send(words):
            for deliveries in [order.send_async(None, n=word) for word in words]:
                deliveries.results(WAIT)

        def child():
            send(f"child{{n}}" for n in range(300))
            assert order.executor.stats().completed == 300
            assert all(word in {{f"child{{n}}" for n in range(300)}} for word, _ in heard())

        def heard():
            return [pair for pair in notes() if pair[1] == os.getpid()]

        send(f"before{{n}}" for n in range(8))
        assert order.executor.drain(WAIT)
        assert len(notes()) == 8
        check(fork(child), fork(child))
        send(f"after{{n}}" for n in range(8))
        assert [pid for _, pid in notes()] == [os.getpid()] * 8
    """)


FIRST_USES = {
    "send_async": "assert responses(saved.send_async(None, n='first')) == ['first']",
    "submit": "assert pool.submit(note, 'first').result(WAIT) == 'first'",
    "result": "assert is_lost(running)",
    "concurrent.futures.wait": "assert not futures.wait([pending, running], WAIT).not_done",
    "as_completed": "assert len([*futures.as_completed([pending, running], WAIT)]) == 2",
    "a callback": "running.add_done_callback(calls.append); assert calls == [running]",
    "await": "assert isinstance(asyncio.run(failed(saved_before)), DeliveryLost)",
    "drain": "assert pool.drain(WAIT)",
    "stats": "assert pool.stats() == PoolStats(*[0] * len(PoolStats._fields))",
    "shutdown": "pool.shutdown()",
    "disconnect": "assert connection.disconnect(wait=WAIT)",
    "asend": "asyncio.run(other.asend(None))",
    "a tracked receiver": "assert other.send(None) == [(ignores, None)]",
    "a new pool": "assert WorkerPool(1).submit(note, 'first').result(WAIT) == 'first'",
}


@untold_while_threads_wait
@pytest.mark.parametrize("use", FIRST_USES)
def test_fork_that_nobody_told_of_is_noticed_at_the_first_use(use: str) -> None:
    """What the parent had in hand is lost here, and runs there."""
    succeeds_untold(f"""
        calls = []
        def ignores(**named): pass
        other = Signal()
        other.connect(ignores, tracked=True)
        asyncio.run(other.asend(None))  # its thread is idle from now on
        slow = Signal(executor=pool)
        connection = slow.connect(wait, tracked=True)
        [(_, running)] = slow.send_async(None)
        assert entered.wait(WAIT)
        pending = pool.submit(note, "pending")
        saved_before = saved.send_async(None, n="lost")

        async def failed(deliveries):
            try:
                await deliveries
            except Exception as error:
                return error

        def child():
            {FIRST_USES[use]}
            assert inside.fork_is_noticed()
            assert is_lost(pending) and is_lost(running)
            if {use != "shutdown"}:
                assert responses(saved.send_async(None, n="sent")) == ["sent"]
                assert pool.drain(WAIT)

        pids = [fork(child)]
        check(*pids)
        opened.set()
        assert pool.drain(WAIT)
        mine = sorted(word for word, pid in notes() if pid == os.getpid())
        assert mine == ["lost", "pending"], mine
    """)


@untold_while_threads_wait
def test_many_threads_may_be_the_first_to_notice_a_fork() -> None:
    succeeds_untold("""
        def child():
            barrier, done = threading.Barrier(8), []
            def send(thread):
                barrier.wait(WAIT)
                for n in range(20):
                    done.append(responses(saved.send_async(None, n=f"{thread}-{n}"))[0])
            senders = [threading.Thread(target=send, args=[n]) for n in range(8)]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join(WAIT)
            assert sorted(done) == sorted(f"{t}-{n}" for t in range(8) for n in range(20))
            assert pool.stats().completed == 160

        for _ in range(5):
            pool.submit(note, "parent").result(WAIT)
            assert pool.drain(WAIT)
            check(fork(child))
    """)


@untold_while_threads_wait
def test_child_that_only_exits_runs_nothing_of_the_parents() -> None:
    """Nor does it wait for that."""
    succeeds_untold("""
        import atexit
        hold()
        pending = pool.submit(note, "pending")

        def child():
            os.environ["TSIGNALS_EXIT_SECONDS"] = "1000"
            inside.FINISH_AT_EXIT.now()
            assert is_lost(pending)

        check(fork(child))
        opened.set()
        assert pool.drain(WAIT)
        assert notes() == [("pending", os.getpid())]
    """)


@untold_while_threads_wait
def test_interrupt_while_a_fork_is_noticed_leaves_it_to_the_next_use() -> None:
    succeeds_untold("""
        pool.submit(note, "parent").result(WAIT)

        def interrupt():
            if interrupts:
                raise interrupts.pop()

        interrupts = []
        inside.IN_CHILD.now(interrupt)

        def child():
            interrupts.append(KeyboardInterrupt())
            try:
                saved.send_async(None, n="interrupted")
            except KeyboardInterrupt:
                pass
            else:
                raise AssertionError
            assert responses(saved.send_async(None, n="next")) == ["next"]
            assert pool.stats().submitted == 1

        assert pool.drain(WAIT)
        check(fork(child))
    """)
