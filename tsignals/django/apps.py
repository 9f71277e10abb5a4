"""The app: what is set up when Django starts.

Threads
    ``ready()`` runs once, on the thread that sets Django up, before requests come; again, on the
    same thread, when a test changes ``INSTALLED_APPS``. It starts no thread: the pool starts its
    workers when they are needed, so a server may fork after it.
"""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, TypeVar

from asgiref.sync import async_to_sync, sync_to_async
from django.core import checks

from tsignals import set_sync_runner
from tsignals.django import _settings
from tsignals.django._checks import check_databases, check_settings

if TYPE_CHECKING:
    AppConfig = object  # Django is untyped
else:
    from django.apps import AppConfig

T = TypeVar("T")


class RequestsThread:
    """The sync runner: as Django's own signals have it, on both sides."""

    async def __call__(self, call: Callable[[], T]) -> T:
        """Run ``call`` where asgiref runs what is bound to a thread."""
        result: T = await sync_to_async(call, thread_sensitive=True)()
        return result

    def run_async(self, function: Callable[[], Coroutine[object, object, T]]) -> T:
        """Await ``function()``, whose ``sync_to_async`` comes back to this thread meanwhile.

        It would else wait for the thread of the request, which waits here.
        """
        result: T = async_to_sync(function)()
        return result


on_the_requests_thread: RequestsThread = RequestsThread()


class TsignalsConfig(AppConfig):
    """``"tsignals.django"`` in ``INSTALLED_APPS``."""

    name = "tsignals.django"
    label = "tsignals"
    verbose_name = "tsignals"

    def ready(self) -> None:
        """Register the checks; make the default pool; give ``asend`` the request's thread.

        Raises nothing on wrong settings: the check speaks, and the log, for servers run no checks;
        and the pool is made from the rest.
        """
        checks.register(check_settings, "tsignals")
        checks.register(check_databases, "tsignals")
        set_sync_runner(on_the_requests_thread)
        _settings.make_default_pool()
