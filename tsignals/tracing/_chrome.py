"""A trace in the Trace Event Format, which Perfetto and ``chrome://tracing`` read.

``X`` (complete) events on one thread must nest, so they are for what holds up its thread: sync
receivers, ``send`` and ``send_robust``. A send into an executor is one of a microsecond, for nobody
tells when it has returned. What runs on an event loop, and the wait in a queue, overlap with
others: they are pairs of ``b`` and ``e``, each with an id of its own. Arrows (``s``, ``f``) lead
from a send to the start of its deliveries. Times are microseconds from the start of the trace.

Events are written as text: most of it is the same in many, and is made once.
"""

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from time import perf_counter_ns
from types import CodeType
from typing import TextIO

from tsignals._base.events import IN_EXECUTORS
from tsignals.tracing._records import AWAITED, Call, Send

Pair = tuple[str, str | None]
"""An argument of an event: its name, and what it says."""

MOMENT = 1_000
"""Nanoseconds that are drawn for what takes no time that is known."""


def write(sends: list[Send], start_ns: int, file: TextIO) -> None:
    drawing = Drawing(start_ns)
    file.write('{"displayTimeUnit":"ms","traceEvents":[\n')
    file.writelines(f"{event},\n" for event in drawing.events(sends))
    file.write(",\n".join(drawing.names()))
    file.write("\n]}\n")


class Drawing:
    """Events, each as JSON; and the numbers of threads and pairs in them."""

    def __init__(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._now = perf_counter_ns()
        self._process = os.getpid()
        # Their own numbers are too long for the format, and used again by later threads.
        self._threads: dict[tuple[int, str], int] = {}
        self._pairs = itertools.count(1)
        self._places: dict[CodeType | None, str | None] = {}
        self._texts: dict[str | None, str] = {}
        self._written: dict[tuple[Pair, ...], str] = {}

    def names(self) -> Iterator[str]:
        """Those of the process and of the threads that have been drawn."""
        for name, number, kind in [
            ("tsignals", 0, "process_name"),
            *((name, number, "thread_name") for (_, name), number in self._threads.items()),
        ]:
            yield (
                f'{{"ph":"M","name":"{kind}","pid":{self._process},"tid":{number},"ts":0,'
                f'"args":{{"name":{self._text(name)}}}}}'
            )

    def events(self, sends: Iterable[Send]) -> Iterator[str]:
        for send in sends:
            yield from self._send(send)
            for call in send.calls:
                if call.started_ns is not None or call.outcome is not None:
                    yield from self._call(send, call)

    def _send(self, send: Send) -> Iterator[str]:
        args: list[Pair] = [("signal", send.name), ("sender", send.sender), ("mode", send.mode)]
        if not send.heard:
            args.append(("heard", "by nobody"))
        if send.not_called:
            said = ", ".join(f"{each.name} ({each.why})" for each in send.not_called)
            args.append(("not called", said))
        name = f"{send.name} ({send.mode})"
        thread = self._thread(send.thread_id, send.thread_name)
        start = send.started_ns
        if send.mode in IN_EXECUTORS:
            yield self._whole("send", name, thread, start, start + MOMENT, *args)
            return
        under_way = any(c.started_ns is not None and c.ended_ns is None for c in send.calls)
        end = self._now if under_way else max(send.ended_ns, start + MOMENT)
        if send.mode in AWAITED:
            yield from self._pair("send", name, thread, start, end, *args)
        else:
            yield self._whole("send", name, thread, start, end, *args)

    def _call(self, send: Send, call: Call) -> Iterator[str]:
        args: list[Pair] = [("signal", send.name), ("outcome", call.outcome)]
        args.append(("where", self._where(call)))
        if call.error is not None:
            args.append(("error", call.error))
        sender_thread = self._thread(send.thread_id, send.thread_name)
        end = self._now if call.ended_ns is None else call.ended_ns
        began = end if call.started_ns is None else call.started_ns
        if send.mode in IN_EXECUTORS and call.queued_seconds is not None:
            since = max(send.started_ns, began - round(call.queued_seconds * 1e9))
            name = f"{call.name} waits"
            yield from self._pair("queue", name, sender_thread, since, began, args[1])
        if call.started_ns is None or call.thread_id is None:
            return
        thread = self._thread(call.thread_id, call.thread_name or "")
        if call.is_async:
            yield from self._pair("receiver", call.name, thread, began, end, *args)
        else:
            yield self._whole("receiver", call.name, thread, began, end, *args)
        if send.mode in IN_EXECUTORS:
            if call.is_async:  # arrows lead to what nests
                name = f"{call.name} starts"
                yield self._whole("receiver", name, thread, began, began + MOMENT)
            arrow = f'"cat":"delivery","name":"delivery","id":{next(self._pairs)}'
            yield f'{{"ph":"s",{arrow},{self._at(sender_thread, send.started_ns)}}}'
            yield f'{{"ph":"f","bp":"e",{arrow},{self._at(thread, began)}}}'

    # -- Parts --

    def _whole(self, kind: str, name: str, thread: int, start: int, end: int, *args: Pair) -> str:
        what = f'"cat":"{kind}","name":{self._text(name)},{self._at(thread, start)}'
        return f'{{"ph":"X",{what},"dur":{(end - start) / 1e3},"args":{self._args(args)}}}'

    def _pair(
        self, kind: str, name: str, thread: int, start: int, end: int, *args: Pair
    ) -> Iterator[str]:
        what = f'"cat":"{kind}","name":{self._text(name)},"id":"{next(self._pairs):#x}"'
        yield f'{{"ph":"b",{what},{self._at(thread, start)},"args":{self._args(args)}}}'
        yield f'{{"ph":"e",{what},{self._at(thread, end)}}}'

    def _at(self, thread: int, when: int) -> str:
        return f'"pid":{self._process},"tid":{thread},"ts":{(when - self._start_ns) / 1e3}'

    def _text(self, text: str | None) -> str:
        written = self._texts.get(text)
        if written is None:
            self._texts[text] = written = json.dumps(text)
        return written

    def _args(self, args: tuple[Pair, ...]) -> str:
        written = self._written.get(args)
        if written is None:
            self._written[args] = written = json.dumps(dict(args))
        return written

    def _where(self, call: Call) -> str | None:
        """``call.where``, which takes as long as all else."""
        if call.code not in self._places:
            self._places[call.code] = call.where
        return self._places[call.code]

    def _thread(self, ident: int, name: str) -> int:
        return self._threads.setdefault((ident, name), len(self._threads) + 1)
