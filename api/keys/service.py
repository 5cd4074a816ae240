"""Keys are made by admin keys; one admin key always stays."""

from api.context import Context
from api.documents import PageRequest, cursor_of
from api.keys.schemas import KeyDocument, KeyPage, KeyRequest, NewKeyDocument
from api.problems import ApiProblem, not_found
from storage import keys
from storage.keys import ApiKey


def create(context: Context, request: KeyRequest) -> NewKeyDocument:
    secret = keys.new_secret()
    with context.database.begin() as connection:
        key = keys.add_key(connection, request.name, secret=secret, is_admin=request.is_admin)
    return NewKeyDocument(**_document(key).model_dump(), secret=secret)


def list_page(context: Context, page: PageRequest) -> KeyPage:
    after = page.after(str)
    with context.database.begin() as connection:
        found = keys.list_keys(connection, after=after[0] if after else "", limit=page.limit + 1)
    shown = found[: page.limit]
    return KeyPage(
        data=[_document(key) for key in shown],
        next_cursor=cursor_of(shown[-1].id) if len(found) > page.limit else None,
    )


def revoke(context: Context, key_id: str) -> KeyDocument:
    with context.database.begin() as connection:
        if keys.lock_admins(connection) == [key_id]:
            raise ApiProblem(409, "last_admin_key", "This is the last admin key; make another.")
        key = keys.revoke_key(connection, key_id)
    if key is None:
        raise not_found("key")
    return _document(key)


def _document(key: ApiKey) -> KeyDocument:
    return KeyDocument.model_validate(key, from_attributes=True)
