"""Flask: what a worker sees of the sender's contexts, and what its signals do in the background.

``docs/howto/flask.md`` says what to do; here is what happens if one does and if one does not.
"""

import contextlib
import gc
import http.client
import socket
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import TIMEOUT, Ear, Latch, assert_gone
from test_docs_examples import ROOT, examples
from test_docs_recipes import Server, posix

from tsignals import QueueFull, Signal, WorkerPool, background, receiver, receiver_failed

flask = pytest.importorskip("flask")
from flask import Flask, current_app, g, request  # noqa: E402

SHOP = ROOT / "docs" / "howto" / "flask.md"

AROUND: dict[str, Callable[[Flask], Callable[[], Any]]] = {
    "of this application": lambda app: app.app_context,
    "of the sender's application": lambda app: lambda: current_app.app_context(),
}


@pytest.fixture(params=AROUND)
def around(request: pytest.FixtureRequest) -> Callable[[Flask], Callable[[], Any]]:
    return AROUND[request.param]


@pytest.fixture
def app() -> Iterator[Flask]:
    app = Flask("shop")
    app.logger.disabled = True  # what views raise is no news here
    yield app
    app.logger.disabled = False  # it is one of the process, by its name


@contextlib.contextmanager
def connected(signal: Any, function: Any, sender: Flask) -> Iterator[None]:
    """Connect to a signal of Flask's, which outlives the test."""
    receiver(signal, sender=sender)(function)
    try:
        yield
    finally:
        signal.disconnect(function, sender=sender)


def answered(signal: Signal, sender: Flask, **named: Any) -> Any:
    """What the only receiver answers in the background."""
    [(_, response)] = signal.send_async(sender, **named).results(TIMEOUT)
    return response


# --- g


def seen(**named: Any) -> tuple[object, dict[str, Any], object]:
    """What a receiver sees: the object behind ``g``, what is in it, and the application."""
    whole = g._get_current_object()
    return whole, dict(vars(whole)), current_app._get_current_object()


def test_worker_without_an_around_sees_the_very_g_of_the_sender(app: Flask) -> None:
    signal = Signal()
    signal.connect(seen)
    with WorkerPool(1) as signal.executor, app.app_context():
        g.user = "kim"
        assert answered(signal, app) == (g._get_current_object(), {"user": "kim"}, app)


def test_worker_inside_an_app_context_sees_a_new_g_and_the_application(
    app: Flask, around: Callable[[Flask], Callable[[], Any]]
) -> None:
    signal = Signal()
    signal.connect(seen)
    with WorkerPool(1, around=around(app)) as signal.executor, app.app_context():
        g.user = "kim"
        for _ in range(2):
            whole, content, application = answered(signal, app)
            assert whole is not g._get_current_object()
            assert content == {}
            assert application is app
        assert g.user == "kim"


def test_one_pool_serves_the_application_of_each_sender() -> None:
    signal = Signal()
    signal.connect(seen)
    with WorkerPool(1, around=lambda: current_app.app_context()) as signal.executor:
        for app in (Flask("one"), Flask("two")):
            with app.app_context():
                assert answered(signal, app)[2] is app


def test_delivery_sent_outside_of_any_application_fails_and_is_told(app: Flask) -> None:
    signal = Signal()
    signal.connect(seen)
    told = Ear()
    with (
        WorkerPool(1, around=lambda: current_app.app_context()) as signal.executor,
        receiver_failed.connect(told, sender=signal),
    ):
        with pytest.raises(RuntimeError, match="Working outside of application context"):
            answered(signal, app)
    assert len(told.calls) == 1


def test_sender_that_runs_a_delivery_itself_has_its_g_back_afterwards(app: Flask) -> None:
    signal = Signal()
    signal.connect(seen)
    gate = Latch()
    with WorkerPool(
        1, max_pending=1, overflow="caller_runs", around=app.app_context
    ) as signal.executor:
        signal.executor.submit(gate)
        assert gate.entered.wait(TIMEOUT)
        signal.executor.submit(int)
        with app.app_context():
            g.user = "kim"
            before = g._get_current_object()
            [delivery] = signal.send_async(app).futures
            assert delivery.done()  # here, for the only worker stands at the gate
            assert delivery.result(TIMEOUT)[1] == {}
            assert g._get_current_object() is before
            assert g.user == "kim"
        gate.opened.set()


def test_receiver_that_waits_for_another_delivery_keeps_its_own_g(app: Flask) -> None:
    inner, outer = Signal(), Signal()
    inner.connect(seen)

    @receiver(outer)
    def ask(**named: Any) -> tuple[dict[str, Any], str]:
        g.user = "worker"
        return answered(inner, app)[1], g.user

    with WorkerPool(1, around=app.app_context) as pool:
        inner.executor = outer.executor = pool
        assert answered(outer, app) == ({}, "worker")


def test_teardown_functions_run_in_the_worker_with_the_error_of_the_receiver(app: Flask) -> None:
    torn: list[tuple[str, BaseException | None]] = []

    @app.teardown_appcontext
    def note(error: BaseException | None) -> None:
        torn.append((threading.current_thread().name.split("_")[0], error))

    boom = OSError("no route")
    signal = Signal()

    @receiver(signal)
    def work(fail: bool, **named: Any) -> None:
        if fail:
            raise boom

    with WorkerPool(1, around=app.app_context) as signal.executor:
        answered(signal, app, fail=False)
        assert signal.executor.drain(TIMEOUT)
        with pytest.raises(OSError, match="no route"):
            answered(signal, app, fail=True)
    assert torn == [("tsignals", None), ("tsignals", boom)]


# --- what is kept in g


def test_connection_in_the_senders_g_does_not_work_in_a_worker_and_one_of_its_own_does(
    app: Flask,
) -> None:
    def database() -> sqlite3.Connection:
        if "database" not in g:
            g.database = sqlite3.connect(":memory:")
        connection: sqlite3.Connection = g.database
        return connection

    @app.teardown_appcontext
    def close(error: BaseException | None) -> None:
        if "database" in g:
            g.pop("database").close()

    signal = Signal()

    @receiver(signal)
    def ask(**named: Any) -> Any:
        return database().execute("SELECT 1").fetchall()

    with WorkerPool(1) as pool, WorkerPool(1, around=app.app_context) as fresh, app.app_context():
        database()
        signal.executor = pool
        with pytest.raises(sqlite3.ProgrammingError, match="thread"):
            answered(signal, app)
        signal.executor = fresh
        assert answered(signal, app) == [(1,)]


def test_scoped_session_of_a_worker_is_the_senders_unless_it_has_a_context_of_its_own(
    app: Flask, tmp_path: Path
) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    orm = pytest.importorskip("sqlalchemy.orm")
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'shop.sqlite'}")
    # As Flask-SQLAlchemy has it: a session for each application context, removed at its end.
    session = orm.scoped_session(
        orm.sessionmaker(engine), scopefunc=lambda: id(g._get_current_object())
    )

    @app.teardown_appcontext
    def remove(error: BaseException | None) -> None:
        session.remove()

    signal = Signal()

    @receiver(signal)
    def ask(**named: Any) -> Any:
        session.execute(sqlalchemy.text("SELECT 1"))
        return session()

    with WorkerPool(1) as pool, WorkerPool(1, around=app.app_context) as fresh:
        with app.app_context():
            signal.executor = pool
            assert answered(signal, app) is session()
            session.remove()
            signal.executor = fresh
            assert answered(signal, app) is not session()
        assert fresh.drain(TIMEOUT)
        assert session.registry.registry == {}
        assert engine.pool.checkedout() == 0
    engine.dispose()


# --- the request


def test_request_and_session_in_a_worker_are_the_senders(app: Flask) -> None:
    app.secret_key = "x"
    signal = Signal()

    @receiver(signal)
    def look(**named: Any) -> Any:
        return request._get_current_object(), flask.session._get_current_object()

    with WorkerPool(1, around=app.app_context) as signal.executor:
        with app.test_request_context("/orders"):
            its_request, its_session = answered(signal, app)
            assert its_request is request._get_current_object()
            assert its_session is flask.session._get_current_object()


def test_url_of_a_worker_is_that_of_the_request_and_needs_a_server_name_outside_of_one(
    app: Flask,
) -> None:
    app.add_url_rule("/orders", "orders")
    signal = Signal()

    @receiver(signal)
    def url(**named: Any) -> str:
        return str(flask.url_for("orders", _external=True))

    with WorkerPool(1, around=app.app_context) as signal.executor:
        with app.test_request_context("/", base_url="http://shop.example"):
            assert answered(signal, app) == "http://shop.example/orders"
        with pytest.raises(RuntimeError, match="SERVER_NAME"):
            answered(signal, app)


def test_functions_around_requests_do_not_run_for_deliveries(app: Flask) -> None:
    ran: list[str] = []
    app.before_request(lambda: ran.append("before"))
    app.after_request(lambda response: ran.append("after") or response)
    app.teardown_request(lambda error: ran.append("teardown"))
    signal = Signal()
    signal.connect(seen)

    @app.get("/")
    def view() -> str:
        answered(signal, app)
        return "well"

    with WorkerPool(1, around=app.app_context) as signal.executor:
        assert app.test_client().get("/").text == "well"
    assert ran == ["before", "after", "teardown"]


def test_queued_delivery_keeps_its_request_in_memory_until_it_has_run(app: Flask) -> None:
    signal = Signal()
    signal.connect(seen)
    gate = Latch()
    alive: list[weakref.ref[Any]] = []

    @app.get("/")
    def view() -> str:
        alive.append(weakref.ref(request._get_current_object()))
        signal.send_async(app)
        return "well"

    with WorkerPool(1, around=app.app_context) as signal.executor:
        signal.executor.submit(gate)
        assert app.test_client().get("/").text == "well"
        gc.collect()
        [its_request] = alive
        assert its_request() is not None
        gate.opened.set()
        assert signal.executor.drain(TIMEOUT)
    assert_gone(its_request)


# --- Flask's own signals


def test_background_receiver_of_a_flask_signal_runs_in_its_pool_with_a_g_of_its_own(
    app: Flask,
) -> None:
    heard: list[Any] = []

    @app.get("/")
    def view() -> str:
        g.user = "kim"
        raise OSError("no route")

    with WorkerPool(1, around=app.app_context, thread_name_prefix="reports") as reports:

        @background(executor=reports)
        def report(sender: Flask, exception: Exception, **named: Any) -> None:
            name = threading.current_thread().name.split("_")[0]
            heard.append((name, sender, repr(exception), seen()[1]))

        with connected(flask.got_request_exception, report, app):
            assert app.test_client().get("/").status_code == 500
    assert heard == [("reports", app, "OSError('no route')", {})]


def test_receiver_takes_what_it_needs_in_the_request_and_sends_it_on(app: Flask) -> None:
    visited = Signal()
    ear = Ear()
    visited.connect(ear)

    def announce(sender: Flask, response: Any, **named: Any) -> None:
        visited.send_async(sender, path=request.path, status=response.status_code)

    with (
        WorkerPool(1, around=app.app_context) as visited.executor,
        connected(flask.request_finished, announce, app),
    ):
        assert app.test_client().get("/nowhere").status_code == 404
    assert ear.calls == [{"signal": visited, "sender": app, "path": "/nowhere", "status": 404}]


@pytest.mark.parametrize("overflow", ["raise", "drop_oldest"])
def test_full_queue_of_a_background_receiver_is_the_visitors_error_unless_the_pool_drops(
    app: Flask, overflow: str
) -> None:
    app.add_url_rule("/", view_func=lambda: "well")
    gate = Latch()
    with WorkerPool(1, max_pending=1, overflow=overflow) as pool:

        @background(executor=pool)
        def count(sender: Flask, **named: Any) -> None: ...

        pool.submit(gate)
        assert gate.entered.wait(TIMEOUT)
        pool.submit(int)
        with connected(flask.request_finished, count, app):
            answer = app.test_client().get("/")
        gate.opened.set()
    assert answer.status_code == (500 if overflow == "raise" else 200)


def test_full_queue_takes_the_place_of_the_error_that_is_to_be_reported(app: Flask) -> None:
    @app.get("/")
    def view() -> str:
        raise OSError("no route")

    gate = Latch()
    with WorkerPool(1, max_pending=1, overflow="raise") as pool:

        @background(executor=pool)
        def report(sender: Flask, **named: Any) -> None: ...

        pool.submit(gate)
        assert gate.entered.wait(TIMEOUT)
        pool.submit(int)
        with connected(flask.got_request_exception, report, app), pytest.raises(QueueFull):
            app.test_client().get("/")  # a server would log this one
        gate.opened.set()


def test_background_receiver_of_an_app_contexts_signal_feeds_itself(app: Flask) -> None:
    enough = threading.Event()
    calls: list[int] = []

    with WorkerPool(1, around=app.app_context) as pool:

        @background(executor=pool)
        def count(sender: Flask, **named: Any) -> None:
            calls.append(1)
            if len(calls) >= 10:
                flask.appcontext_pushed.disconnect(count, sender=app)
                enough.set()

        with connected(flask.appcontext_pushed, count, app):
            with app.app_context():  # the only one that is pushed here
                pass
            assert enough.wait(TIMEOUT)


def test_plain_receiver_of_an_app_contexts_signal_hears_those_of_workers(app: Flask) -> None:
    threads: list[str] = []

    def note(sender: Flask, **named: Any) -> None:
        threads.append(threading.current_thread().name.split("_")[0])

    signal = Signal()
    signal.connect(seen)
    with (
        WorkerPool(1, around=app.app_context) as signal.executor,
        connected(flask.appcontext_popped, note, app),
    ):
        answered(signal, app)
        assert signal.executor.drain(TIMEOUT)
    assert threads == ["tsignals"]


# --- async views


def test_sync_receivers_of_an_async_view_have_a_g_of_their_own_and_async_ones_the_views(
    app: Flask,
) -> None:
    pytest.importorskip("asgiref", reason="Flask's async views need asgiref")
    signal = Signal()
    signal.connect(seen)

    @receiver(signal)
    async def look(**named: Any) -> Any:
        return seen()

    @app.get("/")
    async def view() -> dict[str, Any]:
        g.user = "kim"
        return {"seen": [response[1] for _, response in await signal.asend(app)]}

    with WorkerPool(1, around=app.app_context) as signal.executor:
        assert app.test_client().get("/").json == {"seen": [{}, {"user": "kim"}]}


def test_full_queue_is_an_error_at_once_in_an_async_view(app: Flask) -> None:
    pytest.importorskip("asgiref", reason="Flask's async views need asgiref")
    signal = Signal()
    signal.connect(seen)
    gate = Latch()

    @app.get("/")
    async def view() -> str:
        try:
            signal.send_async(app)
        except QueueFull:
            return "full"
        return "sent"

    with WorkerPool(1, max_pending=1, around=app.app_context) as signal.executor:
        signal.executor.submit(gate)
        assert gate.entered.wait(TIMEOUT)
        signal.executor.submit(int)
        assert app.test_client().get("/").text == "full"
        gate.opened.set()


# --- the page's program, served and stopped

SLOW = """
import os, time

@receiver(order_placed)
def note(order_id, **kwargs):
    while not os.path.exists("go"):
        time.sleep(0.01)
    with open("notes", "a") as file:
        file.write(f"{order_id}\\n")
"""
"""No receiver ends before there is a file ``go``: the queue is full of work at the end."""

ORDERS = 10


def files(directory: Path) -> dict[str, str]:
    """The page's files, written to ``directory``."""
    found = {e.words["file"]: e.code for e in examples(SHOP) if "file" in e.words}
    found["shop.py"] += SLOW
    for name, code in found.items():
        (directory / name).write_text(code)
    return found


def served_by_gunicorn(directory: Path, listening: int) -> Server:
    arguments = ("-m", "gunicorn", "--threads", "8", "--bind", f"fd://{listening}", "shop:app")
    return Server(directory, *arguments, pass_fds=[listening], seconds=TIMEOUT / 2)


def served_by_waitress(directory: Path, listening: int) -> Server:
    code = (directory / "serve.py").read_text()
    here = code.replace('listen="127.0.0.1:8000"', f"sockets=[socket.socket(fileno={listening})]")
    assert here != code
    (directory / "serve.py").write_text("import socket\n" + here)
    return Server(directory, "serve.py", pass_fds=[listening], seconds=TIMEOUT / 2)


@posix
@pytest.mark.parametrize("serve", [served_by_gunicorn, served_by_waitress])
def test_server_that_is_stopped_works_off_its_queue(
    tmp_path: Path, serve: Callable[[Path, int], Server]
) -> None:
    pytest.importorskip(serve.__name__.rpartition("_")[2])
    files(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = serve(tmp_path, listening.fileno())
        try:
            for number in range(1, ORDERS + 1):
                assert ordered(listening.getsockname()[1]) == f"order {number}\n"
        finally:
            log = server.stop()
    assert server.noted() == sorted(str(number) for number in range(1, ORDERS + 1)), log
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.sqlite")) as db:
        mails = db.execute("SELECT order_id, text FROM mails ORDER BY order_id").fetchall()
    assert mails == [(n, "Your lamp is on its way.") for n in range(1, ORDERS + 1)]
    assert "Traceback" not in log
    assert "at exit" not in log


def ordered(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("POST", "/orders/lamp")
        return connection.getresponse().read().decode()
    finally:
        connection.close()
