"""/v1/keys"""

from fastapi import APIRouter

from api.auth import AdminCaller, KeyFirst
from api.context import RequestContext
from api.documents import KeyId, Page
from api.keys import service
from api.keys.schemas import KeyDocument, KeyPage, KeyRequest, NewKeyDocument
from api.problems import declared

router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=KeyFirst, responses=declared(403))


@router.post("", status_code=201, responses=declared(400, 413))
def create_key(request: KeyRequest, context: RequestContext, _admin: AdminCaller) -> NewKeyDocument:
    """A new key. Its secret is in this answer and nowhere else."""
    return service.create(context, request)


@router.get("")
def list_keys(context: RequestContext, _admin: AdminCaller, page: Page) -> KeyPage:
    """All keys, revoked ones too, oldest first."""
    return service.list_page(context, page)


@router.delete("/{key_id}", responses=declared(404, 409))
def revoke_key(key_id: KeyId, context: RequestContext, _admin: AdminCaller) -> KeyDocument:
    """Refuse the key from now on. Its jobs go on and its data stays."""
    return service.revoke(context, key_id)
