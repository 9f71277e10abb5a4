"""``tsignals.prometheus``: what a scrape shows, in one process and of gunicorn's workers."""

import asyncio
import contextlib
import functools
import os
import re
import signal as signals
import socket
import subprocess
import sys
import threading
import urllib.request
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import processes
import pytest
from helpers import TIMEOUT, Boom, Latch, Thing, awaited, ignore, together, wait_until
from test_docs_examples import examples

from tsignals import QueueFull, Signal, WorkerPool, background, receiver_failed
from tsignals.observing import Observation, receiver_name

prometheus_client = pytest.importorskip(
    "prometheus_client", reason="prometheus-client is not installed"
)

from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from tsignals.prometheus import GAUGES, Instrumentation, instrument  # noqa: E402

Labels = dict[str, str]


class Scraped:
    """One scrape, over HTTP."""

    def __init__(self, url: str) -> None:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            self.text = answer.read().decode()
        self.families = {each.name: each for each in text_string_to_metric_families(self.text)}
        self.samples = [each for family in self.families.values() for each in family.samples]

    def values(self, name: str, **labels: str) -> list[float]:
        return [
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples with these labels."""
        return sum(self.values(name, **labels))

    def outcomes(self, signal: str) -> dict[tuple[str, str], float]:
        """By receiver and outcome."""
        return {
            (sample.labels["receiver"], sample.labels["outcome"]): sample.value
            for sample in self.samples
            if sample.name == "tsignals_deliveries_total" and sample.labels["signal"] == signal
        }


Scrape = Callable[[], Scraped]


@pytest.fixture(scope="module")
def registry() -> Any:
    return prometheus_client.CollectorRegistry()


@pytest.fixture(scope="module")
def scrape(registry: Any) -> Iterator[Scrape]:
    """Scrapes the registry through its own HTTP server."""
    server, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry)
    yield functools.partial(Scraped, f"http://127.0.0.1:{server.server_port}/metrics")
    server.shutdown()
    server.server_close()
    thread.join(TIMEOUT)


@pytest.fixture
def instrumented(registry: Any) -> Iterator[Instrumentation]:
    with instrument(registry) as made:
        yield made


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[[WorkerPool], WorkerPool]:
    """Has a pool be one of all."""
    if hasattr(WorkerPool, "all"):
        return lambda pool: pool
    found: weakref.WeakSet[WorkerPool] = weakref.WeakSet()
    monkeypatch.setattr(WorkerPool, "all", lambda: list(found), raising=False)

    def add(pool: WorkerPool) -> WorkerPool:
        found.add(pool)
        return pool

    return add


def failing(**named: Any) -> None:
    raise Boom


async def async_ear(**named: Any) -> None:
    await asyncio.sleep(0)


FAILING, IGNORE, ASYNC = (receiver_name(each) for each in (failing, ignore, async_ear))


# -- One process --


@pytest.mark.usefixtures("instrumented")
def test_scrape_shows_deliveries_by_signal_receiver_and_outcome(scrape: Scrape) -> None:
    with WorkerPool(1) as pool:
        signal = Signal(name="order_paid", executor=pool)
        for receiver in (ignore, failing, async_ear):
            signal.connect(receiver)
        for _ in range(3):
            signal.send_async(None).wait(TIMEOUT)
    assert scrape().outcomes("order_paid") == {
        (IGNORE, "completed"): 3,
        (FAILING, "failed"): 3,
        (ASYNC, "completed"): 3,
    }


@pytest.mark.usefixtures("instrumented")
def test_every_way_to_send_counts_and_what_is_handed_over_counts_once(scrape: Scrape) -> None:
    with WorkerPool(1) as pool:
        signal = Signal(name="order_paid", executor=pool)
        signal.connect(ignore)
        in_pool = background(failing)
        signal.connect(in_pool)
        [_, (_, delivery)] = signal.send(None)
        delivery.exception(TIMEOUT)
        [_, (_, delivery)] = signal.send_robust(None)
        delivery.exception(TIMEOUT)
        [_, (_, delivery)] = awaited(signal.asend, None)
        delivery.exception(TIMEOUT)
        signal.send_async(None).wait(TIMEOUT)
        signal.prepare(None).drop()
    found = scrape()
    assert found.outcomes("order_paid") == {
        (IGNORE, "completed"): 4,
        (FAILING, "failed"): 4,
        (IGNORE, "dropped"): 1,
        (FAILING, "dropped"): 1,
    }
    # In a pool: all of the background receiver's, and one of the other's.
    assert found.value("tsignals_queue_wait_seconds_count", receiver=FAILING) == 4
    assert found.value("tsignals_queue_wait_seconds_count", receiver=IGNORE) == 1
    assert found.value("tsignals_run_seconds_count", receiver=IGNORE) == 4


@pytest.mark.usefixtures("instrumented")
def test_what_comes_to_nothing_is_counted_by_how(scrape: Scrape) -> None:
    signal, latch = Signal(name="order_paid"), Latch()
    pool = WorkerPool(1, max_pending=1, overflow="raise")
    dropping = WorkerPool(1, max_pending=1, overflow="drop_newest")
    with pool, dropping:
        signal.connect(latch)
        running = signal.via(pool).send_async(None)
        assert latch.entered.wait(TIMEOUT)
        waiting = signal.via(pool).send_async(None)
        with pytest.raises(QueueFull):
            signal.via(pool).send_async(None)
        assert waiting.cancel() == 1
        held = [signal.via(dropping).send_async(None)]
        wait_until(lambda: latch.calls == 2)
        held += [signal.via(dropping).send_async(None) for _ in range(2)]
        latch.opened.set()
        for each in (running, *held):
            assert each.wait(TIMEOUT)
    outcomes = {outcome: n for (_, outcome), n in scrape().outcomes("order_paid").items()}
    assert outcomes == {"completed": 3, "refused": 1, "cancelled": 1, "dropped": 1}


@pytest.mark.usefixtures("instrumented")
def test_times_are_those_of_the_queue_and_of_the_receiver(scrape: Scrape) -> None:
    signal, latch = Signal(name="order_paid"), Latch()
    signal.connect(latch)
    with WorkerPool(1) as pool:
        calls = [signal.via(pool).send_async(None) for _ in range(2)]
        assert latch.entered.wait(TIMEOUT)
        assert scrape().values("tsignals_run_seconds_count") == []  # none has ended
        latch.opened.set()
        assert all(call.wait(TIMEOUT) for call in calls)
    found = scrape()
    for name in ("tsignals_queue_wait_seconds", "tsignals_run_seconds"):
        assert found.value(f"{name}_count", signal="order_paid") == 2
        assert found.value(f"{name}_bucket", signal="order_paid", le="+Inf") == 2
    # The second one waited for as long as the first one ran.
    ran, waited = (
        found.value(f"tsignals_{each}_seconds_sum", signal="order_paid")
        for each in ("run", "queue_wait")
    )
    assert ran > 0
    assert waited > 0


@pytest.mark.usefixtures("instrumented")
def test_no_label_is_a_sender_and_equal_names_are_one_series(scrape: Scrape) -> None:
    for n in range(20):
        signal = Signal(name="order_paid")
        sender = Thing(f"sender {n}")
        signal.connect(ignore, sender)
        signal.connect(functools.partial(ignore, n=n), weak=False)
        signal.send(sender)
    found = scrape()
    assert found.outcomes("order_paid") == {(IGNORE, "completed"): 40}
    assert {name for sample in found.samples for name in sample.labels} <= {
        *("signal", "receiver", "outcome", "le", "pool")
    }
    assert "sender " not in found.text


@pytest.mark.usefixtures("instrumented")
def test_receivers_of_failures_are_counted_as_others(scrape: Scrape) -> None:
    signal = Signal(name="order_paid")
    signal.connect(failing)
    with receiver_failed.connect(ignore):
        signal.send_robust(None)
    assert scrape().outcomes("tsignals.receiver_failed") == {(IGNORE, "completed"): 1}


@pytest.mark.usefixtures("instrumented")
def test_names_may_hold_anything(scrape: Scrape) -> None:
    name = 'a "quoted" \\ näme\nwith two lines ' + chr(0xD800)
    signal = Signal(name=name)
    signal.connect(ignore)
    signal.send(None)
    [labels] = [s.labels for s in scrape().samples if s.name == "tsignals_deliveries_total"]
    assert labels["signal"].startswith('a "quoted" ')
    assert "\n" not in labels["signal"]


@pytest.mark.usefixtures("instrumented")
def test_pools_are_shown_as_they_are_when_scraped(
    scrape: Scrape, known: Callable[[WorkerPool], WorkerPool]
) -> None:
    def gauges(name: str) -> Labels:
        return {each: found.values(f"tsignals_pool_{each}", pool=name) for each in GAUGES}  # type: ignore[misc]

    latch = Latch()
    with known(WorkerPool(2, thread_name_prefix="mail")) as pool:
        calls = [pool.submit(latch) for _ in range(5)]
        wait_until(lambda: latch.calls == 2)
        found = scrape()
        assert gauges("mail") == {"workers": [2], "idle": [0], "pending": [3], "running": [2]}
        with known(WorkerPool(1, thread_name_prefix="mail")) as other:
            other.submit(latch)
            wait_until(lambda: latch.calls == 3)
            found = scrape()
            # Two pools of one name are one.
            assert gauges("mail") == {"workers": [3], "idle": [0], "pending": [3], "running": [3]}
            latch.opened.set()
        for call in calls:
            call.result(TIMEOUT)
    if hasattr(type(pool), "all") and pool not in WorkerPool.all():
        found = scrape()
        assert gauges("mail") == {each: [] for each in GAUGES}


@pytest.mark.usefixtures("instrumented")
def test_nothing_is_lost_where_many_threads_send(scrape: Scrape) -> None:
    signal = Signal(name="order_paid")
    signal.connect(ignore)

    def send() -> None:
        for _ in range(100):
            signal.send(None)

    together(*[send] * 4)
    assert scrape().outcomes("order_paid") == {(IGNORE, "completed"): 400}


# -- The handle --


def test_close_counts_nothing_more_and_makes_room(registry: Any, scrape: Scrape) -> None:
    signal = Signal(name="order_paid")
    signal.connect(ignore)
    with instrument(registry) as made:
        signal.send(None)
        assert "open" in repr(made)
    assert "closed" in repr(made)
    made.close()
    signal.send(None)
    assert scrape().text == ""
    with instrument(registry):
        signal.send(None)
        assert scrape().outcomes("order_paid") == {(IGNORE, "completed"): 1}


def test_registry_is_instrumented_once(registry: Any, scrape: Scrape) -> None:
    signal = Signal(name="order_paid")
    signal.connect(ignore)
    with instrument(registry):
        with pytest.raises(ValueError, match=r"has these metrics already: close the former"):
            instrument(registry)
        signal.send(None)
        assert scrape().outcomes("order_paid") == {(IGNORE, "completed"): 1}
        with instrument(prometheus_client.CollectorRegistry()):  # another may be
            signal.send(None)
        assert scrape().outcomes("order_paid") == {(IGNORE, "completed"): 2}


def test_many_threads_that_close_do_it_once(registry: Any) -> None:
    made = instrument(registry)
    together(*[made.close] * 4)
    assert list(registry.collect()) == []


@pytest.mark.parametrize("called", ["observe", "_register", "_Collector"])
def test_instrument_that_is_interrupted_has_entered_nothing(
    called: str, registry: Any, scrape: Scrape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would have its handle, and the metrics would be in the registry for ever."""
    with monkeypatch.context() as patch:
        patch.setattr(f"tsignals.prometheus.{called}", interrupt)
        with pytest.raises(KeyboardInterrupt):
            instrument(registry)
    signal = signal_to_ignore()
    with instrument(registry):
        signal.send(None)
        assert scrape().outcomes("order_paid") == {(IGNORE, "completed"): 1}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["observation", "registry"])
def test_close_that_was_interrupted_can_be_done_again(
    step: str, after: bool, registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = instrument(registry)
    kind, name = {
        "observation": (Observation, "close"),
        "registry": (prometheus_client.CollectorRegistry, "unregister"),
    }[step]
    close = getattr(kind, name)

    def cut_short(*arguments: Any) -> None:
        if after:
            close(*arguments)
        interrupt()

    with monkeypatch.context() as patch:
        patch.setattr(kind, name, cut_short)
        with pytest.raises(KeyboardInterrupt):
            made.close()
    assert "open" in repr(made)
    made.close()
    assert "closed" in repr(made)
    assert list(registry.collect()) == []
    with instrument(registry):
        made.close()  # which has nothing to do with this one
        assert list(registry.collect()) != []


def interrupt(*arguments: Any) -> None:
    raise KeyboardInterrupt


def signal_to_ignore() -> Signal:
    signal = Signal(name="order_paid")
    signal.connect(ignore)
    return signal


def test_what_is_no_registry_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must be a CollectorRegistry .*, not 'str'"):
        instrument("metrics")  # type: ignore[arg-type]


def test_default_is_the_clients_own_registry() -> None:
    with instrument():
        assert "tsignals_deliveries" in prometheus_client.generate_latest().decode()
    assert "tsignals_" not in prometheus_client.generate_latest().decode()


def test_handle_is_made_by_instrument_alone() -> None:
    with pytest.raises(TypeError, match="instrument\\(\\) does"):
        Instrumentation()


# -- Several processes --


@pytest.fixture
def shared(tmp_path: Path) -> dict[str, str]:
    directory = tmp_path / "metrics"
    directory.mkdir()
    return processes.environment(PROMETHEUS_MULTIPROC_DIR=str(directory), HOME=str(tmp_path))


def test_second_instrumentation_of_a_process_with_files_is_refused(
    shared: dict[str, str],
) -> None:
    script = """
    from prometheus_client import CollectorRegistry
    from tsignals.prometheus import instrument

    with instrument() as first:
        try:
            instrument(CollectorRegistry())
        except ValueError as error:
            print(error)
    with instrument(CollectorRegistry()) as second:
        first.close()
    """
    done = processes.run(script, **shared)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot instrument twice in multiprocess mode" in done.stdout


def test_of_two_threads_that_instrument_at_once_one_writes_the_files(
    shared: dict[str, str],
) -> None:
    script = """
    from threading import Thread
    from prometheus_client import CollectorRegistry
    from tsignals.prometheus import instrument

    def instrument_at_once():
        made = []

        def run(registry):
            try:
                made.append(instrument(registry))
            except ValueError:
                pass

        class Registry(CollectorRegistry):
            def register(self, collector):
                # Another thread does all of it while this one is in the middle.
                other = Thread(target=run, args=[CollectorRegistry()])
                other.start()
                other.join(60)
                super().register(collector)

        run(Registry())
        for each in made:
            each.close()
        return len(made)

    print(instrument_at_once(), instrument_at_once())
    """
    done = processes.run(script, **shared)
    assert (done.stdout, done.stderr) == ("1 1\n", "")


def test_what_could_not_be_registered_claims_no_files(shared: dict[str, str]) -> None:
    script = """
    from prometheus_client import CollectorRegistry, Counter
    from tsignals.prometheus import instrument

    taken = CollectorRegistry()
    Counter("tsignals_deliveries", "Of somebody else.", registry=taken)
    try:
        instrument(taken)
    except ValueError:
        instrument(CollectorRegistry()).close()
        print("instrumented")
    """
    done = processes.run(script, **shared)
    assert (done.stdout, done.stderr) == ("instrumented\n", "")


CONFIGURATION = """
from prometheus_client import multiprocess

def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
"""

REQUESTS = 60


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT) as answer:
        text: str = answer.read().decode()
        return text


@contextlib.contextmanager
def gunicorn(
    directory: Path, environment: dict[str, str], application: str, *arguments: str
) -> Iterator[tuple["subprocess.Popen[bytes]", int, Path]]:
    """Serve what is in ``directory`` from two workers: the master, the port and the log."""
    log = Path(environment["HOME"]) / "log"
    with socket.create_server(("127.0.0.1", 0)) as server, log.open("w") as output:
        master = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", application),
                *("--workers=2", "--worker-class=gthread", "--threads=2", *arguments),
                *("--chdir", str(directory), "--bind", f"fd://{server.fileno()}"),
            ],
            cwd=directory,
            env=environment,
            pass_fds=[server.fileno()],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            yield master, server.getsockname()[1], log
            master.send_signal(signals.SIGTERM)
            assert master.wait(TIMEOUT) == 0, log.read_text()
        finally:
            if master.poll() is None:
                os.killpg(master.pid, signals.SIGKILL)
                master.wait(TIMEOUT)
    assert "Traceback" not in log.read_text()


@pytest.mark.once
@pytest.mark.skipif(sys.platform == "win32", reason="there is no gunicorn")
@pytest.mark.parametrize("preload", [False, True], ids=["loaded in workers", "preloaded"])
def test_any_of_gunicorns_workers_shows_the_numbers_of_all(
    preload: bool, tmp_path: Path, shared: dict[str, str]
) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")

    def gauges() -> dict[str, float]:
        found = Scraped(url)
        return {each: found.value(f"tsignals_pool_{each}", pool="shop") for each in GAUGES}

    configuration = tmp_path / "configuration.py"
    configuration.write_text(CONFIGURATION)
    arguments = ["--config", str(configuration), *(["--preload"] if preload else [])]
    directory = Path(__file__).parent
    with gunicorn(directory, shared, "metrics_app:application", *arguments) as (_, port, log):
        url = f"http://127.0.0.1:{port}/metrics"
        with ThreadPoolExecutor(4) as clients:
            pids = list(clients.map(lambda n: get(port, f"/order/{n}"), range(REQUESTS)))
            while len(set(pids)) < 2:
                pids.append(get(port, "/order/more"))
        # Deliveries that wait for a file of ours keep the pool of each process at work.
        holding: list[str] = []
        while len(set(holding)) < 2:
            holding.append(get(port, "/hold"))
        at_work = {"running": 2, "pending": len(holding) - 2, "workers": 2, "idle": 0}
        wait_until(lambda: gauges() == at_work)
        (tmp_path / "metrics" / "go").touch()
        at_rest = {"running": 0, "pending": 0, "workers": 2, "idle": 2}
        wait_until(lambda: gauges() == at_rest)
        completed = len(pids) + len(holding)
        for _ in range(6):  # whichever worker answers
            found = Scraped(url)
            assert found.outcomes("order_placed") == {
                ("metrics_app.send_mail", "completed"): completed
            }
            assert found.value("tsignals_run_seconds_count", signal="order_placed") == completed
            assert found.value("tsignals_queue_wait_seconds_count") == completed
            assert {s.labels["pool"] for s in found.samples if "pool" in s.labels} == {"shop"}
        # A worker that goes takes its gauges with it, and its counts stay.
        os.kill(int(pids[0]), signals.SIGKILL)
        wait_until(lambda: f"Booting worker with pid: {pids[0]}" in log.read_text())
        wait_until(lambda: gauges()["workers"] == 1)
        assert sum(Scraped(url).outcomes("order_placed").values()) == completed


PAGE = Path(__file__).parent.parent / "docs" / "howto" / "metrics.md"


@pytest.mark.once
@pytest.mark.skipif(sys.platform == "win32", reason="there is no gunicorn")
def test_pages_application_shows_the_numbers_of_all_workers(
    tmp_path: Path, shared: dict[str, str]
) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    for example in examples(PAGE):
        if name := example.words.get("file"):
            (tmp_path / name).write_text(example.code)
    [command] = re.findall(
        r"^PROMETHEUS_MULTIPROC_DIR=numbers (.*)$", PAGE.read_text("utf-8"), re.M
    )
    program, *arguments, application = command.split()
    assert program == ".venv/bin/gunicorn"
    with gunicorn(tmp_path, shared, application, *arguments) as (_, port, _):
        for n in range(REQUESTS):
            assert get(port, f"/order/{n}") == "thank you\n"
        url = f"http://127.0.0.1:{port}/metrics"
        done = {("shop.send_mail", "completed"): REQUESTS}
        wait_until(lambda: Scraped(url).outcomes("order_placed") == done)
        if hasattr(WorkerPool, "all"):
            wait_until(lambda: Scraped(url).value("tsignals_pool_workers", pool="shop") > 0)


def test_importing_tsignals_imports_no_client() -> None:
    done = processes.run(
        """
        import tsignals, tsignals.observing
        assert "prometheus_client" not in sys.modules
        """
    )
    assert done.returncode == 0, done.stderr


def test_no_thread_is_started_where_one_process_is_scraped(registry: Any) -> None:
    before = threading.active_count()
    with instrument(registry):
        signal = Signal()
        signal.connect(ignore)
        signal.send(None)
        assert threading.active_count() == before
