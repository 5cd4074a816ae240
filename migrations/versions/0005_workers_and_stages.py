"""Workers that say they live, and what the stages of shard runs take."""

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
    for stage in reversed(_STAGES):
        op.drop_column("shards", f"{stage}_seconds")
