"""Runs a small app with the system it was written for, in a process of its own: `python originals.py SYSTEM FOLDER`
prints its outcomes as JSON."""

import importlib
import json
import os
import sys
import tempfile
import types


def django_q(path):
    from django.conf import settings

    import django

    settings.configure(
        INSTALLED_APPS=["django_q"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(path, "db.sqlite3")}},
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        Q_CLUSTER={
            "name": "shop",
            "orm": "default",
            "ack_failures": True,
            "retry": 60,
            "timeout": 50,
            "catch_up": False,
        },
        SECRET_KEY="x",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from multiprocessing import Event, Value

    from django_q.brokers import get_broker
    from django_q.monitor import monitor
    from django_q.pusher import pusher
    from django_q.queues import Queue
    from django_q.worker import worker

    def run():
        broker = get_broker()
        while broker.queue_size():
            tasks, results, stop = Queue(), Queue(), Event()
            stop.set()
            pusher(tasks, stop, broker=broker)
            tasks.put("STOP")
            worker(tasks, results, Value("f", -1))
            results.put("STOP")
            monitor(results, broker)

    # django_q.hooks are called on post_save of a finished task: that is where the original calls them too.
    return importlib.import_module("dq_app").outcomes(run)


def celery(path):
    from celery.contrib.testing.worker import start_worker

    module = importlib.import_module("celery_app")

    def run():
        pending = -1
        with start_worker(module.app, pool="solo", perform_ping_check=False, loglevel="CRITICAL", shutdown_timeout=20):
            import time

            # The memory broker is empty, and nothing is being worked on or waits for its time.
            from celery.worker import state

            quiet = 0
            while quiet < 8:
                with module.app.connection_for_read() as connection:
                    channel = connection.default_channel
                    pending = sum(channel._size(queue) for queue in list(channel.queues))
                idle = not pending and not state.active_requests and not state.reserved_requests
                quiet = quiet + 1 if idle else 0
                time.sleep(0.05)

    return module.outcomes(run)


def rq(path):
    import fakeredis
    from rq import SimpleWorker

    connection = fakeredis.FakeStrictRedis()

    def run():
        SimpleWorker(["default", "mail"], connection=connection).work(burst=True, logging_level="CRITICAL")

    return importlib.import_module("rq_app").outcomes(run, connection)


def procrastinate(path):
    from procrastinate.testing import InMemoryConnector

    module = importlib.import_module("procrastinate_app")
    with module.app.replace_connector(InMemoryConnector()) as app:
        module.app = app
        # Tasks go to the App that they were made by.
        for task in app.tasks.values():
            task.blueprint = app
        return module.outcomes(lambda: app.run_worker(wait=False, install_signal_handlers=False, listen_notify=False))


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[2])
    sys.modules.setdefault("conftest", types.ModuleType("conftest"))
    with tempfile.TemporaryDirectory() as folder:
        found = globals()[sys.argv[1]](folder)
        print("OUTCOMES " + json.dumps(found, default=str, sort_keys=True))
