"""connect: receivers of every kind are what they are, whatever they say of themselves."""

import asyncio
import functools
import gc
import inspect
import types
import weakref
from collections.abc import Callable
from typing import Any, ClassVar
from unittest import mock

import inside
import pytest
from helpers import TIMEOUT, Thing, assert_gone, heard, wait_until
from test_connect import Shelf, narrow

from tsignals import Signal, background


class Bound:
    """What a decorator of one's own makes anew at each access."""

    def __init__(self, function: Callable[..., Any], instance: object) -> None:
        self.function = function
        self.instance = instance

    def __call__(self, **named: Any) -> Any:
        return self.function(self.instance, **named)


class Binds:
    """A decorator that binds by itself, in one of many ways."""

    def __init__(self, how: Callable[[Any, Any], Any], function: Callable[..., Any]) -> None:
        self.how = how
        self.function = function

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self.how(self.function, instance)


def binds(how: Callable[[Any, Any], Any]) -> Callable[[Callable[..., Any]], Any]:
    return functools.partial(Binds, how)


def closure(function: Callable[..., Any], instance: object) -> Callable[..., Any]:
    return lambda **named: function(instance, **named)


def method_of_a_partial(function: Callable[..., Any], instance: object) -> Any:
    return types.MethodType(functools.partial(function), instance)


def method_of_a_closure(function: Callable[..., Any], instance: object) -> Any:
    return types.MethodType(lambda self, **named: function(self, **named), instance)


def wraps(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return wrapper


class Decorated:
    @binds(Bound)
    def as_object(self, **named: Any) -> str:
        return "heard"

    @binds(functools.partial)
    def as_partial(self, **named: Any) -> str:
        return "heard"

    @binds(closure)
    def as_closure(self, **named: Any) -> str:
        return "heard"

    @binds(method_of_a_partial)
    def as_method_of_a_partial(self, **named: Any) -> str:
        return "heard"

    @binds(method_of_a_closure)
    def as_method_of_a_closure(self, **named: Any) -> str:
        return "heard"

    @functools.singledispatchmethod
    def single_dispatch(self, **named: Any) -> str:
        return "heard"

    @wraps
    def wrapped(self, **named: Any) -> str:
        return "heard"

    def plain(self, **named: Any) -> str:
        return "heard"

    partial_method = functools.partialmethod(plain, size=3)


class BoundByHand:
    def __init__(self, function: Any, owner: object) -> None:
        self.function, self.__self__ = function, owner

    def __call__(self, **named: Any) -> Any:
        return self.function(self.__self__, **named)


class HasProperty:
    @property
    def hear(self) -> BoundByHand:
        return BoundByHand(HasProperty.heard, self)

    def heard(self, **named: Any) -> None: ...


MADE_ANEW: dict[str, Callable[[], Any]] = {
    **{
        name: functools.partial(getattr, Decorated(), name)
        for name in vars(Decorated)
        if name.startswith(("as_", "partial_", "single_"))
    },
    "method of a property": lambda: HasProperty().hear,
    "method of a built-in type": lambda: {}.update,
    "class method of a built-in type": lambda: dict.fromkeys,
}
KEEP = [made.args[0] for made in MADE_ANEW.values() if isinstance(made, functools.partial)]


@pytest.mark.parametrize("kind", MADE_ANEW)
def test_receiver_that_would_be_dead_at_once_is_refused(kind: str) -> None:
    signal = Signal()
    if kind == "class method of a built-in type":  # takes no keywords either
        with pytest.raises(ValueError, match="keyword arguments"):
            signal.connect(MADE_ANEW[kind]())
        return
    with pytest.raises(TypeError, match=r"weakly \(.*pass weak=False"):
        signal.connect(MADE_ANEW[kind]())
    assert signal.receivers == []
    connection = signal.connect(MADE_ANEW[kind](), weak=False)
    gc.collect()
    assert signal.receivers == [connection]


def test_what_wrapt_makes_of_a_method_is_called_and_not_what_it_wraps() -> None:
    wrapt = pytest.importorskip("wrapt")
    audits = list[str]()

    @wrapt.decorator
    def audited(wrapped: Any, instance: Any, arguments: Any, named: Any) -> Any:
        audits.append(type(instance).__name__)
        return wrapped(*arguments, **named)

    class Desk:
        @audited
        def on(self, **named: Any) -> str:
            return "heard"

        @audited
        async def on_async(self, **named: Any) -> str:
            return "heard"

    @audited
    def function(**named: Any) -> str:
        return "heard"

    signal, desk = Signal(), Desk()
    with pytest.raises(TypeError, match="pass weak=False"):
        signal.connect(desk.on)
    signal.connect(desk.on, weak=False)
    signal.connect(desk.on_async, weak=False)
    signal.connect(function)
    responses = [response for _, response in signal.send(None)]
    assert responses == ["heard"] * 3
    assert sorted(audits) == ["Desk", "Desk", "NoneType"]


@pytest.mark.parametrize("make", [mock.Mock, mock.MagicMock, mock.NonCallableMock])
@pytest.mark.parametrize("spec", [None, Shelf().method, Shelf.static_method, Shelf])
def test_mock_is_one_object_whatever_its_spec(make: Any, spec: Any) -> None:
    signal, double = Signal(), make(spec=spec)
    if make is mock.NonCallableMock:
        with pytest.raises(TypeError, match="callable"):
            signal.connect(double)
        return
    signal.connect(double)
    signal.send(None, size=1)
    double.assert_called_once_with(signal=signal, sender=None, size=1)
    double.reset_mock()
    assert signal.disconnect(double)


def test_async_mock_is_awaited() -> None:
    signal, double = Signal(), mock.AsyncMock(return_value="heard")
    signal.connect(double)
    assert signal.send(None) == [(double, "heard")]
    double.assert_awaited_once()


class Field:
    """A descriptor that knows classes, as those of models and forms do."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner = owner

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else self.kind()


class Model:
    size = Field(int)

    @functools.cache  # noqa: B019
    def cached(self, **named: Any) -> str:
        return "heard"

    @classmethod
    @functools.cache
    def cached_of_the_class(cls, **named: Any) -> str:
        return "heard"

    def watch(self) -> Callable[..., Any]:
        return lambda **named: (self, __class__)  # type: ignore[name-defined]


class SlottedBound:
    __slots__ = ("__weakref__", "method")

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method

    def __call__(self, **named: Any) -> Any:
        return self.method(**named)


@pytest.mark.parametrize(
    "keep",
    [
        lambda: mock.MagicMock().handler,
        lambda: mock.MagicMock()(),
        lambda: mock.create_autospec(Decorated()).plain,
        lambda: Model().watch(),
        lambda: closure(Decorated.plain, Model.size),
        lambda: functools.partial(Shelf.method, Model, Model.size),
        lambda: Bound(Model, Model.size),  # type: ignore[arg-type]
        lambda: Bound(int, Model()),
        lambda: SlottedBound(Model().cached),
        lambda: wraps(Model().cached),
        lambda: wraps(Decorated().as_object),
        lambda: functools.partial(Model().cached, size=1),
        lambda: functools.partial(Decorated().plain),
        lambda: functools.partial(Decorated.plain, Decorated()),
        lambda: closure(Decorated.plain, Decorated()),
        lambda: Bound(Shelf.method, Shelf()),
        lambda: wraps(Shelf().method),
        lambda: mock.Mock(),
        lambda: Shelf.static_method,
    ],
)
def test_receiver_that_somebody_may_keep_is_held_weakly(keep: Callable[[], Any]) -> None:
    signal, receiver = Signal(), keep()
    assert signal.connect(receiver).receiver is receiver
    reference = weakref.ref(receiver)
    if receiver is not Shelf.static_method:
        del receiver
        assert_gone(reference)
        assert not signal.has_listeners()


@pytest.mark.parametrize("name", [name for name in vars(Decorated) if name[:3] in ("as_", "par")])
def test_method_like_object_that_its_object_keeps_is_held_weakly(name: str) -> None:
    signal, shop = Signal(), Decorated()
    shop.keep = getattr(shop, name)  # type: ignore[attr-defined]
    receiver = shop.keep  # type: ignore[attr-defined]
    connection = signal.connect(receiver)
    reference = weakref.ref(receiver)
    del receiver
    gc.collect()
    assert connection.connected
    del shop
    assert_gone(reference)
    assert not signal.has_listeners()


def test_cached_method_of_a_class_is_held_as_any_method() -> None:
    signal = Signal()
    signal.connect(Model.cached_of_the_class)
    gc.collect()
    assert heard(signal) == [Model.cached_of_the_class]


@pytest.mark.parametrize("wide", ["__new__", "__init__"])
def test_class_is_judged_by_what_is_defined_nearest_of_new_and_init(wide: str) -> None:
    def make(self: Any, size: int = 0) -> Any:
        return object.__new__(self)

    def make_any(self: Any, *arguments: Any, **named: Any) -> Any:
        return object.__new__(self)

    narrow = "__init__" if wide == "__new__" else "__new__"
    base = type("Base", (), {narrow: make})
    Signal().connect(type("Wide", (base,), {wide: make_any}))
    base = type("Base", (), {wide: make_any})
    with pytest.raises(ValueError, match="keyword arguments"):
        Signal().connect(type("Narrow", (base,), {narrow: make}))


class WatchfulKind(type):
    """A metaclass that does, too."""

    def __getattribute__(cls, name: str) -> Any:
        if name != "asked":
            Watchful.asked.append("class's " + name)
        return type.__getattribute__(cls, name)

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("classes were compared")

    __hash__ = None  # type: ignore[assignment]


class Watchful(metaclass=WatchfulKind):
    """A callable that tells of everything that is asked of it."""

    asked: ClassVar[list[str]] = []

    def method(self, **named: Any) -> str:
        return "heard"

    def narrow(self) -> None: ...

    def __getattribute__(self, name: str) -> Any:
        Watchful.asked.append(name)
        return object.__getattribute__(self, name)

    def __getattr__(self, name: str) -> Any:
        Watchful.asked.append(name)
        raise LookupError(name)

    def __call__(self, **named: Any) -> str:
        return "heard"

    def __eq__(self, other: object) -> bool:
        Watchful.asked.append("==")
        return self is other

    def __hash__(self) -> int:
        Watchful.asked.append("hash")
        return 0

    def __bool__(self) -> bool:
        Watchful.asked.append("bool")
        return False

    def __repr__(self) -> str:
        Watchful.asked.append("repr")
        return "watchful"

    @property
    def __signature__(self) -> Any:
        Watchful.asked.append("signature")
        raise RuntimeError

    @property
    def __class__(self) -> Any:
        Watchful.asked.append("class")
        return types.MethodType

    @property
    def __wrapped__(self) -> Any:
        Watchful.asked.append("wrapped")
        raise RuntimeError


@pytest.mark.parametrize("weak", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda each: each,
        functools.partial,
        lambda each: object.__getattribute__(each, "method"),
        lambda each: lambda **named: each(**named),
    ],
)
def test_nothing_of_a_receiver_is_called_when_it_is_connected(wrap: Any, weak: bool) -> None:
    signal, receiver = Signal(), Watchful()
    wrapped = wrap(receiver)
    Watchful.asked.clear()
    connection = signal.connect(wrapped, weak=weak)
    assert Watchful.asked == []
    assert connection.connected
    assert Watchful.asked == []
    assert [response for _, response in signal.send(None)] == ["heard"]
    assert signal.disconnect(wrapped)


def unknown_annotations() -> dict[str, Callable[..., Any]]:
    """Receivers with annotations that cannot be evaluated, nor may be."""

    def annotate(format: int, /) -> Any:
        raise AssertionError("annotations were asked for")

    def function(sender: Any, order: "Unknown", **named: Any) -> str:  # type: ignore[name-defined] # noqa: F821
        return "heard"

    class Callable_:
        def __call__(self, order: "Unknown" = None, **named: Any) -> str:  # type: ignore[name-defined] # noqa: F821
            return "heard"

        def method(self, order: "Unknown" = None, **named: Any) -> str:  # type: ignore[name-defined] # noqa: F821
            return "heard"

    for each in (function, Callable_.__call__, Callable_.method):
        if hasattr(each, "__annotate__"):  # from CPython 3.14 on
            each.__annotate__ = annotate
    return {
        "function": function,
        "decorated": wraps(function),
        "twice decorated": wraps(wraps(function)),
        "partial": functools.partial(function, order=1),
        "object": Callable_(),
        "method": Callable_().method,
        "partial of a method": functools.partial(Callable_().method),
        "background": background(function),
        "background of a partial": background(functools.partial(function, order=1)),
    }


@pytest.mark.parametrize("kind", unknown_annotations())
def test_annotations_are_never_evaluated(kind: str) -> None:
    signal, receiver = Signal(), unknown_annotations()[kind]
    signal.connect(receiver, weak=False)
    [(_, response)] = signal.send(None, order=1) if "partial" not in kind else signal.send(None)
    assert getattr(response, "result", lambda timeout: response)(TIMEOUT) == "heard"


def test_wrapper_is_judged_by_what_it_wraps_and_the_error_says_so() -> None:
    with pytest.raises(ValueError, match=r"\(\*\*kwargs\).*wraps.*narrow"):
        Signal().connect(wraps(narrow))


def test_signature_that_is_one_is_believed() -> None:
    def star(*arguments: Any, **named: Any) -> None: ...

    star.__signature__ = inspect.signature(narrow)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="keyword arguments"):
        Signal().connect(star)
    star.__signature__ = "anything else"  # type: ignore[attr-defined]
    Signal().connect(star)


@pytest.mark.parametrize("verb", ["send", "send_robust", "send_async"])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    "function",
    [
        functools.partial(lambda instance, **named: instance),
        Bound(lambda _, instance, **named: instance, None),
        type("Called", (), {"__call__": lambda _, instance, **named: instance})(),
    ],
)
def test_method_whose_function_is_no_function_gets_its_object(
    verb: str, count: int, function: Any
) -> None:
    if isinstance(function, Bound):
        function = functools.partial(function.function, None)
    signal, things = Signal(), [Thing(str(n)) for n in range(count)]
    for thing in things:
        signal.connect(types.MethodType(function, thing))
    for _ in range(20):  # as it is called first, and as it is called later on
        answers = getattr(signal, verb)(None, size=1)
        if verb == "send_async":
            answers = answers.results(TIMEOUT)
        assert [response for _, response in answers] == things


def test_method_goes_when_its_function_dies_and_no_send_is_needed() -> None:
    signal, thing = Signal(), Thing()

    def local(instance: object, **named: Any) -> None: ...

    method = types.MethodType(local, thing)
    connection = signal.connect(method)
    del local, method
    gc.collect()
    assert not connection.connected
    assert [*inside.rows_of(signal)] == []


def test_mark_of_inspect_makes_a_function_async() -> None:
    if not hasattr(inspect, "markcoroutinefunction"):
        pytest.skip("from CPython 3.12 on")

    async def answer() -> str:
        return "heard"

    @inspect.markcoroutinefunction
    def marked(**named: Any) -> Any:
        return answer()

    class Shop:
        @inspect.markcoroutinefunction
        def on(self, **named: Any) -> Any:
            return answer()

        @inspect.markcoroutinefunction
        def __call__(self, **named: Any) -> Any:
            return answer()

    signal, shop = Signal(), Shop()
    for receiver in (marked, shop.on, shop):
        signal.connect(receiver)
    assert [response for _, response in signal.send(None)] == ["heard"] * 3
    assert [r for _, r in signal.send_async(None).results(TIMEOUT)] == ["heard"] * 3


async def answers(*given: object, **named: Any) -> str:
    return "heard"


class CalledOtherwise:
    async def hear(self, *given: object, **named: Any) -> str:
        return "heard"

    async def __call__(self, **named: Any) -> str:
        return "heard"


@pytest.mark.parametrize(
    "call",
    [
        functools.partialmethod(CalledOtherwise.hear, "me"),
        functools.partialmethod(functools.partialmethod(CalledOtherwise.hear, "me"), "too"),
        staticmethod(functools.partial(answers, "me")),
        staticmethod(answers),
        classmethod(answers),
        CalledOtherwise(),
        CalledOtherwise().hear,
    ],
    ids=lambda call: type(call).__name__,
)
def test_object_is_async_whatever_gives_the_coroutine_when_it_is_called(call: Any) -> None:
    """It was called as a sync receiver, and its coroutine never awaited."""
    receiver = type("Called", (), {"__call__": call})()
    signal = Signal()
    signal.connect(receiver)
    assert signal.send(None) == [(receiver, "heard")]
    assert signal.send_async(None).results(TIMEOUT) == [(receiver, "heard")]
    assert asyncio.run(signal.asend(None)) == [(receiver, "heard")]


class MetaCalled(type):
    def __call__(cls, **named: Any) -> str:
        return "heard"


class Newly:
    def __new__(cls, **named: Any) -> Any:
        return object.__new__(cls)


class CalledByPartial:
    def _call(self, size: int, **named: Any) -> str:
        return "heard"

    __call__ = functools.partialmethod(_call, 3)


class CalledStatically:
    @staticmethod
    def __call__(**named: Any) -> str:
        return "heard"


def looping(**named: Any) -> str:
    return "heard"


looping.__wrapped__ = looping  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "receiver",
    [
        MetaCalled("Made", (), {}),
        Newly,
        type("WithDict", (dict,), {}),
        CalledByPartial(),
        CalledStatically(),
        looping,
        staticmethod(looping),
        functools.partial(functools.partial(looping)),
        functools.lru_cache(lambda **named: "heard"),
    ],
)
def test_whatever_takes_any_keywords_can_be_connected(receiver: Any) -> None:
    signal = Signal()
    signal.connect(receiver, weak=False)
    assert signal.has_listeners()


@pytest.mark.parametrize(
    "receiver",
    [
        type("Bare", (), {}),
        type("NarrowlyMade", (), {"__init__": lambda self, size=1: None}),
        type("NarrowlyCalled", (), {"__call__": lambda self, size=1: None})(),
        functools.partial(narrow),
        functools.lru_cache(narrow),
        int.bit_length,
        "text".join,
        len,
    ],
)
def test_whatever_does_not_is_refused(receiver: Any) -> None:
    with pytest.raises(ValueError, match="keyword arguments"):
        Signal().connect(receiver, weak=False)


class SaysMethod:
    __class__ = types.MethodType  # type: ignore[assignment]

    def __init__(self) -> None:
        self.__self__, self.__func__ = object(), len

    def __call__(self, **named: Any) -> str:
        return "heard"


class HasSelf:
    def __init__(self) -> None:
        self.__self__ = object()

    __call__ = SaysMethod.__call__


class HasSelfInASlot:
    __slots__ = ("__self__", "__weakref__")
    __init__, __call__ = HasSelf.__init__, SaysMethod.__call__


class HasSelfInItsClass:
    __self__ = 3
    __call__ = SaysMethod.__call__


@pytest.mark.parametrize("kind", [SaysMethod, HasSelf, HasSelfInASlot, HasSelfInItsClass])
def test_object_that_has_something_called_self_is_no_method(kind: type) -> None:
    signal, ear = Signal(), kind()
    signal.connect(ear)
    assert [response for _, response in signal.send(None)] == ["heard"]
    del ear
    wait_until(lambda: not signal.has_listeners())
