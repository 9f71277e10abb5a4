"""The bars we hold ourselves to: ratios of what one run measured side by side."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Build: TypeAlias = Literal["any", "GIL", "free-threaded"]


@dataclass(frozen=True)
class Cell:
    """One bar: ``over`` by ``under``, each the product of its samples."""

    label: str
    bar: float
    over: tuple[str, ...]
    under: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """Bars that belong together. ``build``: the one on which they can be measured."""

    what: str
    cells: tuple[Cell, ...]
    sense: Literal["at most", "at least"] = "at most"
    build: Build = "any"

    def holds(self, value: float, bar: float) -> bool:
        return value <= bar if self.sense == "at most" else value >= bar


def rows(old: bool = sys.version_info < (3, 12)) -> tuple[Row, ...]:
    """Every row; ``old``: with the bars for Python 3.11, where calls cost less to begin with."""

    def pick(new: Sequence[float], before: Sequence[float] = ()) -> Sequence[float]:
        return before if old and before else new

    def ratio(label: str, bar: float, group: str, over: str, under: str) -> Cell:
        return Cell(label, bar, (f"{group}/{over}",), (f"{group}/{under}",))

    def sizes(
        group: str, over: str, under: str, new: Sequence[float], before: Sequence[float] = ()
    ) -> tuple[Cell, ...]:
        """``group`` with 1, 10 and 100 receivers (the first of them where the bars are fewer)."""
        return tuple(
            ratio(str(count), bar, f"{group}, {count}", over, under)
            for count, bar in zip((1, 10, 100), pick(new, before), strict=False)
        )

    def floor(what: str, group: str, new: Sequence[float], before: Sequence[float] = ()) -> Row:
        return Row(what, sizes(group, "tsignals", "floor", new, before))

    ours, peer = "tsignals", "ThreadPoolExecutor"
    weak = (1.75, 1.33, 1.18), (2.0, 1.5, 1.32)
    return (
        Row(
            "nothing to call, against an empty send",
            (
                ratio("nobody connected", 1.20, "nobody connected", ours, "empty send"),
                ratio("sender miss", 1.75, "sender miss", ours, "empty send"),
            ),
        ),
        floor("weak functions against the floor", "weak functions", *weak),
        floor("weak bound methods", "weak methods", (2.2, 1.9, 1.7), (2.4, 2.0, 1.85)),
        floor("sender filter hit", "sender hit", (2.2, 1.4, 1.2), (2.5, 1.55, 1.35)),
        floor("send_robust without errors (the bars of send)", "send_robust", *weak),
        floor("alternating keyword shapes", "alternating keywords", (2.4,), (2.9,)),
        Row(
            "against Django's cached signal",
            sizes("weak functions", ours, "Django, cached", (0.35, 0.48, 0.48)),
        ),
        Row(
            "send to 10 while somebody observes, against nobody",
            tuple(
                ratio(hears, bar, "observed, 10", f"{ours}, {hears}", f"{ours}, nobody")
                for hears, bar in (("empty", 1.02), ("sent", 1.5), ("all", 15.0))
            ),
        ),
        Row(
            "connect + disconnect",
            (
                Cell(
                    "10,000 against 10",
                    1.3,
                    ("connect + disconnect, 10,000/tsignals",),
                    ("connect + disconnect, 10/tsignals",),
                ),
                *(
                    ratio(f"blinker, {n}", 0.85, f"connect + disconnect, {n}", ours, "blinker")
                    for n in ("10", "1,000", "10,000")
                ),
            ),
        ),
        Row(
            "bytes per receiver",
            tuple(
                Cell(kind, bar, (f"bytes per receiver, {kind}s/tsignals",), ())
                for kind, bar in (("function", 260), ("method", 420))
            ),
        ),
        Row(
            "send_async to the sender, against ThreadPoolExecutor.submit",
            sizes("send_async cost", ours, peer, (0.19, 0.10, 0.065)),
        ),
        *(
            Row(
                f"send_async end to end, one core, {senders}",
                sizes(f"end to end, {senders}", ours, peer, (0.22, 0.13, 0.11)),
            )
            for senders in ("1 sender", "4 senders")
        ),
        Row(
            "send_async with retry that never fails, against none",
            sizes("retry", "tsignals, with retry", "tsignals", (1.03, 1.03, 1.03)),
        ),
        *(
            Row(
                f"bounded against own unbounded, end to end, {senders}",
                sizes(
                    f"end to end, {senders}",
                    "tsignals, bounded",
                    "tsignals, unbounded",
                    (1.10, 1.10, 1.10),
                ),
            )
            for senders in ("1 sender", "4 senders")
        ),
        Row(
            "ordered=key end to end, against ordered=True",
            (
                ratio(
                    "10,000 keys",
                    1.3,
                    "ordered, 10,000 keys",
                    f"{ours}, ordered=key",
                    f"{ours}, ordered=True",
                ),
            ),
        ),
        Row(
            "a slow key among fast ones, latency of these, against none",
            (ratio("p99", 2.0, "a slow key", f"{ours}, with, p99", f"{ours}, without, p99"),),
        ),
        Row(
            "asend to 10 receivers, against the least that asyncio takes",
            (
                ratio("async, TaskGroup", 1.5, "asend to async receivers, 10", ours, "TaskGroup"),
                ratio(
                    "sync, run_in_executor",
                    1.5,
                    "asend to sync receivers, 10",
                    ours,
                    "run_in_executor",
                ),
            ),
        ),
        Row(
            "bytes per pending delivery, against ThreadPoolExecutor",
            sizes("bytes per pending delivery", ours, peer, (0.32, 0.15)),
        ),
        Row(
            "idle latency, against ThreadPoolExecutor",
            tuple(
                ratio(cut, bar, "latency, idle", f"{ours}, {cut}", f"{peer}, {cut}")
                for cut, bar in zip(("p50", "p99"), pick((1.0, 1.2), (1.2, 1.2)), strict=True)
            ),
        ),
        Row(
            "four threads sending against one, per send",
            tuple(
                ratio(
                    str(count),
                    1.15,
                    f"threads on one core, empty receivers, {count}",
                    "tsignals, 4 threads",
                    "tsignals, 1 thread",
                )
                for count in (1, 10)
            ),
            build="GIL",
        ),
        Row(
            "two threads against one, throughput, 3 us of private work",
            tuple(
                ratio(
                    str(count),
                    1.7,
                    f"threads on every core, working receivers, {count}",
                    "tsignals, 1 thread",
                    "tsignals, 2 threads",
                )
                for count in (1, 10)
            ),
            sense="at least",
            build="free-threaded",
        ),
        Row(
            "the same with empty receivers, against the bare loop's scaling",
            tuple(
                _scaling(f"threads on every core, empty receivers, {count}", str(count))
                for count in (1, 10)
            ),
            sense="at least",
            build="free-threaded",
        ),
    )


def _scaling(group: str, label: str) -> Cell:
    """Our gain by a second thread, over the gain of the bare loop."""
    return Cell(
        label,
        1.0,
        (f"{group}/tsignals, 1 thread", f"{group}/bare loop, 2 threads"),
        (f"{group}/tsignals, 2 threads", f"{group}/bare loop, 1 thread"),
    )
