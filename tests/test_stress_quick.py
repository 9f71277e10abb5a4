"""Quick forms of the stress commands, and that each of them can fail."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import processes
import pytest

from stress import bursts, histories, looking, memory, web
from stress._run import Breach
from stress.mutation.tested import all_tested
from stress.soak.account import Account, Boom, Sent, Ticket, check_sum
from tsignals import PoolStats, Signal, WorkerPool

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.unmeasured, pytest.mark.once]


def stress(*arguments: str) -> "subprocess.CompletedProcess[str]":
    # In a process of its own: it uses signals, and may show a hang by ending.
    return processes.command(
        [sys.executable, "-m", "stress", *arguments],
        cwd=ROOT,
        timeout=200,
    )


QUICK = {
    "histories": ("--count", "60", "--seed", "1"),
    "soak": ("--seconds", "3", "--threads", "3", "--seed", "1", "--hang", "60"),
    "sigint": ("--count", "600", "--seed", "1", "--hang", "60"),
    "keys": ("--keys", "2000", "--each", "3"),
    "pool": ("--count", "3000", "--seed", "1", "--hang", "60"),
    "bursts": ("--seconds", "3", "--seed", "1", "--hang", "60"),
}


@pytest.mark.parametrize("command", QUICK)
def test_command_finds_no_breach(command: str, tmp_path: Path) -> None:
    if command == "sigint" and sys.version_info >= (3, 14):
        pytest.skip(
            "kind X21: an interrupt may leave a lock of threading's held, and then it hangs"
        )
    report = tmp_path / "report.json"

    done = stress(command, *QUICK[command], "--json", str(report))

    assert done.returncode == 0, done.stdout + done.stderr
    assert not json.loads(report.read_text()).get("breach")
    assert not json.loads(report.read_text()).get("breaches")


@pytest.mark.skipif(sys.platform == "win32", reason="hands its listening socket to a process")
@pytest.mark.parametrize("server", web.BARS)
def test_cost_of_the_middlewares_is_measured_beside_the_bare_application(
    server: str, tmp_path: Path
) -> None:
    pytest.importorskip(server)
    report = tmp_path / "report.json"
    options = ("--rounds", "2", "--requests", "20", "--json", str(report))

    done = stress("web", "--server", server, *options)

    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(report.read_text())["figures"][server]
    assert figures.keys() == {"bare", *web.BARS[server]}
    assert done.stdout.count(" ok ") + done.stdout.count("short by") == 3


@pytest.mark.parametrize("what", looking.MEASURED)
def test_what_looking_costs_is_measured(what: str) -> None:
    pytest.importorskip("django")
    done = stress("looking", "--only", what, "--sends", "300")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(looking.BARS) & set(json.loads(done.stdout))


def test_mutants_of_every_module_of_the_core_meet_tests() -> None:
    packages = ("_registry", "_calling", "_delivery", "_pool")
    paths = [path for each in packages for path in (ROOT / "tsignals" / each).glob("[!_]*.py")]
    modules = {f"{path.parent.name}/{path.stem}" for path in paths}
    tested = all_tested()
    nothing_to_change = {"_pool/seam", "_pool/stats", "_delivery/interpreters"}
    assert {each.module for each in tested} == modules - nothing_to_change
    names = {name for each in tested for name in f"{each.first} {each.then}".split()}
    assert [name for name in names if not (ROOT / f"tests/test_{name}.py").is_file()] == []


@pytest.mark.parametrize("scenario", memory.SCENARIOS)
def test_cycles_leave_no_objects_behind(scenario: str) -> None:
    done = stress("memory", "--only", scenario, "--cycles", "4000")

    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["object_growth"] <= 0


def test_objects_that_are_left_behind_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[list[int]] = []
    monkeypatch.setitem(memory.SCENARIOS, "leaking", lambda: lambda n: kept.append([n]))

    figures = memory.measure("leaking", cycles=3000, hang=60)

    assert figures["object_growth"] >= 2000


class Deaf(Signal):
    def has_listeners(self, sender: Any = None) -> bool:
        return False


class Forgetful(Signal):
    def send(self, /, sender: Any, **named: Any) -> list[tuple[Callable[..., Any], Any]]:
        return super().send(sender, **named)[1:]


@pytest.mark.parametrize("wrong", [Deaf, Forgetful])
def test_histories_of_a_wrong_signal_are_found_out(
    wrong: type[Signal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories, "Signal", wrong)

    def found() -> bool:
        with histories.Stage(threads=2, noise=0) as stage:
            return any(histories.judge(stage.perform(seed, 8)) for seed in range(100))

    # Not in the main thread, whose signal handlers belong to the test run.
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(found).result(timeout=120)


def test_soak_notices_a_receiver_that_was_called_and_not_returned() -> None:
    ticket = Ticket()
    ticket.stamp("lasting")

    with pytest.raises(Breach):
        Account().check_here(ticket, [], "send")


def test_soak_notices_a_delivery_that_ran_twice() -> None:
    ticket = Ticket()

    def receiver() -> None: ...

    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(ticket.stamp, "receiver")
    ticket.stamp("receiver")

    with pytest.raises(Breach):
        Sent(ticket, [(receiver, future)]).ends(Account())


def test_soak_notices_what_runs_after_all_was_over() -> None:
    account, ticket = Account(), Ticket()
    account.close(ticket)
    ticket.stamp("late")

    with pytest.raises(Breach):
        account.finish()


def test_soak_notices_a_failure_that_was_not_told_once() -> None:
    ticket = Ticket(fails=1.0)
    with pytest.raises(Boom) as raised:
        ticket.stamp("failing")
    raised.value.told += ["send_robust", "send_robust"]

    with pytest.raises(Breach):
        Account().check_told(raised.value, "send_robust", ticket)


def test_soak_notices_numbers_that_do_not_add_up() -> None:
    right = PoolStats(
        workers=1,
        idle=0,
        pending=1,
        running=1,
        submitted=7,
        completed=2,
        failed=1,
        cancelled=1,
        dropped=1,
        refused=0,
    )
    check_sum(right)

    with pytest.raises(Breach):
        check_sum(right._replace(pending=2))


def test_bursts_notice_numbers_that_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = WorkerPool.stats
    monkeypatch.setattr(WorkerPool, "stats", lambda pool: stats(pool)._replace(running=1))
    with pytest.raises(Breach, match="its numbers"):
        bursts.Burst(random.Random(1)).play()


def test_bursts_notice_a_delivery_that_is_never_done() -> None:
    burst = bursts.Burst(random.Random(1))
    futures: list[Future[None]] = [Future()]
    burst.sent.append(SimpleNamespace(futures=futures))
    with pytest.raises(Breach, match="not done"):
        burst.play()


def test_hang_ends_the_process_and_shows_where() -> None:
    code = """
from stress._run import hang_detector
import threading
def waiting_for_nothing():
    threading.Event().wait()
with hang_detector(0.5):
    waiting_for_nothing()
"""

    done = processes.command(
        [sys.executable, "-c", code],
        cwd=ROOT,
        timeout=60,
    )

    assert done.returncode == 1
    assert "waiting_for_nothing" in done.stderr
