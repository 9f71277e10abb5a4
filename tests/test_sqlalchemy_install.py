"""install and uninstall: whose sessions send; sessions in threads; what an import brings along."""

import argparse
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")

import processes
import sqlalchemy as sa
from alchemy import Heard, Node, User, connected, engine, many, server, sqlite, tables
from helpers import TIMEOUT, assert_gone, together
from servers import Postgresql
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from tsignals import WorkerPool, set_default_executor
from tsignals.sqlalchemy import (
    install,
    on_commit,
    post_save,
    pre_save,
    uninstall,
)

__all__ = ["engine", "many", "server"]


@pytest.fixture
def memory() -> Iterator[sa.Engine]:
    with tables(sqlite()) as engine:
        yield engine


def saves(make: Callable[[], Session]) -> list[Any]:
    """What is heard of one save in a session that ``make()`` makes."""
    with Heard("post_save") as heard, make() as session:
        session.add(User(name="ann"))
        session.commit()
    return heard


ONE = [("post_save", "ann", True)]


def test_sessionmaker_covers_its_sessions_and_no_others(memory: sa.Engine) -> None:
    maker, other = sessionmaker(memory), sessionmaker(memory)
    install(maker)
    assert saves(maker) == ONE
    assert saves(other) == []
    assert saves(lambda: Session(memory)) == []
    uninstall(maker)
    assert saves(maker) == []
    install(maker)
    assert saves(maker) == ONE


def test_subclass_covers_its_sessions_and_no_others(memory: sa.Engine) -> None:
    class Own(Session):
        pass

    install(Own)
    assert saves(lambda: Own(memory)) == ONE
    assert saves(lambda: Session(memory)) == []
    assert saves(sessionmaker(memory, class_=Own)) == ONE


def test_session_class_covers_every_session(memory: sa.Engine) -> None:
    before = Session(memory)
    install(Session)
    try:
        assert saves(lambda: Session(memory)) == ONE
        assert saves(lambda: before) == ONE
        assert saves(sessionmaker(memory)) == ONE
    finally:
        uninstall(Session)
    assert saves(lambda: Session(memory)) == []


def test_one_session_is_covered_alone(memory: sa.Engine) -> None:
    session = Session(memory)
    install(session)
    assert saves(lambda: Session(memory)) == []
    assert saves(lambda: session) == ONE


@pytest.mark.parametrize("factory", [sessionmaker, lambda engine: sessionmaker(engine).class_])
def test_scoped_session_covers_those_of_every_thread(memory: sa.Engine, factory: Any) -> None:
    scoped = scoped_session(sessionmaker(memory))
    install(scoped)

    def work() -> None:
        scoped.add(User(name="ann"))
        scoped.commit()
        scoped.remove()

    with Heard("post_save") as heard:
        work()
        together(work)
    assert heard == ONE * 2


def test_overlapping_installs_send_once(memory: sa.Engine) -> None:
    class Own(Session):
        pass

    maker = sessionmaker(memory, class_=Own)
    session = maker()
    targets = [maker, Session, Own, session, scoped_session(maker), Own, maker]
    for target in targets:
        install(target)
    try:
        assert saves(lambda: session) == ONE
        assert saves(maker) == ONE
        for target in (maker, Own, session):
            uninstall(target)
        assert saves(maker) == ONE  # Session still covers it
    finally:
        uninstall(Session)
    assert saves(maker) == []


def test_class_made_later_is_covered_by_each_of_its_bases(memory: sa.Engine) -> None:
    class Own(Session):
        pass

    install(Own)
    install(Session)
    try:

        class Later(Own):
            pass

        assert saves(lambda: Later(memory)) == ONE
        uninstall(Own)
        assert saves(lambda: Later(memory)) == ONE
    finally:
        uninstall(Session)
    assert saves(lambda: Later(memory)) == []


def test_uninstall_in_a_receiver_ends_after_that_flush(memory: sa.Engine) -> None:
    maker = sessionmaker(memory)
    install(maker)
    with connected(pre_save, lambda **named: uninstall(maker)):
        assert saves(maker) == ONE
    assert saves(maker) == []


def test_uninstall_while_another_thread_flushes_harms_nobody(memory: sa.Engine) -> None:
    maker = sessionmaker(memory)
    install(maker)
    entered, go = threading.Event(), threading.Event()

    def stop(**named: Any) -> None:
        entered.set()
        assert go.wait(TIMEOUT)

    def remove() -> None:
        assert entered.wait(TIMEOUT)
        uninstall(maker)
        go.set()

    with connected(pre_save, stop):
        heard, _ = together(lambda: saves(maker), lambda: [remove()])
    assert heard == ONE


def test_uninstall_of_what_is_not_installed_changes_nothing(memory: sa.Engine) -> None:
    maker = sessionmaker(memory)
    uninstall(maker)
    uninstall(Session)
    assert saves(maker) == []
    install(maker)
    assert saves(maker) == ONE


@pytest.mark.parametrize("target", [None, 5, "Session", User, sa.MetaData, dict])
def test_anything_else_is_refused(target: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot install on .*: pass Session"):
        install(target)
    with pytest.raises(TypeError, match="cannot uninstall from"):
        uninstall(target)


def test_scoped_session_over_a_function_is_refused_with_its_reason(memory: sa.Engine) -> None:
    with pytest.raises(TypeError, match="which makes its sessions"):
        install(scoped_session(lambda: Session(memory)))


def test_an_installed_target_can_die(memory: sa.Engine) -> None:
    maker = sessionmaker(memory)
    session = maker()
    install(maker)
    install(session)
    references = [weakref.ref(session), weakref.ref(maker.class_)]
    session.close()
    del maker, session
    for reference in references:
        assert_gone(reference)


def test_sessions_in_threads_send_on_their_own(many: sa.Engine) -> None:
    maker = sessionmaker(many)
    install(maker)
    seen: dict[int, list[Any]] = {}
    delivered: list[Any] = []

    def look(instance: Any, session: Session, **named: Any) -> None:
        assert session.info["of"] == threading.get_ident()
        assert instance.name == str(threading.get_ident())
        seen.setdefault(threading.get_ident(), []).append(instance.id)

    @on_commit
    def after(identity: Any, **named: Any) -> None:
        delivered.append(identity[1][0])

    def work() -> list[int]:
        kept = []
        for turn in range(20):
            with maker(info={"of": threading.get_ident()}) as session:
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
                session.add(user := User(name=str(threading.get_ident())))
                session.flush()
                if turn % 2:
                    session.rollback()
                else:
                    session.commit()
                    kept.append(user.id)
        return kept

    with (
        WorkerPool(2) as pool,
        connected(post_save, look, User),
        connected(post_save, after, User),
    ):
        set_default_executor(pool)
        kept = [one for ids in together(*[work] * 4) for one in ids]
        assert pool.drain(TIMEOUT)
        assert pool.stats().dropped == 40
        set_default_executor(None)
    assert sorted(delivered) == sorted(kept)
    assert [len(ids) for ids in seen.values()] == [20] * 4


def test_installs_from_many_threads_send_once(memory: sa.Engine) -> None:
    maker = sessionmaker(memory)
    together(*[lambda: install(maker)] * 8)
    assert saves(maker) == ONE
    uninstall(maker)
    assert saves(maker) == []


def test_a_session_within_a_receiver_has_a_flush_of_its_own(server: Postgresql) -> None:
    engine = sa.create_engine(server.url_for("postgresql+psycopg"))
    maker = sessionmaker(engine)
    install(maker)

    def elsewhere(instance: Any, **named: Any) -> None:
        with maker() as own:
            own.add(Node(name="note"))
            own.flush()
            own.rollback()

    with (
        tables(engine),
        connected(post_save, elsewhere, User),
        Heard("pre_save", "post_save") as heard,
        maker() as session,
    ):
        session.add(User(name="ann"))
        session.flush()
        session.rollback()
    assert heard == [
        ("pre_save", "ann", True),
        ("pre_save", "note", True),
        ("post_save", "note", True),
        ("post_save", "ann", True),
    ]


def test_importing_the_package_does_not_import_sqlalchemy() -> None:
    done = processes.run(
        """
        import tsignals
        assert "sqlalchemy" not in sys.modules
        import tsignals.sqlalchemy
        assert "sqlalchemy" in sys.modules
        assert "sqlalchemy.ext.asyncio" not in sys.modules
        print("well")
        """
    )
    assert done.stdout == "well\n", done.stderr


def test_bench_of_saves_prints_every_case_with_its_bar(capsys: pytest.CaptureFixture[str]) -> None:
    from stress import saves

    assert saves.run(argparse.Namespace(rounds=1, saves=1)) in (0, 1)
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].startswith("bare")
    for name, bar in saves.BARS.items():
        assert f"{bar:.2f}" in printed
        assert name in printed
