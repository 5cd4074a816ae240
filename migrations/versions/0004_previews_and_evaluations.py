"""Jobs that are held while a sample is looked at; previews and evaluations, made as exports are."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_KEPT = "finished_at IS NOT NULL AND deleted_at IS NULL"


def _replace_kept(condition: str) -> None:
    op.drop_index("ix_exports_kept", table_name="exports")
    where = sa.text(condition)
    op.create_index("ix_exports_kept", "exports", ["finished_at"], postgresql_where=where)


def upgrade() -> None:
    op.add_column("jobs", sa.Column("held_at", sa.DateTime(timezone=True)))
    op.add_column("jobs", sa.Column("sample_images", sa.Integer()))
    op.add_column("jobs", sa.Column("sample_shards", sa.Integer()))
    # All that was read had its shards; since then what is read and what is planned may differ.
    read = "jsonb_build_object('read', plan_cursor -> 'images')"
    op.execute(f"UPDATE jobs SET plan_cursor = plan_cursor || {read}")  # noqa: S608
    kind = sa.Column("kind", sa.Text(), server_default=sa.text("'export'"), nullable=False)
    op.add_column("exports", kind)
    op.drop_index("ix_exports_job_id_id", table_name="exports")
    op.create_index("ix_exports_job_id_kind_id", "exports", ["job_id", "kind", "id"])
    _replace_kept(f"kind = 'export' AND {_KEPT}")


def downgrade() -> None:
    op.execute("DELETE FROM exports WHERE kind <> 'export'")
    _replace_kept(_KEPT)
    op.drop_index("ix_exports_job_id_kind_id", table_name="exports")
    op.create_index("ix_exports_job_id_id", "exports", ["job_id", "id"])
    op.drop_column("exports", "kind")
    op.execute(
        "UPDATE jobs SET plan_cursor = plan_cursor - '{read,sample_token,source_images}'::text[]"
    )
    for name in ("sample_shards", "sample_images", "held_at"):
        op.drop_column("jobs", name)
