"""What a server serves. The tables are made when it starts."""

from threading import Thread

from django.core.asgi import get_asgi_application

application = get_asgi_application()

from . import make_tables  # noqa: E402 - after the settings

# Not here: older servers import this on their event loop, where Django connects to nothing.
thread = Thread(target=make_tables)
thread.start()
thread.join()
