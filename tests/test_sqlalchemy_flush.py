"""pre_save, post_save, pre_delete, post_delete: what a flush says, in which order, and of what."""

import contextlib
import functools
import gc
from collections.abc import Callable
from typing import Any

import inside
import pytest

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")

import sqlalchemy as sa
from alchemy import (
    Box,
    Employee,
    Heard,
    Node,
    Post,
    Remark,
    User,
    connected,
    engine,
    heard,
    maker,
    server,
    session,
)
from helpers import Boom, ignore
from sqlalchemy.exc import IntegrityError, PendingRollbackError
from sqlalchemy.orm import DeclarativeBase, Session, column_property, mapped_column, sessionmaker
from sqlalchemy.orm.exc import FlushError

from tsignals import background, receiver
from tsignals.sqlalchemy import (
    install,
    on_commit,
    post_delete,
    post_save,
    pre_delete,
    pre_save,
)
from tsignals.testing import capture, inline, muted

__all__ = ["engine", "heard", "maker", "server", "session"]


def test_an_insert_an_update_and_a_delete_are_announced_before_and_after(
    session: Session, heard: Heard
) -> None:
    session.add(user := User(name="ann"))
    session.flush()
    assert heard.taken() == [("pre_save", "ann", True), ("post_save", "ann", True)]
    user.name = "eve"
    session.flush()
    assert heard.taken() == [("pre_save", "eve", False), ("post_save", "eve", False)]
    session.delete(user)
    session.flush()
    assert heard.taken() == [("pre_delete", "eve"), ("post_delete", "eve")]


def test_a_commit_announces_what_it_flushes(session: Session, heard: Heard) -> None:
    session.add(User(name="ann"))
    session.commit()
    assert heard == [("pre_save", "ann", True), ("post_save", "ann", True)]


def test_receivers_hear_one_class_or_all(session: Session) -> None:
    with Heard("post_save", sender=User) as users, Heard("post_save", sender=Post) as posts:
        session.add(User(name="ann", posts=[Post(name="hello")]))
        session.flush()
    assert users == [("post_save", "ann", True)]
    assert posts == [("post_save", "hello", True)]


def test_the_sender_is_the_class_of_the_instance_and_no_base(session: Session) -> None:
    with Heard("post_save", sender=User) as users, Heard("post_save", sender=Employee) as staff:
        session.add_all([Employee(name="bob", desk="1"), User(name="ann")])
        session.flush()
    assert users == [("post_save", "ann", True)]
    assert staff == [("post_save", "bob", True)]


def test_pre_save_can_change_the_instance(session: Session) -> None:
    def shout(instance: Any, **named: Any) -> None:
        instance.name = instance.name.upper()

    with connected(pre_save, shout, User):
        session.add(user := User(name="ann"))
        session.commit()
        user.age = 8
        user.name = "eve"
        session.commit()
    assert session.scalars(sa.select(User.name)).all() == ["EVE"]


def test_what_pre_save_adds_is_announced_and_written_in_the_same_flush(
    session: Session, heard: Heard
) -> None:
    def note(instance: Any, session: Session, **named: Any) -> None:
        session.add(Node(name=f"note on {instance.name}"))

    with connected(pre_save, note, User):
        session.add(User(name="ann"))
        session.flush()
    assert not session.new
    assert heard == [
        ("pre_save", "ann", True),
        ("pre_save", "note on ann", True),
        ("post_save", "note on ann", True),
        ("post_save", "ann", True),
    ]


def test_what_pre_save_changes_elsewhere_and_deletes_is_announced(
    session: Session, heard: Heard
) -> None:
    one, two, three = User(name="one"), User(name="two"), User(name="three")
    session.add_all([one, two, three])
    session.commit()
    heard.clear()
    names = [one.name, two.name, three.name]

    def spread(instance: Any, session: Session, **named: Any) -> None:
        if instance is one:
            two.level = 9
            session.delete(three)

    with connected(pre_save, spread, User):
        one.level = 9
        session.flush()
    assert names == ["one", "two", "three"]
    assert heard == [
        ("pre_save", "one", False),
        ("pre_delete", "three"),
        ("pre_save", "two", False),
        ("post_save", "one", False),
        ("post_save", "two", False),
        ("post_delete", "three"),
    ]


def test_pre_delete_can_take_the_delete_back(session: Session, heard: Heard) -> None:
    session.add(user := User(name="ann"))
    session.commit()
    assert user.name == "ann"
    heard.clear()
    with connected(pre_delete, lambda instance, session, **named: session.add(instance), User):
        session.delete(user)
        session.flush()
    assert heard == [("pre_delete", "ann")]
    assert session.get(User, user.id) is user


def test_pre_save_that_takes_its_change_back_is_no_save(session: Session) -> None:
    session.add(user := User(name="ann"))
    session.commit()
    assert user.name == "ann"

    def undo(instance: Any, **named: Any) -> None:
        instance.name = "ann"

    with connected(pre_save, undo), Heard("post_save") as heard:
        user.name = "eve"
        session.flush()
    assert heard == []


@pytest.mark.parametrize("kind", ["new", "changed, taken out", "changed, and changed back"])
def test_what_a_receiver_takes_out_before_its_turn_is_no_save(session: Session, kind: str) -> None:
    session.add_all(users := [User(name=name) for name in ("ann", "bob", "eve")])
    if kind != "new":
        session.flush()
        for user in users:
            user.name += "a"
    _, bob, eve = users

    def before(instance: Any, **named: Any) -> None:
        if instance is users[0]:
            (session.refresh if kind == "changed, and changed back" else session.expunge)(bob)

    with pre_save.connect(before, priority=1), Heard("pre_save", "post_save") as heard:
        session.flush()
    created = kind == "new"
    names = [users[0].name, eve.name]
    expected = [(word, name, created) for word in ("pre_save", "post_save") for name in names]
    assert heard == expected


def test_what_a_receiver_takes_out_before_its_turn_is_no_delete(session: Session) -> None:
    session.add_all(users := [User(name=name) for name in ("ann", "bob", "eve")])
    session.flush()
    with session.no_autoflush:  # else each deletion comes with the next
        for user in users:
            session.delete(user)

    def before(instance: Any, **named: Any) -> None:
        if instance is not users[1] and users[1] in session:
            session.expunge(users[1])

    with pre_delete.connect(before, priority=1), Heard("pre_delete", "post_delete") as heard:
        session.flush()
    expected = [(word, n) for word in ("post_delete", "pre_delete") for n in ("ann", "eve")]
    assert sorted(heard.taken()) == expected


def test_receiver_that_always_makes_something_new_is_named_in_an_error(session: Session) -> None:
    def breed(session: Session, **named: Any) -> None:
        session.add(Node(name="more"))

    with connected(pre_save, breed), pytest.raises(FlushError, match=r"100 rounds.*breed"):
        session.add(Node(name="first"))
        session.flush()
    session.rollback()


@pytest.mark.parametrize(("count", "fits"), [(99, True), (100, True), (101, False)])
def test_receivers_may_make_something_new_in_a_hundred_rounds(
    count: int, fits: bool, session: Session
) -> None:
    """The hundredth round may be the last: there is an error once a further one would be needed."""
    made = [1]

    def breed(session: Session, **named: Any) -> None:
        if made[0] < count:
            made[0] += 1
            session.add(Node(name=f"{made[0]}"))

    with connected(pre_save, breed):
        session.add(Node(name="1"))
        if fits:
            session.flush()
            assert made == [count]
        else:
            with pytest.raises(FlushError, match=r"100 rounds.*breed"):
                session.flush()
    session.rollback()


def test_receivers_are_not_compared(session: Session) -> None:
    called = list[str]()

    class Hears:
        def __call__(self, instance: Any, **named: Any) -> None:
            called.append(instance.name)

        def __eq__(self, other: object) -> bool:
            raise Boom("compared")

        __hash__ = object.__hash__

    with connected(pre_save, Hears()), connected(pre_save, Hears()):
        session.add_all([User(name="Ada"), User(name="Bob")])
        session.commit()
    assert called == ["Ada", "Ada", "Bob", "Bob"]


def test_new_instances_for_99_rounds_are_all_right(session: Session) -> None:
    def breed(instance: Any, session: Session, **named: Any) -> None:
        if int(instance.name) < 99:
            session.add(Node(name=str(int(instance.name) + 1)))

    with connected(pre_save, breed):
        session.add(Node(name="1"))
        session.flush()
    assert session.scalar(sa.select(sa.func.count(Node.id))) == 99


def test_post_save_sees_primary_keys_and_defaults(session: Session) -> None:
    seen = []

    def look(instance: Any, **named: Any) -> None:
        seen.append((instance.id, instance.age, instance.level))

    with connected(post_save, look, User):
        session.add(user := User(name="ann"))
        session.flush()
    assert seen == [(user.id, 7, 3)]


def test_what_post_save_changes_is_written_by_the_next_flush(session: Session) -> None:
    def mark(instance: Any, created: bool, **named: Any) -> None:
        if created:
            instance.name = f"{instance.id}: {instance.name}"

    with connected(post_save, mark, User):
        session.add(user := User(name="ann"))
        session.flush()
        assert user in session.dirty
        session.commit()
    assert user.name == f"{user.id}: ann"


def test_post_save_can_add_others_which_a_commit_writes_too(session: Session, heard: Heard) -> None:
    def note(instance: Any, session: Session, **named: Any) -> None:
        session.add(Node(name=f"note on {instance.id}"))

    with connected(post_save, note, User):
        session.add(user := User(name="ann"))
        session.commit()
    assert session.scalars(sa.select(Node.name)).all() == [f"note on {user.id}"]
    assert [name for name, *_ in heard] == ["pre_save", "post_save"] * 2


@pytest.mark.parametrize("signal", [pre_save, post_save, pre_delete, post_delete])
def test_exception_of_a_receiver_stops_the_flush(session: Session, signal: Any) -> None:
    session.add(old := User(name="old"))
    session.commit()

    def fail(**named: Any) -> None:
        raise Boom

    with connected(signal, fail):
        session.delete(old)
        session.add(User(name="new"))
        with pytest.raises(Boom):
            session.commit()
    session.rollback()
    assert session.scalars(sa.select(User.name)).all() == ["old"]
    session.add(User(name="next"))
    session.commit()


def test_after_an_exception_of_post_save_the_session_wants_a_rollback(session: Session) -> None:
    def fail(**named: Any) -> None:
        raise Boom

    with connected(post_save, fail):
        session.add(User(name="ann"))
        with pytest.raises(Boom):
            session.flush()
    with pytest.raises(PendingRollbackError):
        session.scalar(sa.select(User))
    session.rollback()
    assert session.scalar(sa.select(User)) is None


def test_flush_that_the_database_refuses_has_no_post_save_and_leaves_nothing(
    session: Session, heard: Heard
) -> None:
    session.add(User(id=1, name="ann"))
    session.commit()
    session.expunge_all()
    heard.clear()
    session.add(User(id=1, name="again"))
    with pytest.raises(IntegrityError):
        session.flush()
    assert heard.taken() == [("pre_save", "again", True)]
    session.rollback()
    session.add(User(id=2, name="bob"))
    session.flush()
    assert heard == [("pre_save", "bob", True), ("post_save", "bob", True)]


def test_flushes_that_fail_leave_nothing_in_the_table_of_flushes(session: Session) -> None:
    def refuse(session: Session, context: Any, instances: Any) -> None:
        raise Boom

    session.add(User(id=1, name="ann"))
    session.commit()
    session.expunge_all()
    with Heard("post_save"):
        for _ in range(3):
            session.add(User(id=1, name="again"))
            with pytest.raises(IntegrityError):
                session.flush()
            session.rollback()
        sa.event.listen(session, "before_flush", refuse)  # after ours
        session.add(User(name="bob"))
        with pytest.raises(Boom):
            session.flush()
        gc.collect()
        assert inside.flushes_kept() == {}


def written(session: Session, work: Callable[[], object]) -> list[str]:
    """The names of what the unit of work writes, in its order, as the mappers say."""
    order: list[str] = []
    listeners = [
        (name, lambda mapper, connection, target: order.append(target.name))
        for name in ("after_insert", "after_update", "after_delete")
    ]
    for name, listener in listeners:
        sa.event.listen(sa.orm.Mapper, name, listener)
    try:
        with session.no_autoflush:
            work()
        session.flush()
    finally:
        for name, listener in listeners:
            sa.event.remove(sa.orm.Mapper, name, listener)
    return order


def test_saves_come_in_the_order_of_the_unit_of_work_then_deletes(session: Session) -> None:
    gone = [Remark(name="z"), Remark(name="y")]
    posts = [Post(name=name) for name in "dcba"]
    posts[0].remarks = gone
    session.add_all(posts)
    session.commit()
    names = [post.name for post in posts]

    def work() -> None:
        ann = User(name="ann")
        session.add_all([Post(name="1", user=ann), Post(name="2", user=User(name="bob"))])
        for post in posts[::-1]:
            post.name += post.name
        session.delete(posts[2])
        posts[0].remarks = []

    with Heard("post_save", "post_delete") as heard, Heard("pre_save", "pre_delete") as before:
        order = written(session, work)
    assert names == list("dcba")
    saves = [name for signal, name, *_ in heard if signal == "post_save"]
    deletes = [name for signal, name, *_ in heard if signal == "post_delete"]
    assert [name for _, name, *_ in heard] == saves + deletes
    assert saves == [name for name in order if name in saves]
    assert deletes == [name for name in order if name in deletes]
    assert len(order) == len(saves) + len(deletes)
    assert saves == ["ann", "bob", "1", "2", "dd", "cc", "aa"]
    assert deletes == ["z", "y", "bb"]
    # Before the flush the same, as far as tables tell.
    assert [name for _, name, *_ in before] == saves + deletes


def test_a_class_that_is_mapped_to_a_join_is_announced_beside_others() -> None:
    class Base(DeclarativeBase):
        pass

    left = sa.Table("left", Base.metadata, sa.Column("id", sa.Integer, primary_key=True))
    right = sa.Table(
        "right",
        Base.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("left_id", sa.ForeignKey("left.id")),
    )

    class Joined(Base):
        __table__ = sa.join(left, right)
        id = column_property(left.c.id, right.c.left_id)
        right_id = right.c.id

    class Plain(Base):
        __tablename__ = "plain"
        id = mapped_column(sa.Integer, primary_key=True)

    saved: list[type] = []

    def hear(sender: type, **named: object) -> None:
        saved.append(sender)

    memory = sa.create_engine("sqlite://")
    Base.metadata.create_all(memory)
    sessions = sessionmaker(memory)
    install(sessions)
    with post_save.connect(hear), pre_save.connect(hear), sessions() as own:
        own.add_all([Joined(id=1, right_id=2), Plain(id=1)])
        own.commit()
    memory.dispose()
    assert sorted(kind.__name__ for kind in saved) == ["Joined", "Joined", "Plain", "Plain"]


def test_instances_that_refer_to_their_like_come_in_the_order_of_the_unit_of_work(
    session: Session,
) -> None:
    def work() -> None:
        top = Node(name="top")
        middle = Node(name="middle", above=top)
        session.add_all([Node(name="bottom", above=middle), middle, top])

    with Heard("post_save") as heard:
        order = written(session, work)
    assert [name for _, name, _ in heard] == order == ["top", "middle", "bottom"]


def test_what_was_set_to_the_value_it_had_is_no_change(session: Session, heard: Heard) -> None:
    session.add(user := User(name="ann"))
    session.commit()
    heard.clear()
    user.name = str(user.name)
    assert user in session.dirty
    session.commit()
    assert heard == []


def test_expired_attribute_that_is_set_counts_as_a_change(session: Session, heard: Heard) -> None:
    session.add(user := User(name="ann"))
    session.commit()
    heard.clear()
    user.name = "ann"  # expired by the commit: nobody knows that it is the same
    session.commit()
    assert heard == [("pre_save", "ann", False), ("post_save", "ann", False)]


def test_what_is_added_to_a_collection_is_no_change_of_its_owner(
    session: Session, heard: Heard
) -> None:
    session.add(user := User(name="ann"))
    session.commit()
    assert user.name == "ann"
    heard.clear()
    user.posts.append(Post(name="hello"))
    session.flush()
    assert heard == [("pre_save", "hello", True), ("post_save", "hello", True)]


def test_foreign_key_that_the_flush_writes_is_no_change(session: Session, heard: Heard) -> None:
    session.add(node := Node(name="below"))
    session.add(box := Box(name="box"))
    session.commit()
    heard.clear()
    box.nodes.append(node)  # the other side knows nothing of it
    session.flush()
    assert session.scalar(sa.select(Node.box_id)) == box.id
    assert heard == []
    node.box_id = None  # set by hand: a change
    session.flush()
    assert heard == [("pre_save", "below", False), ("post_save", "below", False)]


def test_orphans_that_a_cascade_deletes_are_announced_with_what_is_below_them(
    session: Session, heard: Heard
) -> None:
    session.add(user := User(name="ann", posts=[Post(name="hello", remarks=[Remark(name="hm")])]))
    session.commit()
    assert [post.name for post in user.posts] == ["hello"]
    assert [remark.name for remark in user.posts[0].remarks] == ["hm"]
    heard.clear()
    user.posts = []
    session.flush()
    assert heard == [
        ("pre_delete", "hm"),
        ("pre_delete", "hello"),
        ("post_delete", "hm"),
        ("post_delete", "hello"),
    ]


@pytest.mark.parametrize("whose", ["a cascade", "the program"])
@pytest.mark.parametrize("new", [False, True])
def test_what_another_parent_takes_in_is_deleted_when_the_flush_does_it_and_not_before(
    session: Session, heard: Heard, whose: str, new: bool
) -> None:
    """SQLAlchemy spares it in the flush that saves the other, and deletes it in the next."""
    ann = User(name="ann", posts=[Post(name="hello", remarks=[Remark(name="hm")])])
    session.add_all([ann, eve := User(name="eve")])
    session.commit()
    [post], other = ann.posts, User(name="zoe", posts=[]) if new else eve
    assert other.posts == []
    heard.clear()
    with session.no_autoflush:
        session.delete(ann if whose == "a cascade" else post)
        if new:
            session.add(other)
        other.posts.append(post)
    deleted = list[list[str]]()
    for _ in range(2):
        session.flush()
        events = heard.taken()
        pre, post_ = (
            [name for event, name, *_ in events if event == f"{when}_delete"]
            for when in ("pre", "post")
        )
        assert pre == post_
        deleted.append(pre)
        left = session.connection().execute(sa.select(Post.name)).scalars().all()
        assert left == ([] if "hello" in pre else ["hello"])
    assert ["hello" in names for names in deleted] == [False, True]


def test_orphan_of_a_collection_that_is_not_loaded_is_announced(
    session: Session, heard: Heard
) -> None:
    session.add(User(name="ann", posts=[Post(name="hello")]))
    session.commit()
    post = session.scalars(sa.select(Post)).one()
    assert post.user is not None
    assert "posts" in sa.inspect(post.user).unloaded
    heard.clear()
    post.user = None
    session.flush()
    assert heard == [("pre_delete", "hello"), ("post_delete", "hello")]


def test_what_was_deleted_before_its_parent_lets_it_go_is_announced_once(
    session: Session, heard: Heard
) -> None:
    session.add(user := User(name="ann", posts=[Post(name="hello", remarks=[Remark(name="hm")])]))
    session.commit()
    [post] = user.posts
    [remark] = post.remarks
    assert (post.name, remark.name) == ("hello", "hm")
    heard.clear()
    session.delete(remark)
    session.flush()
    assert heard == [("pre_delete", "hm"), ("post_delete", "hm")]
    heard.clear()
    user.posts.remove(post)
    session.flush()
    assert heard == [("pre_delete", "hello"), ("post_delete", "hello")]

    session.add(user := User(name="bob", posts=[Post(name="bye")]))
    session.commit()
    [post] = user.posts
    assert post.name == "bye"
    session.delete(post)
    session.flush()
    heard.clear()
    user.posts.remove(post)
    session.commit()
    assert heard == []


@pytest.mark.filterwarnings("ignore:Object of type <Post> not in session")
def test_orphan_that_was_taken_out_of_the_session_is_not_announced(
    session: Session, heard: Heard
) -> None:
    session.add(user := User(name="ann", posts=[Post(name="hello")]))
    session.commit()
    [post] = user.posts
    assert post.name == "hello"
    heard.clear()
    user.posts.remove(post)
    session.expunge(post)
    session.flush()
    assert heard == []


def test_orphans_are_announced_to_those_who_hear_only_them(session: Session) -> None:
    session.add(user := User(name="ann", posts=[Post(name="hello")]))
    session.commit()
    assert [post.name for post in user.posts] == ["hello"]
    with Heard("pre_delete", sender=Post) as before, Heard("post_delete", sender=Post) as after:
        user.posts.clear()
        session.flush()
    assert (before, after) == ([("pre_delete", "hello")], [("post_delete", "hello")])


def test_cascade_of_a_delete_is_announced(session: Session, heard: Heard) -> None:
    session.add(user := User(name="ann", posts=[Post(name="hello")]))
    session.commit()
    assert [post.name for post in user.posts] == ["hello"]
    assert user.name == "ann"
    heard.clear()
    session.delete(user)
    session.flush()
    assert heard == [
        ("pre_delete", "hello"),
        ("pre_delete", "ann"),
        ("post_delete", "hello"),
        ("post_delete", "ann"),
    ]


def test_what_is_changed_and_deleted_and_taken_in_is_saved_before_it_is_deleted(
    session: Session, heard: Heard
) -> None:
    """So does SQLAlchemy: the next flush deletes it."""
    session.add(node := Node(name="node"))
    session.flush()
    heard.clear()
    session.add(Box(name="box", nodes=[node]))
    node.name = "changed"
    session.delete(node)
    session.flush()
    made, changed = ("box", True), ("changed", False)
    assert sorted(heard.taken()) == [
        (name, *of) for name in ("post_save", "pre_save") for of in (made, changed)
    ]
    session.flush()
    assert heard == [("pre_delete", "changed"), ("post_delete", "changed")]


def test_new_instance_that_its_parent_lets_go_fires_nothing(session: Session, heard: Heard) -> None:
    session.add(user := User(name="ann", posts=[Post(name="hello")]))
    user.posts.clear()
    session.flush()
    assert heard == [("pre_save", "ann", True), ("post_save", "ann", True)]


def test_deleting_one_and_adding_another_with_its_key_is_one_update(
    session: Session, heard: Heard
) -> None:
    session.add(old := User(id=1, name="old"))
    session.commit()
    assert old.name == "old"
    heard.clear()
    session.delete(old)
    session.add(User(id=1, name="new"))
    session.flush()
    assert heard == [("pre_save", "new", False), ("post_save", "new", False)]


def test_orphan_that_is_replaced_by_one_with_its_key_is_one_update(
    session: Session, heard: Heard
) -> None:
    session.add(user := User(name="ann", posts=[Post(id=5, name="old")]))
    session.commit()
    assert [post.name for post in user.posts] == ["old"]
    heard.clear()
    user.posts = [Post(id=5, name="new")]
    session.flush()
    assert heard == [("pre_save", "new", False), ("post_save", "new", False)]


def test_merge_is_an_update_of_what_is_there_and_an_insert_of_what_is_not(
    session: Session, heard: Heard
) -> None:
    session.add(User(id=1, name="ann"))
    session.commit()
    heard.clear()
    with session.no_autoflush:
        session.merge(User(id=1, name="eve"))
        session.merge(User(id=2, name="bob"))
    session.flush()
    assert heard == [
        ("pre_save", "bob", True),
        ("pre_save", "eve", False),
        ("post_save", "bob", True),
        ("post_save", "eve", False),
    ]


def test_instance_that_is_added_and_taken_out_again_fires_nothing(
    session: Session, heard: Heard
) -> None:
    session.add(user := User(name="ann"))
    session.expunge(user)
    session.flush()
    assert heard == []


def test_rolled_back_transaction_has_sent_its_signals(session: Session, heard: Heard) -> None:
    session.add(User(name="ann"))
    session.flush()
    session.rollback()
    assert heard == [("pre_save", "ann", True), ("post_save", "ann", True)]


def test_receiver_that_is_connected_in_pre_save_hears_post_save(session: Session) -> None:
    seen: list[Any] = []

    def after(instance: Any, **named: Any) -> None:
        seen.append(instance.name)

    def before(**named: Any) -> None:
        post_save.connect(after, User)

    try:
        with connected(pre_save, before, User):
            session.add(User(name="ann"))
            session.flush()
    finally:
        post_save.disconnect(after, User)
    assert seen == ["ann"]


def test_nothing_is_asked_of_instances_whose_class_nobody_hears(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [Node(name=str(n)) for n in range(5)]
    session.add_all([*nodes, user := User(name="ann")])
    session.commit()
    asked = []
    is_modified = Session.is_modified

    def spy(self: Session, instance: Any, **named: Any) -> bool:
        asked.append(type(instance))
        return is_modified(self, instance, **named)

    monkeypatch.setattr(Session, "is_modified", spy)
    with Heard("post_save", sender=User) as heard:
        for one in (*nodes, user):
            one.name += "!"
        session.flush()
    assert heard == [("post_save", "ann!", False)]
    assert set(asked) == {User}


def test_flush_of_some_instances_announces_these(session: Session, heard: Heard) -> None:
    one, two = User(name="one"), User(name="two")
    session.add_all([one, two])
    with pytest.warns(sa.exc.SADeprecationWarning) if sa.__version__ >= "2.1" else Nothing():
        session.flush([one])
    assert heard == [("pre_save", "one", True), ("post_save", "one", True)]


class Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def test_async_receivers_of_a_plain_session_are_awaited(session: Session) -> None:
    seen = []

    async def look(instance: Any, **named: Any) -> None:
        seen.append(instance.name)

    with connected(post_save, look, User):
        session.add(User(name="ann"))
        session.flush()
    assert seen == ["ann"]


def test_key_that_is_an_expression_may_be_added_where_another_is_deleted(session: Session) -> None:
    """What compares it makes an expression, which is neither true nor false."""
    session.add(old := User(name="old"))
    session.commit()
    with Heard("post_save") as saved:
        session.delete(old)
        session.add(User(id=sa.func.abs(-78), name="new"))
        session.commit()
    assert saved == [("post_save", "new", True)]
    assert session.scalars(sa.select(User.id)).all() == [78]


@pytest.mark.parametrize("signal", [pre_save, post_save, pre_delete, post_delete])
@pytest.mark.parametrize("other", [False, True], ids=["heard by nobody", "of another class"])
def test_who_captures_sees_what_nobody_hears(session: Session, signal: Any, other: bool) -> None:
    with contextlib.ExitStack() as stack:
        if other:
            stack.enter_context(connected(signal, ignore, Node))
        sent = stack.enter_context(capture(signal))
        session.add(user := User(name="ann"))
        session.flush()
        session.delete(user)
        session.flush()
    sent.assert_once(instance=user)


def test_who_mutes_a_signal_may_capture_it(session: Session) -> None:
    calls = list[Any]()

    def hears(**named: Any) -> None:
        calls.append(named)

    with connected(post_save, hears), capture(post_save) as sent, muted(post_save):
        session.add(User(name="ann"))
        session.flush()
    sent.assert_once(created=True)
    assert calls == []


def test_classes_that_inherit_are_announced_in_the_order_in_which_they_are_written(
    session: Session, heard: Heard
) -> None:
    session.add_all([Employee(name="bob", desk="1"), User(name="ann"), Employee(name="eve")])
    session.flush()
    assert [name for _, name, _ in heard] == ["bob", "ann", "eve"] * 2


@pytest.mark.parametrize("wrong", [User, background(ignore)], ids=["an instance", "a background"])
def test_what_would_never_hear_or_in_another_thread_is_refused(wrong: Any) -> None:
    before = [list(signal.receivers) for signal in (pre_save, post_save)]
    for signal in (pre_save, post_save, pre_delete, post_delete):
        if wrong is User:
            for sender in (User(name="ann"), "User"):
                with pytest.raises(TypeError, match="are classes, as in sender=User"):
                    signal.connect(ignore, sender=sender)
        else:
            with pytest.raises(TypeError, match=r"use tsignals\.sqlalchemy\.on_commit"):
                signal.connect(wrong)
            with pytest.raises(TypeError, match=r"use tsignals\.sqlalchemy\.on_commit"):
                receiver(signal, sender=User, weak=False)(Mails().mail)
    assert [list(signal.receivers) for signal in (pre_save, post_save)] == before


class Mails:
    @background
    def mail(self, **named: Any) -> None: ...


class Clerk:
    __call__ = background(ignore)


class OfAnotherLibrary(type(background(ignore))):  # type: ignore[misc]
    """As ``tsignals.django.on_commit`` makes them."""

    made_by = "on_commit"


@pytest.mark.parametrize(
    "wrong",
    [
        functools.partial(background(ignore)),
        functools.partial(functools.partial(Mails().mail)),
        functools.partial(Mails.mail, Mails()),
        Clerk(),
        OfAnotherLibrary(ignore),
    ],
    ids=["a partial", "partials of a method", "a partial of a function", "an object", "another's"],
)
def test_instances_stay_on_their_thread_whatever_a_background_receiver_is_within(
    wrong: Any,
) -> None:
    for signal in (pre_save, post_save, pre_delete, post_delete):
        with pytest.raises(TypeError, match=r"use tsignals\.sqlalchemy\.on_commit in its place"):
            signal.connect(wrong, weak=False)


def test_partial_of_an_on_commit_receiver_gets_the_identity(session: Session) -> None:
    seen = list[Any]()

    @on_commit
    def write(to: str, identity: Any, **named: Any) -> None:
        seen.append((to, identity[1], "instance" in named))

    with inline(), connected(post_save, functools.partial(write, to="book")):
        session.add(user := User(name="ann"))
        session.commit()
    assert seen == [("book", (user.id,), False)]
