"""The app: what it sets up from the settings, what its checks say, what importing it needs."""

import json
from pathlib import Path
from typing import Any

import django_project
import processes
import pytest

pytest.importorskip("django")

POSTGRESQL: dict[str, Any] = {"ENGINE": "django.db.backends.postgresql", "NAME": "nobody"}


def run(
    directory: Path, script: str, database: dict[str, Any] | None = None, **settings: Any
) -> str:
    """What ``script`` prints in a process of its own, in which Django is set up."""
    given = django_project.environment(
        directory, database or django_project.sqlite(directory / "db"), **settings
    )
    preamble = processes.PREAMBLE + "import django\ndjango.setup()\n"
    done = processes.run(script, preamble, **given)
    assert done.returncode == 0, done.stderr
    return done.stdout


def checked(
    directory: Path, database: dict[str, Any] | None = None, **settings: Any
) -> dict[str, list[str]]:
    """What the checks say, by id, with their hints."""
    script = """
    import json
    from django.core import checks
    found = {}
    for message in checks.run_checks(tags=["tsignals"]):
        found.setdefault(message.id, []).append(f"{message.msg} {message.hint}")
    print(json.dumps(found))
    """
    found: dict[str, list[str]] = json.loads(run(directory, script, database, **settings))
    return found


def test_module_is_imported_before_settings_are_configured() -> None:
    done = processes.run(
        """
        from django.conf import settings
        from tsignals.django import after_commit, connections, on_commit

        @on_commit(using="other", ordered=True)
        def receiver(**named): ...

        connections()
        import tsignals.django._checks
        assert not settings.configured
        """
    )
    assert done.returncode == 0, done.stderr


def test_core_does_not_import_django() -> None:
    done = processes.run("import tsignals; assert 'django' not in sys.modules, 'imported'")
    assert done.returncode == 0, done.stderr


def test_app_is_called_tsignals(tmp_path: Path) -> None:
    script = """
    from django.apps import apps
    config = apps.get_app_config("tsignals")
    print(config.name, config.label, type(config).__module__)
    """
    assert run(tmp_path, script) == "tsignals.django tsignals tsignals.django.apps\n"


def test_settings_make_the_default_pool(tmp_path: Path) -> None:
    script = """
    from tsignals import QueueFull, WorkerPool, get_default_executor
    pool = get_default_executor()
    gate = threading.Event()
    for n in (1, 2):  # one after the other: there is room for one that waits
        pool.submit(gate.wait, 60)
        while pool.stats().running < n:
            time.sleep(0.001)
    pool.submit(int)
    try:
        pool.submit(int)
    except QueueFull as full:
        print(pool.stats().workers, pool.stats().pending, type(full).__name__)
    gate.set()
    print(WorkerPool.all() if hasattr(WorkerPool, "all") else [pool])
    """
    wanted = {"MAX_WORKERS": 2, "MAX_PENDING": 1, "OVERFLOW": "block", "BLOCK_TIMEOUT": 0.01}
    first, pools = run(tmp_path, script, TSIGNALS=wanted).splitlines()
    assert first == "2 1 QueueFull"
    assert pools.count("WorkerPool") == 1  # the only one


def test_without_the_setting_the_default_pool_looks_after_connections_too(tmp_path: Path) -> None:
    script = """
    from django.db import connection, connections
    from tsignals import get_default_executor

    def use():
        connection.ensure_connection()
        return connections["default"]

    used = get_default_executor().submit(use).result(60)
    deadline = time.monotonic() + 60
    while used.connection is not None and time.monotonic() < deadline:
        time.sleep(0.001)
    print(used.connection)
    """
    assert run(tmp_path, script) == "None\n"


@pytest.mark.once
def test_wrong_settings_raise_nothing_and_leave_the_rest_in_force(tmp_path: Path) -> None:
    script = """
    from tsignals import get_default_executor
    pool = get_default_executor()
    barrier = threading.Barrier(4)
    try:
        for future in [pool.submit(barrier.wait, 60) for _ in range(4)]:
            future.result(60)
    except threading.BrokenBarrierError:
        print("broken")
    print(pool.stats().workers)
    """
    wrong = {"MAX_WORKERS": 4, "OVERFLOW": "explode", "MAX_PENDIN": 1}
    assert run(tmp_path, script, TSIGNALS=wrong) == "4\n"


def test_ready_that_runs_again_keeps_the_default_pool(tmp_path: Path) -> None:
    """As it does in every test that changes ``INSTALLED_APPS``."""
    script = """
    from django.conf import settings
    from django.test import modify_settings, override_settings
    from tsignals import WorkerPool, get_default_executor, set_default_executor
    first = get_default_executor()
    with modify_settings(INSTALLED_APPS={"append": "django.contrib.contenttypes"}):
        print(get_default_executor() is first)
    own = WorkerPool(1)
    set_default_executor(own)
    with modify_settings(INSTALLED_APPS={"append": "django.contrib.contenttypes"}):
        print(get_default_executor() is own)
    """
    assert run(tmp_path, script) == "True\nTrue\n"


def test_ready_that_runs_again_makes_the_default_pool_that_was_reset(tmp_path: Path) -> None:
    """Else the next use would make one that does not look after connections."""
    script = """
    from django.apps import apps
    from django.db import connection, connections
    from tsignals import get_default_executor, set_default_executor
    set_default_executor(None)
    apps.get_app_config("tsignals").ready()
    used = []
    def use():
        connection.ensure_connection()
        used.append(connections["default"])
    pool = get_default_executor()
    pool.submit(use).result(60)
    pool.shutdown()
    print(used[0].connection)
    """
    assert run(tmp_path, script) == "None\n"


# --- checks


@pytest.mark.once
def test_right_settings_pass_the_checks(tmp_path: Path) -> None:
    wanted = {"MAX_WORKERS": 4, "MAX_PENDING": None, "OVERFLOW": "raise", "BLOCK_TIMEOUT": None}
    assert checked(tmp_path, TSIGNALS=wanted) == {}
    assert checked(tmp_path) == {}


@pytest.mark.once
@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (["MAX_WORKERS"], "TSIGNALS must be a dictionary, not 'list'."),
        ({"MAX_WORKER": 4}, "TSIGNALS has no key 'MAX_WORKER'; did you mean 'MAX_WORKERS'?"),
        ({"colour": 4}, "TSIGNALS has no key 'colour' (of MAX_WORKERS, MAX_PENDING,"),
        ({"MAX_WORKERS": 0}, "TSIGNALS['MAX_WORKERS'] is 0: max_workers must be greater than 0."),
        ({"MAX_PENDING": "9"}, "TSIGNALS['MAX_PENDING'] is '9': max_pending must be an int"),
        ({"OVERFLOW": "explode"}, "TSIGNALS['OVERFLOW'] is 'explode': overflow must be one of"),
        ({"BLOCK_TIMEOUT": -1}, "TSIGNALS['BLOCK_TIMEOUT'] is -1: block_timeout"),
    ],
    ids=str,
)
def test_wrong_settings_are_named_by_a_check(tmp_path: Path, wrong: Any, text: str) -> None:
    [(name, [message])] = checked(tmp_path, TSIGNALS=wrong).items()
    assert name == "tsignals.E001"
    assert message.startswith(text)
    # A server runs no checks: it says so in the log, and starts.
    script = """
    import logging
    logging.getLogger("tsignals").error = lambda *said: print(said[0] % said[1:])
    from django.apps import apps
    apps.get_app_config("tsignals").ready()
    """
    assert run(tmp_path, script, TSIGNALS=wrong).startswith(text)


@pytest.mark.once
@pytest.mark.parametrize(
    ("pool", "small"),
    [
        (True, True),  # 4 connections, as psycopg_pool has it
        ({"max_size": 5}, True),
        ({"min_size": 2}, True),
        ({"min_size": 2, "max_size": 20}, False),
        ({"min_size": 20}, False),
        ({"max_size": "5"}, False),  # what psycopg_pool itself refuses
        (False, False),
    ],
    ids=str,
)
def test_connection_pool_smaller_than_workers_and_senders_is_named(
    tmp_path: Path, pool: Any, small: bool
) -> None:
    database = {**POSTGRESQL, "OPTIONS": {"pool": pool}}
    found = checked(tmp_path, database, TSIGNALS={"MAX_WORKERS": 4})
    assert list(found) == (["tsignals.W001"] if small else [])
    if small:
        assert "more than 4 plus the number of threads that send" in found["tsignals.W001"][0]


@pytest.mark.once
@pytest.mark.parametrize("age", [0, 60, None])
def test_connections_that_outlive_a_request_are_named(tmp_path: Path, age: int | None) -> None:
    database = {**django_project.sqlite(tmp_path / "db"), "CONN_MAX_AGE": age}
    found = checked(tmp_path, database)
    assert list(found) == ([] if age == 0 else ["tsignals.W002"])


def test_manage_py_check_runs_them(tmp_path: Path) -> None:
    script = """
    from django.core.management import call_command
    from django.core.management.base import SystemCheckError
    try:
        call_command("check")
    except SystemCheckError as error:
        print("tsignals.E001" in str(error))
    """
    assert run(tmp_path, script, TSIGNALS={"MAX_WORKERS": 0}) == "True\n"


# --- asend


def test_sync_receivers_of_asend_run_on_the_requests_thread_and_in_its_transaction(
    tmp_path: Path,
) -> None:
    script = """
    import asyncio
    from asgiref.sync import async_to_sync, sync_to_async
    from django.db import transaction
    from tsignals import Signal
    from django_project import make_tables
    from django_project.models import Order
    make_tables()
    placed = Signal(name="placed")

    def write(**named):
        Order.objects.create(name="mail")
        return threading.get_ident()

    async def listen(**named):
        return await Order.objects.acount()

    placed.connect(write)
    placed.connect(listen)

    async def view():
        return await placed.asend(None)

    def request():
        try:
            with transaction.atomic():
                (_, thread), (_, count) = async_to_sync(view)()
                print(thread == threading.get_ident(), count, Order.objects.count())
                raise LookupError
        except LookupError:
            print(Order.objects.count())

    request()
    """
    assert run(tmp_path, script) == "True 1 1\n0\n"


def test_async_receivers_of_send_use_the_senders_thread_and_are_in_its_transaction(
    tmp_path: Path,
) -> None:
    """In a sync view, too, which has the one thread that asgiref knows of."""
    script = """
    import asyncio
    from asgiref.sync import ThreadSensitiveContext, sync_to_async
    from django.db import transaction
    from tsignals import Signal
    from django_project import make_tables
    from django_project.models import Order
    make_tables()
    placed = Signal(name="placed")

    async def listen(**named):
        return await Order.objects.acount(), await sync_to_async(threading.get_ident)()

    placed.connect(listen)

    def view():
        with transaction.atomic():
            Order.objects.create(name="mail")
            for send in placed.send, placed.send_robust:
                [(_, (count, thread))] = send(None)
                print(thread == threading.get_ident(), count)
            transaction.set_rollback(True)

    async def request():
        async with ThreadSensitiveContext():
            await sync_to_async(view)()

    view()
    asyncio.run(request())
    """
    assert run(tmp_path, script) == "True 1\nTrue 1\n" * 2


def test_async_receiver_in_another_executor_does_not_wait_for_the_thread_of_the_request(
    tmp_path: Path,
) -> None:
    script = """
    import asyncio
    import contextvars
    from concurrent.futures import ThreadPoolExecutor
    from asgiref.sync import ThreadSensitiveContext, sync_to_async
    from tsignals import Signal
    executor = ThreadPoolExecutor(1)
    placed = Signal(executor=executor)
    variable = contextvars.ContextVar("variable")

    async def listen(**named):
        return await sync_to_async(threading.get_ident)(), variable.get()

    placed.connect(listen)

    def view():
        variable.set("mine")
        [(_, (thread, seen))] = placed.send_async(None).results(60)
        print(thread == executor.submit(threading.get_ident).result(), seen)

    async def request():
        async with ThreadSensitiveContext():
            await sync_to_async(view)()

    asyncio.run(request())
    """
    assert run(tmp_path, script) == "True mine\n"


def test_on_commit_receiver_runs_in_other_processes_as_a_background_one_does(
    tmp_path: Path,
) -> None:
    (tmp_path / "receivers_there.py").write_text(
        """if True:
        from tsignals.django import on_commit

        @on_commit
        def doubled(number, **named):
            return 2 * number

        @on_commit()
        async def squared(number, **named):
            return number**2

        class Shop:
            @on_commit
            def name(self, number, **named):
                return number

            @classmethod
            @on_commit
            def kind(cls, number, **named):
                return cls.__name__

        def tripled(number, **named):
            return 3 * number

        by_another_name = on_commit(tripled, using="default", ordered=len)
        """
    )
    script = f"""
    sys.path.insert(0, {str(tmp_path)!r})
    import concurrent.futures, copy, multiprocessing, pickle
    from django.db import transaction
    from receivers_there import Shop, by_another_name, doubled, squared
    from tsignals import Signal
    placed = Signal(executor=concurrent.futures.ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("fork")))
    shop = Shop()
    for receiver in doubled, squared, shop.name, Shop.kind:
        placed.connect(receiver)
    with transaction.atomic():
        responses = [each for _, each in placed.send("shop", number=5)]
    print([each.result(60) for each in responses])
    print(pickle.loads(pickle.dumps(doubled)) is doubled, copy.deepcopy(squared) is squared)
    again = pickle.loads(pickle.dumps(by_another_name))
    print(again.options() == by_another_name.options(), again.__wrapped__.__name__)
    placed.executor.shutdown()
    """
    assert run(tmp_path, script) == "[10, 25, 5, 'Shop']\nTrue True\nTrue tripled\n"
