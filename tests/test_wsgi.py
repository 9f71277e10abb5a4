"""``tsignals.wsgi``: the signals of requests, by servers made by hand that do what real ones do."""

import asyncio
import contextlib
import contextvars
import io
import itertools
import logging
import threading
import wsgiref.util
import wsgiref.validate
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from helpers import TIMEOUT, BaseBoom, Boom, Running, raiser, together, uncollected
from requests_heard import SIGNALS, Heard, assert_told_in_full, executor_of_signals, hearing

from tsignals import WorkerPool
from tsignals.http import request_finished, request_started
from tsignals.testing import capture
from tsignals.wsgi import SignalMiddleware

Environ = dict[str, Any]
App = Callable[..., Iterable[bytes]]


def environ(**more: Any) -> Environ:
    made: Environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/", **more}
    wsgiref.util.setup_testing_defaults(made)
    return made


class Server:
    """A WSGI server for one request: its ``status`` and ``headers``, and what was written."""

    def __init__(self, app: App, **more: Any) -> None:
        self.environ = environ(**more)
        self.app = app
        self.status: str | None = None
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        self.headers_are_out = False

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        if exc_info and self.headers_are_out:
            raise exc_info[1].with_traceback(exc_info[2])
        assert self.status is None or exc_info, "start_response was called twice"
        self.status, self.headers = status, headers
        return self.write

    def write(self, data: bytes) -> None:
        assert self.status is not None
        self.headers_are_out = True
        self.body += data

    def call(self) -> Iterable[bytes]:
        return self.app(self.environ, self.start_response)

    def serve(self, chunks: int | None = None) -> bytes:
        """Serve the request; a client that goes away after ``chunks`` of the body."""
        response = self.call()
        try:
            if chunks != 0:
                for number, chunk in enumerate(response, 1):
                    self.write(chunk)
                    if number == chunks:
                        break
        finally:
            close(response)
        return self.body


def close(response: Any) -> None:
    if hasattr(response, "close"):
        response.close()


OK = "200 OK"


def answering(body: Any, status: str = OK, **headers: str) -> App:
    """An application that answers with ``body``, made anew if it is a function."""

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response(status, [(k.replace("_", "-"), v) for k, v in headers.items()])
        return body() if callable(body) else body

    return app


def streaming(
    environ: Environ, start_response: Callable[..., object], after: int = 3
) -> Iterator[bytes]:
    start_response(OK, [])
    for _ in range(after):
        yield b"chunk"


class Body:
    """An iterable that is not its own iterator, and knows when it was closed."""

    def __init__(self, *chunks: bytes, error: BaseException | None = None) -> None:
        self.chunks = chunks
        self.error = error
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield from self.chunks
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed += 1


# --- What is sent


def test_request_is_told_of_from_start_to_end() -> None:
    app = SignalMiddleware(answering([b"hello"], "201 Created"))
    server = Server(app, REQUEST_METHOD="POST", PATH_INFO="/pizza")
    with hearing() as heard:
        assert server.serve() == b"hello"
    assert_told_in_full(heard, 201, environ=server.environ, method="POST", path="/pizza")


def test_started_is_sent_before_the_application_is_called_and_finished_after_the_close() -> None:
    steps: list[str] = []

    class Closing(Body):
        def close(self) -> None:
            steps.append("close")

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        steps.append("call")
        start_response(OK, [])
        return Closing(b"x")

    def note(signal: Any, **named: Any) -> None:
        steps.append("started" if signal is request_started else "finished")

    with request_started.connect(note), request_finished.connect(note):
        Server(SignalMiddleware(app)).serve()
    assert steps == ["started", "call", "close", "finished"]


def test_seconds_end_when_the_server_closes_the_response(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr("tsignals.http._wsgi.perf_counter", lambda: now)

    class Slow(Body):
        def close(self) -> None:
            nonlocal now
            now = 20.0

    with hearing() as heard:
        response = Server(SignalMiddleware(answering(lambda: Slow(b"x")))).call()
        now = 13.0
        close(response)
    assert heard.one("finished")["seconds"] == 3.0


def test_sender_is_the_application_or_what_was_given() -> None:
    app, other = answering([b""]), answering([b""])
    with hearing(app) as heard, hearing(other) as unheard, hearing("me") as named:
        Server(SignalMiddleware(app)).serve()
        Server(SignalMiddleware(other, sender="me")).serve()
    assert [values["sender"] for _, values in heard] == [app, app]
    assert [values["sender"] for _, values in named] == ["me", "me"]
    assert unheard == []


@pytest.mark.parametrize(
    ("script", "info", "path"),
    [
        ("", "/pizza", "/pizza"),
        ("/shop", "/pizza", "/shop/pizza"),
        ("/shop", "", "/shop"),
        ("", "", ""),
        ("/caf\xc3\xa9", "/\xe2\x82\xac", "/café/€"),
        ("", "/\xff!", "/\ufffd!"),
        ("", "/€", "/€"),  # a server that decodes by itself
    ],
)
def test_path_is_the_whole_path_as_asgi_servers_decode_it(
    script: str, info: str, path: str
) -> None:
    with hearing() as heard:
        Server(SignalMiddleware(answering([])), SCRIPT_NAME=script, PATH_INFO=info).serve()
    assert [named["path"] for _, named in heard] == [path, path]


def test_application_that_changes_environ_does_not_change_method_and_path() -> None:
    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        environ["PATH_INFO"], environ["REQUEST_METHOD"] = "/other", "PUT"
        start_response(OK, [])
        return []

    with hearing() as heard:
        Server(SignalMiddleware(app), PATH_INFO="/pizza").serve()
    assert {(named["method"], named["path"]) for _, named in heard} == {("GET", "/pizza")}


# --- Nobody listens


def test_where_nobody_listens_the_applications_own_iterable_is_returned() -> None:
    body = Body(b"x")
    server = Server(SignalMiddleware(answering(lambda: body)))
    assert server.call() is body
    with hearing("somebody else") as heard:
        assert server.app(environ(), lambda *arguments: None) is body
    assert heard == []


def test_who_connects_in_the_middle_hears_nothing_of_a_request_that_nobody_listened_to() -> None:
    server = Server(SignalMiddleware(answering([b"x"])))
    response = server.call()
    with hearing() as heard:
        assert list(response) == [b"x"]
        close(response)
    assert heard == []


@pytest.mark.parametrize("word", SIGNALS)
def test_who_listens_to_one_of_the_signals_is_enough(word: str) -> None:
    later = Heard()

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        request_finished.connect(later)
        start_response(OK, [])
        return [b"x"]

    with hearing(None, word):
        Server(SignalMiddleware(app)).serve()
    request_finished.disconnect(later)
    assert later.outcomes == ["finished"]


# --- How a response ends


def sized(status: str = OK, **headers: str) -> App:
    """A body of two chunks in all, whose end only its length tells."""
    return answering(lambda: Body(b"ab", b"cd"), status, **headers)


class Chunk(bytes):
    """Of a subclass, as some libraries have one."""


ENDS = {
    "all of Content-Length, of another kind of bytes": (
        answering(lambda: Body(Chunk(b"ab"), Chunk(b"cd")), Content_Length="4"),
        2,
        "finished",
    ),
    "exhausted": (streaming, None, "finished"),
    "empty list": (answering([]), None, "finished"),
    "empty, never asked, but with a length": (answering([]), 0, "finished"),
    "list, all of it": (answering([b"a", b"b"]), 2, "finished"),
    "list, half of it": (answering([b"a", b"b"]), 1, "disconnected"),
    "stream, given up": (streaming, 1, "disconnected"),
    "stream, all chunks but not its end": (streaming, 3, "disconnected"),
    "stream, never started": (streaming, 0, "disconnected"),
    "all of Content-Length": (sized(Content_Length="4"), 2, "finished"),
    "half of Content-Length": (sized(content_length="4"), 1, "disconnected"),
    "Content-Length 0": (sized(Content_Length="0"), 0, "finished"),
    "Content-Length that is no number": (sized(Content_Length="many"), 2, "disconnected"),
    "204": (sized("204 No Content"), 0, "finished"),
    "304": (sized("304 Not Modified"), 0, "finished"),
    "200": (sized(), 0, "disconnected"),
}


@pytest.mark.parametrize("end", ENDS)
def test_outcome_says_whether_the_body_had_ended_when_it_was_closed(end: str) -> None:
    app, chunks, outcome = ENDS[end]
    with hearing() as heard:
        Server(SignalMiddleware(app)).serve(chunks)
    assert heard.outcomes == [outcome]
    assert "exception" not in heard.words


def test_answer_to_head_has_ended_whatever_the_application_would_give() -> None:
    with hearing() as heard:
        Server(SignalMiddleware(streaming), REQUEST_METHOD="HEAD").serve(0)
    assert heard.outcomes == ["finished"]


def test_list_that_shrinks_when_it_is_closed_had_ended_before() -> None:
    class Emptied(list[bytes]):
        def close(self) -> None:
            self += [b"more"]

    with hearing() as heard:
        Server(SignalMiddleware(answering(Emptied([b"a"])))).serve(1)
    assert heard.outcomes == ["finished"]


def test_length_is_there_only_where_the_application_has_one() -> None:
    with hearing():
        with_length = Server(SignalMiddleware(answering([b"a", b"b"]))).call()
        without = Server(SignalMiddleware(streaming)).call()
    assert len(with_length) == 2  # type: ignore[arg-type]
    assert not hasattr(without, "__len__")
    close(with_length)
    close(without)


def test_close_is_the_iterables_and_not_its_iterators() -> None:
    body = Body(b"a", b"b")
    with hearing() as heard:
        Server(SignalMiddleware(answering(lambda: body))).serve(1)
    assert body.closed == 1
    assert heard.outcomes == ["disconnected"]


def test_response_may_be_asked_for_its_next_chunk_directly() -> None:
    with hearing() as heard:
        response: Any = Server(SignalMiddleware(streaming)).call()
        assert next(response) == b"chunk"
        response.close()
    assert heard.outcomes == ["disconnected"]


def test_first_start_response_may_come_during_iteration() -> None:
    with hearing() as heard:
        server = Server(SignalMiddleware(streaming))
        response = server.call()
        assert server.status is None
        server.body = b"".join(response)
        close(response)
    assert server.body == b"chunk" * 3
    assert heard.one("finished")["status"] == 200


def test_what_is_written_counts_as_body() -> None:
    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        write = start_response(OK, [("Content-Length", "4")])
        write(b"ab")
        return Body(b"cd", b"")

    with hearing() as heard:
        server = Server(SignalMiddleware(app))
        server.serve(1)
    assert server.body == b"abcd"
    assert heard.outcomes == ["finished"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (BrokenPipeError(), "disconnected"),
        (type("ClientDisconnected", (Exception,), {})(), "disconnected"),
        (TypeError("no bytes"), "error"),
    ],
)
def test_client_that_is_gone_when_the_application_writes_is_no_error(
    error: Exception, outcome: str
) -> None:
    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response(OK, [])(b"x")
        return []

    server = Server(SignalMiddleware(app))
    server.write = lambda data: raiser(error)()  # type: ignore[method-assign]
    with hearing() as heard, pytest.raises(type(error)):
        server.serve()
    assert heard.outcomes == [outcome]
    assert ("exception" in heard.words) is (outcome == "error")


# --- Files


class Wrapper:
    """A file wrapper like waitress's, whose length is no number of chunks."""

    def __init__(self, file: Any, block_size: int = 4) -> None:
        self.file, self.block_size = file, block_size

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.file.read(self.block_size), b"")

    def __len__(self) -> int:
        return 0

    def close(self) -> None:
        self.file.close()


def sending_file(environ: Environ, start_response: Any) -> Iterable[bytes]:
    start_response(OK, [])
    return environ["wsgi.file_wrapper"](environ["file"])  # type: ignore[no-any-return]


def test_file_of_the_servers_wrapper_is_left_to_the_server_where_nobody_listens() -> None:
    more = {"wsgi.file_wrapper": Wrapper, "file": io.BytesIO(b"123456")}
    assert type(Server(SignalMiddleware(sending_file), **more).call()) is Wrapper


@pytest.mark.parametrize("chunks", [None, 1])
def test_file_of_the_servers_wrapper_is_watched_where_somebody_listens(chunks: int | None) -> None:
    file = io.BytesIO(b"123456")
    more = {"wsgi.file_wrapper": Wrapper, "file": file}
    with hearing() as heard:
        body = Server(SignalMiddleware(sending_file), **more).serve(chunks)
    assert file.closed
    assert body == (b"123456" if chunks is None else b"1234")
    assert heard.outcomes == ["finished" if chunks is None else "disconnected"]


# --- Errors of the application


def fails_before(environ: Environ, start_response: Any) -> Iterable[bytes]:
    raise Boom


def fails_after_its_status(environ: Environ, start_response: Any) -> Iterable[bytes]:
    start_response("202 Accepted", [])
    raise Boom


def fails_in_the_body(environ: Environ, start_response: Any) -> Iterable[bytes]:
    start_response(OK, [])
    return Body(b"x", error=Boom())


def fails_after_the_body(environ: Environ, start_response: Any) -> Iterable[bytes]:
    class Failing(Body):
        def close(self) -> None:
            raise Boom

    start_response(OK, [])
    return Failing(b"x")


def fails_to_iterate(environ: Environ, start_response: Any) -> Iterable[bytes]:
    class Failing(Body):
        def __iter__(self) -> Iterator[bytes]:
            raise Boom

    start_response(OK, [])
    return Failing()


@pytest.mark.parametrize(
    ("app", "status"),
    [
        (fails_before, None),
        (fails_after_its_status, 202),
        (fails_to_iterate, 200),
        (fails_in_the_body, 200),
        (fails_after_the_body, 200),
    ],
)
def test_error_of_the_application_is_told_once_and_reaches_the_server(
    app: App, status: int | None
) -> None:
    with hearing() as heard, pytest.raises(Boom) as raised:
        Server(SignalMiddleware(app)).serve()
    assert heard.words == ["started", "exception", "finished"]
    assert heard.one("exception")["exception"] is raised.value
    assert heard.one("finished")["status"] == status
    assert heard.outcomes == ["error"]


def test_error_that_the_application_answers_itself_is_an_answer() -> None:
    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response(OK, [])
        try:
            raise Boom
        except Boom as error:
            info = (Boom, error, error.__traceback__)
            start_response("500 Oh No", [], exc_info=info)
        return [b"sorry"]

    with hearing() as heard:
        server = Server(SignalMiddleware(app))
        server.serve()
    assert server.status == "500 Oh No"
    assert heard.one("finished")["status"] == 500
    assert heard.outcomes == ["finished"]
    assert "exception" not in heard.words


def test_status_that_the_server_refuses_because_headers_are_out_does_not_count() -> None:
    def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response(OK, [])
        yield b"x"
        try:
            raise Boom
        except Boom as error:
            start_response("500 Oh No", [], (Boom, error, error.__traceback__))

    with hearing() as heard, pytest.raises(Boom):
        Server(SignalMiddleware(app)).serve()
    assert heard.one("finished")["status"] == 200
    assert heard.outcomes == ["error"]


def test_what_is_no_exception_is_told_and_propagates_too() -> None:
    with hearing() as heard, pytest.raises(BaseBoom):
        Server(SignalMiddleware(answering(lambda: Body(error=BaseBoom())))).serve()
    assert heard.words == ["started", "exception", "finished"]


# --- Once


def test_response_that_is_closed_twice_finishes_once() -> None:
    body = Body(b"x")
    with hearing() as heard:
        response = Server(SignalMiddleware(answering(lambda: body))).call()
        close(response)
        close(response)
    assert heard.words == ["started", "finished"]
    assert body.closed == 1


def test_response_that_threads_close_at_once_finishes_once() -> None:
    with hearing() as heard:
        for _ in range(50):
            response = Server(SignalMiddleware(answering([b"x"]))).call()
            together(*[lambda: close(response)] * 4)
    assert heard.words == ["started", "finished"] * 50


def test_response_may_be_closed_in_another_context_and_thread() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []

    def note(**named: Any) -> None:
        seen.append(variable.get())

    with request_started.connect(note), request_finished.connect(note):
        response = contextvars.copy_context().run(Server(SignalMiddleware(streaming)).call)

        def close_it() -> None:
            variable.set("closer's")
            close(response)

        Running(contextvars.copy_context().run, close_it).result()
    assert seen == ["none", "closer's"]


def stream_that_fails(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response(OK, [])
    yield b"x"
    raise Boom


@pytest.mark.parametrize(
    ("app", "chunks", "outcome"),
    [
        (streaming, 3, "finished"),
        (streaming, 1, "disconnected"),
        (answering([b"a"]), 1, "finished"),
        (stream_that_fails, 1, "error"),
    ],
)
def test_adapter_that_never_closes_is_told_of_when_it_drops_the_response(
    app: App, chunks: int, outcome: str
) -> None:
    body: list[bytes] = []
    with uncollected(), hearing(None, "finished") as heard:  # who keeps the exception keeps all
        response: Any = iter(Server(SignalMiddleware(app)).call())
        body += [next(response) for _ in range(chunks)]
        if outcome != "disconnected":
            with pytest.raises((StopIteration, Boom)):
                next(response)
        assert heard == []
        del response
        assert heard.outcomes == [outcome]
    assert len(body) == chunks


def test_response_that_was_closed_sends_nothing_more_when_it_is_dropped() -> None:
    with uncollected(), hearing() as heard:
        response = Server(SignalMiddleware(answering(lambda: Body(b"x")))).call()
        close(response)
        del response
    assert heard.words == ["started", "finished"]


def test_response_that_is_dropped_does_not_close_what_the_adapter_did_not() -> None:
    body = Body(b"x")
    with uncollected(), hearing() as heard:
        list(Server(SignalMiddleware(answering(lambda: body))).call())
    assert heard.outcomes == ["finished"]
    assert body.closed == 0


def test_middleware_around_the_middleware_changes_nothing() -> None:
    validated = wsgiref.validate.validator(
        SignalMiddleware(wsgiref.validate.validator(answering([b"hi"], Content_Type="text/plain")))
    )
    with hearing() as heard:
        server = Server(validated, QUERY_STRING="")
        assert server.serve() == b"hi"
    assert heard.words == ["started", "finished"]


# --- Errors of receivers and sends

fine = answering([b"fine"])


@pytest.mark.parametrize("word", SIGNALS)
@pytest.mark.parametrize("app", [fine, fails_before, fails_in_the_body])
def test_errors_of_receivers_reach_nobody_but_the_log(
    app: App, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    failing = raiser(ValueError("a receiver's"))
    with SIGNALS[word].connect(failing), hearing() as heard:
        with contextlib.nullcontext() if app is fine else pytest.raises(Boom):
            assert Server(SignalMiddleware(app)).serve() == b"fine"
    assert heard.words[0] == "started"
    assert heard.words[-1] == "finished"
    told = [record for record in caplog.records if record.exc_info]
    assert [record.name for record in told] == ["tsignals"] * heard.words.count(word)


def test_async_receivers_under_a_running_loop_are_logged_and_harm_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def receiver(**named: Any) -> None: ...

    async def main() -> bytes:
        return Server(SignalMiddleware(answering([b"fine"]))).serve()

    with request_finished.connect(receiver):
        assert asyncio.run(main()) == b"fine"
    [record] = caplog.records
    assert (record.name, record.levelno) == ("tsignals", logging.ERROR)
    assert record.getMessage().startswith("cannot send request_finished for GET /")
    assert record.exc_info is not None
    assert "asend" in str(record.exc_info[1])


def test_async_receivers_hear_where_no_loop_runs() -> None:
    heard = Heard()

    async def receiver(**named: Any) -> None:
        heard(**named)

    with request_finished.connect(receiver):
        Server(SignalMiddleware(answering([]))).serve()
    assert heard.outcomes == ["finished"]


def test_handler_of_the_log_that_raises_reaches_nobody() -> None:
    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise Boom

    closed = WorkerPool(1)
    closed.shutdown()
    handler = Raising()
    logging.getLogger("tsignals").addHandler(handler)
    try:
        with executor_of_signals(closed), hearing():
            assert Server(SignalMiddleware(answering([b"x"]), background=True)).serve() == b"x"
    finally:
        logging.getLogger("tsignals").removeHandler(handler)


def test_what_is_no_exception_propagates_from_a_receiver_and_the_request_is_ended() -> None:
    body = Body(b"x")
    failing = raiser(BaseBoom())
    with request_started.connect(failing), hearing(None, "finished") as heard:
        with pytest.raises(BaseBoom):
            Server(SignalMiddleware(answering(lambda: body))).serve()
    assert heard.outcomes == ["error"]


# --- In the background


def test_background_receivers_get_a_copy_of_the_start_without_the_input() -> None:
    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        environ["more"] = "later"
        environ["PATH_INFO"] = "/other"
        start_response(OK, [])
        return [b"x"]

    with WorkerPool(1) as pool, executor_of_signals(pool), hearing() as heard:
        server = Server(SignalMiddleware(app, background=True), PATH_INFO="/pizza")
        before = dict(server.environ)
        server.serve()
        assert pool.drain(TIMEOUT)
    assert heard.words == ["started", "finished"]
    del before["wsgi.input"]
    for _, named in heard:
        assert named["environ"] is not server.environ
        assert named["environ"] == before
    assert "wsgi.input" in server.environ


def test_background_receivers_do_not_hold_up_the_request() -> None:
    opened = threading.Event()

    def slow(**named: Any) -> None:
        assert opened.wait(TIMEOUT)

    with WorkerPool(2) as pool, executor_of_signals(pool):
        with request_started.connect(slow), request_finished.connect(slow):
            server = Server(SignalMiddleware(answering([b"x"]), background=True))
            assert server.serve() == b"x"
            assert pool.stats().completed == 0
            opened.set()


def test_background_receivers_are_told_of_errors() -> None:
    with WorkerPool(1) as pool, executor_of_signals(pool), hearing() as heard:
        with pytest.raises(Boom):
            Server(SignalMiddleware(fails_in_the_body, background=True)).serve()
        assert pool.drain(TIMEOUT)
    assert heard.words == ["started", "exception", "finished"]


def test_background_receivers_run_in_the_executor_that_was_given() -> None:
    with WorkerPool(1, thread_name_prefix="mine") as pool:
        names: list[str] = []

        def note(**named: Any) -> None:
            names.append(threading.current_thread().name)

        with request_started.connect(note), request_finished.connect(note):
            app = answering([b"x"])
            Server(SignalMiddleware(app, background=True, executor=pool)).serve()
            assert pool.drain(TIMEOUT)
    assert [name.split("_")[0] for name in names] == ["mine", "mine"]


def full_pool() -> tuple[WorkerPool, threading.Event]:
    opened = threading.Event()
    pool = WorkerPool(1, max_pending=1, overflow="raise")
    entered = threading.Event()
    pool.submit(lambda: (entered.set(), opened.wait(TIMEOUT)))
    assert entered.wait(TIMEOUT)
    pool.submit(int)
    return pool, opened


def test_full_queue_is_logged_and_harms_no_request(caplog: pytest.LogCaptureFixture) -> None:
    pool, opened = full_pool()
    with executor_of_signals(pool), hearing() as heard:
        assert Server(SignalMiddleware(answering([b"x"]), background=True)).serve() == b"x"
        opened.set()
        pool.shutdown()
    assert heard == []
    assert [type(record.exc_info[1]).__name__ for record in caplog.records if record.exc_info] == [
        "QueueFull",
        "QueueFull",
    ]


def broken_pool() -> WorkerPool:
    pool = WorkerPool(1, initializer=raiser(Boom()))
    with pytest.raises(Exception, match="initializer"):
        pool.submit(int).result(TIMEOUT)
    return pool


@pytest.mark.parametrize("kind", ["closed", "broken"])
def test_pool_that_takes_nothing_is_logged_and_harms_no_request(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    pool = WorkerPool(1) if kind == "closed" else broken_pool()
    pool.shutdown()
    caplog.clear()
    with executor_of_signals(pool), hearing() as heard:
        assert Server(SignalMiddleware(answering([b"x"]), background=True)).serve() == b"x"
    assert heard == []
    assert len(caplog.records) == 2


# --- Arguments


def test_application_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="app must be an application to call, not 'shop:app'"):
        SignalMiddleware("shop:app")  # type: ignore[arg-type]


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


class Asgi:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize("app", [asgi, Asgi()])
def test_async_application_is_refused(app: Any) -> None:
    with pytest.raises(TypeError, match=r"is async.*tsignals\.asgi"):
        SignalMiddleware(app)


def test_executor_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match=r"executor must be a concurrent\.futures\.Executor"):
        SignalMiddleware(answering([]), background=True, executor=4)  # type: ignore[arg-type]


def test_executor_without_background_is_refused() -> None:
    with WorkerPool(1) as pool, pytest.raises(ValueError, match="pass background=True with it"):
        SignalMiddleware(answering([]), executor=pool)


def test_background_that_is_no_bool_is_refused() -> None:
    with WorkerPool(1) as pool, pytest.raises(TypeError, match="executor=pool"):
        SignalMiddleware(answering([]), background=pool)  # type: ignore[arg-type]


# --- Bodies that are looked at


@pytest.mark.parametrize(
    "body",
    [
        [b"one", b"two"],
        (b"one", b"two"),
        lambda: Body(b"one", b"two"),
        lambda: iter([b"one", b"two"]),
    ],
    ids=["list", "tuple", "iterable", "iterator"],
)
def test_who_looks_at_the_first_chunk_and_asks_for_an_iterator_again_gets_the_rest(
    body: Any,
) -> None:
    with hearing() as heard:
        response = Server(SignalMiddleware(answering(body))).call()
        chunks = iter(response)
        first = next(chunks)
        assert [first, *itertools.chain(response, chunks)] == [b"one", b"two"]
        close(response)
    assert heard.outcomes == ["finished"]


def test_who_captures_sees_requests_that_nobody_hears() -> None:
    answers = answering([b"body"])
    app = SignalMiddleware(answers)
    with capture(request_finished) as finished:
        assert Server(app).serve() == b"body"
    finished.assert_once(sender=answers, status=200, outcome="finished")
    with capture(request_started) as started:
        Server(app).serve()
    started.assert_once(method="GET")
    with capture() as sent:
        Server(app).serve()
    assert sent == []  # nobody has named them
