"""An interrupt at every point of every call at which CPython may run a signal handler.

What ``sigint`` tries with luck is done here one point after another: the handler's exception is
raised after each call, at each function's start and at each turn of a loop, in the library and in
the parts of the standard library that it calls. Afterwards the same must hold.
"""

import argparse
import dis
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import tsignals
from stress._bytecode import hooked, watching
from stress._run import Breach, hang_detector, progress, python, write_report
from stress.sigint import Interrupts, Trial, ignored_interrupts

LIBRARY = os.path.dirname(tsignals.__file__)
STANDARD = os.path.dirname(threading.__file__)
PATIENCE = 2.0
MOST_POINTS = 5000


class Interrupter:
    """Raises KeyboardInterrupt at one such point of this thread, and knows where that was."""

    def __init__(self, point: int) -> None:
        self.left = point
        self.where: str | None = None

    def __call__(self, code: CodeType, offset: int) -> None:
        if offset in _points(code):
            self.left -= 1
            if not self.left:
                name = os.path.basename(code.co_filename)
                line = next(n for start, end, n in code.co_lines() if start <= offset < end)
                self.where = f"{name}:{line} in {code.co_qualname}"
                raise KeyboardInterrupt


_points_of: dict[CodeType, frozenset[int]] = {}


def _points(code: CodeType) -> frozenset[int]:
    """The offsets of instructions before which handlers may run."""
    if code not in _points_of:
        found, after_call = set(), False
        for instruction in dis.get_instructions(code):
            name = instruction.opname
            if name == "CACHE":
                continue
            if after_call or name in ("RESUME", "JUMP_BACKWARD"):
                found.add(instruction.offset)
            after_call = name.startswith("CALL") and not name.startswith("CALL_INTRINSIC")
        _points_of[code] = frozenset(found)
    return _points_of[code]


def prepared(seed: int) -> Trial:
    """A trial in which every call has something to do."""
    trial = Trial(seed, Interrupts(), PATIENCE)
    for receiver in trial.receivers:
        trial.handles.append(trial.signal.connect(receiver, tracked=True))
    trial.send_async()
    trial.submit()
    return trial


def interrupted_at(name: str, point: int) -> tuple[str | None, str | None]:
    """Make one call and interrupt it; where that was, and what was wrong afterwards."""
    trial = prepared(point)
    call: Callable[[], None] = getattr(trial, name)
    interrupter = Interrupter(point)
    wrong = None
    with ignored_interrupts(trial.problems):
        try:
            with hooked(interrupter):
                call()
        except KeyboardInterrupt:
            pass
        except RuntimeError as error:
            # The standard library's Condition, interrupted, may complain of its own lock.
            if interrupter.where is None or "unlocked lock" not in str(error):
                wrong = repr(error)
        try:
            trial.check(closed=name == "shutdown")
        except (Breach, TimeoutError, RuntimeError, queue.Empty) as error:
            wrong = f"{type(error).__name__}: {error}"
    if trial.problems and wrong is None:
        wrong = "; ".join(trial.problems)
    return interrupter.where, wrong


def run(arguments: argparse.Namespace) -> int:
    print(f"interrupts: {python()}", flush=True)
    names = [call.__name__ for call in Trial(0, Interrupts()).under_test]
    names = [name for name in names if arguments.only in (None, name)] + ["shutdown"]
    points: dict[str, int] = {}
    wrong: dict[str, str] = {}
    started = time.monotonic()
    with (
        hang_detector(arguments.hang) as alive,
        watching((LIBRARY, STANDARD, "<tsignals")),
        progress(len(names), "call", "interrupts") as bar,
    ):
        for name in names:
            for point in range(1, MOST_POINTS):
                alive()
                where, problem = interrupted_at(name, point)
                if problem is not None and f"{name}, {where}" not in wrong:
                    wrong[f"{name}, {where}"] = problem
                    print(f"BREACH: {name} interrupted at {where}: {problem}", flush=True)
                if where is None:
                    break
                points[name] = point
            bar.update()
    print(f"{sum(points.values())} points in {len(points)} calls: {len(wrong)} breaches")
    report = {
        "python": python(),
        "points": points,
        "seconds": round(time.monotonic() - started, 1),
        "breaches": wrong,
    }
    write_report(arguments.json, report)
    return 1 if wrong else 0


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("interrupts", help="an interrupt at every point of every call")
    parser.add_argument("--only", metavar="CALL")
    parser.add_argument("--hang", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a summary here")
    parser.set_defaults(run=run)
