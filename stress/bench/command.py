"""The command: choose what to measure, measure it, tell."""

import argparse
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from stress.bench import (
    asends,
    async_sends,
    kinds,
    latency,
    memory,
    observed,
    plot,
    report,
    sends,
    threads,
)
from stress.bench.bars import Row, rows
from stress.bench.measure import Samples, Scale, Subject, measure
from stress.bench.report import Record


def add_parser(subparsers: Any) -> None:
    """Register ``bench`` with ``python -m stress``."""
    parser = subparsers.add_parser("bench", help="measure tsignals and its peers side by side")
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Measure tsignals and its peers side by side, in one process."
    parser.add_argument("--quick", action="store_true", help="within a minute, less certain")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="rounds of each measurement")
    parser.add_argument(
        "--rows",
        action="append",
        metavar="PATTERN",
        help="only the rows and groups whose name contains it (* and ? match anything); repeatable",
    )
    parser.add_argument(
        "--runs",
        type=_positive,
        default=1,
        metavar="N",
        help="do all of it in N processes, one after the other; report the medians of the runs",
    )
    parser.add_argument(
        "--from",
        dest="files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="measure nothing, report what --json wrote; several files count as so many runs",
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the figures to FILE; without FILE to standard output, in place of the tables",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="DIR", help="write charts as SVG (needs matplotlib)"
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def run(arguments: argparse.Namespace, scale: Scale | None = None) -> int:
    """``scale`` overrides what the arguments say about how much to measure."""
    if arguments.plot and not plot.available():
        print("--plot needs matplotlib", file=sys.stderr)
        return 2
    if arguments.files:
        record = Record.merged([Record.read(path) for path in arguments.files])
    elif arguments.runs > 1:
        record = _in_processes(arguments)
    else:
        record = _measure(arguments, scale or _scale(arguments))
    if not record.names:
        print(f"no row or group is called so: {', '.join(arguments.rows)}", file=sys.stderr)
        return 2
    report.show(record, chosen_rows(arguments.rows, record.old), arguments.json)
    if arguments.plot:
        plot.draw(record, arguments.plot)
    return 0


def _scale(arguments: argparse.Namespace) -> Scale:
    scale = Scale.quick() if arguments.quick else Scale()
    return replace(scale, rounds=arguments.rounds) if arguments.rounds else scale


def chosen_rows(patterns: Sequence[str] | None, old: bool) -> list[Row]:
    return [row for row in rows(old) if matches(row.what, patterns)]


def matches(name: str, patterns: Sequence[str] | None) -> bool:
    """Does a pattern occur in the name? No pattern at all chooses everything."""
    return not patterns or any(
        fnmatchcase(name.lower(), f"*{pattern.lower()}*") for pattern in patterns
    )


def _measure(arguments: argparse.Namespace, scale: Scale) -> Record:
    """Measure in this process the groups that were asked for, or that a chosen row needs."""
    out = sys.stderr if arguments.json == "-" else sys.stdout
    for line in report.head(scale.rounds):
        print(line, file=out, flush=True)
    needed = {
        name.split("/")[0]
        for row in chosen_rows(arguments.rows, old=False)
        for cell in row.cells
        for name in (*cell.over, *cell.under)
    }
    samples: Samples = {}
    with _errors_unheard():
        for subject in _subjects(scale):
            samples |= measure(
                subject, scale, lambda group: group in needed or matches(group, arguments.rows)
            )
    return Record(report.surroundings(), [samples])


def _subjects(scale: Scale) -> Iterator[Subject]:
    for module in (sends, observed, async_sends, kinds, asends, latency, threads, memory):
        yield from module.subjects(scale)


@contextmanager
def _errors_unheard() -> Iterator[None]:
    """What receivers raise is logged as ever, but nobody prints it."""
    loggers = [logging.getLogger(name) for name in ("tsignals", "django.dispatch")]
    heard = [logger.propagate for logger in loggers]
    handler = logging.NullHandler()
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, propagate in zip(loggers, heard, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate


def _in_processes(arguments: argparse.Namespace) -> Record:
    """The same as often as asked for, each time in a new process."""
    options = ["--quick"] if arguments.quick else []
    if arguments.rounds:
        options += ["--rounds", str(arguments.rounds)]
    for pattern in arguments.rows or ():
        options += ["--rows", pattern]
    records = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.json")
        for turn in range(1, arguments.runs + 1):
            print(f"run {turn} of {arguments.runs}", file=sys.stderr)
            command = [sys.executable, "-m", "stress.bench", *options, "--json", str(path)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            records.append(Record.read(path))
    return Record.merged(records)
