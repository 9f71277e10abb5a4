"""Sending from a coroutine, against the least that asyncio takes to do the same.

The receivers do nothing, so that the figures are those of the way to them. Per send.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from types import FunctionType
from typing import Any, TypeAlias

from stress.bench.libraries import Receiver, Sender, functions, installed
from stress.bench.measure import Group, Scale, Statement, Subject

COUNTS = (1, 10, 100)

CoroutineFunction: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


def subjects(scale: Scale) -> Iterator[Subject]:
    yield Subject(
        "asend",
        [
            Group(f"asend to {kind}, {n}", partial(build, count=n))
            for kind, build in (("async receivers", _to_async), ("sync receivers", _to_sync))
            for n in COUNTS
        ],
    )


class Awaited(Statement):
    """A coroutine function, awaited in a loop that holds nothing else."""

    def __init__(
        self, name: str, loop: asyncio.AbstractEventLoop, function: Callable[[], Awaitable[object]]
    ) -> None:
        super().__init__(name, "pass")
        self._loop = loop
        self._function = function

    def run(self, number: int) -> float:
        return self._loop.run_until_complete(self._run(number))

    async def _run(self, number: int) -> float:
        function = self._function
        began = time.perf_counter()
        for _ in range(number):
            await function()
        return time.perf_counter() - began


def _to_async(stack: ExitStack, count: int) -> Iterator[Awaited]:
    loop = _event_loop(stack)
    receivers, sender = _coroutine_functions(count), Sender()

    async def bare() -> object:
        async with asyncio.TaskGroup() as group:
            tasks = [
                (r, group.create_task(r(signal=sender, sender=sender, a=1))) for r in receivers
            ]
        return [(r, task.result()) for r, task in tasks]

    yield Awaited("TaskGroup", loop, bare)
    yield from _asends(loop, receivers, sender)


def _to_sync(stack: ExitStack, count: int) -> Iterator[Awaited]:
    loop = _event_loop(stack)
    receivers, sender = functions(count), Sender()

    def call() -> object:
        return [(r, r(signal=sender, sender=sender, a=1)) for r in receivers]

    async def bare() -> object:
        return await loop.run_in_executor(None, call)

    yield Awaited("run_in_executor", loop, bare)
    yield from _asends(loop, receivers, sender)


def _asends(
    loop: asyncio.AbstractEventLoop, receivers: Sequence[Receiver], sender: Sender
) -> Iterator[Awaited]:
    for library in installed():
        signal = library.signal()
        if hasattr(signal, "asend"):
            for receiver in receivers:
                library.connect(signal, receiver)
            yield Awaited(library.name, loop, _send(signal.asend, sender, receivers))


def _send(
    asend: Callable[..., Awaitable[object]], sender: Sender, kept: object
) -> Callable[[], Awaitable[object]]:
    """``kept`` lives as long as the function: nobody else holds what is connected weakly."""

    def send(kept: object = kept) -> Awaitable[object]:
        return asend(sender, a=1)

    return send


def _event_loop(stack: ExitStack) -> asyncio.AbstractEventLoop:
    return stack.enter_context(asyncio.Runner(loop_factory=asyncio.new_event_loop)).get_loop()


def _coroutine_functions(count: int) -> tuple[CoroutineFunction, ...]:
    """As many functions of their own."""

    async def receiver(signal: object, sender: object, **named: object) -> None:
        pass

    return tuple(FunctionType(receiver.__code__, globals(), f"receiver_{n}") for n in range(count))
