"""What came out: tables for the terminal, JSON for programs."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stress.bench.bars import Cell, Row
from stress.bench.libraries import versions
from stress.bench.measure import Samples, pinned_core, ratios
from stress.bench.threads import gil

# What the others of a group are compared with: the first of these that it has.
REFERENCES = ("floor", "empty send", "bare loop, 1 thread", "ThreadPoolExecutor", "blinker")
FLOORS = ("comprehension", "loop")  # the better one is listed, as the floor


def surroundings() -> dict[str, Any]:
    """Where the figures come from."""
    core = pinned_core()
    return {
        "python": platform.python_version(),
        "gil": gil(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "pinned_to_core": core,
        "peers": list(versions()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "processor unknown"


@dataclass(frozen=True)
class Record:
    """What was measured, in one run or in several.

    The figures and ratios of one run are those of its rounds; of several, the medians of each. A
    ratio is always taken within a round: between two runs, and two rounds, a machine changes.
    """

    surroundings: Mapping[str, Any]
    runs: Sequence[Samples]

    @classmethod
    def merged(cls, records: Sequence["Record"]) -> "Record":
        return cls(records[0].surroundings, [run for record in records for run in record.runs])

    @classmethod
    def read(cls, path: Path) -> "Record":
        content = json.loads(path.read_text())
        return cls(content["surroundings"], content["runs"])

    @property
    def names(self) -> list[str]:
        """What every run has measured."""
        return [name for name in self.runs[0] if all(name in run for run in self.runs)]

    def figures(self, name: str) -> list[float]:
        return self._each(lambda run: run[name])

    def ratios(self, over: Iterable[str], under: Iterable[str]) -> list[float]:
        """The product of ``over`` by that of ``under``; empty where one is missing."""
        return self._each(lambda run: ratios(run, over, under))

    def _each(self, figures: Callable[[Samples], list[float]]) -> list[float]:
        if len(self.runs) == 1:
            return figures(self.runs[0])
        return [statistics.median(values) for run in self.runs if (values := figures(run))]

    @property
    def build(self) -> str:
        return "GIL" if self.surroundings["gil"] else "free-threaded"

    @property
    def old(self) -> bool:
        """Do the bars for Python 3.11 hold?"""
        return str(self.surroundings["python"]).startswith("3.11.")

    def as_json(self, rows: Sequence[Row]) -> str:
        bars = [
            {"row": row.what, "case": cell.label, "sense": row.sense, "bar": cell.bar, **outcome}
            for row in rows
            for cell in row.cells
            for outcome in [_outcome(self, row, cell)]
        ]
        content = {
            "surroundings": self.surroundings,
            "bars": bars,
            "units": "nanoseconds per operation; bytes where the name says so",
            "runs": self.runs,
        }
        return json.dumps(content, indent=1)


def _outcome(record: Record, row: Row, cell: Cell) -> dict[str, Any]:
    """The median, the least and the most of a bar's ratio, and the verdict in words."""
    if row.build not in ("any", record.build):
        return {"verdict": f"needs a {row.build} build"}
    values = record.ratios(cell.over, cell.under)
    if not values:
        return {"verdict": "not measured"}
    median = statistics.median(values)
    short = abs(median / cell.bar - 1) * 100
    return {
        "measured": median,
        "least": min(values),
        "most": max(values),
        "verdict": "ok" if row.holds(median, cell.bar) else f"short by {short:.1f} %",
    }


def head(rounds: int) -> Iterator[str]:
    """What a reader has to know before the figures."""
    where = surroundings()
    yield (
        f"CPython {where['python']}, {'with the GIL' if where['gil'] else 'free-threaded'}, on "
        f"{where['processor']} with {where['cores']} cores, {where['system']}"
    )
    if where["pinned_to_core"] is None:
        yield "Not pinned to one core: this system does not offer it."
    else:
        yield f"Pinned to core {where['pinned_to_core']}, but for what says 'on every core'."
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > 0.5:
        yield f"The machine is busy (load {load:.1f}): expect a wide spread, and less from threads."
    yield f"Peers: {'; '.join(where['peers'])}."
    yield f"{rounds} interleaved rounds; medians, with the least and the most."
    yield ""


def bars_table(record: Record, rows: Sequence[Row]) -> Iterator[str]:
    """Every bar with what was measured."""
    good = measured = 0
    yield f"{'':<48}{'measured':>10}  {'least .. most':<16}{'bar':>15}"
    for row in rows:
        yield row.what
        for cell in row.cells:
            outcome = _outcome(record, row, cell)
            figures = f"{'-':>10}  {'':<16}"
            if "measured" in outcome:
                spread = f"{outcome['least']:.3g} .. {outcome['most']:.3g}"
                figures = f"{outcome['measured']:>10.3g}  {spread:<16}"
                measured += 1
                good += outcome["verdict"] == "ok"
            bar = f"{row.sense:>9} {cell.bar:<5g}"
            yield f"    {cell.label:<44}{figures}{bar}  {outcome['verdict']}"
    yield f"{good} of {measured} bars ok"


def groups_table(record: Record) -> Iterator[str]:
    """Every group with its candidates, the fastest first."""
    groups: dict[str, list[str]] = {}
    for name in record.names:
        group, candidate = name.split("/", 1)
        if candidate not in FLOORS:
            groups.setdefault(group, []).append(candidate)
    for group, candidates in groups.items():
        yield f"{group:<48}{'median':>12}{'least':>12}{'most':>12}"
        figures_of = {name: record.figures(f"{group}/{name}") for name in candidates}
        for candidate in sorted(candidates, key=lambda name: statistics.median(figures_of[name])):
            figures = figures_of[candidate]
            line = "".join(
                f"{_in_unit(figure, group):>12}"
                for figure in (statistics.median(figures), min(figures), max(figures))
            )
            reference = _reference(candidate, candidates)
            if reference is not None:
                by = record.ratios([f"{group}/{candidate}"], [f"{group}/{reference}"])
                line += f"{statistics.median(by):>8.2f} of {reference}"
            yield f"    {candidate:<44}{line}"


def _reference(candidate: str, candidates: Sequence[str]) -> str | None:
    """What this candidate is compared with: the floor of its group, or the obvious peer."""
    quantile = candidate[-5:] if candidate.endswith((", p50", ", p99")) else ""
    names = (f"{name}{quantile}" for name in REFERENCES)
    return next((name for name in names if name in candidates), None)


def _in_unit(figure: float, group: str) -> str:
    if group.startswith("bytes"):
        return f"{figure:,.0f} B"
    return f"{figure:,.0f} ns" if figure < 1e5 else f"{figure / 1e3:,.0f} us"


def show(record: Record, rows: Sequence[Row], json_to: str | None) -> None:
    """The tables on standard output, or the JSON there or in a file."""
    if json_to == "-":
        print(record.as_json(rows))
        return
    if json_to:
        Path(json_to).write_text(record.as_json(rows))
    lines = (*groups_table(record), "", *bars_table(record, rows))
    sys.stdout.write("\n".join(lines) + "\n")
