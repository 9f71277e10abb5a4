"""Interleavings: small models of calls that meet, explored switch by switch.

Each model is run once for every moment at which its threads can be interrupted: between any two
bytecodes of the library, depth first, with at most one preemption. Beside each model stand its
mutants, the library with one protection taken out; each must make the model fail.

Needs ``interleave-test``, and a Python >= 3.12 with the GIL.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from stress._run import (
    FREE_THREADED,
    add_hang,
    add_json,
    hang_detector,
    progress,
    python,
    write_report,
)


def why_not() -> str | None:
    """Why models cannot run here; ``None`` when they can."""
    if sys.version_info < (3, 12):
        return "models need Python 3.12 or newer"
    if FREE_THREADED:
        return "models need a Python with the GIL"
    if importlib.util.find_spec("interleave_test") is None:
        return "models need interleave-test"
    return None


def run(arguments: argparse.Namespace) -> int:
    reason = why_not()
    if reason is not None:
        print(f"{reason}; nothing explored")
        return 2
    from stress.models.every import MODELS
    from stress.models.explore import explore, kill

    chosen = [model for model in MODELS if arguments.only in (None, model.name)]
    if not chosen:
        print(
            f"no model is called {arguments.only!r}; there are:",
            *(m.name for m in MODELS),
            sep="\n",
        )
        return 2
    print(f"models: {python()}", flush=True)
    report: list[dict[str, Any]] = []
    wrong = 0
    with hang_detector(arguments.hang) as alive, progress(len(chosen), "model", "models") as bar:
        for model in chosen:
            model = replace(model, play=_watched(model.play, alive))
            started = time.monotonic()
            explored = explore(model)
            survivors = []
            for mutant in model.mutants if arguments.mutants else ():
                if not kill(model, mutant):
                    survivors.append(mutant.name)
            seconds = time.monotonic() - started
            report.append(
                {
                    "model": model.name,
                    "schedules": explored.schedules,
                    "failure": explored.failure,
                    "mutants": len(model.mutants) if arguments.mutants else 0,
                    "survivors": survivors,
                    "seconds": round(seconds, 1),
                }
            )
            wrong += explored.failure is not None or bool(survivors)
            print(_line(report[-1]), flush=True)
            if explored.failure:
                print(explored.failure)
            bar.update()
    schedules = sum(entry["schedules"] for entry in report)
    mutants = sum(entry["mutants"] for entry in report)
    alive_still = sum(len(entry["survivors"]) for entry in report)
    print(
        f"{len(report)} models, {schedules} schedules, "
        f"{mutants - alive_still} of {mutants} mutants killed"
    )
    write_report(arguments.json, {"python": python(), "models": report})
    return 1 if wrong else 0


def _watched(play: Callable[[], object], alive: Callable[[], None]) -> Callable[[], object]:
    """``play``, each run of which shows that there is progress: all together may take long."""

    def watched() -> object:
        alive()
        return play()

    return watched


def _line(entry: dict[str, Any]) -> str:
    verdict = "holds" if entry["failure"] is None else "FAILS"
    if entry["survivors"]:
        verdict += f"; SURVIVED: {', '.join(entry['survivors'])}"
    killed = entry["mutants"] - len(entry["survivors"])
    return (
        f"{entry['model']:<32} {entry['schedules']:>6} schedules  "
        f"{killed}/{entry['mutants']} mutants  {entry['seconds']:5.1f} s  {verdict}"
    )


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("models", help="every interleaving of calls that meet")
    parser.add_argument("--only", metavar="MODEL", help="one of them, by name")
    parser.add_argument("--no-mutants", dest="mutants", action="store_false")
    add_hang(parser, 300.0)
    add_json(parser)
    parser.set_defaults(run=run)
