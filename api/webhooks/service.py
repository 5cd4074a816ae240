"""The log of a job's webhook calls."""

from api.context import Context
from api.documents import PageRequest, cursor_of
from api.jobs.service import find
from api.problems import ApiProblem, not_found
from api.webhooks.schemas import DeliveryDocument, DeliveryPage, WebhookSecret
from domain.webhooks import key_secret, shown_secret
from storage import deliveries
from storage.deliveries import Delivery
from storage.keys import ApiKey


def list_page(context: Context, job_id: str, caller: ApiKey, *, page: PageRequest) -> DeliveryPage:
    after = page.after(str)
    with context.database.begin() as connection:
        find(connection, job_id, caller)
        found = deliveries.deliveries_of(
            connection, job_id, after=after[0] if after else None, limit=page.limit + 1
        )
    shown = found[: page.limit]
    return DeliveryPage(
        data=[_document(delivery) for delivery in shown],
        next_cursor=cursor_of(shown[-1].id) if len(found) > page.limit else None,
    )


def redeliver(context: Context, job_id: str, delivery_id: str, caller: ApiKey) -> DeliveryDocument:
    with context.database.begin() as connection:
        find(connection, job_id, caller)
        if deliveries.find_delivery(connection, job_id, delivery_id) is None:
            raise not_found("delivery")
        if not deliveries.redeliver(connection, delivery_id):
            raise ApiProblem(
                409, "delivery_under_way", "It is being sent now; look again in half a minute."
            )
        delivery = deliveries.find_delivery(connection, job_id, delivery_id)
        assert delivery is not None
        return _document(delivery)


def secret_of(context: Context, caller: ApiKey) -> WebhookSecret:
    secret = key_secret(context.settings.signing_secret.get_secret_value(), caller.id)
    return WebhookSecret(secret=shown_secret(secret))


def _document(delivery: Delivery) -> DeliveryDocument:
    values = {name: getattr(delivery, name) for name in Delivery.__dataclass_fields__}
    return DeliveryDocument(**values, state=_state(delivery))


def _state(delivery: Delivery) -> str:
    if delivery.delivered_at is not None:
        return "delivered"
    return "pending" if delivery.next_attempt_at is not None else "given_up"
