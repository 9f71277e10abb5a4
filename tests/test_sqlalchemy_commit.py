"""on_commit and after_commit: delivered when the session has committed, and only then."""

import contextlib
import contextvars
import copy
import gc
import logging
import pickle
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import processes
import pytest

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")

import sqlalchemy as sa
from alchemy import (
    Base,
    Heard,
    Node,
    User,
    connected,
    engine,
    maker,
    many,
    server,
    session,
    sqlite,
)
from helpers import TIMEOUT, Boom, Ear, Thing, gil_is_on, uncollected
from pools import held, told
from servers import postgresql
from sqlalchemy.orm import Session, make_transient, scoped_session, sessionmaker

from tsignals import (
    DeliveryDropped,
    PoolClosed,
    QueueFull,
    Retry,
    Signal,
    WorkerPool,
    get_default_executor,
    set_default_executor,
)
from tsignals.sqlalchemy import (
    after_commit,
    install,
    on_commit,
    post_delete,
    post_save,
    pre_delete,
    pre_save,
    uninstall,
)

__all__ = ["engine", "maker", "many", "server", "session"]


@pytest.fixture(autouse=True)
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2, thread_name_prefix="mail") as pool:
        set_default_executor(pool)
        yield pool
        set_default_executor(None)


placed = Signal(name="placed")


class Order(list[Any]):
    """A receiver that tells its values; ``ear(**named)`` is ``placed``'s."""

    def __call__(self, signal: Any, sender: Any, **named: Any) -> Any:
        self.append(named)
        return threading.current_thread().name


@pytest.fixture
def ear() -> Iterator[Order]:
    ear = Order()
    with placed.connect(ear, weak=False):
        yield ear


# -- after_commit --


def test_after_commit_is_delivered_in_the_pool_once_the_session_has_committed(
    session: Session, ear: Order, pool: WorkerPool
) -> None:
    session.add(User(name="ann"))
    deliveries = after_commit(session, placed, None, order=7)
    [(receiver, delivery)] = deliveries
    assert receiver is ear
    session.flush()
    assert not delivery.done()
    assert pool.stats().submitted == 0
    session.commit()
    assert deliveries.results(TIMEOUT)[0][1].startswith("mail")
    assert ear == [{"order": 7}]


def test_plan_and_context_are_those_of_the_send(session: Session) -> None:
    request = contextvars.ContextVar("request", default="none")
    seen: list[str] = []

    def early(**named: Any) -> None:
        seen.append(f"early {request.get()}")

    def late(**named: Any) -> None:
        seen.append("late")

    session.begin()
    with placed.connect(early):
        request.set("of the send")
        deliveries = after_commit(session, placed, None)
        request.set("of the commit")
    with placed.connect(late):
        session.commit()
    deliveries.wait(TIMEOUT)
    assert seen == ["early of the send"]


def test_nothing_is_delivered_before_the_commit_is_over(session: Session, ear: Order) -> None:
    states = []

    @sa.event.listens_for(session, "after_commit")
    def after(session: Session) -> None:
        states.append(deliveries.futures[0].done())

    session.begin()
    deliveries = after_commit(session, placed, None)
    session.commit()
    assert states == [False]
    deliveries.results(TIMEOUT)


ENDS = ["rollback", "close", "reset", "invalidate"]


# SQLAlchemy 2.0 has had reset() since 2.0.22.
@pytest.mark.parametrize("end", [end for end in ENDS if hasattr(Session, end)])
def test_end_without_a_commit_drops_what_waits_and_counts_it(
    session: Session, ear: Order, pool: WorkerPool, end: str
) -> None:
    session.add(User(name="ann"))
    [delivery] = after_commit(session, placed, None).futures
    session.flush()
    getattr(session, end)()
    with pytest.raises(DeliveryDropped):
        delivery.result(0)
    assert (pool.stats().submitted, pool.stats().dropped) == (1, 1)
    assert ear == []


def test_flush_that_fails_drops_what_waits_with_the_rollback(session: Session, ear: Order) -> None:
    session.add_all([User(id=1, name="ann"), Node(name="waits")])
    session.commit()
    deliveries = after_commit(session, placed, None)
    deliveries.results(TIMEOUT)  # outside a transaction: at once
    session.add(User(id=2, name="bob"))
    [delivery] = after_commit(session, placed, None).futures
    session.execute(sa.insert(User).values(id=3, name="eve"))
    session.expunge_all()
    session.add(User(id=3, name="again"))
    with pytest.raises(sa.exc.IntegrityError):
        session.flush()
    assert not delivery.done()
    session.rollback()
    assert isinstance(delivery.exception(0), DeliveryDropped)


def test_session_that_is_forgotten_drops_what_waits(
    maker: "sessionmaker[Session]", ear: Order, pool: WorkerPool
) -> None:
    session: Session | None = maker()
    assert session is not None
    session.begin()
    deliveries = after_commit(session, placed, None)
    session = None
    gc.collect()
    with pytest.raises(DeliveryDropped):
        deliveries.results(TIMEOUT)
    assert pool.stats().dropped == 1


def test_savepoint_that_is_released_waits_for_the_outermost_commit(
    session: Session, ear: Order
) -> None:
    with session.begin():
        with session.begin_nested(), session.begin_nested():
            session.add(User(name="ann"))
            deliveries = after_commit(session, placed, None, order=1)
        assert not deliveries.futures[0].done()
        session.flush()
        assert ear == []
    deliveries.results(TIMEOUT)
    assert ear == [{"order": 1}]


def test_savepoint_that_is_rolled_back_drops_its_own_and_no_others(
    session: Session, ear: Order
) -> None:
    with session.begin():
        kept = after_commit(session, placed, None, order="before")
        savepoint = session.begin_nested()
        dropped = after_commit(session, placed, None, order="within")
        with session.begin_nested():
            below = after_commit(session, placed, None, order="below")
        savepoint.rollback()
        later = after_commit(session, placed, None, order="after")
        for deliveries in (dropped, below):
            assert isinstance(deliveries.futures[0].exception(0), DeliveryDropped)
    kept.results(TIMEOUT)
    later.results(TIMEOUT)
    assert sorted(named["order"] for named in ear) == ["after", "before"]


def test_outer_rollback_drops_what_a_released_savepoint_sent(session: Session, ear: Order) -> None:
    session.begin()
    with session.begin_nested():
        [delivery] = after_commit(session, placed, None).futures
    session.rollback()
    assert isinstance(delivery.exception(0), DeliveryDropped)


def test_outside_a_transaction_it_is_delivered_at_once(session: Session, ear: Order) -> None:
    assert not session.in_transaction()
    after_commit(session, placed, None, order=1).results(TIMEOUT)
    assert ear == [{"order": 1}]


def test_next_transaction_has_nothing_of_the_one_before(session: Session, ear: Order) -> None:
    session.begin()
    after_commit(session, placed, None, order=1).cancel()
    session.rollback()
    with session.begin():
        deliveries = after_commit(session, placed, None, order=2)
    deliveries.results(TIMEOUT)
    session.add(User(name="ann"))
    session.commit()
    assert ear == [{"order": 2}]


def test_cancel_before_the_commit_takes_it_back(session: Session, ear: Order) -> None:
    session.begin()
    deliveries = after_commit(session, placed, None)
    assert deliveries.cancel() == 1
    session.commit()
    assert deliveries.futures[0].cancelled()
    assert ear == []


def test_full_queue_is_a_failure_that_is_told_and_the_commit_stands(
    session: Session, ear: Order
) -> None:
    with (
        WorkerPool(1, max_pending=1, overflow="raise") as small,
        held(small),
        told() as failures,
    ):
        small.submit(int)
        session.add(User(name="ann"))
        placed.executor = small
        try:
            [delivery] = after_commit(session, placed, None).futures
        finally:
            placed.executor = None
        session.commit()
        assert isinstance(delivery.exception(0), QueueFull)
    assert [failure.receiver for failure in failures.failures] == [ear]
    assert session.scalar(sa.select(User.name)) == "ann"


def test_closed_pool_is_a_failure_that_is_told_and_the_commit_stands(
    session: Session, ear: Order, pool: WorkerPool
) -> None:
    session.add(User(name="ann"))
    [delivery] = after_commit(session, placed, None).futures
    pool.shutdown()
    with told():
        session.commit()
    assert isinstance(delivery.exception(0), PoolClosed)
    assert session.scalar(sa.select(User.name)) == "ann"


def test_failure_of_the_receiver_is_told_and_the_commit_stands(session: Session) -> None:
    def fail(**named: Any) -> None:
        raise Boom

    with placed.connect(fail), told() as failures:
        session.begin()
        [delivery] = after_commit(session, placed, "sender", order=1).futures
        session.commit()
        assert isinstance(delivery.exception(TIMEOUT), Boom)
    [failure] = failures.failures
    assert (failure.sender, failure.named) == ("sender", {"order": 1})


@pytest.mark.parametrize("kind", ["new", "detached"])
@pytest.mark.parametrize("how", ["after_commit", "on_commit"])
def test_instance_that_is_added_after_the_send_does_not_reach_the_pool(
    how: str, kind: str, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    ear = Ear()
    user = User(name="ann")
    if kind == "detached":
        session.add(user)
        session.commit()
        session.expunge(user)
    session.begin()
    if how == "after_commit":
        with placed.connect(ear):
            [delivery] = after_commit(session, placed, None, user=user).futures
    else:
        with placed.connect(on_commit(ear), weak=False):
            [(_, delivery)] = placed.send(None, user=user, session=session)
    session.add(user)
    session.commit()
    assert isinstance(delivery.exception(0), DeliveryDropped)
    assert session.scalar(sa.select(User.name)) == "ann"
    [record] = caplog.records
    assert (record.name, record.levelname) == ("tsignals", "ERROR")
    for word in ("<Signal 'placed'>", "'user' is an instance", "identity=", "Nothing is delivered"):
        assert word in record.getMessage()


def test_handler_of_logs_that_raises_does_not_reach_the_commit(
    session: Session, ear: Order
) -> None:
    class Raises(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise Boom

    user = User(name="ann")
    session.begin()
    after_commit(session, placed, None, user=user)
    deliveries = after_commit(session, placed, None, order=2)
    session.add(user)
    logger, handler = logging.getLogger("tsignals"), Raises()
    logger.addHandler(handler)
    try:
        session.commit()
    finally:
        logger.removeHandler(handler)
    deliveries.results(TIMEOUT)
    assert ear == [{"order": 2}]


@pytest.mark.skipif(not gil_is_on(), reason="frames are left to the collector")
def test_rollback_that_a_callback_interrupts_leaves_no_cycle(ear: Order) -> None:
    def interrupts(future: object) -> None:
        raise KeyboardInterrupt

    engine = sqlite()
    with Session(engine) as session, uncollected():
        session.connection()
        thing = Thing()
        sent = weakref.ref(thing)
        deliveries = after_commit(session, placed, None, order=thing)
        deliveries.futures[0].add_done_callback(interrupts)
        with contextlib.suppress(KeyboardInterrupt):
            session.rollback()
        del thing, deliveries
        assert sent() is None
    engine.dispose()


@pytest.mark.parametrize("then", ["send", "commit", "rollback", "send outside"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_end_that_raises_is_made_up_for_with_the_next_transaction(
    end: str, then: str, ear: Order
) -> None:
    engine = sqlite()
    errors = [KeyboardInterrupt()]

    @sa.event.listens_for(engine, "checkin")
    def checkin(connection: Any, record: Any) -> None:
        if errors:
            raise errors.pop()

    session = Session(engine)
    session.connection()
    first = after_commit(session, placed, None, order=1)
    with pytest.raises(KeyboardInterrupt):
        getattr(session, end)()
    assert not first.futures[0].done()
    if then != "send outside":
        session.begin()
    if "send" in then:
        after_commit(session, placed, None, order=2)
    else:
        getattr(session, then)()
    if end == "commit":
        first.results(TIMEOUT)
        assert {"order": 1} in ear
    else:
        assert isinstance(first.futures[0].exception(0), DeliveryDropped)
    session.close()
    engine.dispose()


def test_commit_counts_for_a_savepoint_that_it_finds_open(session: Session, ear: Order) -> None:
    sent: list[Any] = []

    def leave_open(own: Session, *context: Any) -> None:
        sent.append(after_commit(own, placed, None, order=1))
        own.begin_nested()
        sent.append(after_commit(own, placed, None, order=2))

    session.add(User(name="ann"))
    sa.event.listen(session, "before_flush", leave_open, once=True)
    session.commit()
    for deliveries in sent:
        deliveries.results(TIMEOUT)
    # The session still names that savepoint; what comes next has another fate.
    session.begin()
    dropped = after_commit(session, placed, None, order=3)
    session.rollback()
    assert isinstance(dropped.futures[0].exception(0), DeliveryDropped)
    session.begin()
    deliveries = after_commit(session, placed, None, order=4)
    assert not deliveries.futures[0].done()
    session.commit()
    deliveries.results(TIMEOUT)
    assert sorted(named["order"] for named in ear) == [1, 2, 4]


def test_what_is_sent_from_a_callback_of_a_commit_is_delivered_too(
    session: Session, ear: Order
) -> None:
    more: list[Any] = []
    session.begin()
    deliveries = after_commit(session, placed, None, order=1)

    def again(future: Any) -> None:
        more.append(after_commit(session, placed, None, order=2))

    deliveries.futures[0].add_done_callback(again)
    session.rollback()
    more[0].results(TIMEOUT)
    assert ear == [{"order": 2}]


def test_what_another_listener_sends_on_the_commit_shares_that_commit(
    session: Session, ear: Order
) -> None:
    sent: list[Any] = []

    def committed(own: Session) -> None:
        sent.append(after_commit(own, placed, None, order=1))
        assert not sent[0].futures[0].done()

    sa.event.listen(session, "after_commit", committed)
    session.begin()
    session.commit()
    sent[0].results(TIMEOUT)
    assert ear == [{"order": 1}]


def test_what_is_sent_as_a_savepoint_is_released_waits_for_the_outermost_commit(
    session: Session, ear: Order
) -> None:
    sent: list[Any] = []

    def committed(own: Session) -> None:
        if own.in_nested_transaction():
            sent.append(after_commit(own, placed, None, order=len(sent)))

    sa.event.listen(session, "after_commit", committed)
    session.begin()
    session.begin_nested().commit()
    assert not sent[0].futures[0].done()
    session.rollback()
    assert isinstance(sent[0].futures[0].exception(TIMEOUT), DeliveryDropped)
    session.begin()
    session.begin_nested().commit()
    session.commit()
    sent[1].results(TIMEOUT)
    assert ear == [{"order": 1}]


def test_transaction_that_another_listener_begins_at_the_end_of_one_has_its_own_fate(
    session: Session, ear: Order
) -> None:
    sent: list[Any] = []

    def ended(own: Session, transaction: Any) -> None:
        if own is session and transaction.parent is None and not sent:
            own.begin()
            sent.append(after_commit(own, placed, None, order=2))

    session.begin()
    first = after_commit(session, placed, None, order=1)
    # Before ours, as that of a module which was imported earlier.
    sa.event.listen(Session, "after_transaction_end", ended, insert=True)
    try:
        session.commit()
    finally:
        sa.event.remove(Session, "after_transaction_end", ended)
    first.results(TIMEOUT)
    assert not sent[0].futures[0].done()
    session.rollback()
    assert isinstance(sent[0].futures[0].exception(TIMEOUT), DeliveryDropped)
    assert ear == [{"order": 1}]


def test_error_of_another_listener_does_not_undo_a_commit() -> None:
    done = processes.run(
        """
        import sqlalchemy as sa
        from sqlalchemy.orm import Session

        def fail(session):
            raise KeyError("theirs")

        sa.event.listen(Session, "after_commit", fail)  # before ours

        from tsignals import Signal
        from tsignals.sqlalchemy import after_commit

        placed = Signal()
        placed.connect(lambda **named: "heard", weak=False)
        try:
            with Session() as session:
                session.begin()
                deliveries = after_commit(session, placed, None)
                session.commit()
        except KeyError:
            print([response for _, response in deliveries.results(30)])
        """
    )
    assert done.stdout == "['heard']\n", done.stderr


def test_nothing_of_a_transaction_stays_with_its_session(session: Session, ear: Order) -> None:
    session.begin()
    session.begin_nested().commit()
    before = set(vars(session))
    after_commit(session, placed, None, order=1)
    session.commit()
    assert set(vars(session)) <= before
    assert session.info == {}


def test_what_waits_stays_when_a_program_clears_the_info_of_its_session(
    session: Session, ear: Order
) -> None:
    session.begin()
    deliveries = after_commit(session, placed, None, order=1)
    session.info.clear()
    session.commit()
    deliveries.results(TIMEOUT)
    assert ear == [{"order": 1}]


def test_a_session_that_is_given_the_info_of_another_has_a_commit_of_its_own(
    session: Session, ear: Order
) -> None:
    session.begin()
    deliveries = after_commit(session, placed, None, order=1)
    with Session(session.get_bind(), info=session.info) as other, other.begin():
        others = after_commit(other, placed, None, order=2)
    others.results(TIMEOUT)
    assert ear == [{"order": 2}]
    session.commit()
    deliveries.results(TIMEOUT)
    assert ear == [{"order": 2}, {"order": 1}]


def test_it_works_with_any_executor(session: Session) -> None:
    ear = Order()
    with ThreadPoolExecutor(1) as executor:
        signal = Signal(name="elsewhere", executor=executor)
        signal.connect(ear, weak=False)
        session.begin()
        deliveries = after_commit(session, signal, None, order=1)
        session.commit()
        deliveries.results(TIMEOUT)
        session.begin()
        dropped = after_commit(session, signal, None, order=2)
        session.rollback()
        assert isinstance(dropped.futures[0].exception(TIMEOUT), DeliveryDropped)
    assert ear == [{"order": 1}]


def test_a_session_need_not_be_installed(engine: sa.Engine, ear: Order) -> None:
    with Session(engine) as session, session.begin():
        deliveries = after_commit(session, placed, None, order=1)
    deliveries.results(TIMEOUT)
    assert ear == [{"order": 1}]


@pytest.mark.parametrize("mode", ["create_savepoint", "rollback_only", "conditional_savepoint"])
def test_sessions_own_commit_counts_within_another_transaction(
    mode: Any, engine: sa.Engine, ear: Order
) -> None:
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode=mode) as session:
            session.add(User(name="ann"))
            deliveries = after_commit(session, placed, None, order=1)
            session.commit()
            deliveries.results(TIMEOUT)
            session.begin()
            dropped = after_commit(session, placed, None, order=2)
            session.rollback()
        outer.rollback()
    assert isinstance(dropped.futures[0].exception(0), DeliveryDropped)
    assert ear == [{"order": 1}]


@pytest.mark.parametrize("by_hand", [False, True])
def test_savepoint_of_the_connection_is_not_the_sessions(
    by_hand: bool, session: Session, ear: Order
) -> None:
    connection = session.connection()
    if by_hand:
        connection.execute(sa.text("SAVEPOINT ours"))
    else:
        savepoint = connection.begin_nested()
    deliveries = after_commit(session, placed, None, order=1)
    if by_hand:
        connection.execute(sa.text("ROLLBACK TO SAVEPOINT ours"))
    else:
        savepoint.rollback()
    assert not deliveries.futures[0].done()
    session.commit()
    deliveries.results(TIMEOUT)
    assert ear == [{"order": 1}]


def test_scoped_session_is_that_of_the_thread(engine: sa.Engine, ear: Order) -> None:
    scoped = scoped_session(sessionmaker(engine))
    scoped.begin()
    deliveries = after_commit(scoped, placed, None, order=1)
    assert not deliveries.futures[0].done()
    scoped.commit()
    deliveries.results(TIMEOUT)
    scoped.begin()
    dropped = after_commit(scoped, placed, None, order=2)
    scoped.remove()
    assert isinstance(dropped.futures[0].exception(0), DeliveryDropped)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_two_phase_commit_delivers_when_the_second_phase_is_done(ear: Order, end: str) -> None:
    with postgresql(two_phase=True) as database:
        engine = sa.create_engine(database.url_for("postgresql+psycopg"))
        Base.metadata.create_all(engine)
        try:
            with Session(engine, twophase=True) as session:
                session.add(User(name="ann"))
                deliveries = after_commit(session, placed, None, order=1)
                session.prepare()
                assert not deliveries.futures[0].done()
                getattr(session, end)()
                if end == "commit":
                    deliveries.results(TIMEOUT)
                else:
                    assert isinstance(deliveries.futures[0].exception(0), DeliveryDropped)
        finally:
            engine.dispose()


@pytest.mark.parametrize("name", ["user", "session", "scoped"])
def test_instances_and_sessions_are_refused_by_name(session: Session, name: str) -> None:
    session.add(user := User(name="ann"))
    values: dict[str, Any] = {"user": user, "session": session}
    values["scoped"] = scoped_session(sessionmaker())
    with pytest.raises(TypeError, match=rf"'{name}'.*identity="):
        after_commit(session, placed, None, **{name: values[name]})
    with pytest.raises(TypeError, match=r"'sender'.*its class as the sender, and identity="):
        after_commit(session, placed, values[name])
    session.expunge(user)
    assert after_commit(session, placed, None, user=user) == []  # nobody's: it may go


def test_what_is_no_session_is_refused() -> None:
    with pytest.raises(TypeError, match="after_commit needs a session"):
        after_commit(object(), placed, None)


# -- on_commit --


def test_on_commit_receiver_gets_the_identity_after_the_commit(
    many: sa.Engine, pool: WorkerPool
) -> None:
    maker = sessionmaker(many)
    install(maker)
    seen: list[Any] = []

    @on_commit
    def welcome(signal: Any, sender: Any, identity: Any, created: bool, **named: Any) -> str:
        assert named == {}
        with Session(many) as own:
            user = own.get(User, identity[1])
            assert user is not None
            seen.append((signal, sender, user.name, created))
        return threading.current_thread().name

    with connected(post_save, welcome, User), maker() as session:
        session.add(user := User(name="ann"))
        session.flush()
        assert seen == []
        # The same once more, by hand, to see the response.
        [(receiver, delivery)] = post_save.send(User, instance=user, session=session, created=False)
        session.commit()
        assert receiver is welcome
        assert delivery.receiver is welcome
        assert delivery.result(TIMEOUT).startswith("mail")
        assert pool.drain(TIMEOUT)
    assert sorted(seen, key=repr) == [(post_save, User, "ann", c) for c in (False, True)]


def test_on_commit_receiver_of_pre_save_gets_the_identity_of_the_commit(session: Session) -> None:
    seen: list[Any] = []

    @on_commit
    def note(identity: Any, created: bool, **named: Any) -> None:
        seen.append((identity, created, threading.current_thread() is threading.main_thread()))

    with connected(pre_save, note, User):
        session.add(user := User(name="ann"))
        session.commit()
        key = sa.inspect(user).identity_key
        assert set_default_executor(None).drain(TIMEOUT)  # type: ignore[union-attr]
    assert seen == [(key, True, False)]


def test_who_is_told_of_a_failure_gets_the_identity_of_the_commit_too(session: Session) -> None:
    @on_commit
    def fail(identity: Any, **named: Any) -> None:
        raise Boom

    with connected(pre_save, fail, User), told() as failures:
        session.add(user := User(name="ann"))
        session.commit()
        key = sa.inspect(user).identity_key
        assert set_default_executor(None).drain(TIMEOUT)  # type: ignore[union-attr]
    [failure] = failures.failures
    assert failure.named == {"identity": key, "created": True}


def test_on_commit_receiver_gets_the_identity_of_the_send_where_the_key_changes(
    session: Session,
) -> None:
    saved, deleted = list[Any](), list[Any]()

    @on_commit
    def save(identity: Any, **named: Any) -> None:
        saved.append(identity[1])

    @on_commit
    def delete(identity: Any, **named: Any) -> None:
        deleted.append(identity[1])

    session.add(user := User(id=1, name="ann"))
    with (
        connected(pre_save, save),
        connected(post_save, save),
        connected(pre_delete, delete),
        connected(post_delete, delete),
    ):
        session.flush()
        user.id = 2
        session.commit()
        assert set_default_executor(None).drain(TIMEOUT)  # type: ignore[union-attr]
        # That of a new instance is taken at the commit for ``pre_save``, which had none.
        assert sorted(saved) == [(1,), (1,), (2,), (2,)]
        user.id = 3
        session.flush()
        session.delete(user)
        session.commit()
    assert get_default_executor().drain(TIMEOUT)  # type: ignore[attr-defined]
    assert deleted == [(3,)] * 2


def test_on_commit_receiver_hears_of_a_row_though_its_instance_became_another(
    session: Session,
) -> None:
    """As who copies a row does it."""
    saved = list[Any]()

    @on_commit
    def save(identity: Any, created: bool, **named: Any) -> None:
        saved.append((identity[1], created))

    session.add(user := User(id=1, name="ann"))
    session.commit()
    with connected(post_save, save):
        user.name = "bob"
        session.flush()
        session.expunge(user)
        make_transient(user)
        user.id = 2
        session.add(user)
        session.commit()
        assert set_default_executor(None).drain(TIMEOUT)  # type: ignore[union-attr]
    assert sorted(saved) == [((1,), False), ((2,), True)]


def test_on_commit_receivers_of_deletes_get_the_identity(session: Session) -> None:
    seen: list[Any] = []

    @on_commit
    def note(signal: Any, identity: Any, **named: Any) -> None:
        seen.append((signal.name, identity[0], identity[1], named))

    session.add(user := User(name="ann"))
    session.commit()
    user_id = user.id
    with connected(pre_delete, note), connected(post_delete, note):
        session.delete(user)
        session.commit()
        assert set_default_executor(None).drain(TIMEOUT)  # type: ignore[union-attr]
    assert sorted(found[0] for found in seen) == ["post_delete", "pre_delete"]
    assert all(found[1:3] == (User, (user_id,)) for found in seen)


def test_rollback_drops_what_on_commit_receivers_were_called_with(session: Session) -> None:
    receiver = on_commit(Ear())
    with connected(post_save, receiver, User):
        session.add(user := User(name="ann"))
        session.flush()
        [(_, delivery)] = post_save.send(User, instance=user, session=session, created=True)
        session.rollback()
    assert isinstance(delivery.exception(0), DeliveryDropped)


def test_on_commit_works_for_any_signal_that_carries_its_session(session: Session) -> None:
    ear = Order()
    receiver = on_commit(ear)
    with connected(placed, receiver):
        session.begin()
        [(_, delivery)] = placed.send("shop", session=session, order=7)
        assert not delivery.done()
        session.commit()
        delivery.result(TIMEOUT)
        assert ear == [{"order": 7}]
        session.add(user := User(name="ann"))
        with pytest.raises(TypeError, match=r"'instance'.*identity="):
            placed.send("shop", session=session, instance=user)
        with pytest.raises(TypeError, match=r"'other'.*identity="):
            placed.send("shop", session=session, other=session)


def test_on_commit_without_a_session_says_what_is_missing() -> None:
    receiver = on_commit(Ear())
    with connected(placed, receiver):
        with pytest.raises(TypeError, match="no session= to wait for"):
            placed.send(None, order=1)
        with pytest.raises(TypeError, match="needs a session of SQLAlchemy's"):
            placed.send(None, session="mine")


def test_on_commit_outside_a_transaction_runs_at_once(session: Session) -> None:
    ear = Order()
    with connected(placed, on_commit(ear)):
        [(_, delivery)] = placed.send(None, session=session, order=1)
        delivery.result(TIMEOUT)
    assert ear == [{"order": 1}]


def test_on_commit_called_by_send_async_runs_right_there(session: Session) -> None:
    ear = Order()
    with connected(placed, on_commit(ear)):
        session.begin()
        placed.send_async(None, order=1).results(TIMEOUT)
    assert ear == [{"order": 1}]


@pytest.mark.parametrize("verb", ["send_async", "prepare"])
def test_on_commit_lets_no_session_nor_instance_leave_by_what_waits_for_no_commit(
    session: Session, verb: str
) -> None:
    ear = Order()
    with connected(placed, on_commit(ear)):
        user = User(name="Ada")
        session.add(user)
        send = getattr(placed, verb)
        with pytest.raises(TypeError, match=f"cannot {verb} .* use send, or after_commit"):
            send(None, session=session, order=1)
        with pytest.raises(TypeError, match=r"'user'.*identity="):
            send(None, user=user)
        with pytest.raises(TypeError, match=r"'sender'.*identity="):
            send(user)
    assert ear == []


def test_after_commit_takes_its_arguments_by_name_as_well(session: Session) -> None:
    signal = Signal()
    signal.connect(lambda **named: named, weak=False)
    for deliveries in (
        after_commit(session=session, signal=signal, sender="shop", order=1),
        after_commit(session, signal=signal, sender="shop", order=1),
        after_commit(session, signal, "shop", order=1),
    ):
        [(_, named)] = deliveries.results(TIMEOUT)
        assert named == {"signal": signal, "sender": "shop", "order": 1}
    with pytest.raises(TypeError, match="identity="):
        after_commit(session, signal, "shop", session=session)
    for given, missing in (
        ({"signal": signal, "sender": None}, "session"),
        ({"session": session, "signal": signal}, "sender"),
    ):
        with pytest.raises(TypeError, match=f"missing 1 required .*'{missing}'"):
            after_commit(**given)  # type: ignore[call-overload]


@pytest.mark.parametrize("what", [3, post_save.send])
def test_after_commit_of_what_is_no_signal_says_what_it_needs(session: Session, what: Any) -> None:
    with pytest.raises(TypeError, match="after_commit needs a signal of tsignals"):
        after_commit(session, what, None)


def test_on_commit_can_name_an_executor_and_be_ordered(session: Session) -> None:
    seen: list[int] = []
    with WorkerPool(3, thread_name_prefix="own") as own:

        @on_commit(executor=own, ordered=True)
        def note(order: int, **named: Any) -> str:
            seen.append(order)
            return threading.current_thread().name

        with connected(placed, note):
            session.begin()
            deliveries = [
                placed.send(None, session=session, order=order)[0][1] for order in range(50)
            ]
            session.commit()
            names = {delivery.result(TIMEOUT) for delivery in deliveries}
    assert all(name.startswith("own") for name in names)
    assert seen == list(range(50))


def test_on_commit_can_be_ordered_by_key(session: Session) -> None:
    seen = dict[int, list[int]]()
    keys = list[dict[str, Any]]()

    def key(**named: Any) -> int:
        keys.append(named)
        return int(named["order"]) % 3

    with WorkerPool(3) as pool:

        @on_commit(executor=pool, ordered=key)
        def note(order: int, **named: Any) -> None:
            seen.setdefault(order % 3, []).append(order)

        with connected(placed, note):
            session.begin()
            for order in range(50):
                placed.send("shop", session=session, order=order)
            assert keys == [{"sender": "shop", "order": order} for order in range(50)]
            session.commit()
    assert seen == {of: list(range(of, 50, 3)) for of in range(3)}


def test_on_commit_works_on_methods_and_with_async_functions(session: Session) -> None:
    class Mailer:
        def __init__(self) -> None:
            self.sent: list[Any] = []

        @on_commit
        def mail(self, order: int, **named: Any) -> None:
            self.sent.append(order)

        @on_commit
        async def post(self, order: int, **named: Any) -> None:
            self.sent.append(-order)

    mailer = Mailer()
    with placed.connect(mailer.mail), placed.connect(mailer.post):
        session.begin()
        pairs = placed.send(None, session=session, order=1)
        assert [receiver for receiver, _ in pairs] == [mailer.mail, mailer.post]
        assert [delivery.receiver for _, delivery in pairs] == [mailer.mail, mailer.post]
        assert mailer.sent == []
        session.commit()
        for _, delivery in pairs:
            delivery.result(TIMEOUT)
    assert sorted(mailer.sent) == [-1, 1]


@on_commit
def by_name(**named: Any) -> None:
    """Says something."""


def test_on_commit_has_the_name_of_what_it_wraps_and_can_be_copied_and_pickled() -> None:
    assert (by_name.__name__, by_name.__doc__) == ("by_name", "Says something.")
    assert repr(by_name) == "<on_commit by_name>"
    assert copy.copy(by_name) is by_name
    assert pickle.loads(pickle.dumps(by_name)) is by_name
    again = pickle.loads(pickle.dumps(on_commit(print)))
    assert repr(again) == "<on_commit print>"
    assert again.__wrapped__ is print


def test_on_commit_refuses_what_it_cannot_do() -> None:
    with pytest.raises(TypeError, match="needs a callable"):
        on_commit(5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="Executor"):
        on_commit(executor=5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="Executor"):
        on_commit(print, executor=5)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="background"):
        placed.connect(by_name, ordered=True)


def test_on_commit_refuses_what_is_no_retry_as_background_does() -> None:
    assert on_commit(print, retry=None).retry is None
    with pytest.raises(TypeError, match=r"retry must be a tsignals\.Retry"):
        on_commit(print, retry=object())  # type: ignore[call-overload]


def test_uninstall_loses_nothing_that_waits(engine: sa.Engine) -> None:
    ear = Order()
    maker = sessionmaker(engine)
    install(maker)
    with connected(post_save, on_commit(ear), User), maker() as session:
        session.add(User(name="ann"))
        session.flush()
        uninstall(maker)
        session.commit()
        assert set_default_executor(None).drain(TIMEOUT)  # type: ignore[union-attr]
    assert len(ear) == 1


def test_values_sent_survive_an_instance_that_is_gone(session: Session) -> None:
    ear = Order()
    with connected(pre_save, on_commit(ear), User), Heard():
        session.add(User(name="ann"))
        session.flush()
        gc.collect()
        session.commit()
        assert set_default_executor(None).drain(TIMEOUT)  # type: ignore[union-attr]
    [named] = ear
    assert named["identity"][0] is User


def test_on_commit_that_asks_for_what_it_will_not_get_is_refused_at_connect() -> None:
    @on_commit
    def instance_wanted(instance: Any, **named: Any) -> None: ...

    @on_commit
    async def session_wanted(*, session: Any, **named: Any) -> None: ...

    @on_commit
    def may_do_without(instance: Any = None, *, session: Any = None, **named: Any) -> None: ...

    class Mails:
        @on_commit
        def mail(self, instance: Any, **named: Any) -> None: ...

    for receiver, name in (
        (instance_wanted, "instance"),
        (session_wanted, "session"),
        (Mails().mail, "instance"),
    ):
        with pytest.raises(TypeError, match=f"asks for {name}, .* it gets identity"):
            post_save.connect(receiver, User, weak=False)
    with connected(post_save, may_do_without, User):
        pass
    signal = Signal()  # of another signal it gets what is sent
    signal.connect(instance_wanted)


def test_on_commit_says_what_to_pass_where() -> None:
    @on_commit
    def mail(**named: Any) -> None: ...

    with pytest.raises(ValueError, match=r"has retry from on_commit, .* use on_commit\("):
        post_save.connect(mail, User, retry=Retry(OSError))
