"""``Namespace``: signals by name."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from helpers import TIMEOUT, together

from tsignals import Namespace, Signal, WorkerPool

shop = Namespace()
paid = shop.signal("paid", providing_args=["order"])


def test_signal_is_made_once_and_found_by_its_name() -> None:
    namespace = Namespace()
    first = namespace.signal("paid")
    assert type(first) is Signal
    assert first.name == "paid"
    assert namespace.signal("paid") is first
    assert namespace.signal("shipped") is not first
    assert Namespace().signal("paid") is not first


def test_signal_has_the_arguments_it_was_first_asked_for_with() -> None:
    namespace = Namespace()
    with WorkerPool(1) as pool:
        made = namespace.signal("paid", providing_args=(n for n in ["order"]), executor=pool)
        assert made.providing_args == ("order",)
        assert made.executor is pool
        assert namespace.signal("paid") is made
        assert namespace.signal("paid", providing_args=["order"], executor=pool) is made
        made.executor = None  # changes nothing here
        assert namespace.signal("paid", providing_args=["order"], executor=pool) is made
        for others in ({"executor": pool}, {"providing_args": ["size"], "executor": pool}):
            with pytest.raises(ValueError, match="'paid' was made with providing_args"):
                namespace.signal("paid", **others)
    with pytest.raises(ValueError, match="with no arguments, and is asked for with use_caching"):
        namespace.signal("plain", **{"use_caching": namespace.signal("plain") is not None})


def test_executor_that_is_empty_is_another_executor_all_the_same() -> None:
    class Empty(ThreadPoolExecutor):
        def __len__(self) -> int:
            return 0

    namespace = Namespace()
    namespace.signal("paid")
    with Empty(1) as pool, pytest.raises(ValueError, match="was made with no arguments"):
        namespace.signal("paid", executor=pool)


@pytest.mark.parametrize("name", [None, 17, b"paid"])
def test_name_is_a_str(name: Any) -> None:
    namespace = Namespace()
    with pytest.raises(TypeError, match="must be a str"):
        namespace.signal(name)
    assert len(namespace) == 0


def test_what_signal_refuses_leaves_nothing() -> None:
    namespace = Namespace()
    refused: list[dict[str, Any]] = [{"executor": 5}, {"unknown": 1}, {"name": "x"}]
    refused += [{"providing_args": "order"}, {"providing_args": b"order"}]
    for wrong in refused:
        with pytest.raises(TypeError):
            namespace.signal("paid", **wrong)
    assert list(namespace) == []


def test_it_is_a_mapping_of_what_was_made() -> None:
    namespace = Namespace()
    first, second = namespace.signal("b"), namespace.signal("a")
    assert list(namespace) == ["b", "a"]
    assert dict(namespace) == {"b": first, "a": second}
    assert namespace["a"] is second
    assert "c" not in namespace
    assert namespace.get("c") is None
    assert repr(namespace) == "<Namespace of 2 signals>"
    with pytest.raises(KeyError):
        namespace["c"]


def test_all_threads_get_the_same_signal() -> None:
    for _ in range(50):
        namespace = Namespace()
        found = together(*[lambda: namespace.signal("paid")] * 4)
        assert len({id(each) for each in found}) == 1


def test_signals_of_a_namespace_are_signals_as_all_others() -> None:
    assert pickle.loads(pickle.dumps(paid)) is paid
    assert repr(paid) == "<Signal 'paid', providing_args=('order',)>"
    with paid.connect(lambda order, **named: order, weak=False), WorkerPool(1) as pool:
        [(_, response)] = paid.via(pool).send_async(None, order=17).results(TIMEOUT)
    assert response == 17
