"""The asyncio side."""

from typing import Any


def send(*a: Any) -> Any:
    raise NotImplementedError("async receivers")


send_robust = asend = asend_robust = await_results = iterate_results = send
