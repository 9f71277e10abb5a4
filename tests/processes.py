"""What the tests share that look at whole processes: scripts run by a Python of their own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import tsignals

ROOT = str(Path(tsignals.__file__).parents[1])

PREAMBLE = """
import faulthandler, os, signal, sys, threading, time, traceback, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
if hasattr(signal, "SIGALRM"):
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(120)
"""
"""A script that hangs shows where, and ends; a forked child has to set its own alarm."""


def environment(**more: str) -> dict[str, str]:
    """This process's environment, in which tsignals is found."""
    found = [ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(found), **more}


def run(script: str, preamble: str = PREAMBLE, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run ``script`` in a new Python, with ``more`` in its environment."""
    return subprocess.run(
        [sys.executable, "-c", preamble + textwrap.dedent(script)],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=150,
    )
