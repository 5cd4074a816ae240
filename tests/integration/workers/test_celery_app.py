"""What Celery is tamed against."""

from kombu import Connection

import workers.celery_app  # noqa: F401  (what is tested)


def test_a_broken_connection_is_closed_in_peace_with_a_message_in_hand(broker_url: str) -> None:
    """Otherwise the worker ends: celery.worker.consumer closes twice, at first without success."""
    with Connection(broker_url) as connection:
        queue = connection.SimpleQueue("bells")
        queue.put({"rings": True})
        queue.get(timeout=5)
        connection.transport.client = None  # what is left of a first close
        connection.close()
