"""The demo's shop loses nothing though its server is stopped half way, and says so if it does."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import processes
import pytest
from helpers import wait_until

from tsignals.__main__ import main
from tsignals._demo import orders

pytestmark = pytest.mark.once

TIMEOUT = 150.0


def row(output: str, name: str) -> int:
    """The number in one row of the table."""
    [found] = re.findall(rf"^ *{name} +([\d,]+)$", output, re.M)
    return int(found.replace(",", ""))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
@pytest.mark.skipif(orders.missing() is not None, reason=f"{orders.missing()} is not installed")
def test_shop_that_is_stopped_half_way_loses_nothing() -> None:
    done = processes.command(
        [sys.executable, "-m", "tsignals", "demo", "--app", "--requests", "60", "--threads", "4"],
        cwd=Path(__file__).parent.parent,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert row(done.stdout, "orders sent") == 60
    assert row(done.stdout, "card refused") == 6
    for name in ("orders in the database", "audit records", "mails", "ledger entries"):
        assert row(done.stdout, name) == 54
    assert "SIGTERM when 60 orders were answered" in done.stdout
    assert done.stdout.count(" 0 failed") == 2
    assert "Everything adds up" in done.stdout


def is_there(process: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
@pytest.mark.skipif(orders.missing() is not None, reason=f"{orders.missing()} is not installed")
@pytest.mark.parametrize(
    ("stop", "status", "said"),
    [
        (signal.SIGINT, 130, "Interrupted. The server was ended, and its database is gone.\n"),
        (signal.SIGTERM, 143, ""),
    ],
)
def test_shop_that_is_interrupted_leaves_no_server_and_no_database(
    stop: signal.Signals, status: int, said: str, tmp_path: Path
) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert demo.stdout is not None
        server = next(int(line[8:]) for line in demo.stdout if line.startswith("SERVER: "))
        os.killpg(demo.pid, stop)  # as a terminal does
        _, errors = demo.communicate(timeout=TIMEOUT)
    finally:
        demo.kill()
        demo.wait()
    assert (demo.returncode, errors) == (status, said)
    assert not is_there(server)
    assert list(tmp_path.iterdir()) == []


INTERRUPTED = """
import sys
from tsignals.__main__ import main
from tsignals._demo import orders

class Customers(orders.Customers):
    def wait_for(self, answers):
        super().wait_for(2)
        print("SERVER:", server.process.pid, flush=True)
        super().wait_for(answers)

class Server(orders.Server):
    def __init__(self, *arguments):
        global server
        super().__init__(*arguments)
        server = self

orders.Customers, orders.Server = Customers, Server
sys.exit(main(["demo", "--app", "--requests", "100000", "--threads", "2"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
@pytest.mark.skipif(orders.missing() is not None, reason=f"{orders.missing()} is not installed")
def test_server_of_the_shop_ends_when_its_owner_is_gone(tmp_path: Path) -> None:
    server = orders.Server(tmp_path / "shop.sqlite", 1)
    try:
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(TIMEOUT) == 1
    finally:
        server.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
@pytest.mark.skipif(orders.missing() is not None, reason=f"{orders.missing()} is not installed")
def test_server_of_the_shop_that_is_stopped_as_it_starts_says_what_it_did(tmp_path: Path) -> None:
    server = orders.Server(tmp_path / "shop.sqlite", 1)
    try:
        assert server.stop()["requests"] == 0
    finally:
        server.kill()


@pytest.mark.parametrize("name", ["prometheus_client", "sqlalchemy", "waitress"])
def test_shop_says_in_one_line_what_it_needs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert main(["demo", "--app"]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors == (
        f"demo --app needs {name}: from your clone, "
        "python -m pip install '/path/to/tsignals[shop]'\n"
    )


TABLES = """
CREATE TABLE orders (number, cents);
CREATE TABLE audits (order_number);
CREATE TABLE mails (order_number);
CREATE TABLE entries (customer, line, order_number, balance);
INSERT INTO orders VALUES (1, 100), (2, 200);
INSERT INTO audits VALUES (1), (2);
INSERT INTO mails VALUES (2), (1);
INSERT INTO entries VALUES ('Ann', 1, 1, 100), ('Ann', 2, 2, 300);
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("", []),
        ("DELETE FROM mails WHERE order_number = 1", ["mails: 1 lost, 0 too many"]),
        ("INSERT INTO mails VALUES (2)", ["mails: 0 lost, 1 too many"]),
        (
            "INSERT INTO audits VALUES (3)",
            ["audit records: 0 lost, 1 too many", "1 orders were audited that were rolled back"],
        ),
        (
            "UPDATE entries SET balance = 2 WHERE line = 2",
            ["the ledger of Ann is wrong at line 2"],
        ),
        ("UPDATE entries SET line = 3 WHERE line = 2", ["the ledger of Ann is wrong at line 3"]),
        (
            "DELETE FROM orders WHERE number = 2",
            [
                "orders in the database: 1 lost, 0 too many",
                "audit records: 0 lost, 1 too many",
                "mails: 0 lost, 1 too many",
                "ledger entries: 0 lost, 1 too many",
                "the ledger of Ann is wrong at line 2",
            ],
        ),
    ],
)
def test_books_that_do_not_add_up_are_found_out(
    change: str, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "REFUSED", 3)
    database = tmp_path / "shop.sqlite"
    connection = sqlite3.connect(database)
    connection.executescript(TABLES + change)
    connection.close()
    customers = orders.Customers(3, 1)
    customers.answers = {1: 201, 2: 200, 3: 402}
    assert orders.Books(database).faults(customers) == said


@pytest.mark.skipif(orders.missing() is not None, reason=f"{orders.missing()} is not installed")
def test_shop_shows_metrics_while_it_runs(tmp_path: Path) -> None:
    def get(path: str) -> str:
        url = f"http://127.0.0.1:{server.port}{path}"
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            text: str = answer.read().decode()
            return text

    # In the request; in the pool, after the commit, and not counted when it was held back.
    wanted = [
        f'tsignals_deliveries_total{{outcome="completed",receiver="__main__.{receiver}",'
        'signal="post_save"} 1.0\n'
        for receiver in ("audit", "send_mail")
    ]
    wanted.append('receiver="__main__.count_request",signal="tsignals.http.request_finished"}')
    wanted.append("tsignals_queue_wait_seconds_bucket{")

    def shows_all() -> bool:
        found = get("/metrics")
        return all(each in found for each in wanted)

    server = orders.Server(tmp_path / "shop.sqlite", workers=2)
    try:
        customers = orders.Customers(1, 1)
        customers.order_at(server.port)
        customers.wait_for(1)
        wait_until(shows_all)
        customers.go_home()
        server.stop()
    finally:
        server.kill()
