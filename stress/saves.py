"""What a save costs with ``tsignals.sqlalchemy``, beside one without: flush and commit of a row.

SQLite in memory, so nothing but Python is measured. The cases are interleaved: each once a round,
in an order that changes, on one core, in CPU time. For the bare save the listeners that the module
has on every session and mapper are taken out.
"""

import argparse
import gc
import importlib.util
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from stress.bench.measure import one_core
from tsignals import WorkerPool

BARS = {"installed, nobody connected": 1.03, "one post_save receiver": 1.10}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("saves", help="what a save of SQLAlchemy costs more")
    parser.add_argument("--rounds", type=int, default=100, help="interleaved rounds")
    parser.add_argument("--saves", type=int, default=50, help="saves of each case in a round")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the medians; 1 if a bar is missed, 2 without SQLAlchemy."""
    if importlib.util.find_spec("sqlalchemy") is None:
        print("SQLAlchemy is not installed")
        return 2
    with ExitStack() as stack:
        return measure(build(stack), arguments)


def measure(cases: dict[str, Callable[[int], float]], arguments: argparse.Namespace) -> int:
    order, seconds = random.Random(1), {name: list[float]() for name in cases}
    with one_core():
        for name in cases:
            cases[name](arguments.saves)  # warm
        gc.collect()
        gc.disable()
        for _ in range(arguments.rounds):
            gc.collect()
            for name in order.sample(list(cases), len(cases)):
                seconds[name].append(cases[name](arguments.saves) / arguments.saves)
        gc.enable()
    missed = 0
    bare = seconds["bare"]
    for name, figures in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(figures, bare, strict=True))
        line = f"{name:30} {statistics.median(figures) * 1e6:8.1f} us   {ratio:.3f}"
        if name in BARS:
            over = ratio - BARS[name]
            missed += over > 0
            line += (
                f"   (at most {BARS[name]:.2f}: {'ok' if over <= 0 else f'short by {over:.3f}'})"
            )
        print(line)
    return int(missed > 0)


def build(stack: ExitStack) -> dict[str, Callable[[int], float]]:
    """The cases: each saves so many rows, and says how many seconds that took."""
    import sqlalchemy as sa
    from sqlalchemy.orm import Mapped, Session, declarative_base, mapped_column, sessionmaker

    from tsignals.sqlalchemy import install, on_commit, post_save

    base: Any = declarative_base()

    class Row(base):  # type: ignore[misc]
        __tablename__ = "row"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column()

    engine = sa.create_engine("sqlite://")
    stack.callback(engine.dispose)
    base.metadata.create_all(engine)
    bare, installed = sessionmaker(engine), sessionmaker(engine)
    install(installed)

    def save(session: Session) -> None:
        session.add(Row(name="row"))
        session.flush()
        session.commit()

    def case(maker: "sessionmaker[Session]", around: Callable[[], Any]) -> Callable[[int], float]:
        def saves(count: int) -> float:
            with around(), maker() as session:
                save(session)  # the first one after a change makes plans
                began = time.thread_time()
                for _ in range(count):
                    save(session)
                return time.thread_time() - began

        return saves

    def nothing(**named: Any) -> None:
        pass

    def with_receiver() -> Any:
        return post_save.connect(nothing, Row)

    pool = stack.enter_context(WorkerPool(1))
    later = on_commit(nothing, executor=pool)

    @contextmanager
    def with_on_commit() -> Iterator[None]:
        with post_save.connect(later, Row):
            yield
        pool.drain()  # or its work would disturb the next case

    return {
        "bare": case(bare, without_listeners),
        "imported, not installed": case(bare, ExitStack),
        "installed, nobody connected": case(installed, ExitStack),
        "one post_save receiver": case(installed, with_receiver),
        "one on_commit receiver": case(installed, with_on_commit),
    }


@contextmanager
def without_listeners() -> Iterator[None]:
    """Take out what the module has on every session and mapper."""
    from sqlalchemy import event

    from tsignals.sqlalchemy import _flush, _waiting

    found = [*_waiting.LISTENERS, *_flush.LISTENERS]
    for target, name, function, _ in found:
        event.remove(target, name, function)
    try:
        yield
    finally:
        for target, name, function, arguments in found:
            event.listen(target, name, function, **arguments)
