"""pre_* come in the order in which the flush writes, where classes inherit and refer to others."""

from collections.abc import Iterator
from typing import ClassVar

import pytest

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")

import sqlalchemy as sa
from alchemy import Heard, heard, installed_session
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    foreign,
    mapped_column,
    relationship,
    remote,
)

__all__ = ["heard"]


class Base(DeclarativeBase):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="?")


class Person(Base):
    __tablename__ = "person"
    kind: Mapped[str]
    __mapper_args__: ClassVar = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Team(Base):
    __tablename__ = "team"
    # Of both foreign keys one is written later.
    head_id: Mapped[int | None] = mapped_column(sa.ForeignKey("employee.id", use_alter=True))
    head: Mapped["Employee | None"] = relationship(foreign_keys=[head_id], post_update=True)


class Employee(Person):
    """In the table of persons and one of its own, which refers to teams."""

    __tablename__ = "employee"
    id: Mapped[int] = mapped_column(sa.ForeignKey("person.id"), primary_key=True)
    team_id: Mapped[int | None] = mapped_column(sa.ForeignKey("team.id"))
    team: Mapped[Team | None] = relationship(foreign_keys=[team_id])
    __mapper_args__: ClassVar = {"polymorphic_identity": "employee"}


class Badge(Base):
    """Refers to persons."""

    __tablename__ = "badge"
    person_id: Mapped[int] = mapped_column(sa.ForeignKey("person.id"))
    person: Mapped[Person] = relationship()


class Code(Base):
    __tablename__ = "code"


class Zone(Base):
    """Is referred to by a code, of which the database does not know."""

    __tablename__ = "zone"
    codes: Mapped[list["Code"]] = relationship(
        primaryjoin=lambda: remote(foreign(Code.id)) == Zone.id
    )


class Egg(Base):
    """It and the hen refer to each other."""

    __tablename__ = "egg"
    hen_id: Mapped[int | None] = mapped_column(sa.ForeignKey("hen.id", use_alter=True))
    hen: Mapped["Hen | None"] = relationship(foreign_keys=[hen_id])


class Hen(Base):
    __tablename__ = "hen"
    egg_id: Mapped[int | None] = mapped_column(sa.ForeignKey("egg.id"))
    egg: Mapped[Egg | None] = relationship(foreign_keys=[egg_id])


@pytest.fixture
def session() -> Iterator[Session]:
    with installed_session(Base) as session:
        yield session


def order(heard: Heard, signal: str) -> list[str]:
    return [name for event, name, *_ in heard if event == signal]


def test_what_a_class_with_two_tables_refers_to_comes_before_it(
    session: Session, heard: Heard
) -> None:
    team = Team(name="team")
    ann = Employee(name="ann", team=team)
    badge = Badge(name="badge", person=ann)
    session.add_all([badge, ann])
    session.flush()
    assert order(heard, "pre_save") == order(heard, "post_save") == ["team", "ann", "badge"]
    team.head = ann
    for instance in (team, ann, badge):
        session.delete(instance)
    session.flush()
    assert order(heard, "pre_delete") == order(heard, "post_delete") == ["badge", "ann", "team"]


def test_relationship_without_a_foreign_key_counts(session: Session, heard: Heard) -> None:
    code = Code(name="code")
    session.add_all([code, Zone(id=1, name="zone", codes=[code])])
    session.flush()
    assert order(heard, "pre_save") == order(heard, "post_save") == ["zone", "code"]


def test_tables_that_refer_to_each_other_are_announced(session: Session, heard: Heard) -> None:
    session.add_all([Hen(name="hen", egg=Egg(name="egg", hen=Hen(name="other")))])
    session.flush()
    assert sorted(order(heard, "pre_save")) == ["egg", "hen", "other"]
