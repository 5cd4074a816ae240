"""Conditions in the words of the partial indexes.

PostgreSQL takes such an index only where it sees that all rows asked for are in it, whatever the
parameters of the statement are. So the statuses are part of the statement's text.
"""

from collections.abc import Iterable

from sqlalchemy import Column, ColumnElement, and_, bindparam, literal_column

from domain.lifecycle import OPEN_EXPORT, OPEN_JOB, OPEN_SHARD
from storage.tables import exports, jobs, shards, slices


def _is_one_of(column: Column[str], values: Iterable[str]) -> ColumnElement[bool]:
    words = sorted(str(value) for value in values)
    return column.in_(bindparam(None, words, expanding=True, literal_execute=True))


JOB_IS_OPEN = _is_one_of(jobs.c.status, OPEN_JOB)
SHARD_IS_OPEN = _is_one_of(shards.c.status, OPEN_SHARD)
SLICE_IS_COMMITTED = _is_one_of(slices.c.status, ["committed"])
SLICE_HAS_FAILURES = and_(SLICE_IS_COMMITTED, slices.c.failed > literal_column("0"))
# Not those that others took the place of: older manifests name their parts.
SLICE_IS_LOOSE = _is_one_of(slices.c.status, ["open", "lost", "released"])
EXPORT_IS_OPEN = _is_one_of(exports.c.status, OPEN_EXPORT)
