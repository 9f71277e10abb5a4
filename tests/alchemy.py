"""What the tests of ``tsignals.sqlalchemy`` share: models, databases, and who writes down signals.

A test that takes ``engine`` runs on SQLite in memory and on PostgreSQL.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")

import sqlalchemy as sa
from servers import Postgresql, postgresql
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    sessionmaker,
)
from sqlalchemy.pool import StaticPool

from tsignals import Signal
from tsignals.sqlalchemy import (
    install,
    post_delete,
    post_save,
    pre_delete,
    pre_save,
    uninstall,
)

SIGNALS = {"pre_save": pre_save, "post_save": post_save}
SIGNALS |= {"pre_delete": pre_delete, "post_delete": post_delete}


@contextlib.contextmanager
def installed_session(models: type[DeclarativeBase], **options: Any) -> Iterator[Session]:
    """A session, whose signals are sent, on a new database in memory with the tables of these."""
    engine = sa.create_engine("sqlite://", poolclass=StaticPool)
    models.metadata.create_all(engine)
    maker = sessionmaker(engine, **options)
    install(maker)
    with maker() as session:
        yield session
    engine.dispose()


class Base(DeclarativeBase):
    def __repr__(self) -> str:
        return str(self.__dict__.get("name", "?"))


class User(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column()
    age: Mapped[int] = mapped_column(server_default="7")
    level: Mapped[int] = mapped_column(default=3)
    posts: Mapped[list["Post"]] = relationship(back_populates="user", cascade="all, delete-orphan")


class Post(Base):
    __tablename__ = "an_entry"  # sorts before "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column()
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey("person.id"))
    user: Mapped[User | None] = relationship(back_populates="posts")
    remarks: Mapped[list["Remark"]] = relationship(cascade="all, delete-orphan")


class Remark(Base):
    __tablename__ = "remark"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column()
    post_id: Mapped[int] = mapped_column(sa.ForeignKey("an_entry.id"))


class Node(Base):
    """Refers to its like: the unit of work sorts the instances one by one."""

    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column()
    above_id: Mapped[int | None] = mapped_column(sa.ForeignKey("node.id"))
    above: Mapped["Node | None"] = relationship(remote_side=[id])
    box_id: Mapped[int | None] = mapped_column(sa.ForeignKey("box.id"))


class Box(Base):
    """Has nodes that do not know it."""

    __tablename__ = "box"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column()
    nodes: Mapped[list[Node]] = relationship()


class Employee(User):
    """In the table of users and one of its own."""

    __tablename__ = "employee"
    id: Mapped[int] = mapped_column(sa.ForeignKey("person.id"), primary_key=True)
    desk: Mapped[str | None] = mapped_column()


@contextlib.contextmanager
def tables(engine: sa.Engine) -> Iterator[sa.Engine]:
    Base.metadata.create_all(engine)
    try:
        yield engine
    finally:
        Base.metadata.drop_all(engine)
        engine.dispose()


@pytest.fixture(scope="session")
def server() -> Iterator[Postgresql]:
    with postgresql() as found:
        yield found


def sqlite() -> sa.Engine:
    """A database in memory, with one connection for all threads."""
    engine = sa.create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    transactional(engine)
    return engine


def transactional(engine: sa.Engine) -> None:
    """Have sqlite3 begin where SQLAlchemy does, so that savepoints work."""

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    if request.param == "sqlite":
        made = sqlite()
    else:
        found: Postgresql = request.getfixturevalue("server")
        made = sa.create_engine(found.url_for("postgresql+psycopg"))
    with tables(made) as engine:
        yield engine


@pytest.fixture
def many(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    """A database to which threads have connections of their own: SQLite's WAL."""
    made = sa.create_engine(f"sqlite:///{tmp_path}/many.sqlite", connect_args={"timeout": 60})

    @sa.event.listens_for(made, "connect")
    def connect(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")

    with tables(made) as engine:
        yield engine


@pytest.fixture
def maker(engine: sa.Engine) -> Iterator["sessionmaker[Session]"]:
    """A sessionmaker that is installed, until the end of the test."""
    made = sessionmaker(engine)
    install(made)
    yield made
    uninstall(made)


@pytest.fixture
def session(maker: "sessionmaker[Session]") -> Iterator[Session]:
    with maker() as session:
        yield session


class Heard(list[Any]):
    """Writes down signals: ``(name of the signal, name of the instance, created if said)``."""

    def __init__(self, *names: str, sender: type | None = None) -> None:
        super().__init__()
        self.connections = [
            SIGNALS[name].connect(self.hear, sender) for name in names or tuple(SIGNALS)
        ]

    def hear(self, signal: Signal, sender: type, instance: Any, session: Session, **named: Any):  # type: ignore[no-untyped-def]
        assert isinstance(session, Session)
        assert sender is type(instance)
        self.append((signal.name, instance.name, *named.values()))

    def __enter__(self) -> "Heard":
        return self

    def __exit__(self, *error: object) -> None:
        for connection in self.connections:
            connection.disconnect()

    def taken(self) -> list[Any]:
        """What was heard since the last time."""
        found = list(self)
        self.clear()
        return found


@pytest.fixture
def heard() -> Iterator[Heard]:
    with Heard() as heard:
        yield heard


@contextlib.contextmanager
def connected(signal: Signal, receiver: Any, sender: Any = None) -> Iterator[Any]:
    with signal.connect(receiver, sender, weak=False):
        yield receiver
