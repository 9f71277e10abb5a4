"""Charts of a run, one SVG a subject. A chart whose figures were not measured is left out."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from stress.bench.progress import optional
from stress.bench.report import Record

COLOURS = {
    "tsignals": "#c2410c",
    "tsignals, unbounded": "#f59e0b",
    "tsignals, bounded": "#fbbf24",
    "Django": "#166534",
    "Django, cached": "#4ade80",
    "blinker": "#1d4ed8",
    "psygnal": "#7c3aed",
    "PyDispatcher": "#0f766e",
    "pyee": "#be185d",
    "ThreadPoolExecutor": "#475569",
    "SimpleQueue": "#94a3b8",
    "bare loop": "#111827",
}
COUNTS = ("1", "10", "100")

Medians: TypeAlias = dict[str, float]


def available() -> bool:
    return optional("matplotlib") is not None


def draw(record: Record, folder: Path) -> list[Path]:
    """Write the charts into the folder, which is made if need be."""
    matplotlib = optional("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "tsignals",  # the same figures give the same file
            "svg.fonttype": "none",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 10,
            "legend.frameon": False,
        }
    )
    pyplot = optional("matplotlib.pyplot")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, chart in CHARTS.items():
        figure = chart(pyplot, _medians(record))
        if figure is None:
            continue
        build = "" if record.build == "GIL" else ", free-threaded"
        figure.supxlabel(
            f"CPython {record.surroundings['python']}{build}", x=0.99, ha="right", fontsize=7
        )
        path = folder / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
        written.append(path)
    return written


def _medians(record: Record) -> Medians:
    """Microseconds, or bytes."""
    return {
        name: statistics.median(record.figures(name)) / (1 if name.startswith("bytes") else 1e3)
        for name in record.names
    }


def _panels(pyplot: Any, titles: Sequence[str]) -> tuple[Any, list[Any]]:
    figure, axes = pyplot.subplots(
        1, len(titles), figsize=(3.4 * len(titles) + 1.6, 3.4), layout="constrained", squeeze=False
    )
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title)
    return figure, list(axes[0])


def _legend(figure: Any, panels: Iterable[Any]) -> None:
    """One legend for all the panels."""
    known: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    figure.legend(known.values(), known.keys(), loc="outside right center")


def _lines(
    panel: Any, medians: Medians, groups: Sequence[str], ticks: Sequence[str], floor: str | None
) -> None:
    """A line for each candidate over the groups; as ratios where there is a floor."""
    for name, colour in COLOURS.items():
        points = [
            (at, medians[f"{group}/{name}"] / (medians[f"{group}/{floor}"] if floor else 1))
            for at, group in enumerate(groups)
            if f"{group}/{name}" in medians
        ]
        if points:
            width = 2.5 if name == "tsignals" else 1.2
            panel.plot(*zip(*points, strict=True), "o-", color=colour, lw=width, ms=4, label=name)
    panel.set_xticks(range(len(ticks)), ticks)
    _logarithmic(panel)


def _logarithmic(panel: Any) -> None:
    """With plain numbers at 1, 2, 5, 10, 20 and so on."""
    ticker = optional("matplotlib.ticker")
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    panel.yaxis.set_minor_locator(ticker.NullLocator())
    panel.grid(axis="y", alpha=0.2)


def _bars(
    panel: Any, medians: Medians, groups: Sequence[str], ticks: Sequence[str], suffix: str = ""
) -> None:
    """Bars side by side for each of the groups."""
    names = [n for n in COLOURS if any(f"{group}/{n}{suffix}" in medians for group in groups)]
    for place, name in enumerate(names):
        offset = (place - (len(names) - 1) / 2) * 0.8 / len(names)
        at, heights = [], []
        for tick, group in enumerate(groups):
            if f"{group}/{name}{suffix}" in medians:
                at.append(tick + offset)
                heights.append(medians[f"{group}/{name}{suffix}"])
        panel.bar(at, heights, 0.8 / len(names), color=COLOURS[name], label=name)
    panel.set_xticks(range(len(ticks)), ticks)
    panel.grid(axis="y", alpha=0.2)
    panel.set_axisbelow(True)


def _send_chart(pyplot: Any, medians: Medians) -> Any:
    if "weak functions, 1/floor" not in medians:
        return None
    kinds = ("weak functions", "weak methods", "sender hit")
    figure, panels = _panels(pyplot, [f"send: {kind}" for kind in kinds])
    for panel, kind in zip(panels, kinds, strict=True):
        _lines(panel, medians, [f"{kind}, {count}" for count in COUNTS], COUNTS, "floor")
        panel.axhline(1, color="black", lw=0.8, ls=":")
        panel.set_xlabel("receivers")
    panels[0].set_ylabel("time, bare loop = 1")
    _legend(figure, panels)
    return figure


def _connect_chart(pyplot: Any, medians: Medians) -> Any:
    counts = ("10", "1,000", "10,000")
    groups = [f"connect + disconnect, {count}" for count in counts]
    if f"{groups[0]}/tsignals" not in medians:
        return None
    figure, panels = _panels(pyplot, ["connect + disconnect"])
    _lines(panels[0], medians, groups, counts, None)
    panels[0].set_xlabel("receivers already there")
    panels[0].set_ylabel("microseconds")
    _legend(figure, panels)
    return figure


def _async_chart(pyplot: Any, medians: Medians) -> Any:
    kinds = {
        "send_async cost": "what the sender pays",
        "end to end, 1 sender": "end to end, 1 sender, one core",
        "end to end, 4 senders": "end to end, 4 senders, one core",
    }
    if "send_async cost, 1/tsignals" not in medians:
        return None
    figure, panels = _panels(pyplot, list(kinds.values()))
    for panel, kind in zip(panels, kinds, strict=True):
        _bars(panel, medians, [f"{kind}, {count}" for count in COUNTS], COUNTS)
        panel.set_xlabel("receivers per send")
    panels[0].set_ylabel("microseconds per delivery")
    _legend(figure, panels)
    return figure


def _latency_chart(pyplot: Any, medians: Medians) -> Any:
    kinds = ("idle", "under load", "burst")
    groups = [f"latency, {kind}" for kind in kinds]
    if f"{groups[0]}/tsignals, p50" not in medians:
        return None
    figure, panels = _panels(pyplot, ["latency, p50", "latency, p99"])
    for panel, cut in zip(panels, ("p50", "p99"), strict=True):
        _bars(panel, medians, groups, kinds, f", {cut}")
        _logarithmic(panel)
    panels[0].set_ylabel("microseconds from send to receiver")
    _legend(figure, panels)
    return figure


def _memory_chart(pyplot: Any, medians: Medians) -> Any:
    if "bytes per receiver, functions/tsignals" not in medians:
        return None
    figure, panels = _panels(pyplot, ["bytes per receiver", "bytes per pending delivery"])
    kinds = ("functions", "methods")
    _bars(panels[0], medians, [f"bytes per receiver, {kind}" for kind in kinds], kinds)
    groups = [f"bytes per pending delivery, {count}" for count in ("1", "10")]
    _bars(panels[1], medians, groups, ("1 receiver a send", "10 receivers a send"))
    _legend(figure, panels)
    return figure


def _threads_chart(pyplot: Any, medians: Medians) -> Any:
    kinds = ("empty", "working")
    groups = [f"threads on every core, {kind} receivers, 10" for kind in kinds]
    if f"{groups[0]}/tsignals, 1 thread" not in medians:
        return None
    figure, panels = _panels(pyplot, [f"10 {kind} receivers, every core" for kind in kinds])
    for panel, group in zip(panels, groups, strict=True):
        for name in ("bare loop", "tsignals", "Django, cached"):
            keys = [f"{group}/{name}, {many}" for many in ("1 thread", "2 threads", "4 threads")]
            if all(key in medians for key in keys):
                gains = [medians[keys[0]] / medians[key] for key in keys]
                panel.plot((1, 2, 4), gains, "o-", color=COLOURS[name], label=name)
        panel.set_xticks((1, 2, 4))
        panel.set_ylim(bottom=0)
        panel.set_xlabel("threads that send")
        panel.grid(axis="y", alpha=0.2)
    panels[0].set_ylabel("sends a second, one thread = 1")
    _legend(figure, panels)
    return figure


CHARTS: dict[str, Callable[[Any, Medians], Any]] = {
    "send": _send_chart,
    "connect": _connect_chart,
    "send_async": _async_chart,
    "latency": _latency_chart,
    "memory": _memory_chart,
    "threads": _threads_chart,
}
