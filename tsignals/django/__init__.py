"""Signals in a Django project: an app, receivers that wait for the commit, workers' connections.

Put ``"tsignals.django"`` into ``INSTALLED_APPS``. The default pool is then made from the setting
``TSIGNALS``, its workers' database connections are looked after, ``asend`` calls sync receivers
on the request's thread as Django's own does, and ``manage.py check`` looks at the settings.

Importing this module reads no setting, so it may be imported before they are configured.
"""

from tsignals.django._commit import after_commit
from tsignals.django._connections import connections
from tsignals.django._receiver import on_commit

__all__ = ["after_commit", "connections", "on_commit"]
