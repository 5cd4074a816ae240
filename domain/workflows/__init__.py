"""Workflows: what may stand in a specification, and what it means. No pixels, no network."""

from domain.workflows.compilation import compile_workflow
from domain.workflows.errors import WorkflowError, image_error
from domain.workflows.images import ImageValue, image_values, with_file_numbers
from domain.workflows.plan import Plan

__all__ = [
    "ImageValue",
    "Plan",
    "WorkflowError",
    "compile_workflow",
    "image_error",
    "image_values",
    "with_file_numbers",
]
