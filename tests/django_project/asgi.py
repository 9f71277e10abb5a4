"""What a server serves. The tables are made when it starts."""

from django.core.asgi import get_asgi_application

application = get_asgi_application()

from . import make_tables  # noqa: E402 - after the settings

make_tables()
