"""A child that takes another's place: keys that come from relationships, children not loaded."""

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")

import sqlalchemy as sa
from alchemy import SIGNALS, installed_session
from helpers import TIMEOUT
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
)

from tsignals import get_default_executor
from tsignals.sqlalchemy import on_commit, post_save
from tsignals.testing import connected

Log = list[tuple[str, str, bool | None]]


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    lines: Mapped[list["Line"]] = relationship(cascade="all, delete-orphan", back_populates="order")
    notes: Mapped[list["Note"]] = relationship(cascade="all, delete-orphan")
    receipt: Mapped["Receipt | None"] = relationship(
        cascade="all, delete-orphan", back_populates="order"
    )
    parcel: Mapped["Parcel | None"] = relationship(cascade="all, delete-orphan")


class Line(Base):
    """Its key has that of its order, to which it refers."""

    __tablename__ = "lines"
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("orders.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    order: Mapped[Order] = relationship(back_populates="lines")


class Note(Base):
    """The same, but only its order knows of it."""

    __tablename__ = "notes"
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("orders.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Receipt(Base):
    """Its key is that of its order."""

    __tablename__ = "receipts"
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("orders.id"), primary_key=True)
    text: Mapped[str]
    order: Mapped[Order] = relationship(back_populates="receipt", single_parent=True)


class Parcel(Base):
    """It has a key of its own."""

    __tablename__ = "parcels"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("orders.id"))
    text: Mapped[str]


class Box(Base):
    """Its items have its key in theirs, and so have their parts."""

    __tablename__ = "boxes"
    id: Mapped[int] = mapped_column(primary_key=True)
    items: Mapped[list["Item"]] = relationship(cascade="all, delete-orphan")


class Item(Base):
    __tablename__ = "items"
    box_id: Mapped[int] = mapped_column(sa.ForeignKey("boxes.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    parts: Mapped[list["Part"]] = relationship(cascade="all, delete-orphan", back_populates="item")


class Part(Base):
    __tablename__ = "parts"
    box_id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[Item] = relationship(back_populates="parts")
    item_number: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    __table_args__ = (
        sa.ForeignKeyConstraint(["box_id", "item_number"], ["items.box_id", "items.number"]),
    )


class Gift(Order):
    """An order with a table of its own, to which its card refers."""

    __tablename__ = "gifts"
    id: Mapped[int] = mapped_column(sa.ForeignKey("orders.id"), primary_key=True)


class Card(Base):
    __tablename__ = "cards"
    gift_id: Mapped[int] = mapped_column(sa.ForeignKey("gifts.id"), primary_key=True)
    text: Mapped[str]
    gift: Mapped[Gift] = relationship()


@pytest.fixture
def session() -> Iterator[Session]:
    with installed_session(Base) as session:
        yield session


@pytest.fixture(params=[True, False], ids=["one class", "all"])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    """What is heard of children."""
    heard: Log = []
    stack = contextlib.ExitStack()
    for name, signal in SIGNALS.items():

        def hear(instance: Any, created: bool | None = None, name: str = name, **_: Any) -> None:
            if not isinstance(instance, (Order, Box)):
                heard.append((name, instance.text, created))

        for sender in (Line, Note, Receipt, Parcel, Card, Item, Part) if request.param else (None,):
            stack.enter_context(connected(signal, hear, sender=sender))
    with stack:
        yield heard


def made(session: Session, **children: Any) -> Order:
    session.add(order := Order(id=1, **children))
    session.commit()
    return order


def updated(text: str) -> Log:
    return [("pre_save", text, False), ("post_save", text, False)]


def replaced(old: str, new: str) -> Log:
    """By one with another key."""
    return [
        *(("pre_save", new, True), ("pre_delete", old, None)),
        *(("post_save", new, True), ("post_delete", old, None)),
    ]


@pytest.mark.parametrize("kind", [Line, Note])
def test_children_of_a_list_that_is_replaced(kind: Any, session: Session, log: Log) -> None:
    name = kind.__tablename__
    order = made(session, **{name: [kind(number=1, text="a"), kind(number=2, text="b")]})
    log.clear()
    setattr(order, name, [kind(number=1, text="A"), kind(number=3, text="C")])
    session.commit()
    assert sorted(log) == sorted(
        [
            *updated("A"),
            ("pre_save", "C", True),
            ("post_save", "C", True),
            ("pre_delete", "b", None),
            ("post_delete", "b", None),
        ]
    )


def test_child_that_is_deleted_and_made_anew_for_its_parent(session: Session, log: Log) -> None:
    order = made(session, lines=[Line(number=1, text="a")], receipt=Receipt(text="a"))
    log.clear()
    session.delete(order.lines[0])
    session.add(Line(order=order, number=1, text="b"))
    session.commit()
    assert log == updated("b")
    log.clear()
    order.receipt = Receipt(text="b")
    session.commit()
    assert log == updated("b")
    log.clear()
    session.delete(order.receipt)
    session.add(Receipt(order=order, text="c"))
    session.commit()
    assert log == updated("c")


@pytest.mark.parametrize("new", [None, "new"])
@pytest.mark.parametrize("read", [True, False], ids=["read before", "not read"])
def test_only_child_that_is_replaced_or_taken_away(
    read: bool, new: str | None, session: Session, log: Log
) -> None:
    order = made(session, parcel=Parcel(text="old"))
    log.clear()
    if read:
        assert order.parcel is not None
    order.parcel = None if new is None else Parcel(text=new)
    gc.collect()
    session.commit()
    saves = [] if new is None else [("pre_save", new, True), ("post_save", new, True)]
    assert sorted(log, key=str) == sorted(
        [*saves, ("pre_delete", "old", None), ("post_delete", "old", None)], key=str
    )


def test_child_of_a_parent_that_has_a_table_of_its_own(session: Session, log: Log) -> None:
    session.add_all([gift := Gift(id=1), card := Card(gift=gift, text="a")])
    session.commit()  # which expires the gift
    log.clear()
    session.delete(card)
    session.add(Card(gift=gift, text="b"))
    session.commit()
    assert log == updated("b")


@pytest.mark.parametrize("by", ["list", "reference"])
def test_children_of_children_in_a_list_that_is_replaced(
    by: str, session: Session, log: Log
) -> None:
    session.add(
        box := Box(id=1, items=[Item(number=1, text="a", parts=[Part(number=1, text="b")])])
    )
    session.commit()
    assert [part.text for item in box.items for part in item.parts] == ["b"]
    log.clear()
    if by == "list":
        box.items = [Item(number=1, text="A", parts=[Part(number=1, text="B")])]
    else:
        part = Part(number=1, text="B", item=Item(number=1, text="A"))
        box.items = [part.item]
    session.commit()
    assert sorted(log) == sorted([*updated("A"), *updated("B")])


def test_child_made_anew_for_a_parent_that_gets_another_key(session: Session, log: Log) -> None:
    order = made(session, notes=[Note(number=1, text="a")])
    [note] = order.notes
    assert note.text == "a"
    log.clear()
    order.id = 2
    session.delete(note)
    order.notes.append(Note(number=1, text="b"))
    session.flush()
    assert log == replaced("a", "b")


def test_key_of_a_new_child_is_that_of_its_parent_whatever_it_had(
    session: Session, log: Log
) -> None:
    order = made(session, lines=[Line(number=1, text="a")])
    log.clear()
    session.delete(order.lines[0])
    session.add(line := Line(order_id=7, order=order, number=1, text="b"))
    session.commit()
    assert log == updated("b")
    session.add(other := Order(id=2))
    session.commit()
    assert line.text == "b"
    log.clear()
    session.delete(line)
    session.add(Line(order_id=1, order=other, number=1, text="c"))
    session.commit()
    assert log == replaced("b", "c")


def test_who_waits_for_the_commit_hears_of_the_child_in_anothers_place(session: Session) -> None:
    told: list[tuple[Any, bool]] = []

    @on_commit
    def tell(identity: Any, created: bool, **named: Any) -> None:
        told.append((identity[1], created))

    order = made(session, notes=[Note(number=1, text="read")])
    with connected(post_save, tell, sender=Note):
        order.notes = [Note(number=1, text="written")]
        session.commit()
        assert get_default_executor().drain(TIMEOUT)  # type: ignore[attr-defined]
    assert told == [((1, 1), False)]
