"""The shop's customers: they order while its server is stopped and started again.

Half of the way through the server gets SIGTERM, as at every deploy. Who got no answer sends the
order again to the next server. Every tenth card is refused: that order is rolled back. In the end
the database must show that orders = audit records = mails = ledger entries, and none of these for
an order that was rolled back.
"""

import importlib.util
import itertools
import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path

SUMMARY = "a shop with a database, whose server is stopped half way; needs tsignals[shop]"
CUSTOMERS = 7
REFUSED = 10
"""Every which card is refused."""
PATIENCE = 60.0
"""Seconds that a customer, or the end of a server, is waited for."""


class Server:
    """A server process, from start to SIGTERM."""

    def __init__(self, database: Path, workers: int) -> None:
        command = [sys.executable, "-m", "tsignals._demo.shop", str(database), str(workers)]
        # In a process group of its own, for Ctrl-C is ours. It ends when its stdin does, so also
        # where we are killed, or interrupted before we know of it.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
        )
        try:
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"the shop's server did not start: status {self.process.wait()}")
            self.port = int(line)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> dict[str, int]:
        """Send SIGTERM; return what the server says of itself at its end."""
        self.process.terminate()
        self.process.wait(PATIENCE)  # not communicate(): that ends its stdin first
        if self.process.returncode != 0:
            raise RuntimeError(f"the shop's server ended with status {self.process.returncode}")
        assert self.process.stdout is not None
        said: dict[str, int] = json.load(self.process.stdout)  # a line, which fits into the pipe
        return said

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


class Customers:
    """All orders, each sent until it is answered; the books of those who send them."""

    def __init__(self, orders: int, threads: int) -> None:
        self.orders = orders
        self.todo = deque(range(1, orders + 1))
        self.answers: dict[int, int] = {}  # by order: the status
        self.repeated: list[int] = []
        self.failures: list[str] = []
        self.port = 0
        self.giving_up = False
        self.threads = [
            threading.Thread(target=self.order, name=f"customer-{n}") for n in range(threads)
        ]

    def order(self) -> None:
        while not self.giving_up:
            try:
                number = self.todo.popleft()
            except IndexError:
                return
            deadline = time.monotonic() + PATIENCE
            while (status := self.ask(number)) is None:
                self.repeated.append(number)
                if self.giving_up or time.monotonic() > deadline:
                    self.failures.append(f"order {number} was never answered")
                    return
                time.sleep(0.05)  # the next server starts
            self.answers[number] = status

    def ask(self, number: int) -> int | None:
        """Send one order; None without an answer."""
        order = {
            "number": number,
            "customer": f"customer {number % CUSTOMERS}",
            "cents": 100 + number,
            "card_is_good": number % REFUSED != 0,
        }
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("POST", "/orders", json.dumps(order))
            return connection.getresponse().status
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()

    def order_at(self, port: int) -> None:
        """Send orders to the server there from now on."""
        self.port = port
        for each in self.threads:
            if each.ident is None:
                each.start()

    def wait_for(self, answers: int) -> None:
        """Until so many are answered, or nobody asks any more."""
        while len(self.answers) < answers and any(each.is_alive() for each in self.threads):
            time.sleep(0.02)

    def go_home(self) -> None:
        """Send no more, and end."""
        self.giving_up = True
        for each in self.threads:
            if each.ident is not None:
                each.join(PATIENCE)


class Books:
    """What is in the database at the end."""

    def __init__(self, database: Path) -> None:
        with closing(sqlite3.connect(database)) as connection:
            ask = connection.execute
            self.orders = dict(ask("SELECT number, cents FROM orders"))
            self.audits = [number for (number,) in ask("SELECT order_number FROM audits")]
            self.mails = [number for (number,) in ask("SELECT order_number FROM mails")]
            self.entries = list(
                ask("SELECT customer, line, order_number, balance FROM entries ORDER BY 1, 2")
            )

    def faults(self, customers: Customers) -> list[str]:
        """What does not add up, in words."""
        found = list(customers.failures)
        placed = [n for n, status in customers.answers.items() if status in (200, 201)]
        refused = [n for n, status in customers.answers.items() if status == 402]
        entered = [entry[2] for entry in self.entries]
        for what, ought, have in (
            ("answers", range(1, customers.orders + 1), customers.answers),
            ("orders in the database", placed, self.orders),
            ("cards refused", range(REFUSED, customers.orders + 1, REFUSED), refused),
            ("audit records", self.orders, self.audits),
            ("mails", self.orders, self.mails),
            ("ledger entries", self.orders, entered),
        ):
            lost = Counter([*ought]) - Counter([*have])
            extra = Counter([*have]) - Counter([*ought])
            if lost or extra:
                found.append(f"{what}: {lost.total()} lost, {extra.total()} too many")
        for what, numbers in (("audited", self.audits), ("mailed", self.mails), ("owed", entered)):
            if wrong := set(numbers) & set(refused):
                found.append(f"{len(wrong)} orders were {what} that were rolled back")
        for customer, lines in itertools.groupby(self.entries, key=lambda entry: entry[0]):
            owed = 0
            for expected, (_, line, number, balance) in enumerate(lines, start=1):
                owed += self.orders.get(number, 0)
                if (line, balance) != (expected, owed):
                    found.append(f"the ledger of {customer} is wrong at line {line}")
                    break
        return found


def missing() -> str | None:
    """What is not installed; ``None``: nothing."""
    for name in ("prometheus_client", "sqlalchemy", "waitress"):
        if importlib.util.find_spec(name) is None:
            return name
    return None


def serve_and_stop(customers: Customers, database: Path, workers: int, until: int) -> None:
    """One life of the server: until so many orders are answered, and then SIGTERM."""
    server = Server(database, workers)
    try:
        print(f"A server with metrics: http://127.0.0.1:{server.port}/metrics", flush=True)
        customers.order_at(server.port)
        customers.wait_for(until)
        said = server.stop()
    finally:
        server.kill()
    print(
        f"SIGTERM when {len(customers.answers):,} orders were answered, and {said['waiting']:,} "
        f"deliveries waited: {said['delivered']:,} have run, {said['failed']:,} failed, "
        f"{said['dropped']:,} were dropped by rollbacks",
        flush=True,
    )


def run(orders: int, threads: int, workers: int) -> int:
    """Run the shop and return the exit status.

    0; 1 where something was lost; 2 where something is not installed; 130 after Ctrl-C and 143
    after SIGTERM, without a server left.
    """
    if (name := missing()) is not None:
        how = "python -m pip install '/path/to/tsignals[shop]'"
        print(f"demo --app needs {name}: from your clone, {how}", file=sys.stderr)
        return 2
    print(
        f"Orders: {orders:,}; customers at a time: {threads}; workers: {workers}; every "
        f"{REFUSED}th card is refused.\n"
        "Half way the server gets SIGTERM, and another one goes on.\n",
        flush=True,
    )
    customers = Customers(orders, threads)

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(128 + signal.SIGTERM)

    former = signal.signal(signal.SIGTERM, end)
    try:
        books = take_orders(customers, workers)
    except KeyboardInterrupt:
        print("Interrupted. The server was ended, and its database is gone.", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, former)
    return report(customers, books)


def take_orders(customers: Customers, workers: int) -> Books:
    """Both lives of the server, and what is in its database then."""
    with tempfile.TemporaryDirectory(prefix="tsignals-shop-") as directory:
        database = Path(directory, "shop.sqlite")
        try:
            for until in (customers.orders // 2, customers.orders):
                serve_and_stop(customers, database, workers, until)
        finally:
            customers.go_home()
        return Books(database)


def report(customers: Customers, books: Books) -> int:
    """Print the table; 0, or 1 where it does not add up."""
    print(f"""
orders sent               {customers.orders:>8,}
  sent again, no answer   {len(set(customers.repeated)):>8,}
  card refused            {list(customers.answers.values()).count(402):>8,}
orders in the database    {len(books.orders):>8,}
audit records             {len(books.audits):>8,}
mails                     {len(books.mails):>8,}
ledger entries            {len(books.entries):>8,}
""")
    faults = books.faults(customers)
    if faults:
        print("It does not add up:", *faults, sep="\n  ", file=sys.stderr)
        return 1
    print("Everything adds up: nothing was lost, and nothing delivered for what was rolled back.")
    return 0
