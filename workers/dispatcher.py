"""`python -m workers.dispatcher`: the publisher and the sweeper. Several may run at once."""

import signal
import threading
import time

import psycopg
import structlog
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from storage.database import Database
from storage.logs import configure_logging
from storage.outbox import CHANNEL
from storage.settings import Settings, load_settings
from workers.celery_app import BULK, PLANNING, app
from workers.publisher import message_is_waiting, publish
from workers.sweeper import Sweeper

log = structlog.get_logger()

LISTEN_SECONDS = 1.0  # a notification wakes the publisher at once; this is for lost ones
RETRY_SECONDS = 1.0


class Dispatcher:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = Database(settings.database_url.get_secret_value(), pool_size=2)
        self._sweeper = Sweeper(settings, self._database)
        self._next_sweep = 0.0
        self.stopping = threading.Event()

    def run(self) -> None:
        """Until `stopping`. A database or broker that is away is waited for."""
        while not self.stopping.is_set():
            try:
                self._listen()
            except (SQLAlchemyError, psycopg.Error, BrokerError, RedisError) as error:
                log.warning("dispatcher.waiting", error=f"{type(error).__name__}: {error}"[:300])
                self.stopping.wait(RETRY_SECONDS)
        self._database.dispose()

    def _listen(self) -> None:
        with psycopg.connect(_libpq_url(self._settings), autocommit=True) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            while not self.stopping.is_set():
                self._work()
                for _ in connection.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                    pass

    def _work(self) -> None:
        while publish(self._database, app):
            pass
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + self._settings.sweep_seconds
            self._sweeper.sweep(
                ring_for_jobs=not message_is_waiting(app, queue=PLANNING),
                ring_for_shards=not message_is_waiting(app, queue=BULK),
            )


def _libpq_url(settings: Settings) -> str:
    url = make_url(settings.database_url.get_secret_value()).set(drivername="postgresql")
    return url.render_as_string(hide_password=False)


def main() -> None:
    settings = load_settings()
    configure_logging(settings.log_format)
    dispatcher = Dispatcher(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: dispatcher.stopping.set())
    dispatcher.run()


if __name__ == "__main__":
    main()
