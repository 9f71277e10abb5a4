"""``Signal.declare``: what a definition says of a signal, and what checkers then know of it."""

import ast
import functools
import inspect
import pickle
import sys
from typing import TYPE_CHECKING, Any

import pytest
from rooms import PACKAGE

import tsignals
from tsignals import Signal

if TYPE_CHECKING:
    from nowhere import Oven  # type: ignore[import-not-found]


@Signal.declare
def pizza_done(sender: "Oven", *, toppings: list[str], size: int) -> None:
    """Sent when a pizza is done."""
    raise AssertionError("a stub is never called")


def test_signal_has_name_values_and_doc_of_the_definition() -> None:
    assert type(pizza_done) is Signal
    assert pizza_done.name == "pizza_done"
    assert pizza_done.providing_args == ("toppings", "size")
    assert pizza_done.__doc__ == "Sent when a pizza is done."
    assert pizza_done.__module__ == __name__
    assert "pizza_done" in repr(pizza_done)


def test_declared_signal_is_sent_and_heard_as_any_other() -> None:
    heard = []
    with pizza_done.connect(lambda **named: heard.append(named), weak=False):
        pizza_done.send("oven", toppings=["basil"], size=30)
        pizza_done.send(None, anything=3)  # checkers complain, the signal does not
    assert heard == [
        {"signal": pizza_done, "sender": "oven", "toppings": ["basil"], "size": 30},
        {"signal": pizza_done, "sender": None, "anything": 3},
    ]


def test_declared_signal_is_pickled_by_its_place() -> None:
    assert pickle.loads(pickle.dumps(pizza_done)) is pizza_done


class Doors:
    @Signal.declare
    @staticmethod
    def opened(sender: "Oven", *, degrees: int) -> None:
        """Sent when a door opens."""


def test_declared_in_a_class_it_may_be_a_static_method() -> None:
    assert Doors.opened.name == "opened"
    assert Doors.opened.providing_args == ("degrees",)
    assert Doors.opened.__doc__ == "Sent when a door opens."
    assert pickle.loads(pickle.dumps(Doors.opened)) is Doors.opened
    with pytest.raises(TypeError, match="plain function, not <int>"):
        Signal.declare(staticmethod(3))  # type: ignore[arg-type]


def test_doc_of_the_definition_may_be_missing() -> None:
    @Signal.declare
    def silent(sender: object) -> None: ...

    assert silent.__doc__ is None
    assert silent.providing_args == ()


def test_annotated_signals_may_name_what_they_carry() -> None:
    assert Signal[str, ...].__origin__ is Signal  # type: ignore[attr-defined]

    def sends(signal: Signal[str, ...]) -> None: ...

    assert sends.__annotations__["signal"] == Signal[str, ...]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated before that")
def test_annotations_are_not_evaluated() -> None:
    @Signal.declare
    def later(sender: not_there, *, size: nor.this[3]) -> None: ...  # type: ignore  # noqa: F821

    assert later.providing_args == ("size",)


def no_sender() -> None: ...
def other_name(oven: object, *, size: int) -> None: ...
def by_position(sender: object, size: int) -> None: ...
def only_by_name(*, sender: object) -> None: ...
def default(sender: object, *, size: int = 3) -> None: ...
def default_sender(sender: object = None) -> None: ...
def more(sender: object, *sizes: int) -> None: ...
def named(sender: object, **sizes: int) -> None: ...
def bare(sender: object, *, size, price) -> None: ...  # type: ignore[no-untyped-def]
def bare_sender(sender, *, size: int) -> None: ...  # type: ignore[no-untyped-def]
def signal(sender: object, *, signal: object) -> None: ...
async def awaits(sender: object) -> None: ...


@pytest.mark.parametrize(
    ("stub", "why"),
    [
        (no_sender, "not the sender alone"),
        (other_name, r"takes \(oven\) by position"),
        (by_position, r"takes \(sender, size\) by position"),
        (only_by_name, "not the sender alone"),
        (default, "has a default"),
        (default_sender, "has a default"),
        (more, r"\*args or \*\*kwargs"),
        (named, r"\*args or \*\*kwargs"),
        (bare, "no annotation for size, price"),
        (bare_sender, "no annotation for sender"),
        (signal, "names a value 'signal'"),
        (awaits, "needs a plain function"),
        (functools.partial(by_position), "needs a plain function"),
        (3, "needs a plain function"),
        (Signal, "needs a plain function"),
    ],
)
def test_other_definitions_are_refused(stub: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why) as refused:
        Signal.declare(stub)
    assert "write def order_placed(sender: Shop, *, order: int) -> None: ..." in str(refused.value)


# What checkers read is what there is


STUB = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[tuple[str, object]]:
    """Names and defaults; without what stands for the values of a declared signal."""
    of = function.args
    plain = [*of.posonlyargs, *of.args]
    defaults = [inspect.Parameter.empty] * (len(plain) - len(of.defaults)) + of.defaults
    pairs = [*zip(plain, defaults, strict=True), *zip(of.kwonlyargs, of.kw_defaults, strict=True)]
    return [
        (each.arg, ast.literal_eval(default) if isinstance(default, ast.expr) else default)
        for each, default in pairs
    ]


def test_checkers_are_told_of_every_public_name_and_no_other() -> None:
    told = {
        alias.asname
        for node in STUB.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    for node in STUB.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            told.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            told.add(node.target.id)
    assert {name for name in told if name and not name.startswith("_")} == set(tsignals.__all__)


@pytest.mark.parametrize(
    ("shown", "told"), [("Signal", "Signal"), ("_view.View", "_View")], ids=["Signal", "View"]
)
def test_checkers_are_told_of_every_method_as_it_is(shown: str, told: str) -> None:
    kind = functools.reduce(getattr, shown.split("."), tsignals)
    classes = [
        node
        for node in STUB.body
        if isinstance(node, ast.ClassDef) and node.name in (told, "_Sends")
    ]
    body = [node for each in classes for node in each.body]
    methods = [node for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    names = {each.name for each in methods}
    for method in methods:
        there = inspect.getattr_static(kind, method.name, None)
        if there is None:  # what a view does not have is the signal's own
            there = inspect.getattr_static(Signal, method.name)
        if isinstance(there, property):
            there = there.fget
        function = getattr(there, "__func__", there)
        signature = inspect.signature(function).parameters.values()
        wanted = [
            (each.name, each.default) for each in signature if each.kind is not each.VAR_KEYWORD
        ]
        assert parameters(method) == wanted, method.name
        assert isinstance(method, ast.AsyncFunctionDef) == inspect.iscoroutinefunction(function)
    attributes = {
        node.target.id
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    public = {name for name in vars(kind) if not name.startswith("_")}
    assert public - names - attributes == set()


def test_subclass_declares_signals_of_its_own() -> None:
    class Mail(Signal):
        pass

    @Mail.declare
    def mail_sent(sender: object, *, to: str) -> None: ...

    assert type(mail_sent) is Mail
    assert (mail_sent.providing_args, mail_sent.name) == (("to",), "mail_sent")
