"""Django's own tests, with our Signal in place of Django's and ``tsignals.django`` installed.

    python -m stress django                      dispatch, signals, asgi and auth_tests
    python -m stress django model_forms admin_views
    python -m stress django --source DIRECTORY   an unpacked source distribution, else it is
                                                 downloaded into a temporary directory

Which tests fail is compared with ``FAILING``: those read what is Django's own and undocumented.
Anything else is a breach.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from stress._run import Breach, add_json, python, write_report

LABELS = ("dispatch", "signals", "asgi", "auth_tests")

FAILING = {
    "auth_tests.test_signals.SignalTestCase"
    ".test_login_with_custom_user_without_last_login_field": "assigns to signal.receivers",
    "dispatch.tests.DispatcherTests.test_send_robust_fail": (
        "reads the log django.dispatch; ours is tsignals"
    ),
    "signals.tests.SignalTests.test_lazy_model_signal": (
        "looks whether weakref.ref was called, and how"
    ),
}
"""What fails, and why that is no fault."""

SETTINGS = """
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3"},
    "other": {"ENGINE": "django.db.backends.sqlite3"},
}
SECRET_KEY = "for tests"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
"""

RUN = """
import sys
import threading
from pathlib import Path

import django.dispatch
import django.dispatch.dispatcher
import tsignals

class Signal(tsignals.Signal):
    # Private to Django's; every test of "signals" uses them before it begins.
    lock = threading.Lock()

    def _clear_dead_receivers(self):
        pass

django.dispatch.Signal = django.dispatch.dispatcher.Signal = Signal
sys.path.insert(0, str(Path.cwd()))
source = Path("runtests.py").read_text("utf-8")
mark = "ALWAYS_INSTALLED_APPS = ["
assert source.count(mark) == 1
source = source.replace(mark, mark + '"tsignals.django", ')
__file__ = str(Path("runtests.py").resolve())
sys.argv[0] = __file__
exec(compile(source, __file__, "exec"))
"""


def download(version: str, directory: Path) -> Path:
    """The unpacked source distribution of that version of Django."""
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--no-binary", ":all:", "--dest", str(directory), f"django=={version}"),
        ],
        check=True,
    )
    [archive] = directory.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    [source] = (path for path in directory.iterdir() if path.is_dir())
    return source


def run_tests(source: Path, labels: list[str], seconds: float) -> tuple[int, set[str], str]:
    """How many tests ran, the names of those that failed, and all that was printed."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "tsignals_settings.py").write_text(SETTINGS)
        found = [str(source), directory, str(Path(__file__).parents[1])]
        done = subprocess.run(
            [
                *(sys.executable, "-c", RUN, *labels, "--settings=tsignals_settings"),
                *("--parallel=1", "--noinput"),
            ],
            cwd=source / "tests",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(found)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
    ran = re.search(r"^Ran (\d+) tests", done.stdout, re.M)
    if ran is None:
        raise Breach(f"Django's tests did not run:\n{done.stdout}")
    failed = re.findall(r"^(?:FAIL|ERROR): (\w+) \(([\w.]+)\)", done.stdout, re.M)
    return int(ran[1]), {where for _, where in failed}, done.stdout


def run(arguments: argparse.Namespace) -> int:
    import django

    print(f"{python()}, Django {django.__version__}")
    with tempfile.TemporaryDirectory() as directory:
        source = arguments.source or download(django.__version__, Path(directory))
        count, failed, printed = run_tests(source, arguments.labels, arguments.seconds)
    for name in sorted(failed):
        print(f"fails: {name}: {FAILING.get(name, 'a breach')}")
    breaches = sorted(failed - FAILING.keys())
    print(f"{count} tests, {len(failed)} fail, of which {len(breaches)} are breaches")
    write_report(arguments.json, {"tests": count, "failed": sorted(failed), "breaches": breaches})
    if breaches:
        print(printed)
    return 1 if breaches else 0


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("django", help="Django's own tests, with our signals")
    parser.add_argument("labels", nargs="*", default=list(LABELS), help="default: %(default)s")
    parser.add_argument("--source", type=Path, help="an unpacked source distribution of Django")
    parser.add_argument("--seconds", type=float, default=1800, help="give up after so many")
    add_json(parser)
    parser.set_defaults(run=run)
