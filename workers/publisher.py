"""Rings Celery for the doorbells that committed transactions left in the outbox."""

from celery import Celery
from sqlalchemy import Connection

from storage.database import Database
from storage.outbox import take_bells


def publish(database: Database, app: Celery) -> int:
    """Send what waits, oldest first, and forget it once the broker has it.

    If the broker refuses, the transaction is rolled back and the bells stay; if this process
    dies in between they ring twice, which changes nothing.
    """
    with database.begin() as connection:
        return _send(connection, app)


def _send(connection: Connection, app: Celery) -> int:
    bells = take_bells(connection)
    distinct = {(bell.task, bell.arguments.get("job_id")): bell for bell in bells}
    for bell in distinct.values():
        app.send_task(bell.task, kwargs=bell.arguments, retry=False)
    return len(bells)


def message_is_waiting(app: Celery, *, queue: str) -> bool:
    """Whether the broker holds a message of the queue that no worker has taken yet."""
    with app.connection_for_write() as connection:
        return bool(connection.default_channel.client.llen(queue))
