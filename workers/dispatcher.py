"""`python -m workers.dispatcher`: publisher, sweeper and webhooks. Several may run at once."""

import signal
import threading

import psycopg
import structlog
from sqlalchemy.engine import make_url

from storage.database import Database
from storage.logs import configure_logging
from storage.outbox import CHANNEL, PLANNING_QUEUE
from storage.settings import Settings, load_settings
from workers.celery_app import app
from workers.dataset_tidying import DatasetTidying
from workers.duties import AWAY, Duties, Duty
from workers.export_tidying import ExportTidying
from workers.publisher import message_is_waiting, publish
from workers.retention import SECONDS_BETWEEN, Retention
from workers.sweeper import Sweeper
from workers.tidying import Tidying
from workers.webhooks import WebhookSender

log = structlog.get_logger()

LISTEN_SECONDS = 1.0  # a notification wakes the publisher at once; this is for lost ones
RETRY_SECONDS = 1.0


class Dispatcher:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = Database(settings.database_url.get_secret_value(), pool_size=5)
        self._sweeper = Sweeper(settings, self._database)
        self._tidying = Tidying(settings, self._database)
        self._exports = ExportTidying(settings, self._database)
        self._datasets = DatasetTidying(settings, self._database)
        self._retention = Retention(settings, self._database)
        self._webhooks = WebhookSender(settings)
        self._duties = Duties(
            Duty("sweeper", settings.sweep_seconds, self._sweep),
            Duty("tidying", settings.sweep_seconds, self._tidying.tidy_some),
            Duty("exports", settings.sweep_seconds, self._exports.tidy_some),
            Duty("datasets", settings.sweep_seconds, self._datasets.tidy_some),
            Duty("retention", SECONDS_BETWEEN, self._retention.keep_to_policy),
        )
        self.stopping = threading.Event()

    def run(self) -> None:
        """Until `stopping`. A database or broker that is away is waited for."""
        self._webhooks.start()
        self._duties.start()
        try:
            self._publish_for_ever()
        finally:
            self._webhooks.stop()
            self._duties.stop()
            self._database.dispose()

    def _publish_for_ever(self) -> None:
        while not self.stopping.is_set():
            try:
                self._listen()
            except AWAY as error:
                log.warning("dispatcher.waiting", error=f"{type(error).__name__}: {error}"[:300])
            except Exception:  # who publishes no more would stop everything
                log.exception("dispatcher.failed")
            self.stopping.wait(RETRY_SECONDS)

    def _listen(self) -> None:
        with psycopg.connect(_libpq_url(self._settings), autocommit=True) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            while not self.stopping.is_set():
                while publish(self._database, app):
                    pass
                for _ in connection.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                    pass

    def _sweep(self) -> None:
        self._sweeper.sweep(ring_for_jobs=not message_is_waiting(app, queue=PLANNING_QUEUE))


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
