"""What every command here shares: a seed, a hang detector, a progress bar, a report."""

import argparse
import contextlib
import faulthandler
import gc
import json
import platform
import random
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


class Breach(Exception):
    """A promise of the library was broken; says which."""


def gil_is_on() -> bool:
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def python() -> str:
    """The Python this is, for reports."""
    build = "" if gil_is_on() else " without the GIL"
    return f"{platform.python_implementation()} {platform.python_version()}{build}"


def add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a summary here")


def add_hang(parser: argparse.ArgumentParser, seconds: float) -> None:
    parser.add_argument(
        "--hang",
        type=float,
        default=seconds,
        metavar="SECONDS",
        help="without progress for so long: print all stacks, exit 1 (default: %(default)s)",
    )


def seed_of(arguments: argparse.Namespace) -> int:
    seed = arguments.seed
    return random.SystemRandom().randrange(2**32) if seed is None else int(seed)


@contextlib.contextmanager
def hang_detector(seconds: float) -> Iterator[Callable[[], None]]:
    """Gives ``alive()``: unless that is called again within ``seconds``, the process ends here.

    All stacks go to standard error first. The clock is a thread of the interpreter that needs
    no lock of Python's, so nothing that hangs in Python can stop it.
    """
    armed = 0.0
    clock = time.monotonic  # which a model that runs replaces by one that stands still
    stacks = sys.__stderr__ or 2  # not the one that a test may have put in its place

    def alive() -> None:
        nonlocal armed
        now = clock()
        if now - armed > seconds / 20:
            armed = now
            faulthandler.dump_traceback_later(seconds, exit=True, file=stacks)

    alive()
    try:
        yield alive
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def fast_switching() -> Iterator[None]:
    """Let the interpreter change threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextlib.contextmanager
def told_of_ignored_exceptions(tell: Callable[[str], None]) -> Iterator[None]:
    """What finalizers and weak references' callbacks raise is a problem, not a message."""
    before = sys.unraisablehook
    sys.unraisablehook = lambda info: tell(f"ignored in {info.object!r}: {info.exc_value!r}")
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def collecting_often() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(40, 4, 4)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextlib.contextmanager
def progress(total: float | None, unit: str, label: str) -> Iterator[Any]:
    """A progress bar on a terminal; nothing where there is none, or where tqdm is missing."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield _NoBar()
        return
    tqdm.monitor_interval = 0  # or it leaves a thread behind, which we look for
    with tqdm(total=total, unit=unit, desc=label, disable=None, smoothing=0.05) as bar:
        yield bar


class _NoBar:
    n = 0.0

    def update(self, n: float = 1) -> None:
        pass

    def set_postfix_str(self, text: str) -> None:
        pass


def measured_alone(command: str, only: str, *options: str) -> Any:
    """What ``command --only`` measures, in a process of its own, from the JSON that it prints.

    Raises ``CalledProcessError`` where that fails.
    """
    line = [sys.executable, "-m", "stress", command, "--only", only, *options]
    return json.loads(subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True).stdout)


def write_report(path: Path | None, report: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(report, indent=2, default=str) + "\n")
