"""``tsignals.asgi``: the signals of requests, by servers made by hand that do what real ones do."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from helpers import TIMEOUT, BaseBoom, Boom, Latch, assert_gone, raiser, wait_until
from requests_heard import SIGNALS, Heard, assert_told_in_full, executor_of_signals, hearing

from tsignals import WorkerPool, set_sync_runner
from tsignals.asgi import SignalMiddleware
from tsignals.http import got_request_exception, request_finished, request_started
from tsignals.testing import capture

App = Callable[[Any, Any, Any], Awaitable[None]]
START = {"type": "http.response.start", "status": 200, "headers": []}
LAST = {"type": "http.response.body", "body": b"last"}
MORE = {"type": "http.response.body", "body": b"more", "more_body": True}
DISCONNECT = {"type": "http.disconnect"}


class Server:
    """An ASGI server for one request: what it received of the application is in ``sent``."""

    def __init__(self, app: App, *to_receive: dict[str, Any], **scope: Any) -> None:
        self.app = app
        self.scope = {"type": "http", "method": "GET", "path": "/", "headers": [], **scope}
        self.to_receive = [*to_receive]
        self.sent: list[dict[str, Any]] = []
        self.gone_after = 1_000

    async def receive(self) -> dict[str, Any]:
        return self.to_receive.pop(0)

    async def send(self, message: dict[str, Any]) -> None:
        if len(self.sent) >= self.gone_after:
            raise OSError("the client has gone away")
        self.sent.append(message)

    async def __call__(self) -> None:
        await self.app(self.scope, self.receive, self.send)

    def serve(self) -> None:
        async def main() -> None:
            await asyncio.wait_for(self(), TIMEOUT)

        asyncio.run(main())


def sending(*messages: dict[str, Any], error: BaseException | None = None) -> App:
    """An application that sends these, and then raises."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        if error is not None:
            raise error

    return app


answering = sending(START, MORE, LAST)


async def hang() -> None:
    async with asyncio.timeout(TIMEOUT):
        await asyncio.get_running_loop().create_future()


# --- What is sent


def test_request_is_told_of_from_start_to_end() -> None:
    server = Server(SignalMiddleware(sending({**START, "status": 201}, LAST)), method="POST")
    with hearing() as heard:
        server.serve()
    assert server.sent[1] is LAST
    assert_told_in_full(heard, 201, scope=server.scope, method="POST", path="/")


def test_path_is_that_of_the_scope_which_begins_with_the_root_path() -> None:
    with hearing() as heard:
        Server(SignalMiddleware(answering), path="/shop/café", root_path="/shop").serve()
    assert heard.one("started")["path"] == "/shop/café"


def test_sender_is_the_application_or_what_was_given() -> None:
    app, other = sending(START, LAST), sending(START, LAST)
    with hearing(app) as heard, hearing(other) as unheard, hearing("me") as named:
        Server(SignalMiddleware(app)).serve()
        Server(SignalMiddleware(other, sender="me")).serve()
    assert [values["sender"] for _, values in heard] == [app, app]
    assert [values["sender"] for _, values in named] == ["me", "me"]
    assert unheard == []


def test_async_receivers_are_awaited_on_the_loop_and_sync_ones_run_beside_it() -> None:
    threads: list[tuple[str, bool]] = []

    async def on_loop(**named: Any) -> None:
        threads.append(("async", threading.current_thread() is threading.main_thread()))

    def beside(**named: Any) -> None:
        threads.append(("sync", threading.current_thread() is threading.main_thread()))

    with request_finished.connect(on_loop), request_finished.connect(beside):
        Server(SignalMiddleware(answering)).serve()
    assert sorted(threads) == [("async", True), ("sync", False)]


def test_context_that_receivers_of_the_start_set_is_the_applications() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []

    async def bind(**named: Any) -> None:
        variable.set("bound")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(variable.get("none"))
        await answering(scope, receive, send)

    def note(**named: Any) -> None:
        seen.append(variable.get("none"))

    with request_started.connect(bind), request_finished.connect(note):
        Server(SignalMiddleware(app)).serve()
    assert seen == ["bound", "bound"]


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_what_is_no_http_passes_through_untouched(kind: str) -> None:
    seen: list[Any] = []

    async def app(*arguments: Any) -> None:
        seen.append(arguments)

    server = Server(SignalMiddleware(app), type=kind)
    with hearing() as heard:
        server.serve()
    assert seen == [(server.scope, server.receive, server.send)]
    assert heard == []


def test_where_nobody_listens_the_request_passes_through_untouched() -> None:
    seen: list[Any] = []

    async def app(*arguments: Any) -> None:
        seen.append(arguments)
        request_finished.connect(later)

    later = Heard()
    server = Server(SignalMiddleware(app))
    with hearing("somebody else") as heard:
        server.serve()
    request_finished.disconnect(later)
    assert seen == [(server.scope, server.receive, server.send)]
    assert heard == later == []


@pytest.mark.parametrize("word", SIGNALS)
def test_who_listens_to_one_of_the_signals_is_enough(word: str) -> None:
    later = Heard()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request_finished.connect(later)
        await answering(scope, receive, send)

    with hearing(None, word):
        Server(SignalMiddleware(app)).serve()
    request_finished.disconnect(later)
    assert later.outcomes == ["finished"]


# --- How a response ends

TRAILERS = {**START, "trailers": True}
A_TRAILER = {"type": "http.response.trailers", "headers": [], "more_trailers": True}
LAST_TRAILER = {"type": "http.response.trailers", "headers": []}
PATH = {"type": "http.response.pathsend", "path": "/etc/motd"}
ZERO = {"type": "http.response.zerocopysend", "file": 0}

ENDS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "one message": ([START, LAST], "finished"),
    "many messages": ([START, MORE, MORE, LAST], "finished"),
    "empty body": ([START, {"type": "http.response.body"}], "finished"),
    "path": ([START, PATH], "finished"),
    "zero copy": ([START, {**ZERO, "more_body": True}, ZERO], "finished"),
    "zero copy, not all": ([START, {**ZERO, "more_body": True}], "error"),
    "trailers": ([TRAILERS, LAST, A_TRAILER, LAST_TRAILER], "finished"),
    "trailers after a path": ([TRAILERS, PATH, LAST_TRAILER], "finished"),
    "trailers that are missing": ([TRAILERS, LAST], "error"),
    "trailers, not all": ([TRAILERS, LAST, A_TRAILER], "error"),
    "no last message": ([START, MORE], "error"),
    "no body": ([START], "error"),
    "nothing": ([], "error"),
    "more after the last": ([START, LAST, MORE], "finished"),
}


@pytest.mark.parametrize("end", ENDS)
def test_outcome_says_whether_the_application_has_sent_its_last_message(end: str) -> None:
    messages, outcome = ENDS[end]
    with hearing() as heard:
        Server(SignalMiddleware(sending(*messages))).serve()
    assert heard.words == ["started", "finished"]  # where there was no exception, none is told
    assert heard.outcomes == [outcome]
    assert heard.one("finished")["status"] == (200 if messages else None)


def test_seconds_end_at_the_last_message_and_the_signal_comes_at_the_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 10.0
    monkeypatch.setattr("tsignals.http._asgi.perf_counter", lambda: now)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal now
        for now, message in enumerate([START, MORE, LAST, MORE], 11):  # noqa: B007
            await send(message)
        now = 20.0
        assert heard.words == ["started"]  # background tasks run here

    with hearing() as heard:
        Server(SignalMiddleware(app)).serve()
    assert heard.one("finished")["seconds"] == 13.0 - 10.0


# --- Clients that go away


def test_disconnect_that_the_application_receives_is_its_outcome() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        assert await receive() == DISCONNECT
        await send(LAST)  # servers take it, and drop it

    with hearing() as heard:
        Server(SignalMiddleware(app), DISCONNECT).serve()
    assert heard.words == ["started", "finished"]
    assert heard.outcomes == ["disconnected"]


def test_disconnect_after_the_last_message_is_no_news() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        await answering(scope, receive, send)
        assert await receive() == DISCONNECT

    with hearing() as heard:
        Server(SignalMiddleware(app), {"type": "http.request"}, DISCONNECT).serve()
    assert heard.outcomes == ["finished"]


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [(None, "finished"), (OSError("gone away"), "disconnected"), (Boom(), "disconnected")],
)
def test_disconnect_while_the_last_message_is_sent_is_no_news_unless_send_raises(
    raised: Exception | None, outcome: str
) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def receive() -> Any:
            await ended.wait()
            return DISCONNECT

        async def send(message: Any) -> None:
            if message == LAST:
                ended.set()  # as a server that says so before this returns
                await heard_of_it.wait()
                if raised is not None:
                    raise raised

        heard_of_it = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def listen() -> None:
                assert await receive() == DISCONNECT
                heard_of_it.set()

            listener = asyncio.create_task(listen())
            await answering(scope, receive, send)
            await listener

        await SignalMiddleware(app)({"type": "http"}, receive, send)

    with hearing() as heard, contextlib.suppress(OSError, Boom):
        asyncio.run(asyncio.wait_for(main(), TIMEOUT))
    assert heard.words == ["started", "finished"]
    assert heard.outcomes == [outcome]


def test_application_that_gives_up_its_last_message_when_all_is_said_has_finished() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def receive() -> Any:
            await ended.wait()
            return DISCONNECT

        async def send(message: Any) -> None:
            if message == LAST:
                ended.set()
                await asyncio.Event().wait()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            response = asyncio.create_task(answering(scope, receive, send))
            assert await receive() == DISCONNECT
            response.cancel()
            await asyncio.wait([response])

        await SignalMiddleware(app)({"type": "http"}, receive, send)

    with hearing() as heard:
        asyncio.run(asyncio.wait_for(main(), TIMEOUT))
    assert heard.outcomes == ["finished"]


@pytest.mark.parametrize("gone_after", [0, 1, 2])
def test_send_that_raises_an_os_error_is_a_disconnect_and_no_exception_of_the_application(
    gone_after: int,
) -> None:
    server = Server(SignalMiddleware(answering))
    server.gone_after = gone_after
    with hearing() as heard, pytest.raises(OSError, match="gone away"):
        server.serve()
    assert heard.words == ["started", "finished"]
    assert heard.outcomes == ["disconnected"]
    assert heard.one("finished")["status"] == (200 if gone_after else None)


def test_application_that_survives_an_os_error_of_send_is_disconnected_all_the_same() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with contextlib.suppress(OSError):
            await answering(scope, receive, send)

    server = Server(SignalMiddleware(app))
    server.gone_after = 2
    with hearing() as heard:
        server.serve()
    assert heard.outcomes == ["disconnected"]


def test_os_error_after_the_last_message_is_an_error_of_the_application() -> None:
    server = Server(SignalMiddleware(sending(START, LAST, MORE)))
    server.gone_after = 2
    with hearing() as heard, pytest.raises(OSError):
        server.serve()
    assert heard.words == ["started", "exception", "finished"]
    assert heard.outcomes == ["error"]


# --- Errors of the application


@pytest.mark.parametrize("messages", [[], [START], [START, MORE], [START, LAST]])
def test_error_of_the_application_is_told_once_and_reaches_the_server(messages: Any) -> None:
    error = Boom()
    with hearing() as heard, pytest.raises(Boom):
        Server(SignalMiddleware(sending(*messages, error=error))).serve()
    assert heard.words == ["started", "exception", "finished"]
    assert heard.one("exception")["exception"] is error
    assert heard.outcomes == ["error"]
    assert heard.one("finished")["status"] == (200 if messages else None)


def test_what_is_no_exception_is_told_and_propagates_too() -> None:
    with hearing() as heard, pytest.raises(BaseBoom):
        Server(SignalMiddleware(sending(START, error=BaseBoom()))).serve()
    assert heard.words == ["started", "exception", "finished"]
    assert heard.outcomes == ["error"]


@pytest.mark.parametrize("background", [False, True])
def test_who_captures_sees_requests_that_nobody_hears(background: bool) -> None:
    server = Server(SignalMiddleware(answering, background=background))
    with capture(request_started, request_finished) as sent:
        server.serve()
    assert [each.signal for each in sent] == [request_started, request_finished]
    with capture() as sent:
        server.serve()
    assert sent == []  # nobody has named them


# --- Cancelled requests


async def cancelled(server: Server, until: asyncio.Event) -> None:
    """Serve, and cancel that when ``until`` is set."""
    task = asyncio.create_task(server())
    await asyncio.wait_for(until.wait(), TIMEOUT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, TIMEOUT)


def hanging(until: asyncio.Event, *messages: dict[str, Any]) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        until.set()
        await hang()

    return app


@pytest.mark.parametrize("background", [False, True])
def test_request_that_is_cancelled_is_finished_all_the_same(background: bool) -> None:
    async def main() -> None:
        until = asyncio.Event()
        app = hanging(until, START)
        await cancelled(Server(SignalMiddleware(app, background=background)), until)
        for _ in range(3):
            gc.collect()  # of the task that sends, nobody of ours knows
        await asyncio.wait_for(done.wait(), TIMEOUT)

    async def tell(**named: Any) -> None:
        loop.call_soon_threadsafe(done.set)

    with WorkerPool(1) as pool, executor_of_signals(pool):
        with asyncio.Runner() as runner, hearing() as heard:
            loop, done = runner.get_loop(), asyncio.Event()
            with request_finished.connect(tell, priority=-1):
                runner.run(main())
        assert pool.drain(TIMEOUT)  # ``tell`` is called on a loop, ``heard`` by a worker
    assert heard.words == ["started", "finished"]
    assert heard.outcomes == ["cancelled"]
    assert heard.one("finished")["status"] == 200


def test_request_that_is_cancelled_again_and_again_is_finished_once() -> None:
    """As cancel scopes do: each ``await`` raises again."""

    async def main() -> None:
        until = asyncio.Event()
        task = asyncio.create_task(Server(SignalMiddleware(hanging(until)))())
        await asyncio.wait_for(until.wait(), TIMEOUT)
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait_for(heard_it.wait(), TIMEOUT)

    async def tell(**named: Any) -> None:
        await asyncio.sleep(0)
        heard_it.set()

    heard_it = asyncio.Event()
    with hearing() as heard, request_finished.connect(tell):
        asyncio.run(main())
    assert heard.outcomes == ["cancelled"]


def test_request_that_is_cancelled_while_it_is_started_is_finished_too() -> None:
    async def main() -> None:
        async def slow(**named: Any) -> None:
            until.set()
            await hang()

        until = asyncio.Event()
        with request_started.connect(slow):
            await cancelled(Server(SignalMiddleware(answering)), until)
        await asyncio.wait_for(heard_it.wait(), TIMEOUT)

    async def tell(**named: Any) -> None:
        heard_it.set()

    heard_it = asyncio.Event()
    with hearing(None, "finished") as heard, request_finished.connect(tell):
        asyncio.run(main())
    assert heard.outcomes == ["cancelled"]
    assert heard.one("finished")["status"] is None


def test_cancelling_a_request_while_it_is_told_of_cuts_no_receiver_short() -> None:
    async def main() -> None:
        async def slow(**named: Any) -> None:
            until.set()
            await asyncio.wait_for(opened.wait(), TIMEOUT)
            ended.set()

        until, opened, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        with request_finished.connect(slow):
            await cancelled(Server(SignalMiddleware(answering)), until)
            opened.set()
            await asyncio.wait_for(ended.wait(), TIMEOUT)

    asyncio.run(main())


def test_loop_that_ends_waits_for_what_is_told_of_the_requests_that_it_cancels() -> None:
    """It cancels them, and waits for the tasks that it has cancelled; others begin meanwhile."""

    async def main() -> None:
        for _ in range(3):
            until = asyncio.Event()
            running.append(asyncio.create_task(Server(SignalMiddleware(hanging(until)))()))
            await asyncio.wait_for(until.wait(), TIMEOUT)

    def takes_its_time(**named: Any) -> None:
        time.sleep(0.01)
        called.append("sync")

    async def on_loop(**named: Any) -> None:
        await asyncio.sleep(0.01)
        called.append("async")

    running, called = list[asyncio.Task[None]](), list[str]()
    with (
        request_finished.connect(takes_its_time),
        request_finished.connect(on_loop),
        hearing() as heard,
    ):
        for number in (3, 6):
            asyncio.run(main())
            assert all(task.cancelled() for task in running)
            assert heard.outcomes == ["cancelled"] * number
            assert sorted(called) == ["async"] * number + ["sync"] * number


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("closes", [True, False])
def test_loop_that_does_not_come_to_its_end_is_not_kept(closes: bool) -> None:
    with hearing() as heard:
        for number in (1, 2):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(Server(SignalMiddleware(answering))())
            assert heard.outcomes == ["finished"] * number
            if closes:
                loop.close()
            gone = weakref.ref(loop)
            del loop
            assert_gone(gone)


def test_request_after_the_end_of_its_loop_is_told_of(recwarn: pytest.WarningsRecorder) -> None:
    async def main() -> None:
        for number in (1, 2):
            await Server(SignalMiddleware(answering))()
            assert heard.outcomes == ["finished"] * number
            await asyncio.get_running_loop().shutdown_asyncgens()

    with hearing() as heard:
        asyncio.run(main())
    assert not recwarn.list


def test_loop_that_ends_while_a_request_is_told_of_cuts_no_receiver_short() -> None:
    """It cancels all tasks: that of the request has ended, and the one that tells has not."""

    async def opens() -> None:
        try:
            await hang()
        finally:
            gate.opened.set()

    async def main() -> None:
        until = asyncio.Event()
        opening.append(asyncio.create_task(opens()))
        await cancelled(Server(SignalMiddleware(hanging(until, START))), until)
        while not gate.entered.is_set():
            await asyncio.sleep(0.001)

    async def on_loop(**named: Any) -> None:
        await asyncio.sleep(0)
        called.append("async")

    gate, called, opening = Latch(), list[str](), list[asyncio.Task[None]]()
    with (
        request_finished.connect(gate, priority=1),
        request_finished.connect(lambda **named: called.append("sync"), weak=False),
        request_finished.connect(on_loop),
        hearing(None, "finished") as heard,
    ):
        asyncio.run(main())
        assert called == ["sync", "async"]
    assert heard.outcomes == ["cancelled"]


@pytest.mark.parametrize("steps", range(7))
def test_loop_that_ends_after_a_request_was_cancelled_cuts_no_async_receiver_short(
    steps: int,
) -> None:
    """Whether the receiver has been called by then, or its task has not begun."""

    async def main() -> None:
        until = asyncio.Event()
        await cancelled(Server(SignalMiddleware(hanging(until, START))), until)
        for _ in range(steps):
            await asyncio.sleep(0)

    async def on_loop(**named: Any) -> None:
        called.append("begun")
        await asyncio.sleep(0.001)
        called.append("ended")

    called = list[str]()
    with request_finished.connect(on_loop), request_finished.connect(on_loop, dispatch_uid="two"):
        asyncio.run(main())
    assert called == ["begun", "begun", "ended", "ended"]


def test_async_receiver_that_ends_with_its_loop_keeps_nothing_else_from_being_sent() -> None:
    """It does so where a factory makes the tasks."""

    def task(loop: asyncio.AbstractEventLoop, awaited: Any, **more: Any) -> asyncio.Task[Any]:
        return asyncio.Task(awaited, loop=loop, **more)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(task)

        async def hangs(**named: Any) -> None:
            until.set()
            await hang()

        until = asyncio.Event()
        with got_request_exception.connect(hangs):
            await cancelled(Server(SignalMiddleware(sending(START, error=Boom()))), until)

    with hearing(None, "finished", "exception") as heard:
        asyncio.run(main())
    assert heard.words == ["exception", "finished"]


@contextlib.contextmanager
def syncing(runner: Any) -> Iterator[None]:
    former = set_sync_runner(runner)
    try:
        yield
    finally:
        set_sync_runner(former)


def test_time_limit_of_a_frameworks_runner_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    """It cancels the task that concludes the request, as the end of a loop does."""

    async def runner(call: Callable[[], None]) -> None:
        async with asyncio.timeout(0.001):
            await hang()

    with hearing(None, "finished") as heard, syncing(runner):
        Server(SignalMiddleware(answering)).serve()
    assert heard == []
    [record] = caplog.records
    assert record.getMessage().startswith("cannot send request_finished for GET /")
    assert record.exc_info is not None
    assert record.exc_info[0] is TimeoutError


def test_runners_of_several_requests_may_wait_for_one_future() -> None:
    async def runner(call: Callable[[], None]) -> None:
        waiting.append(None)
        await ready
        call()

    async def main() -> None:
        nonlocal ready
        ready = asyncio.get_running_loop().create_future()
        servers = [asyncio.create_task(Server(SignalMiddleware(answering))()) for _ in range(3)]
        while len(waiting) < 3:
            await asyncio.sleep(0.001)
        ready.set_result(None)
        await asyncio.wait_for(asyncio.gather(*servers), TIMEOUT)

    ready: asyncio.Future[None]
    waiting = list[None]()
    with hearing(None, "finished") as heard, syncing(runner):
        asyncio.run(main())
    assert heard.outcomes == ["finished"] * 3


def test_request_whose_coroutine_is_thrown_away_is_finished_once() -> None:
    class Pause:
        def __await__(self) -> Any:
            yield

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await Pause()

    with hearing(None, "finished", "exception") as heard:
        coroutine: Any = Server(SignalMiddleware(app))()
        coroutine.send(None)
        assert heard == []
        coroutine.close()
    assert heard.words == ["finished"]
    assert heard.outcomes == ["cancelled"]


def test_conclusion_that_is_cancelled_before_it_began_is_made_all_the_same() -> None:
    cancelled_at_once: list[bool] = []

    def cancel_it() -> None:
        for task in asyncio.all_tasks():
            coroutine: Any = task.get_coro()
            if coroutine.__name__ == "_conclude":
                cancelled_at_once.append(task.cancel())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        until.set()
        try:
            await hang()
        finally:  # this comes before the task that is about to be made
            asyncio.get_running_loop().call_soon(cancel_it)

    async def main() -> None:
        await cancelled(Server(SignalMiddleware(app)), until)

    until = asyncio.Event()
    with hearing() as heard:
        asyncio.run(main())
    assert cancelled_at_once == [True]
    assert heard.words == ["started", "finished"]
    assert heard.outcomes == ["cancelled"]


def test_conclusion_whose_loop_is_closed_is_made_where_it_is_found() -> None:
    loop = asyncio.new_event_loop()
    until = asyncio.Event()
    with hearing(None, "finished") as heard:
        task = loop.create_task(Server(SignalMiddleware(hanging(until, START)))())
        loop.run_until_complete(asyncio.wait_for(until.wait(), TIMEOUT))
        task.cancel()
        loop.call_soon(loop.stop)  # after the task's step, before that of the one it makes
        loop.run_forever()
        assert task.cancelled()
        loop.set_exception_handler(lambda *arguments: None)  # asyncio tells of the pending task
        loop.close()
        del task
        assert heard == []
        with pytest.warns(RuntimeWarning, match="never awaited"):
            Server(SignalMiddleware(hanging_not)).serve()
            gc.collect()
    assert sorted(heard.outcomes) == ["cancelled", "error"]


def test_conclusion_does_not_look_at_those_of_all_other_requests() -> None:
    class Counting(asyncio.SelectorEventLoop):
        asked = 0

        def is_closed(self) -> bool:
            self.asked += 1
            return super().is_closed()

    async def main() -> None:
        waiting, go_on = 0, asyncio.Event()

        async def wait(**named: Any) -> None:
            nonlocal waiting
            if (waiting := waiting + 1) == 50:
                go_on.set()
            await go_on.wait()

        with request_finished.connect(wait):
            requests = (Server(SignalMiddleware(answering))() for _ in range(50))
            await asyncio.wait_for(asyncio.gather(*requests), TIMEOUT)

    with asyncio.Runner(loop_factory=Counting) as runner:
        runner.run(main())
        loop = runner.get_loop()
        assert isinstance(loop, Counting)
        assert loop.asked < 200  # each of 50 at each of 50: more than 1,000


async def hanging_not(scope: Any, receive: Any, send: Any) -> None: ...


# --- Errors of receivers and sends


@pytest.mark.parametrize("word", SIGNALS)
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_errors_of_receivers_reach_nobody_but_the_log(
    word: str, fails: bool, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing_async(**named: Any) -> None:
        raise ValueError("a receiver's")

    failing = failing_async if is_async else raiser(ValueError("a receiver's"))
    server = Server(SignalMiddleware(sending(START, LAST, error=Boom() if fails else None)))
    with SIGNALS[word].connect(failing), hearing() as heard:
        with pytest.raises(Boom) if fails else contextlib.nullcontext():
            server.serve()
    assert server.sent == [START, LAST]
    assert heard.words == ["started", *["exception"][: int(fails)], "finished"]
    told = [record for record in caplog.records if record.exc_info]
    assert [record.name for record in told] == ["tsignals"] * heard.words.count(word)


def test_what_a_send_raises_is_logged_and_harms_no_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Here what is around the receivers of a pool, and no thread for them."""
    closed = WorkerPool(1)
    closed.shutdown()
    caplog.clear()
    server = Server(SignalMiddleware(answering, background=True))
    with executor_of_signals(closed), hearing() as heard:
        server.serve()
    assert server.sent == [START, MORE, LAST]
    assert heard == []
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert caplog.records[0].getMessage().startswith("cannot send request_started for GET /")


def test_full_queue_that_blocks_is_logged_and_does_not_block_the_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened, entered = threading.Event(), threading.Event()
    with WorkerPool(1, max_pending=1) as pool, executor_of_signals(pool):
        pool.submit(lambda: (entered.set(), opened.wait(TIMEOUT)))
        assert entered.wait(TIMEOUT)
        pool.submit(int)
        server = Server(SignalMiddleware(answering, background=True))
        with hearing() as heard:
            server.serve()
            opened.set()
    assert heard == []
    assert len(server.sent) == 3
    assert {type(record.exc_info[1]).__name__ for record in caplog.records if record.exc_info} == {
        "QueueFull"
    }


# --- In the background


def test_background_receivers_get_a_copy_of_the_start() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["path"] = "/other"
        scope["more"] = "later"
        await answering(scope, receive, send)

    server = Server(SignalMiddleware(app, background=True), path="/pizza")
    before = dict(server.scope)
    with WorkerPool(1) as pool, executor_of_signals(pool), hearing() as heard:
        server.serve()
        assert pool.drain(TIMEOUT)
    assert heard.words == ["started", "finished"]
    for _, named in heard:
        assert named["scope"] is not server.scope
        assert named["scope"] == before


def test_background_receivers_are_told_of_errors() -> None:
    with WorkerPool(1) as pool, executor_of_signals(pool), hearing() as heard:
        with pytest.raises(Boom):
            Server(SignalMiddleware(sending(START, error=Boom()), background=True)).serve()
        assert pool.drain(TIMEOUT)
    assert heard.words == ["started", "exception", "finished"]


def test_background_receivers_run_in_the_executor_that_was_given() -> None:
    names: list[str] = []

    def note(**named: Any) -> None:
        names.append(threading.current_thread().name)

    with WorkerPool(1, thread_name_prefix="mine") as pool:
        with request_started.connect(note), request_finished.connect(note):
            Server(SignalMiddleware(answering, background=True, executor=pool)).serve()
            assert pool.drain(TIMEOUT)
    assert [name.split("_")[0] for name in names] == ["mine", "mine"]


# --- Memory


def test_nothing_of_a_request_is_kept_once_it_has_ended() -> None:
    class Marked(dict[str, Any]):
        """A scope that can be looked for."""

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise Boom

    async def main() -> None:
        for app in (answering, sending(START), failing):
            server = Server(SignalMiddleware(app))
            server.scope = Marked(server.scope)
            with contextlib.suppress(Boom):
                await server()

    with hearing() as heard:
        asyncio.run(main())
    heard.clear()

    def is_gone() -> bool:
        gc.collect()
        return not [thing for thing in gc.get_objects() if type(thing) is Marked]

    wait_until(is_gone)  # the thread that ran a receiver says so just before it lets go


# --- Arguments


def test_application_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="app must be an application to call, not 'shop:app'"):
        SignalMiddleware("shop:app")  # type: ignore[arg-type]


def test_executor_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match=r"executor must be a concurrent\.futures\.Executor"):
        SignalMiddleware(answering, background=True, executor=4)  # type: ignore[arg-type]


def test_executor_without_background_is_refused() -> None:
    with WorkerPool(1) as pool, pytest.raises(ValueError, match="pass background=True with it"):
        SignalMiddleware(answering, executor=pool)


def test_background_that_is_no_bool_is_refused() -> None:
    with WorkerPool(1) as pool, pytest.raises(TypeError, match="executor=pool"):
        SignalMiddleware(answering, background=pool)  # type: ignore[arg-type]
