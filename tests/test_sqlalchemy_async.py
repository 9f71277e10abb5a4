"""AsyncSession: sync receivers on its thread, async ones awaited; commits; whose sessions send."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
pytest.importorskip("greenlet", reason="greenlet, which AsyncSession needs, is not installed")
pytest.importorskip("aiosqlite", reason="aiosqlite is not installed")

import sqlalchemy as sa
from alchemy import Base, Heard, Node, Post, User, connected, server, transactional
from helpers import TIMEOUT, Boom
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, sessionmaker

from tsignals import DeliveryDropped, Signal, WorkerPool, set_default_executor
from tsignals.sqlalchemy import (
    after_commit,
    install,
    on_commit,
    post_save,
    pre_save,
    uninstall,
)
from tsignals.testing import capture

__all__ = ["server"]

placed = Signal(name="placed")


@pytest.fixture(params=["aiosqlite", "asyncpg", "psycopg"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    if request.param == "aiosqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/db.sqlite"
    found = request.getfixturevalue("server")
    return str(found.url_for(f"postgresql+{request.param}"))


@pytest.fixture(autouse=True)
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2) as pool:
        set_default_executor(pool)
        yield pool
        set_default_executor(None)


@asynccontextmanager
async def database(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(url)
    if "sqlite" in url:
        transactional(engine.sync_engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    try:
        yield engine
    finally:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
        await engine.dispose()


def run(main: Any) -> None:
    asyncio.run(asyncio.wait_for(main, TIMEOUT))


def test_sync_receivers_run_on_the_sessions_thread_and_async_ones_are_awaited(url: str) -> None:
    seen: list[Any] = []

    def here(instance: Any, session: Session, **named: Any) -> None:
        seen.append(("here", threading.get_ident(), instance.name))

    async def awaited(instance: Any, session: Session, **named: Any) -> None:
        await asyncio.sleep(0)
        seen.append(("awaited", threading.get_ident(), instance.name))

    async def main() -> None:
        async with database(url) as engine:
            maker = async_sessionmaker(engine)
            install(maker)
            async with maker() as session:
                session.add(User(name="ann"))
                await session.commit()

    with connected(post_save, awaited, User), connected(post_save, here, User):
        run(main())
    me = threading.get_ident()
    assert seen == [("here", me, "ann"), ("awaited", me, "ann")]


def test_sync_receivers_may_load_and_async_ones_may_await_the_session(url: str) -> None:
    seen: list[Any] = []

    def look(instance: Any, session: Session, **named: Any) -> None:
        seen.append(session.scalar(sa.select(sa.func.count(User.id))))
        seen.append(len(instance.posts))  # loaded here

    async def await_it(instance: Any, session: Session, **named: Any) -> None:
        own = async_session(session)
        assert own is not None
        seen.append(await own.scalar(sa.select(User.name)))

    async def main() -> None:
        async with database(url) as engine:
            maker = async_sessionmaker(engine)
            install(maker)
            async with maker() as session:
                session.add(User(name="ann", posts=[Post(name="hello")]))
                await session.commit()
            with connected(post_save, await_it, User), connected(post_save, look, User):
                async with maker() as session:
                    user = (await session.scalars(sa.select(User))).one()
                    user.name = "eve"
                    await session.commit()

    run(main())
    assert seen == [1, 1, "eve"]


def test_async_receivers_take_turns_for_a_session_is_used_by_one_task_at_a_time(url: str) -> None:
    seen: list[str] = []

    async def use(instance: Any, session: Session, **named: Any) -> None:
        seen.append("begins")
        own = async_session(session)
        assert own is not None
        await own.scalar(sa.select(sa.func.count(User.id)))
        await asyncio.sleep(0)
        seen.append("ends")

    async def use_it_too(instance: Any, session: Session, **named: Any) -> None:
        await use(instance, session)

    async def main() -> None:
        async with database(url) as engine:
            await engine.dispose()  # so that the first to use the session waits for a connection
            maker = async_sessionmaker(engine)
            install(maker)
            async with maker() as session:
                session.add(User(name="ann"))
                await session.commit()

    with connected(pre_save, use, User), connected(pre_save, use_it_too, User):
        run(main())
    assert seen == ["begins", "ends"] * 2


def test_async_pre_save_can_change_and_add(url: str) -> None:
    async def change(instance: Any, session: Session, **named: Any) -> None:
        await asyncio.sleep(0)
        instance.name += "!"
        session.add(Node(name=instance.name))

    async def main() -> None:
        async with database(url) as engine:
            maker = async_sessionmaker(engine)
            install(maker)
            async with maker() as session:
                session.add(User(name="ann"))
                await session.commit()
                assert (await session.scalars(sa.select(Node.name))).all() == ["ann!"]

    with connected(pre_save, change, User):
        run(main())


@pytest.mark.parametrize("signal", [pre_save, post_save])
def test_exception_of_an_async_receiver_stops_the_flush(url: str, signal: Any) -> None:
    async def fail(**named: Any) -> None:
        await asyncio.sleep(0)
        raise Boom

    async def main() -> None:
        async with database(url) as engine:
            maker = async_sessionmaker(engine)
            install(maker)
            async with maker() as session:
                session.add(User(name="ann"))
                with pytest.raises(Boom):
                    await session.commit()
                await session.rollback()
                assert (await session.scalars(sa.select(User))).all() == []

    with connected(signal, fail, User):
        run(main())


def test_cancelled_commit_cancels_the_receiver_and_rolls_back(url: str) -> None:
    seen: list[str] = []

    async def main() -> None:
        entered = asyncio.Event()

        async def hang(**named: Any) -> None:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("cancelled")

        async with database(url) as engine:
            maker = async_sessionmaker(engine)
            install(maker)

            async def work() -> None:
                async with maker() as session:
                    session.add(User(name="ann"))
                    await session.commit()

            with connected(post_save, hang, User):
                task = asyncio.create_task(work())
                await entered.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            async with maker() as session:
                assert (await session.scalars(sa.select(User))).all() == []

    run(main())
    assert seen == ["cancelled"]


def test_after_commit_and_on_commit_wait_for_the_async_commit(url: str) -> None:
    seen: list[Any] = []

    def ear(order: int, **named: Any) -> None:
        seen.append(order)

    @on_commit
    async def welcome(identity: Any, **named: Any) -> None:
        seen.append(identity[0])

    async def main() -> None:
        async with database(url) as engine:
            maker = async_sessionmaker(engine)
            install(maker)
            scoped = async_scoped_session(maker, scopefunc=asyncio.current_task)
            async with maker() as session:
                session.add(User(name="ann"))
                deliveries = after_commit(session, placed, None, order=1)
                async with session.begin_nested():
                    within = after_commit(session, placed, None, order=2)
                await session.flush()
                assert not deliveries.futures[0].done()
                await session.commit()
                await deliveries
                await within
                session.add(User(name="bob"))
                dropped = after_commit(session, placed, None, order=3)
                await session.rollback()
                assert isinstance(dropped.futures[0].exception(0), DeliveryDropped)
                with pytest.raises(TypeError, match="identity="):
                    after_commit(session, placed, None, db=session)
            scoped.add(User(name="eve"))
            deliveries = after_commit(scoped, placed, None, order=4)
            await scoped.commit()
            await deliveries
            await scoped.remove()

    with placed.connect(ear), connected(post_save, welcome, User):
        run(main())
        assert set_default_executor(None).drain(TIMEOUT)  # type: ignore[union-attr]
    assert sorted(seen, key=str) == [1, 2, 4, User, User]


def test_async_on_commit_receiver_loads_with_an_engine_of_its_own(url: str) -> None:
    """As docs/howto/sqlalchemy.md has it: its event loop is not that of the sender."""
    seen: list[str] = []
    background = create_async_engine(url)

    @on_commit
    async def welcome(sender: Any, identity: Any, **named: Any) -> None:
        async with AsyncSession(background) as session:
            user = await session.get(sender, identity[1])
            assert user is not None
            seen.append(user.name)
        if user.name == "eve":  # the last one: on the loop to which the connections belong
            await background.dispose()

    async def main() -> None:
        async with database(url) as engine:
            maker = async_sessionmaker(engine)
            install(maker)
            for name in ("ann", "bob", "eve"):
                with capture(post_save) as sent:
                    async with maker() as session:
                        session.add(User(name=name))
                        await session.commit()
                delivery: Any = sent[0].responses[0][1]
                await asyncio.wrap_future(delivery)

    with connected(post_save, welcome, User):
        run(main())
    assert seen == ["ann", "bob", "eve"]


@pytest.fixture
def memory() -> str:
    return "sqlite+aiosqlite://"


async def saves(session: AsyncSession) -> list[Any]:
    with Heard("post_save") as heard:
        async with session:
            session.add(User(name="ann"))
            await session.commit()
    return list(heard)


ONE = [("post_save", "ann", True)]


def test_targets_cover_the_sessions_they_make_and_no_others(memory: str) -> None:
    async def main() -> None:
        class Own(AsyncSession):
            pass

        async with database(memory) as engine:
            maker, other = async_sessionmaker(engine), async_sessionmaker(engine)
            install(maker)
            assert await saves(maker()) == ONE
            assert await saves(other()) == []
            assert await saves(AsyncSession(engine)) == []
            with Session() as plain:
                assert type(plain) is Session
            uninstall(maker)
            assert await saves(maker()) == []
            install(maker)
            assert await saves(maker()) == ONE

            install(Own)
            assert await saves(Own(engine)) == ONE
            assert await saves(async_sessionmaker(engine, class_=Own)()) == ONE
            assert await saves(AsyncSession(engine)) == []
            uninstall(Own)
            assert await saves(Own(engine)) == []

            scoped = async_scoped_session(other, scopefunc=asyncio.current_task)
            install(scoped)
            assert await saves(scoped()) == ONE
            await scoped.remove()
            uninstall(scoped)
            assert await saves(other()) == []

            session = AsyncSession(engine)
            install(session)
            assert await saves(session) == ONE
            assert await saves(AsyncSession(engine)) == []

    run(main())


def test_overlapping_async_installs_send_once(memory: str) -> None:
    class Sync(Session):
        pass

    async def main() -> None:
        async with database(memory) as engine:
            maker = async_sessionmaker(engine, sync_session_class=Sync)
            for target in (maker, Sync, Session, maker):
                install(target)
            try:
                session = maker()
                assert isinstance(session.sync_session, Sync)
                install(session)
                assert await saves(session) == ONE
                uninstall(Session)
                assert await saves(maker()) == ONE
                uninstall(maker)
                assert await saves(maker()) == ONE  # Sync still covers it
                uninstall(Sync)
                assert await saves(maker()) == []
            finally:
                uninstall(Session)

    run(main())


def test_async_session_class_gets_a_session_class_of_its_own(memory: str) -> None:
    async def main() -> None:
        before = AsyncSession.sync_session_class
        install(AsyncSession)
        try:
            async with database(memory) as engine:
                assert await saves(AsyncSession(engine)) == ONE
                assert await saves(async_sessionmaker(engine)()) == ONE
                own = AsyncSession.sync_session_class
                install(AsyncSession)
                assert AsyncSession.sync_session_class is own
                assert issubclass(own, before)
        finally:
            uninstall(AsyncSession)
            AsyncSession.sync_session_class = before

    run(main())


def test_sessionmaker_of_async_sessions_is_as_an_async_sessionmaker(memory: str) -> None:
    class Sync(Session):
        pass

    async def main() -> None:
        async with database(memory) as engine:
            for more in ({}, {"sync_session_class": Sync}):
                maker: Any = sessionmaker(engine, class_=AsyncSession, **more)  # type: ignore[call-overload]
                other: Any = sessionmaker(engine, class_=AsyncSession, **more)  # type: ignore[call-overload]
                install(maker)
                assert await saves(maker()) == ONE
                assert await saves(other()) == []
                uninstall(maker)
                assert await saves(maker()) == []
                scoped = async_scoped_session(maker, scopefunc=asyncio.current_task)
                install(scoped)
                assert await saves(scoped()) == ONE
                await scoped.remove()

    run(main())


def test_uninstall_of_async_targets_that_are_not_installed_changes_nothing() -> None:
    class Own(AsyncSession):
        pass

    class Below(Own):
        pass

    maker = async_sessionmaker()
    for target in (Own, maker, async_scoped_session(maker, scopefunc=int)):
        uninstall(target)
    assert Own.sync_session_class is Session
    assert "sync_session_class" not in maker.kw
    install(Own)
    uninstall(Below)  # has it from Own, which stays installed

    async def main() -> None:
        async with database("sqlite+aiosqlite://") as engine:
            assert await saves(Own(engine)) == ONE
            assert await saves(Below(engine)) == ONE

    run(main())


def test_function_that_makes_sync_sessions_is_refused_with_its_reason() -> None:
    maker = async_sessionmaker(sync_session_class=lambda **named: Session(**named))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="sync_session_class"):
        install(maker)
    with pytest.raises(TypeError, match="which makes its sessions"):
        install(async_scoped_session(lambda: AsyncSession(), scopefunc=int))  # type: ignore[arg-type]
