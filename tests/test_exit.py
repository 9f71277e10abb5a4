"""What becomes of pending work when a process ends. Each test is a script in a new process."""

import sys
import sysconfig

import processes
import pytest

PREAMBLE = (
    processes.PREAMBLE
    + """
import atexit
late = []
atexit.register(lambda: [function() for function in late])  # before tsignals: so after it, at exit
from tsignals import *

pool = WorkerPool(1, thread_name_prefix="mail")
saved = Signal(name="order.saved", executor=pool)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # at once, whatever else is said

def end(**named):
    '''Return once the main thread has ended.'''
    threading.main_thread().join()

def hang(**named):
    threading.Event().wait()

def hears(n, **named):
    say("ran", n)

saved.connect(hears)
"""
)

ENDINGS = {
    "the end of main": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "an unhandled exception": ("raise ValueError('mine')", 1),
    "a SIGTERM that raises SystemExit": (
        """
        signal.signal(signal.SIGTERM, lambda *details: sys.exit(4))
        signal.raise_signal(signal.SIGTERM)
        time.sleep(10)
        """,
        4,
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_pending_runs_after(ending: str) -> None:
    script, status = ENDINGS[ending]
    done = processes.run(
        """
        pool.submit(end)
        for n in range(20):
            saved.send_async(None, n=n)
        """
        + script,
        PREAMBLE,
    )
    assert done.returncode == status
    assert done.stdout.split("\n")[:-1] == [f"ran {n}" for n in range(20)]
    if ending == "an unhandled exception":
        assert done.stderr.count("Traceback") == 1
        assert done.stderr.endswith("ValueError: mine\n")
    else:
        assert done.stderr == ""


def test_nothing_runs_on_the_exiting_thread() -> None:
    done = processes.run(
        """
        async def answer(**named):
            say(threading.current_thread().name)

        saved.disconnect(hears)
        saved.connect(end, ordered=True)
        saved.connect(lambda **named: say(threading.current_thread().name), weak=False)
        saved.connect(answer)
        saved.send_async(None)
        """,
        PREAMBLE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split()) == ["mail_0", "mail_loop"]


def test_receiver_may_send_again_during_exit() -> None:
    done = processes.run(
        """
        def chain(n, **named):
            if n:
                saved.send_async(None, n=n - 1)
            else:
                other = Signal(executor=pool)  # CPython starts no thread any more for another
                other.connect(hears)
                other.send_async(None, n="other")

        saved.connect(chain)
        pool.submit(end)
        saved.send_async(None, n=5)
        """,
        PREAMBLE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n")[:-1] == [*(f"ran {n}" for n in range(5, -1, -1)), "ran other"]


LOST = "pool 'mail': at exit {} deliveries of {} were queued or still running; they are lost"


def test_hung_receiver_is_left_behind_and_what_is_lost_is_named() -> None:
    done = processes.run(
        """
        hung = pool.submit(hang)
        other = Signal(name="order.paid", executor=pool)
        other.connect(hears)
        lost = [future for n in range(3) for future in saved.send_async(None, n=n).futures]
        lost += other.send_async(None, n=3).futures

        def ledger(**named): pass

        saved.connect(ledger)
        lost += saved.send_async(None, n=4).futures

        def look():
            say(hung.running(), *[type(future.exception(0)).__name__ for future in lost])
            lost[0].add_done_callback(lambda future: say("callback"))
            try:
                saved.send_async(None, n=4)
            except PoolClosed:
                say("closed")
            try:
                WorkerPool().submit(int)
            except PoolClosed:
                say("closed, too")
            say(pool.stats())

        late.append(look)
        """,
        PREAMBLE,
        TSIGNALS_EXIT_SECONDS="0.5",
    )
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "True" + " DeliveryLost" * 6,
        "callback",
        "closed",
        "closed, too",
        "PoolStats(workers=1, idle=0, pending=0, running=1, submitted=7, completed=0, failed=0, "
        "cancelled=6, dropped=0, refused=0)",
    ]
    assert done.stderr.splitlines() == [
        LOST.format(1, "'order.paid' to hears"),
        LOST.format(4, "'order.saved' to hears"),
        LOST.format(1, "'order.saved' to ledger"),
        LOST.format(1, "submit()"),
    ]


@pytest.mark.parametrize("ending", ["exit", "shutdown"])
def test_what_a_caller_has_not_come_to_yet_is_named(ending: str) -> None:
    done = processes.run(
        f"""
        full = WorkerPool(1, max_pending=1, overflow="caller_runs", thread_name_prefix="mail")
        entered = threading.Event()

        def stays(**named):
            entered.set()
            hang()

        full.submit(hang)
        while not full.stats().running:
            time.sleep(0.001)
        full.submit(int)
        saved.disconnect(hears)
        saved.connect(stays)
        saved.connect(hears)
        sends = saved.via(full).send_async
        threading.Thread(target=lambda: sends(None, n=1), daemon=True).start()
        entered.wait()
        if {ending == "shutdown"}:
            full.shutdown(timeout=0)
        """,
        PREAMBLE,
        TSIGNALS_EXIT_SECONDS="0.2",
    )
    for name in "stays", "hears":
        assert f"at {ending} 1 deliveries of 'order.saved' to {name} " in done.stderr


def test_callback_that_raises_keeps_no_other_from_being_lost_and_named() -> None:
    """Neither of its own pool, nor of the next."""
    done = processes.run(
        """
        second = WorkerPool(1, thread_name_prefix="second")
        lost = []

        def exits(future):
            raise SystemExit

        for one in (pool, second):
            one.submit(hang)
            lost += [one.submit(print, n) for n in range(3)]
        for future in lost:
            future.add_done_callback(exits)
        late.append(lambda: say(*[type(future.exception(0)).__name__ for future in lost]))
        """,
        PREAMBLE,
        TSIGNALS_EXIT_SECONDS="0.2",
    )
    assert (done.returncode, done.stdout.split()) == (0, ["DeliveryLost"] * 6)
    named = [line for line in done.stderr.splitlines() if "at exit" in line]
    line = LOST.format(4, "submit()")
    assert named == [line, line.replace("mail", "second")]


@pytest.mark.parametrize(
    "breaks",
    [
        "logging.getLogger('tsignals').addHandler(Broken())",
        "logging.getLogger('tsignals').addFilter(Broken().emit)",
        "sys.stderr.close()",
        "sys.stderr = None",
        "del sys.stderr",
    ],
)
def test_log_that_fails_keeps_nothing_from_being_lost_in_any_pool(breaks: str) -> None:
    done = processes.run(
        f"""
        import logging, sys

        class Broken(logging.Handler):
            def emit(self, record):
                raise OSError("disk full")

        second = WorkerPool(1, thread_name_prefix="second")
        lost = []
        for one in (pool, second):
            one.submit(hang)
            lost += [one.submit(print, n) for n in range(2)]
            saved.executor = one
            lost += saved.send_async(None, n=1).futures
        late.append(lambda: say(*[type(future.exception(0)).__name__ for future in lost]))
        {breaks}
        """,
        PREAMBLE,
        TSIGNALS_EXIT_SECONDS="0.2",
    )
    assert (done.returncode, done.stdout.split()) == (0, ["DeliveryLost"] * 6)


def test_log_that_cannot_say_that_the_budget_is_nonsense_keeps_no_pool_open() -> None:
    done = processes.run(
        """
        import logging

        class Broken(logging.Handler):
            def emit(self, record):
                raise OSError("disk full")

        def look():
            try:
                pool.submit(int)
            except PoolClosed:
                say("closed")

        logging.getLogger("tsignals").addHandler(Broken())
        late.append(look)
        """,
        PREAMBLE,
        TSIGNALS_EXIT_SECONDS="nonsense",
    )
    assert (done.returncode, done.stdout.split()) == (0, ["closed"])
    assert "disk full" in done.stderr


@pytest.mark.parametrize(
    "receiver",
    [
        "def receives(**named):\n    hang()",
        "def receives(**named):\n    time.sleep(60)",
        "def receives(**named):\n    while True: pass",
        "async def receives(**named):\n    import asyncio\n    await asyncio.sleep(60)",
        "async def receives(**named):\n    hang()",
    ],
    ids=["waits", "sleeps", "computes", "awaits", "blocks the event loop"],
)
def test_teardown_is_silent_about_a_receiver_that(receiver: str) -> None:
    done = processes.run(
        receiver
        + "\nsaved.disconnect(hears)"
        + "\nsaved.connect(receives)"
        + "\nsaved.send_async(None)",
        PREAMBLE,
        TSIGNALS_EXIT_SECONDS="0.2",
    )
    assert done.returncode == 0
    assert done.stderr.splitlines() == [LOST.format(1, "'order.saved' to receives")]


def test_all_pools_share_one_budget() -> None:
    done = processes.run(
        """
        import inside
        now = [0.0]
        pools = [WorkerPool(1, thread_name_prefix=f"pool{n}") for n in range(3)]

        for one in pools:
            one.submit(hang)
        drain = inside.DRAIN.now

        def timed(core, seconds):
            say(seconds)
            now[0] += seconds / 2
            return drain(core, 0)

        inside.DRAIN.put(timed)

        class Clock:
            monotonic = staticmethod(lambda: now[0])
            sleep = staticmethod(lambda seconds: None)

        inside.CLOCK_OF_EXIT.put(Clock)
        """,
        PREAMBLE,
        TSIGNALS_EXIT_SECONDS="8",
    )
    assert done.returncode == 0
    # Each gets what is left of it, of which the clock here lets half pass.
    assert done.stdout.split()[:5] == ["8.0", "4.0", "2.0", "1.0", "0.5"]
    assert len(done.stderr.splitlines()) == 3


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="no thread can be started at exit")
def test_async_receivers_may_use_threads_at_exit() -> None:
    """asyncio looks up names in one, in an executor that has ended by then."""
    done = processes.run(
        """
        import asyncio

        async def looks_up(**named):
            while threading.main_thread().is_alive():
                await asyncio.sleep(0.001)
            await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)
            say("found", await asyncio.to_thread(str, "more"))

        saved.disconnect(hears)
        saved.connect(looks_up)
        saved.send_async(None)
        """,
        PREAMBLE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "found more\n", "")


def test_call_that_an_async_receiver_has_left_behind_is_not_waited_for() -> None:
    """Nor named: its delivery is."""
    done = processes.run(
        """
        import asyncio

        began = threading.Event()

        async def hangs(**named):
            await asyncio.to_thread(lambda: (began.set(), hang()))

        saved.disconnect(hears)
        saved.connect(hangs)
        saved.send_async(None)
        assert began.wait(60)
        pool.shutdown(timeout=0.01)
        """,
        PREAMBLE,
        TSIGNALS_EXIT_SECONDS="1000",
    )
    assert (done.returncode, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    assert [line.split(" 1 deliveries of 'order.saved'")[0] for line in lines] == [
        "pool 'mail': at shutdown",
        "pool 'mail': at exit",
    ]


def test_no_time_at_all_loses_what_waits() -> None:
    done = processes.run(
        """
        pool.submit(hang)
        while not pool.stats().running:
            time.sleep(0.001)
        saved.send_async(None, n=1)
        """,
        PREAMBLE,
        TSIGNALS_EXIT_SECONDS="0",
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [
        LOST.format(1, "'order.saved' to hears"),
        LOST.format(1, "submit()"),
    ]


@pytest.mark.parametrize("seconds", ["soon", "inf", "nan"])
def test_odd_number_of_seconds_does_no_harm(seconds: str) -> None:
    done = processes.run(
        """
        pool.submit(end)
        saved.send_async(None, n=1)
        """,
        PREAMBLE,
        TSIGNALS_EXIT_SECONDS=seconds,
    )
    assert (done.returncode, done.stdout) == (0, "ran 1\n")
    assert "Traceback" not in done.stderr
    if seconds in ("soon", "nan"):
        why = f"TSIGNALS_EXIT_SECONDS is not a number of seconds, but {seconds!r}; pools get 10 to"
        assert why in done.stderr
    else:
        assert done.stderr == ""


def test_callbacks_of_what_has_ended_may_finish() -> None:
    """Such a delivery is none that is lost."""
    done = processes.run(
        """
        ended = threading.Event()

        def callback(future):
            ended.set()
            end()
            time.sleep(0.2)  # takes longer than an exit that does not wait for it
            say("callback")

        [future] = saved.send_async(None, n=1).futures
        future.add_done_callback(callback)
        assert ended.wait(10)
        """,
        PREAMBLE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran 1\ncallback\n", "")


def test_closing_pool_finishes_its_work_at_exit() -> None:
    done = processes.run(
        """
        pool.submit(end)
        saved.send_async(None, n=1)
        pool.shutdown(wait=False)
        """,
        PREAMBLE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran 1\n", "")


def test_idle_pools_end_in_silence() -> None:
    done = processes.run(
        """
        saved.connect(lambda **named: None, weak=False, tracked=True, ordered=True)
        assert len(saved.send_async(None, n=1).results(10)) == 2
        """,
        PREAMBLE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran 1\n", "")


def test_pool_that_is_lost_after_that_puts_nothing_into_its_queue() -> None:
    """Where no GIL is, a worker that was left behind may have the lock of the queue for ever."""
    done = processes.run(
        """
        import gc, inside

        def loses():
            pools = [WorkerPool(1), made.pop()]
            queues = [inside.tokens_of(each) for each in pools]
            before = [each.qsize() for each in queues]
            del pools[:]
            gc.collect()
            say(*[each.qsize() - there for each, there in zip(queues, before)])

        made = [WorkerPool(1)]
        late.append(loses)
        """,
        PREAMBLE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 0\n", "")


CALLS = {
    "shutdown": "pool.shutdown()",
    "shutdown, timeout": "pool.shutdown(timeout=60)",
    "shutdown, cancel": "pool.shutdown(cancel_futures=True)",
    "shutdown, no wait": "pool.shutdown(wait=False)",
    "drain": "pool.drain()",
    "with": "pool.__exit__(None, None, None)",
}


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("call", CALLS)
def test_pool_may_be_ended_while_the_interpreter_ends(call: str, busy: bool) -> None:
    """By a finalizer, say: its threads are stopped by then, and nobody can join them."""
    done = processes.run(
        f"""
        import inside

        class Service:
            def __init__(self):
                self.pool = WorkerPool(9)
                self.tokens = inside.tokens_of(self.pool)
                barrier = threading.Barrier(9)
                for each in [self.pool.submit(barrier.wait) for _ in range(9)]:
                    each.result()
                if {busy}:
                    self.pool.submit(threading.Event().wait)

            # Bound now: what is global may be gone by then.
            def __del__(self, write=os.write, ending=sys.is_finalizing):
                pool, before = self.pool, self.tokens.qsize()
                {CALLS[call]}
                write(1, b"ended %d %d" % (ending(), self.tokens.qsize() > before))

        _service = Service()
        """,
        PREAMBLE,
        TSIGNALS_EXIT_SECONDS="0",
    )
    ended = ["ended 1 0"]
    if busy and sysconfig.get_config_var("Py_GIL_DISABLED"):
        ended.append("")  # a thread that was stopped may keep what is global here
    assert (done.returncode, done.stdout) in [(0, each) for each in ended], done.stderr
    assert ("still running" in done.stderr) is busy
    assert "Error" not in done.stderr


def test_block_of_a_pool_may_end_while_the_interpreter_ends() -> None:
    done = processes.run(
        """
        def pools():
            with WorkerPool(9) as pool:
                yield pool

        _pools = pools()
        assert next(_pools).submit(int).result() == 0
        """,
        PREAMBLE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
