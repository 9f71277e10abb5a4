"""The demo serves real requests, counts twice, and fails when the counts differ."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import processes
import pytest
from helpers import wait_until

from tsignals import WorkerPool
from tsignals.__main__ import main
from tsignals._demo import bookkeeping, threaded, web

ROOT = Path(__file__).parent.parent
TIMEOUT = 60.0


def row(output: str, name: str) -> list[str]:
    """The cells of one row of the table."""
    [line] = [line for line in output.splitlines() if line.startswith(name)]
    return re.split(r"\s{2,}", line.strip())[-2:]


@contextlib.contextmanager
def started(*arguments: str, **popen: Any) -> Iterator["subprocess.Popen[str]"]:
    """The demo as a process, POSIX's. One that does not end is made to, and says where it was."""
    demo = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-m", "tsignals", "demo", *arguments],
        cwd=ROOT,
        text=True,
        stdin=subprocess.DEVNULL,
        **popen,
    )
    limit = threading.Timer(TIMEOUT, demo.send_signal, [signal.SIGABRT])
    limit.start()
    try:
        yield demo
    finally:
        limit.cancel()
        limit.join()
        demo.kill()
        demo.wait()


def test_everything_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--requests", "250", "--threads", "10", "--workers", "12"]) == 0
    output, errors = capsys.readouterr()
    assert "adds up" in output
    assert errors == ""
    assert row(output, "requests ") == ["250", "250"]
    assert row(output, "notifications sent") == ["250", "250"]
    assert row(output, "  = done") == ["249", "249"]
    assert row(output, "  + failed") == ["1", "1"]
    assert row(output, "audit errors") == ["2", "2"]
    assert "  + failed (made to fail: every 250th)" in output
    assert "audit errors (made to fail: every 100th)" in output
    inline, background = row(output, "response time p50")
    assert float(inline.split()[0]) >= 1000 * threaded.NOTIFY_SECONDS
    assert background.endswith(" ms")


def test_what_is_measured_is_said_before_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--requests", "12", "--threads", "3", "--workers", "5"]) == 0
    before, _, _ = capsys.readouterr().out.partition("inline:")
    assert "12, by 3 clients; each waits 10 ms after an answer" in before
    assert "a notification that takes 20 ms" in before
    assert "workers: 5, which can do 250 in a second" in before
    assert "every 100th audit and every 250th notification fails" in before


def test_a_backlog_shows_in_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notify, requests = threaded.Run.notify, threaded.make_requests
    answered = threading.Event()

    def slow(self: threaded.Run, number: int, **named: object) -> None:
        assert self.pool is None or answered.wait(TIMEOUT)
        notify(self, number, **named)

    def make_requests(run: threaded.Run, threads: int, progress: threaded.Progress) -> None:
        requests(run, threads, progress)
        if run.pool is not None:
            answered.set()

    monkeypatch.setattr(threaded.Run, "notify", slow)
    monkeypatch.setattr(threaded, "make_requests", make_requests)
    assert main(["demo", "--requests", "20", "--workers", "1"]) == 0
    output = capsys.readouterr().out
    assert row(output, "backlog of notifications, highest") == ["-", "20"]
    assert row(output, "  at the last answer") == ["-", "20"]
    inline, background = row(output, "  time to drain it")
    assert inline == "-"
    assert background.endswith(" s")
    assert float(background.split()[0]) >= 20 * threaded.NOTIFY_SECONDS


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes as POSIX has them")
@pytest.mark.parametrize("arguments", [["demo"], ["demo", "--help"], ["--help"]], ids=" ".join)
def test_reader_that_is_gone_ends_it_without_a_word(arguments: list[str]) -> None:
    """As if by SIGPIPE; but argparse, where standard output has no buffer, takes no notice."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "tsignals", *arguments],
            cwd=ROOT,
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT,
        )
    assert done.stderr == b""
    assert done.returncode in ((0, 141) if "--help" in arguments else (141,))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell as POSIX has it")
@pytest.mark.parametrize(
    "arguments", [["demo", "--requests", "1"], ["map", "helpers"]], ids=" ".join
)
def test_nobody_need_have_given_it_an_output(arguments: list[str]) -> None:
    done = processes.command(
        ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "tsignals", *arguments],
        env=processes.environment(),
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes as POSIX has them")
def test_reader_that_goes_in_the_middle_ends_it_without_a_word() -> None:
    # One worker, and so a backlog, which is given up.
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started("--requests", "4000", "--workers", "1", **pipes) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        with demo.stdout, demo.stderr:
            assert "web server" in demo.stdout.readline()
            demo.stdout.close()
            assert demo.stderr.read() == ""
        assert demo.wait() == 141


def test_off_a_terminal_progress_is_a_few_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    main(["demo", "--requests", "40", "--threads", "4"])
    output = capsys.readouterr().out
    assert "\r" not in output
    lines = [line for line in output.splitlines() if line.startswith("inline:")]
    assert 1 <= len(lines) <= 5
    assert "40 of 40 requests answered" in lines[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_progress_is_one_live_line() -> None:
    master, slave = os.openpty()
    read = b""
    with started("--requests", "40", "--threads", "4", stdout=slave) as demo:
        os.close(slave)
        try:
            while chunk := os.read(master, 1024):
                read += chunk
        except OSError:  # how Linux says that the other end is closed
            pass
        finally:
            os.close(master)
        assert demo.wait() == 0
    _, _, lines = read.decode().partition("\r\n\r\n")  # the parameters
    live, _, rest = lines.rpartition("\r" + " " * 10)
    assert "\n" not in live.strip()
    assert "\rinline     [#" in live
    assert "adds up" in rest


def test_a_notification_that_goes_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notify = threaded.Run.notify

    def forgetful(self: threaded.Run, number: int, **named: object) -> None:
        if number != 7:
            notify(self, number, **named)

    monkeypatch.setattr(threaded.Run, "notify", forgetful)
    assert main(["demo", "--requests", "10"]) == 1
    assert "background: notifications done: 1 too many (request 7)" in capsys.readouterr().err


def test_a_notification_that_never_ends_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = threading.Event()
    notify, drain = threaded.Run.notify, threaded.drain

    def hang(self: threaded.Run, number: int, **named: object) -> None:
        if number == 3 and self.pool is not None:
            assert release.wait(TIMEOUT)
        notify(self, number, **named)

    def drain_late(run: threaded.Run, pool: WorkerPool, progress: threaded.Progress) -> None:
        wait_until(lambda: pool.stats()[2:4] == (0, 1))  # no other is called lost
        drain(run, pool, progress)

    monkeypatch.setattr(threaded.Run, "notify", hang)
    monkeypatch.setattr(threaded, "drain", drain_late)
    monkeypatch.setattr(threaded, "PATIENCE", 0.5)
    try:
        assert main(["demo", "--requests", "10"]) == 1
    finally:
        release.set()
    errors = capsys.readouterr().err
    assert "background: notifications done or failed: 1 lost (request 3)" in errors
    assert "inline" not in errors


def test_a_request_that_fails_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handle = threaded.Run.handle

    def fail(self: threaded.Run, number: int) -> None:
        if number == 4:
            raise OSError("out of paper")
        handle(self, number)

    monkeypatch.setattr(threaded.Run, "handle", fail)
    assert main(["demo", "--requests", "10"]) == 1
    errors = capsys.readouterr().err
    assert "inline: a request failed: request 4" in errors
    assert "background: access log entries: 1 lost (request 4)" in errors


def test_an_answer_that_is_no_success_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(web.Handler, "do_GET", lambda handler: handler.send_error(503))
    assert main(["demo", "--requests", "1"]) == 1
    assert "inline: a request failed: request 1: HTTPException('status 503')" in (
        capsys.readouterr().err
    )


def test_a_receiver_that_fails_otherwise_than_planned_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def audit(self: threaded.Run, **named: object) -> None:
        raise KeyError("no such account")

    monkeypatch.setattr(threaded.Run, "audit", audit)
    assert main(["demo", "--requests", "1"]) == 1
    errors = capsys.readouterr().err
    assert "inline: audits: 1 lost (request 1)" in errors
    assert "inline: audit errors collected: 1 too many (request 1)" in errors


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
@pytest.mark.parametrize("phase", ["inline", "background"])
def test_ctrl_c_drains_and_still_prints_the_table(phase: str) -> None:
    # Far more requests than there is time for, except where the inline ones must end first; then
    # few workers, which are not done with them before the signal comes.
    many = ["1000000"] if phase == "inline" else ["1000", "--workers", "2"]
    pipe = subprocess.PIPE
    with started("--threads", "16", "--requests", *many, stdout=pipe) as demo:
        assert demo.stdout is not None
        with demo.stdout:
            for line in demo.stdout:
                if line.startswith(phase):
                    demo.send_signal(signal.SIGINT)
                    break
            output = demo.stdout.read()
        assert demo.wait() == 130
    assert "Interrupted. What was sent adds up." in output
    for column in (-2, -1) if phase == "background" else (-1,):
        sent, done, failed = (
            int(row(output, name)[column].replace(",", ""))
            for name in ("notifications sent", "  = done", "  + failed")
        )
        assert 0 < sent == done + failed


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["demo", "--requests", "0"], "argument --requests: must be at least 1, not 0"),
        (["demo", "--threads", "-1"], "argument --threads: must be at least 1, not -1"),
        (["demo", "--workers", "many"], "argument --workers: invalid count value: 'many'"),
        (["demo", "--frobnicate"], "unrecognized arguments: --frobnicate"),
        ([], "the following arguments are required: command"),
    ],
)
def test_bad_arguments_get_the_usual_error(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    assert complaint in capsys.readouterr().err


def test_the_demo_leaves_logging_and_signals_as_they_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    main(["demo", "--requests", "100", "--threads", "20"])
    assert caplog.records == []
    assert signal.getsignal(signal.SIGINT) is handler
    assert bookkeeping.request_finished.executor is None
    assert bookkeeping.request_started.receivers == bookkeeping.request_finished.receivers == []
