"""What a file in the Trace Event Format has to be, so that Perfetto shows what was meant.

After "Trace Event Format" by Google: a complete event is a whole call, nests in its thread or does
not touch its neighbours; an async pair is known by its category and id; an arrow begins in a
complete event of its thread, and ends in one.
"""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

Event = dict[str, Any]

NUMBER = (int, float)
COMMON = {"ph": str, "pid": int, "tid": int, "ts": NUMBER, "name": str}
FIELDS: dict[str, dict[str, Any]] = {
    "X": {**COMMON, "cat": str, "dur": NUMBER, "args": dict},
    "b": {**COMMON, "cat": str, "id": str, "args": dict},
    "e": {**COMMON, "cat": str, "id": str},
    "s": {**COMMON, "cat": str, "id": int},
    "f": {**COMMON, "cat": str, "id": int, "bp": str},
    "M": {**COMMON, "args": dict},
}
CLOSE = 1e-6
"""Microseconds by which floats may differ that say the same."""


def read(path: Path) -> list[Event]:
    """The events of a file that is as it should be."""
    whole = json.loads(path.read_text("utf-8"))
    assert set(whole) == {"traceEvents", "displayTimeUnit"}
    events: list[Event] = whole["traceEvents"]
    for event in events:
        fields = FIELDS[event["ph"]]
        assert set(event) == set(fields), event
        for name, kind in fields.items():
            assert isinstance(event[name], kind), event
            assert not isinstance(event[name], bool), event
        assert event["ts"] >= 0, event
        assert event.get("dur", 0) >= 0, event
        assert 0 <= event["tid"] < 2**31, event
    check_names(events)
    check_nesting(events)
    check_pairs(events)
    check_arrows(events)
    return events


def of(events: list[Event], *phases: str, cat: str | None = None) -> list[Event]:
    return [e for e in events if e["ph"] in phases and cat in (None, e.get("cat"))]


def check_names(events: list[Event]) -> None:
    named = [e["tid"] for e in of(events, "M") if e["name"] == "thread_name"]
    assert len(named) == len(set(named))
    assert {e["tid"] for e in events} - {0} == set(named)


def check_nesting(events: list[Event]) -> None:
    threads = defaultdict(list)
    for event in of(events, "X"):
        threads[event["tid"]].append(event)
    for inside in threads.values():
        inside.sort(key=lambda e: (e["ts"], -e["dur"]))
        open_until: list[float] = []
        for event in inside:
            while open_until and open_until[-1] <= event["ts"] + CLOSE:
                open_until.pop()
            end = event["ts"] + event["dur"]
            assert not open_until or end <= open_until[-1] + CLOSE, event
            open_until.append(end)


def check_pairs(events: list[Event]) -> None:
    begun = {(e["cat"], e["id"]): e for e in of(events, "b")}
    ended = {(e["cat"], e["id"]): e for e in of(events, "e")}
    assert len(begun) == len(of(events, "b"))
    assert len(ended) == len(of(events, "e"))
    assert set(begun) == set(ended)
    for key, event in begun.items():
        assert event["ts"] <= ended[key]["ts"], event
        assert event["name"] == ended[key]["name"], event


def check_arrows(events: list[Event]) -> None:
    starts = {e["id"]: e for e in of(events, "s")}
    ends = {e["id"]: e for e in of(events, "f")}
    assert Counter(map(len, (starts, ends))) == {len(of(events, "s")): 2}
    assert set(starts) == set(ends)
    for number, start in starts.items():
        end = ends[number]
        assert start["ts"] <= end["ts"], (start, end)
        assert end["bp"] == "e"
        for each in (start, end):
            assert any(
                whole["tid"] == each["tid"]
                and whole["ts"] <= each["ts"] <= whole["ts"] + whole["dur"]
                for whole in of(events, "X")
            ), each
