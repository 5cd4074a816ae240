"""/v1/models"""

from fastapi import APIRouter

from api.auth import Caller, KeyFirst
from api.context import RequestContext
from api.models.schemas import ModelDocument, ModelLimitsDocument, ModelList
from storage.models import PublishedModel, find_model

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=KeyFirst)


@router.get("")
def list_models(context: RequestContext, _caller: Caller) -> ModelList:
    """The models that a job may name."""
    names = context.settings.models
    with context.database.begin() as connection:
        published = {name: find_model(connection, name) for name in names}
    return ModelList(
        data=[document(name, published[name], is_default=name == names[0]) for name in names]
    )


def document(name: str, model: PublishedModel | None, *, is_default: bool) -> ModelDocument:
    return ModelDocument(name=name, is_default=is_default, limits=_limits(model))


def _limits(model: PublishedModel | None) -> ModelLimitsDocument | None:
    if model is None:
        return None
    return ModelLimitsDocument.model_validate(model.limits, from_attributes=True)
