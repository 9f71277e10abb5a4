"""The pytest plugin, in runs of pytest and ``unittest`` of their own."""

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import processes
import pytest

SHOP = """
import asyncio, threading

import pytest

from tsignals import Signal, background, get_default_executor
from tsignals.testing import capture, inline, muted

order_placed = Signal(name="order_placed")
mail_sent = Signal(name="mail_sent")
main = threading.current_thread()


def mail(order, **named):
    mail_sent.send(None, order=order)
    return threading.get_ident()


order_placed.connect(mail)


def place(order):
    return order_placed.send_async(None, order=order)


def fail(**named):
    raise OSError("no mail today")
"""


def run(
    directory: Path, tests: str, *arguments: str, tool: str = "pytest", **more: str
) -> "subprocess.CompletedProcess[str]":
    """Run ``tests`` where the plugin is found as it is where the package is installed."""
    (directory / "test_shop.py").write_text(SHOP + textwrap.dedent(tests))
    (directory / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "DJANGO"))}
    env |= {"PYTHONPATH": processes.with_plugin(directory), "TSIGNALS_EXIT_SECONDS": "0.1"}
    extra = [] if tool == "unittest" else ["-v", "-p", "no:cacheprovider", "-p", "no:timeout"]
    command = [sys.executable, "-m", tool, *extra, *arguments, "test_shop.py"]
    return processes.command(command, cwd=directory, env=env | more)


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"needs {package}")


ONLY_OTHERS = ("-p", "no:django", "-p", "no:run-parallel", "-p", "no:xdist")

EACH = """
def test_captures(capture_signals, signal_pool):
    order = threading.get_ident()
    with signal_pool() as pool, capture_signals(order_placed, mail_sent) as sent:
        assert get_default_executor() is pool
        place(order).results(60)
        sent.wait(2, 60)
    assert [each.signal for each in sent] == [order_placed, mail_sent]
    assert all(each.named == {"order": order} for each in sent)


def test_mutes(mute_signals):
    with mute_signals(order_placed):
        assert place(1) == []
    assert len(order_placed.send(None, order=1)) == 1


def test_steps(signal_steps):
    with signal_steps() as steps:
        deliveries = place(1)
        assert len(steps.pending) == 1
        steps.run()
        assert deliveries.results(0) == [(mail, threading.get_ident())]


def test_is_inline(capture_signals):
    with inline(), capture_signals(mail_sent) as sent:
        place(1)
    sent.assert_once(order=1)
"""


def test_fixtures_are_found_and_say_what_was_sent_instead(tmp_path: Path) -> None:
    tests = """
    def test_another_order(capture_signals):
        with capture_signals(order_placed) as sent:
            order_placed.send("shop", order=18)
            sent.assert_once(order=17)


    def test_fails(signal_pool):
        with signal_pool(), order_placed.connect(fail):
            place(1)


    def test_hangs(signal_pool):
        hanging, never = threading.Event(), threading.Event()
        hang = lambda **named: (hanging.set(), never.wait())
        with signal_pool(timeout=0.1), order_placed.connect(hang):
            place(1)
            assert hanging.wait(60)
    """
    done = run(tmp_path, EACH + textwrap.dedent(tests), *ONLY_OTHERS)
    assert "3 failed, 4 passed" in done.stdout, done.stdout + done.stderr
    assert "'order_placed' was to be sent once, order=17; sent was:" in done.stdout
    assert "1. 'order_placed' by 'shop', order=18" in done.stdout
    assert "receiver fail raised OSError('no mail today')" in done.stdout
    assert "of signal 'order_placed' has run for" in done.stdout


@needs("xdist")
def test_in_processes_of_xdist(tmp_path: Path) -> None:
    done = run(tmp_path, EACH, "-p", "no:django", "-p", "no:run-parallel", "-n", "2")
    assert "4 passed" in done.stdout, done.stdout + done.stderr
    assert "[gw" in done.stdout


@needs("pytest_run_parallel")
def test_in_threads_of_run_parallel(tmp_path: Path) -> None:
    tests = """
    threads = set()


    def test_many(capture_signals, signal_pool, mute_signals, signal_steps):
        threads.add(threading.get_ident())
        test_captures(capture_signals, signal_pool)
        test_mutes(mute_signals)
        test_steps(signal_steps)
        test_is_inline(capture_signals)


    def test_it_was_in_threads():
        assert len(threads) > 1
    """
    options = ["-p", "no:django", "-p", "no:xdist", "--parallel-threads=4", "--iterations=3"]
    done = run(tmp_path, EACH + textwrap.dedent(tests), *options)
    assert "6 passed" in done.stdout, done.stdout + done.stderr
    assert "parallel" in done.stdout.casefold()


@needs("pytest_django")
@needs("django")
def test_with_pytest_django(tmp_path: Path) -> None:
    (tmp_path / "settings.py").write_text(
        "INSTALLED_APPS = ['django.contrib.contenttypes', 'tsignals.django']\n"
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}}\n"
        "DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'\n"
    )
    tests = """
    from django.contrib.contenttypes.models import ContentType
    from django.db.models.signals import post_save
    from django.test import TestCase

    from tsignals.django import on_commit
    from tsignals.testing import connected

    seen = []


    @on_commit
    def look(instance, **named):
        # On the test's own connection: another would not see what was saved.
        seen.append((ContentType.objects.get(pk=instance.pk).model, threading.get_ident()))


    def save():
        ContentType.objects.create(app_label="shop", model="order")


    @pytest.mark.django_db
    def test_on_commit(django_capture_on_commit_callbacks):
        with connected(post_save, look, sender=ContentType), inline():
            with django_capture_on_commit_callbacks(execute=True):
                save()
                assert not seen
        assert seen == [("order", threading.get_ident())]


    class OrderTest(TestCase):
        def test_on_commit(self):
            seen.clear()
            with connected(post_save, look, sender=ContentType):
                with inline(), self.captureOnCommitCallbacks(execute=True):
                    save()
            assert seen == [("order", threading.get_ident())]
    """
    options = ["-p", "no:run-parallel", "-p", "no:xdist", "--ds=settings"]
    done = run(tmp_path, EACH + textwrap.dedent(tests), *options)
    assert "6 passed" in done.stdout, done.stdout + done.stderr


CASES = """
import unittest


class SyncTest(unittest.TestCase):
    def setUp(self):
        self.sent = self.enterContext(capture(mail_sent))
        self.enterContext(inline())

    def test_first(self):
        place(1)
        self.sent.assert_once(order=1)

    def test_second(self):
        self.sent.assert_none()
        place(2)
        self.sent.assert_once(order=2)


class AsyncTest(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.sent = self.enterContext(capture(order_placed))

    async def test_send(self):
        with muted(order_placed):
            assert await order_placed.asend(None, order=1) == []
        await asyncio.gather(order_placed.asend(None, order=2), order_placed.asend(None, order=3))
        await asyncio.to_thread(order_placed.send, None, order=4)
        assert sorted(each.named["order"] for each in self.sent) == [1, 2, 3, 4]


if __name__ == "__main__":
    unittest.main()
"""


def test_with_unittest(tmp_path: Path) -> None:
    done = run(tmp_path, CASES, tool="unittest")
    assert "Ran 3 tests" in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
    (tmp_path / "again").mkdir()
    done = run(tmp_path / "again", CASES, *ONLY_OTHERS)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
