"""What a parent has let go, and the parent is deleted in the same flush."""

import gc
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")

import sqlalchemy as sa
from alchemy import Heard, heard, installed_session
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    Session,
    WriteOnlyMapped,
    mapped_column,
    relationship,
)

__all__ = ["heard"]

ORPHANS = "all, delete-orphan"


class Base(DeclarativeBase):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Driver(Base):
    __tablename__ = "driver"


class Stamp(Base):
    __tablename__ = "stamp"


stamps = sa.Table(
    "stamps",
    Base.metadata,
    sa.Column("order_id", sa.ForeignKey("orders.id"), primary_key=True),
    sa.Column("stamp_id", sa.ForeignKey("stamp.id"), primary_key=True),
)


class Order(Base):
    __tablename__ = "orders"
    driver_id: Mapped[int | None] = mapped_column(sa.ForeignKey("driver.id"))
    driver: Mapped[Driver | None] = relationship(cascade=ORPHANS, single_parent=True)
    lines: Mapped[list["Line"]] = relationship(cascade=ORPHANS)
    receipt: Mapped["Receipt | None"] = relationship(cascade=ORPHANS)
    notes: WriteOnlyMapped["Note"] = relationship(cascade=ORPHANS, passive_deletes=True)
    parcels: DynamicMapped["Parcel"] = relationship(cascade=ORPHANS)
    stamps: Mapped[list[Stamp]] = relationship(
        secondary=stamps, cascade=ORPHANS, single_parent=True
    )


class Child:
    order_id: Mapped[int | None] = mapped_column(sa.ForeignKey("orders.id"))


class Line(Child, Base):
    __tablename__ = "line"
    parts: Mapped[list["Part"]] = relationship(cascade=ORPHANS)


class Part(Base):
    __tablename__ = "part"
    line_id: Mapped[int] = mapped_column(sa.ForeignKey("line.id"))


class Receipt(Child, Base):
    __tablename__ = "receipt"


class Note(Child, Base):
    __tablename__ = "note"


class Parcel(Child, Base):
    __tablename__ = "parcel"


@pytest.fixture
def session() -> Iterator[Session]:
    with installed_session(Base, autoflush=False) as session:
        yield session


def made(session: Session) -> Order:
    order = Order(
        name="order",
        driver=Driver(name="driver"),
        lines=[Line(name="one"), Line(name="two", parts=[Part(name="part")])],
        receipt=Receipt(name="receipt"),
        stamps=[Stamp(name="stamp")],
    )
    order.notes.add(Note(name="note"))
    order.parcels.append(Parcel(name="parcel"))
    session.add(order)
    session.commit()
    return order


def take_out(order: Order) -> None:
    order.lines.remove(order.lines[0])


def clear(order: Order) -> None:
    order.lines = []


def replace(order: Order) -> None:
    order.lines = [Line(name="new")]


def scalar(order: Order) -> None:
    assert order.receipt is not None
    order.receipt = None


def scalar_not_loaded(order: Order) -> None:
    order.receipt = None


def many_to_one(order: Order) -> None:
    assert order.driver is not None
    order.driver = None


def write_only(order: Order) -> None:
    session = sa.inspect(order).session
    assert session is not None
    order.notes.remove(session.scalars(sa.select(Note)).one())


def dynamic(order: Order) -> None:
    order.parcels.remove(order.parcels.one())


def many_to_many(order: Order) -> None:
    """Of these the flush of a deleted parent deletes none."""
    order.stamps.clear()


@pytest.mark.parametrize("first", ["let go", "deleted"])
@pytest.mark.parametrize(
    "let_go",
    [
        take_out,
        clear,
        replace,
        scalar,
        scalar_not_loaded,
        many_to_one,
        write_only,
        dynamic,
        many_to_many,
    ],
)
def test_orphan_of_a_parent_that_is_deleted_is_announced_before_and_after(
    let_go: Callable[[Order], None], first: str, session: Session, heard: Heard
) -> None:
    order = made(session)
    heard.clear()
    if first == "let go":
        let_go(order)
    session.delete(order)
    if first == "deleted":
        let_go(order)
    gc.collect()
    session.flush()
    before = [(event.removeprefix("pre_"), *rest) for event, *rest in heard if "pre" in event]
    after = [(event.removeprefix("post_"), *rest) for event, *rest in heard if "post" in event]
    assert sorted(before) == sorted(after)
    assert ("delete", "order") in before


@pytest.mark.filterwarnings("ignore:DELETE statement on table")  # it has no row
@pytest.mark.parametrize("let_go", [take_out, clear, scalar, many_to_one])
def test_what_was_let_go_before_a_rollback_and_is_added_again_is_not_announced(
    let_go: Callable[[Order], None], session: Session, heard: Heard
) -> None:
    order = Order(
        name="order",
        driver=Driver(name="driver"),
        lines=[Line(name="line")],
        receipt=Receipt(name="receipt"),
    )
    session.add(order)
    session.flush()
    children = [order.driver, *order.lines, order.receipt]
    let_go(order)
    session.rollback()
    session.add_all([order, *children])
    heard.clear()
    session.flush()
    written = {
        name for kind in (Order, Driver, Line, Receipt) for name in session.scalars(names_of(kind))
    }
    assert len(written) == 3  # nor does SQLAlchemy write it
    assert {name for event, name, *_ in heard if event == "pre_save"} == written
    assert {name for event, name, *_ in heard if event == "post_save"} == written
    assert not [event for event, *_ in heard if "delete" in event]


@pytest.mark.filterwarnings("ignore:DELETE statement on table")  # as above
def test_what_goes_with_that_is_not_announced_either(session: Session, heard: Heard) -> None:
    line = Line(name="line", parts=[Part(name="part")])
    order = Order(name="order", lines=[line])
    session.add(order)
    session.flush()
    order.lines.remove(line)
    session.rollback()
    session.add_all([order, line])
    heard.clear()
    session.flush()
    assert list(session.scalars(names_of(Order))) == ["order"]
    assert not [*session.scalars(names_of(Line)), *session.scalars(names_of(Part))]
    assert {name for _, name, *_ in heard} == {"order"}


def names_of(kind: type[Base]) -> sa.Select[tuple[str]]:
    return sa.select(kind.name)
