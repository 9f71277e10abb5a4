"""What the demo shows: how far a run has come, and the figures of all."""

import math
import shutil
import sys
from collections.abc import Callable

from tsignals._demo.bookkeeping import AUDIT_FAILS, NOTIFY_FAILS, Run


class Progress:
    """One live line on a terminal; elsewhere a plain line for each quarter of the way."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.quarter = -1

    def show(self, run: Run, what: str, count: int, of: int, more: str = "") -> None:
        quarter = 4 * count // max(of, 1)
        if self.live:
            bar = "#" * (20 * count // max(of, 1))
            line = f"{run.name:<10} [{bar:.<20}] {count:,} of {of:,} {what} {more}"
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]:<{width}}", end="", flush=True)
        elif quarter != self.quarter:
            print(f"{run.name}: {count:,} of {of:,} {what} {more}".rstrip(), flush=True)
        self.quarter = quarter

    def end(self) -> None:
        self.quarter = -1
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{'':<{width}}\r", end="", flush=True)


def percentile(seconds: list[float], percent: int) -> str:
    """The nearest rank, in milliseconds."""
    ranked = sorted(seconds)
    return f"{1000 * ranked[math.ceil(len(ranked) * percent / 100) - 1]:.1f} ms" if ranked else "-"


def backlog(run: Run, count: Callable[[list[int]], int]) -> str:
    return f"{count(run.backlogs):,}" if run.pool is not None else "-"


def drain_time(run: Run) -> str:
    """From the last answer to the end of the last notification."""
    if not run.drained:
        return "-"
    return f"{max(0.0, run.ended_at - run.answered_at):.2f} s"


def table(runs: list[Run]) -> str:
    """The figures of all runs, a column each."""
    rows: list[tuple[str, list[str]]] = [
        ("", [run.name for run in runs]),
        ("requests", [f"{len(run.asked):,}" for run in runs]),
        ("requests/s", [f"{len(run.latencies) / (run.seconds or 1):,.0f}" for run in runs]),
        ("response time p50", [percentile(run.latencies, 50) for run in runs]),
        ("response time p99", [percentile(run.latencies, 99) for run in runs]),
        ("notifications sent", [f"{len(run.notices):,}" for run in runs]),
        ("  = done", [f"{len(run.done):,}" for run in runs]),
        (
            f"  + failed (made to fail: every {NOTIFY_FAILS}th)",
            [f"{len(run.failed):,}" for run in runs],
        ),
        (
            f"audit errors (made to fail: every {AUDIT_FAILS}th)",
            [f"{len(run.audit_errors):,}" for run in runs],
        ),
        ("backlog of notifications, highest", [backlog(run, max) for run in runs]),
        ("  at the last answer", [backlog(run, lambda counts: counts[-1]) for run in runs]),
        ("  time to drain it", [drain_time(run) for run in runs]),
    ]
    return "\n".join(
        f"{name:<40}" + "".join(f"{value:>14}" for value in values) for name, values in rows
    )
