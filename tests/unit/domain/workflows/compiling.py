"""A specification, compiled with one image."""

from typing import Any

import pytest

from domain.workflows import Plan, WorkflowError, compile_workflow
from domain.workflows.blocks import Sam3
from tests.unit.domain.workflows.documents import (
    specification,
)

ONE = {"image": {"type": "base64", "value": "aaaa"}}


def compiled(*steps: dict[str, Any], **fields: Any) -> Plan:
    return compile_workflow(specification(*steps, **fields), ONE)


def refused(document: Any, inputs: dict[str, Any] = ONE) -> WorkflowError:
    with pytest.raises(WorkflowError) as caught:
        compile_workflow(document, inputs)
    return caught.value


def only_block(plan: Plan) -> Sam3:
    (step,) = plan.steps
    assert isinstance(step.block, Sam3)
    return step.block
