"""The table "What fires what" of docs/howto/sqlalchemy.md: each row is done, and compared."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")

import sqlalchemy as sa
from alchemy import Heard, transactional
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    sessionmaker,
)

from tsignals.sqlalchemy import install

PAGE = Path(__file__).parent.parent / "docs" / "howto" / "sqlalchemy.md"


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column()
    data: Mapped[dict[str, Any]] = mapped_column(sa.JSON, default=dict)
    owned: Mapped[list["Owned"]] = relationship(cascade="all, delete-orphan")
    loose: Mapped[list["Loose"]] = relationship()
    below: Mapped[list["Below"]] = relationship(passive_deletes="all")


class Owned(Base):
    __tablename__ = "owned"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column()
    owner_id: Mapped[int] = mapped_column(sa.ForeignKey("owner.id"))


class Loose(Base):
    __tablename__ = "loose"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column()
    owner_id: Mapped[int | None] = mapped_column(sa.ForeignKey("owner.id"))


class Below(Base):
    __tablename__ = "below"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column()
    owner_id: Mapped[int] = mapped_column(sa.ForeignKey("owner.id", ondelete="CASCADE"))


class World:
    """A session in which there is an owner that has nothing, another that owns, and more."""

    def __init__(self, session: Session) -> None:
        self.session = session
        session.add_all(
            [
                Owner(id=1, name="ann", data={"a": 1}),
                Owner(id=2, name="bob", owned=[Owned(id=1, name="hat")]),
                Owner(id=3, name="eve", below=[Below(id=1, name="shoe")]),
                Loose(id=1, name="cat"),
            ]
        )
        session.commit()

    def owner(self, id: int = 1) -> Owner:
        found = self.session.get(Owner, id, populate_existing=True)
        assert found is not None
        return found


DONE: dict[str, Callable[[World], object]] = {}


def row(what: str) -> Callable[[Callable[[World], object]], Callable[[World], object]]:
    def keep(function: Callable[[World], object]) -> Callable[[World], object]:
        DONE[what] = function
        return function

    return keep


@row("add an instance")
def add(world: World) -> None:
    world.session.add(Owner(name="new"))


@row("change an attribute")
def change(world: World) -> None:
    world.owner().name = "eva"


@row("set an attribute that a commit has expired, to whatever value")
def expired(world: World) -> None:
    owner = world.owner()
    world.session.commit()
    owner.name = "ann"


@row("set an attribute to the value it has")
def same(world: World) -> None:
    owner = world.owner()
    owner.name = str(owner.name)


@row("delete an instance")
def delete(world: World) -> None:
    world.session.delete(world.owner())


@row("delete one whose relationship cascades deletes")
def cascade(world: World) -> None:
    world.session.delete(world.owner(2))


@row("take one out of a collection with `delete-orphan`")
def orphan(world: World) -> None:
    owner = world.owner(2)
    owner.owned.clear()
    world.session.flush()


@row("delete one and add another with its key")
def switch(world: World) -> None:
    world.session.delete(world.owner())
    world.session.add(Owner(id=1, name="new"))


@row("merge one that is there, changed")
def merge(world: World) -> None:
    world.session.merge(Owner(id=1, name="new", data={"a": 1}))


@row("merge one that is not there")
def merge_new(world: World) -> None:
    world.session.merge(Owner(id=9, name="new"))


@row("add to a collection something that exists: the flush writes its foreign key")
def foreign_key(world: World) -> None:
    owner = world.owner()
    owner.loose.append(world.session.scalars(sa.select(Loose)).one())
    world.session.flush()
    assert world.session.scalar(sa.select(Loose.owner_id)) == 1


@row("add one and expunge it")
def expunge(world: World) -> None:
    world.session.add(owner := Owner(name="new"))
    world.session.expunge(owner)


@row("add one and roll back without a flush")
def unflushed(world: World) -> None:
    world.session.add(Owner(name="new"))
    world.session.rollback()


@row("roll back after a flush")
def rolled_back(world: World) -> None:
    world.session.add(Owner(name="new"))
    world.session.flush()
    world.session.rollback()


@row("change a mutable value in place, of a type that is not `MutableDict` or the like")
def in_place(world: World) -> None:
    world.owner().data["a"] = 2


@row("`session.execute(insert(...))`")
def execute_insert(world: World) -> None:
    world.session.execute(sa.insert(Owner), [{"name": "new"}])


@row("`session.execute(update(...))`")
def execute_update(world: World) -> None:
    world.owner()
    world.session.execute(sa.update(Owner).values(name="new"))


@row("`session.execute(delete(...))`")
def execute_delete(world: World) -> None:
    world.session.execute(sa.delete(Loose))


@row("`bulk_save_objects`, `bulk_insert_mappings`, `bulk_update_mappings`")
def bulk(world: World) -> None:
    session: Any = world.session
    session.bulk_save_objects([Owner(name="new")])
    session.bulk_insert_mappings(Owner, [{"name": "new"}])
    session.bulk_update_mappings(Owner, [{"id": 1, "name": "new"}])


@row("delete one whose rows the database cascades (`ON DELETE CASCADE`, `passive_deletes`)")
def database_cascade(world: World) -> None:
    world.session.delete(world.owner(3))
    world.session.flush()
    assert world.session.scalar(sa.select(sa.func.count(Below.id))) == 0


def table() -> dict[str, tuple[str, ...]]:
    _, _, rest = PAGE.read_text(encoding="utf-8").partition("<!-- what fires what -->\n")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {what: tuple(cells) for what, *cells in rows}


def cell(heard: list[Any], when: str) -> str:
    """What the table says of what was heard."""
    found = [(name, more == [True]) for name, _, *more in heard if name.startswith(when)]
    return ", ".join(f"`{name}`{' (created)' * created}" for name, created in found)


@pytest.fixture
def world() -> Iterator[World]:
    engine = sa.create_engine("sqlite://")
    transactional(engine)

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA foreign_keys=ON")

    Base.metadata.create_all(engine)
    maker = sessionmaker(engine)
    install(maker)
    with maker() as session:
        yield World(session)
    engine.dispose()


def test_the_table_has_the_rows_that_are_done_here() -> None:
    assert list(table()) == list(DONE)


@pytest.mark.parametrize("what", DONE)
def test_row_says_what_fires(world: World, what: str) -> None:
    with Heard() as heard:
        DONE[what](world)
        world.session.commit()
    assert (cell(heard, "pre"), cell(heard, "post")) == table()[what]
