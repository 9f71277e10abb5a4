"""What the tests share that look at whole processes: scripts run by a Python of their own."""

import faulthandler
import os
import subprocess
import sys
import tempfile
import textwrap
import tomllib
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import causes

import tsignals

ROOT = str(Path(tsignals.__file__).parents[1])
TESTS = str(Path(__file__).parent)

PREAMBLE = """
import faulthandler, os, signal, sys, threading, time, traceback, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
if hasattr(signal, "SIGALRM"):
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(120)
"""
"""A script that hangs shows where, and ends; a forked child has to set its own alarm."""


def environment(**more: str) -> dict[str, str]:
    """This process's environment, in which tsignals is found, and what the tests share."""
    found = [ROOT, TESTS, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(found), **more}


def with_plugin(directory: Path) -> str:
    """A ``PYTHONPATH`` on which pytest finds our plugin, as where the package is installed."""
    project = tomllib.loads((Path(ROOT) / "pyproject.toml").read_text("utf-8"))["project"]
    [(group, points)] = project["entry-points"].items()
    about = directory / "about" / "tsignals_here-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tsignals-here\nVersion: 0\n")
    lines = [f"{name} = {where}\n" for name, where in points.items()]
    (about / "entry_points.txt").write_text("".join([f"[{group}]\n", *lines]))
    return os.pathsep.join([str(about.parent), environment()["PYTHONPATH"]])


def run(script: str, preamble: str = PREAMBLE, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run ``script`` in a new Python, with ``more`` in its environment."""
    return command(
        [sys.executable, "-c", preamble + textwrap.dedent(script)], env=environment(**more)
    )


def command(
    arguments: Sequence[str], timeout: float = 150, expected: int = 0, **options: Any
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end, and keep what it says, for a failure of this test, too."""
    try:
        done = subprocess.run(arguments, timeout=timeout, capture_output=True, text=True, **options)
    except subprocess.TimeoutExpired as error:
        said = [
            each.decode() if isinstance(each, bytes) else each
            for each in (error.stdout, error.stderr)
        ]
        causes.tell(f"a process did not end in {timeout} s; it said:\n{said[0]}\n{said[1]}")
        raise
    if done.returncode != expected or done.stderr:
        causes.tell(
            f"a process ended with {done.returncode}; its standard error:\n{done.stderr.rstrip()}"
        )
    return done


def forked(child: Callable[[], object]) -> int:
    """The exit status of a forked child that calls ``child``; 0 when all is well there."""
    with tempfile.TemporaryFile("w+") as said:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                faulthandler.dump_traceback_later(60, exit=True, file=said)
                child()
                status = 0
            except BaseException:
                traceback.print_exc(file=said)
                said.flush()
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said.seek(0)
        if text := said.read().rstrip():
            causes.tell(f"a forked child ended with {status}:\n{text}")
    return status
