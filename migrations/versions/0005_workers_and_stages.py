"""Workers that say they live, what stages take, since when jobs are wanted, datasets that go."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_STAGES = ("fetch", "decode", "network", "encode", "commit")


def upgrade() -> None:
    for stage in _STAGES:
        seconds = sa.Column(
            f"{stage}_seconds", sa.Double(), server_default=sa.text("0"), nullable=False
        )
        op.add_column("shards", seconds)
    time = sa.DateTime(timezone=True)
    wanted_at = sa.Column("wanted_at", time, server_default=sa.func.now(), nullable=False)
    op.add_column("jobs", wanted_at)
    open_ = "status IN ('queued', 'planning', 'running')"  # of others nobody asks
    op.execute(f"UPDATE jobs SET wanted_at = created_at WHERE {open_}")  # noqa: S608
    op.add_column("datasets", sa.Column("leaving_at", time))
    where = sa.text("leaving_at IS NOT NULL")
    op.create_index("ix_datasets_leaving", "datasets", ["leaving_at"], postgresql_where=where)
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("serves", JSONB(), nullable=False),
        sa.Column("loaded", JSONB(), nullable=False),
        sa.Column("device", sa.Text()),
        sa.Column("memory_used_bytes", sa.BigInteger(), nullable=False),
        sa.Column("memory_total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("started_at", time, server_default=sa.func.now(), nullable=False),
        sa.Column("seen_at", time, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_workers"),
    )


def downgrade() -> None:
    op.drop_table("workers")
    op.drop_index("ix_datasets_leaving", table_name="datasets")
    op.drop_column("datasets", "leaving_at")
    op.drop_column("jobs", "wanted_at")
    for stage in reversed(_STAGES):
        op.drop_column("shards", f"{stage}_seconds")
