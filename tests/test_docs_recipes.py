"""Every recipe in README and docs does what it is for, also with a receiver that hangs.

A ``python`` block of a page with the word ``recipe=name`` is one. It meets a receiver that never
returns, has to say so, and to end. Each runs in a Python of its own, which its hanging thread does
not outlive. How long a recipe waits is shortened; nothing else is changed.
"""

import functools
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import processes
import pytest
from helpers import TIMEOUT
from test_docs_examples import examples, pages

from tsignals import background

pytestmark = pytest.mark.once

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and sockets")

RECIPES = {
    example.words["recipe"]: example.code
    for page in pages()
    for example in examples(page)
    if "recipe" in example.words
}

HANG = """
import logging, threading
from tsignals import *

logging.basicConfig(level=logging.INFO)
hanging = threading.Event()

def hang(**kwargs):
    hanging.set()
    threading.Event().wait()

def say(failure, **kwargs):
    print("told:", repr(failure.exception))
"""


def recipe(name: str, seconds: float = 0.2) -> str:
    """The code of a recipe, in which every wait may take ``seconds``."""
    return re.sub(r"\b(timeout|block_timeout|wait)=[\d.]+", rf"\1={seconds}", RECIPES[name])


def run(
    directory: Path, script: str, *arguments: str, **more: str
) -> "subprocess.CompletedProcess[str]":
    """Run ``script``, or Python with ``arguments``; what a hanging receiver makes it say."""
    return processes.command(
        [sys.executable, *(arguments or ("-c", processes.PREAMBLE + HANG + script))],
        cwd=directory,
        env=processes.environment(TSIGNALS_EXIT_SECONDS="0.2") | more,
    )


def test_every_recipe_of_a_page_is_run_here() -> None:
    source = Path(__file__).read_text("utf-8")
    assert set(RECIPES) == set(re.findall(r'\b(?:recipe\(|RECIPES\[)"(\w+)"', source))


# --- errors.md


class Nameless:
    """A callable that answers no question."""

    def __call__(self, **named: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("ask somebody else")

    def __repr__(self) -> str:
        raise RuntimeError("I have no words")


def known(**named: Any) -> None: ...


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: known, "known"),
        (lambda: functools.partial(known), "known"),
        (lambda: functools.partial(functools.partial(known), order=17), "known"),
        (lambda: Nameless().__call__, "Nameless.__call__"),
        (lambda: {}.update, "dict.update"),
        (lambda: background(known), "known"),
        (lambda: functools.partial(Nameless()), "functools.partial object at"),
        (lambda: Nameless(), "Nameless object at"),
        (lambda: mock.MagicMock(), "MagicMock object at"),
    ],
)
def test_any_receiver_and_any_value_can_be_named(make: Callable[[], Any], name: str) -> None:
    module = types.ModuleType("safely")
    exec(recipe("safely"), module.__dict__)
    receiver = make()
    assert name in module.name_of(receiver)
    assert isinstance(module.shown(receiver), str)


def dead_letters(directory: Path) -> None:
    (directory / "safely.py").write_text(recipe("safely"))
    (directory / "dead_letters.py").write_text(recipe("dead_letters"))


def test_dead_letters_take_what_failed_and_the_log_names_what_hangs(tmp_path: Path) -> None:
    dead_letters(tmp_path)
    done = run(
        tmp_path,
        """
import dead_letters

class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")
    __repr__ = __str__

def fail(**kwargs):
    raise Mute

circle = []
circle.append(circle)
signal = Signal(name="order_placed", executor=WorkerPool(2))
signal.connect(fail)
for it in (17, Mute(), circle, {(1, 2): 3}, "\\ud800"):
    print(signal.send_async(None, it=it)[0][1].exception(60).__class__.__name__)
with signal.connect(hang):
    signal.send_async(None, it=18)
assert hanging.wait(60)
for name, named in dead_letters.letters():
    print(name, named)
""",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:5] == ["Mute"] * 5
    assert lines[5] == 'fail {"it": 17}'
    assert all(line.startswith('fail {"it": ') for line in lines[5:10])
    assert lines[10:] in ([], ['fail {"it": 18}'])
    assert "at exit" in done.stderr
    assert "order_placed" in done.stderr


def test_dead_letters_that_cannot_be_written_are_logged_and_the_sender_goes_on(
    tmp_path: Path,
) -> None:
    dead_letters(tmp_path)
    with sqlite3.connect(tmp_path / "dead_letters.sqlite") as db:
        db.execute("BEGIN EXCLUSIVE")
        done = run(
            tmp_path,
            """
import dead_letters

def fail(**kwargs):
    raise OSError("no route")

signal = Signal(name="order_placed")
signal.connect(fail)
print(repr(signal.send_async(None, order_id=17)[0][1].exception(60)))
""",
        )
    db.close()
    assert done.stdout == "OSError('no route')\n"
    assert "database is locked" in done.stderr
    assert done.returncode == 0


def test_handler_without_the_librarys_own_records_does_not_send_for_ever(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
alert = Signal(name="alert")

class Alerting(logging.Handler):
    def emit(self, record):
        alert.send_async(None, text=record.getMessage())

handler = Alerting()
handler.addFilter(lambda record: record.name != "tsignals")
logging.getLogger().addHandler(handler)
calls = []

@receiver(alert)
def fail(text, **kwargs):
    calls.append(text)
    raise OSError

logging.error("once")
print(get_default_executor().drain(60), calls)
""",
    )
    assert done.stdout == "True ['once']\n"


# --- testing.md


def test_fresh_pool_says_which_receiver_hangs_and_does_not_hang_itself(tmp_path: Path) -> None:
    before = """
from tsignals.testing import fresh_pool

order_placed = Signal(name="order_placed")
order_placed.connect(hang)

def place(order):
    order_placed.send_async("shop", order=order)
    assert hanging.wait(60)

"""
    done = run(tmp_path, before + recipe("pool"))
    has_run = r"receiver hang of signal 'order_placed' has run for ([\d.]+) seconds"
    [seconds] = re.findall(has_run, done.stderr)
    assert float(seconds) >= 0.2
    assert "AssertionError" in done.stderr
    assert "at exit" in done.stderr
    assert done.returncode == 1


def test_fixture_fails_the_test_whose_receiver_hangs_or_fails_and_no_other(tmp_path: Path) -> None:
    tests = """
import threading

hanging = threading.Event()


def hang(**kwargs):
    hanging.set()
    threading.Event().wait()


def fail(**kwargs):
    raise OSError


def test_hangs(signal_pool):
    with signal_pool(timeout=0.2), order_placed.connect(hang):
        place(18)
        assert hanging.wait(60)


def test_fails(signal_pool):
    with signal_pool(), order_placed.connect(fail):
        place(19)
"""
    [page] = [page for page in pages() if page.match("howto/testing.md")]
    [shop] = [example for example in examples(page) if "file" in example.words]
    (tmp_path / "shop.py").write_text(shop.code)
    (tmp_path / "test_shop.py").write_text(recipe("fixture") + tests)
    done = run(
        tmp_path,
        "",
        "-m",
        "pytest",
        "-v",
        "-p",
        "no:cacheprovider",
        "test_shop.py",
        PYTHONPATH=processes.with_plugin(tmp_path),
    )
    assert "2 failed, 1 passed" in done.stdout, done.stdout
    assert "AssertionError: not all deliveries have ended within 0.2 seconds" in done.stdout
    assert "receiver hang of signal 'order_placed' has run for" in done.stdout
    assert "AssertionError: receiver fail raised OSError()" in done.stdout
    assert "at exit" in done.stderr


# --- background.md


def test_full_queue_turns_visitors_away_when_receivers_hang(tmp_path: Path) -> None:
    small = recipe("full").replace("1_600", "1").replace("    8,", "    1,")
    assert small != recipe("full")
    done = run(
        tmp_path,
        small
        + """
order_placed.connect(hang)
print(view(1))
assert hanging.wait(60)
print(view(2), view(3), view(4))
""",
    )
    assert done.stdout.split() == ["201", "201", "201", "503", "503"], done.stderr
    assert "at exit" in done.stderr
    assert done.returncode == 0


def test_hanging_receiver_does_not_keep_what_is_around_others_from_ending(tmp_path: Path) -> None:
    before = """
mail = WorkerPool(1)
photo_added = Signal(name="photo_added")
photo_added.connect(hang)
"""
    done = run(tmp_path, before + recipe("around"))
    assert "TimeoutError" in done.stderr
    assert "at exit" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize(
    "code",
    [
        recipe("close").replace("assert self.open", "hang()"),
        "import asyncio\n"
        "door_opened = photo_added\n"
        "light = hang\n"
        "opening = photo_added.connect(hang, tracked=True, dispatch_uid='tracked light')\n"
        "photo_added.send_async(None)\n"
        "assert hanging.wait(60)\n" + recipe("aclose"),
    ],
    ids=["from a thread", "from a coroutine"],
)
def test_disconnect_says_that_a_receiver_hangs(tmp_path: Path, code: str) -> None:
    if "cache.close()" in code:
        code = code.replace("cache.close()", "assert hanging.wait(60)\ncache.close()")
    done = run(tmp_path, "photo_added = Signal(name='photo_added')\n" + code)
    assert "TimeoutError" in done.stderr
    assert "at exit" in done.stderr
    assert done.returncode == 1


def test_prepared_send_whose_receiver_hangs_is_waited_for_no_longer_than_said(
    tmp_path: Path,
) -> None:
    ended = run(
        tmp_path,
        "photo_added = Signal()\nphoto_added.connect(hang)\n" + recipe("prepare"),
    )
    assert ended.stdout == "False\n", ended.stderr
    assert "hang" in ended.stderr  # the log at exit names it


def test_pool_that_is_ended_says_what_still_runs(tmp_path: Path) -> None:
    mails = 'lambda order_id, **kwargs: print(f"mail about {order_id}")'
    assert mails in recipe("end")
    done = run(tmp_path, recipe("end").replace(mails, "hang"))
    assert done.stdout == "0 wait, 1 run\n"
    [shutdown, end] = [line for line in done.stderr.splitlines() if "deliveries of" in line]
    assert "at shutdown 1 deliveries of 'order_placed' to hang still run" in shutdown
    assert "at exit 1 deliveries of 'order_placed' to hang" in end
    assert done.returncode == 0


def test_what_is_left_of_all_pools_is_written_down(tmp_path: Path) -> None:
    (tmp_path / "stopping.py").write_text(recipe("stopping"))
    done = run(
        tmp_path,
        """
import json, stopping
set_default_executor(WorkerPool(1))
signals = [Signal(name="one", executor=WorkerPool(1)), Signal(name="two")]
for signal in signals:
    signal.connect(hang)
    hanging.clear()
    signal.send_async(17)
    assert hanging.wait(60)
    signal.send_async(18)
get_default_executor().submit(print, "never")
stopping.stop(timeout=0.1)
print(WorkerPool.all())
for line in open("left.jsonl"):
    print(*json.loads(line).values())
""",
    )
    assert sorted(done.stdout.splitlines()) == sorted(
        [
            "[]",
            "<Delivery of hang for 'one', running> 17",
            "<Delivery of hang for 'one', pending> 18",
            "<Delivery of hang for 'two', running> 17",
            "<Delivery of hang for 'two', pending> 18",
        ]
    )
    assert "1 deliveries of submit() had not started in time; they are lost" in done.stderr
    assert done.returncode == 0


# --- scale-out.md


def test_other_processes_in_which_a_receiver_hangs_are_ended(tmp_path: Path) -> None:
    shop = """
import threading
from tsignals import Signal, receiver

order_placed = Signal(name="order_placed")

@receiver(order_placed)
def hang(**kwargs):
    threading.Event().wait()
"""
    (tmp_path / "shop.py").write_text(shop)
    (tmp_path / "processes.py").write_text(RECIPES["processes"].replace("30", "5", 1))
    done = run(tmp_path, "", "processes.py")
    assert "BrokenProcessPool" in done.stderr
    assert done.returncode == 1


# --- servers, in stopping.md

SHOP = (
    RECIPES["shop"]
    + """
import logging, os, threading

logging.basicConfig(level=logging.INFO)


@receiver(order_placed)
def note(order_id, **kwargs):
    if order_id == "hang":
        threading.Event().wait()
    while not os.path.exists("go"):
        time.sleep(0.01)
    with open("notes", "a") as file:
        file.write(order_id + "\\n")
"""
)
"""What the servers serve. No receiver ends before there is a file ``go``, one never."""

SERVICE = """
from shop import order_placed

for line in sys.stdin:
    order_placed.send_async(line.strip(), order_id=line.strip())
    print("accepted", flush=True)
"""


class Server:
    """A server process that is asked for orders over a socket, or over its standard input."""

    def __init__(
        self, directory: Path, *arguments: str, seconds: float = 0.2, **popen: Any
    ) -> None:
        self.directory = directory
        self.log = directory / "log"
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=directory,
                env=processes.environment(HOME=str(directory), TSIGNALS_EXIT_SECONDS=str(seconds)),
                stderr=output,
                start_new_session=True,
                text=True,
                **{"stdout": output, **popen},
            )

    def stop(self) -> str:
        """SIGTERM, then let the receivers end; what the server has logged once it is gone."""
        try:
            self.process.send_signal(signal.SIGTERM)
            (self.directory / "go").touch()
            self.process.wait(TIMEOUT)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(TIMEOUT)
        return self.log.read_text()

    def noted(self) -> list[str]:
        notes = self.directory / "notes"
        return sorted(notes.read_text().split()) if notes.exists() else []


HUNG = ["hang"]
ORDERS = [f"{n:02}" for n in range(10)]
LIMIT = {False: TIMEOUT / 2, True: 0.2}
"""Seconds that a server gives its queue: more than enough, or few where one hangs."""


def left_in(directory: Path) -> list[str]:
    """The orders of which ``note`` was written down as left."""
    lines = [json.loads(line) for line in (directory / "left.jsonl").read_text().splitlines()]
    return [line["sender"] for line in lines if "Delivery of note" in line["left"]]


def get(port: int, order_id: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", f"/?{order_id}")
        assert connection.getresponse().read() == b"ok\n"
    finally:
        connection.close()


def served_by_gunicorn(directory: Path, listening: int, seconds: float) -> Server:
    (directory / "gunicorn.conf.py").write_text(recipe("gunicorn", seconds))
    arguments = ("-m", "gunicorn", "shop:application", "--worker-class=gthread", "--threads=2")
    arguments += ("--bind", f"fd://{listening}")
    return Server(directory, *arguments, pass_fds=[listening], seconds=seconds)


def served_by_waitress(directory: Path, listening: int, seconds: float) -> Server:
    code = recipe("waitress", seconds)
    here = code.replace('listen="127.0.0.1:8080"', f"sockets=[socket.socket(fileno={listening})]")
    assert here != code
    (directory / "serve.py").write_text("import socket\n" + here)
    return Server(directory, "serve.py", pass_fds=[listening], seconds=seconds)


def served_by_uvicorn(directory: Path, listening: int, seconds: float) -> Server:
    (directory / "asgi.py").write_text(recipe("uvicorn", seconds))
    arguments = ("-m", "uvicorn", "asgi:application", "--fd", str(listening))
    return Server(directory, *arguments, pass_fds=[listening], seconds=seconds)


@posix
@pytest.mark.parametrize("serve", [served_by_gunicorn, served_by_waitress, served_by_uvicorn])
@pytest.mark.parametrize("hangs", [False, True], ids=["all end", "one hangs"])
def test_server_that_is_stopped_works_off_its_queue_and_says_what_hangs(
    tmp_path: Path, serve: Callable[[Path, int, float], Server], hangs: bool
) -> None:
    pytest.importorskip(serve.__name__.rpartition("_")[2])
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "stopping.py").write_text(RECIPES["stopping"])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = serve(tmp_path, listening.fileno(), LIMIT[hangs])
        try:
            for order_id in HUNG if hangs else ORDERS:
                get(listening.getsockname()[1], order_id)
        finally:
            log = server.stop()
    assert server.noted() == ([] if hangs else ORDERS), log
    assert ("at shutdown" in log) is hangs, log
    assert left_in(tmp_path) == (HUNG if hangs else []), log


@posix
@pytest.mark.parametrize("hangs", [False, True], ids=["all end", "one hangs"])
def test_program_with_a_handler_for_sigterm_works_off_its_queue_and_says_what_hangs(
    tmp_path: Path, hangs: bool
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "stopping.py").write_text(RECIPES["stopping"])
    (tmp_path / "service.py").write_text(recipe("sigterm", LIMIT[hangs]) + SERVICE)
    pipe = subprocess.PIPE
    server = Server(tmp_path, "service.py", seconds=LIMIT[hangs], stdin=pipe, stdout=pipe)
    assert server.process.stdin is not None
    assert server.process.stdout is not None
    try:
        for order_id in HUNG if hangs else ORDERS:
            server.process.stdin.write(order_id + "\n")
            server.process.stdin.flush()
            while server.process.stdout.readline() != "accepted\n":
                assert server.process.poll() is None  # other lines are of mails
        server.process.send_signal(signal.SIGTERM)  # and another one in stop()
    finally:
        log = server.stop()
        server.process.stdin.close()
        server.process.stdout.close()
    assert server.noted() == ([] if hangs else ORDERS), log
    assert ("at shutdown" in log) is hangs, log
    assert left_in(tmp_path) == (HUNG if hangs else []), log
    assert server.process.returncode == 0


# --- first-signals.md


@posix
def test_service_of_the_tutorial_ends_although_its_mail_server_hangs(tmp_path: Path) -> None:
    hangs = "\nmail_server.send = lambda to, text: threading.Event().wait()\n"
    (tmp_path / "shop.py").write_text(RECIPES["shop_of_the_tutorial"] + hangs)
    (tmp_path / "service.py").write_text(recipe("service_of_the_tutorial"))
    service = subprocess.Popen(
        [sys.executable, "service.py", "0"],
        cwd=tmp_path,
        env=processes.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert service.stderr is not None
    try:
        port = int(service.stderr.readline().rpartition(":")[2])
        for item in ("tea", "milk"):
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
            client.request("POST", "/", f"customer=ann&item={item}")
            assert client.getresponse().status == 201
            client.close()
        service.terminate()
        _, log = service.communicate(timeout=TIMEOUT)
    finally:
        service.kill()
        service.wait(TIMEOUT)
        service.stderr.close()
    assert "1 deliveries of 'order_placed' to confirm had not started in time" in log
    assert "1 deliveries of 'order_placed' to confirm still run" in log
    assert "INFO stopped: 0 done" in log.splitlines()
    assert service.returncode == 0
