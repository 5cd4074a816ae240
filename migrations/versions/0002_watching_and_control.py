"""Pause, retries, webhooks, traces, retention; events in an order that readers can go on from."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_JOB_COLUMNS = (
    sa.Column("webhook_url", sa.Text()),
    sa.Column(
        "accept_expiring_links", sa.Boolean(), server_default=sa.text("false"), nullable=False
    ),
    sa.Column("paused_at", sa.DateTime(timezone=True)),
    sa.Column("totals", postgresql.JSONB(astext_type=sa.Text())),
    sa.Column("traceparent", sa.Text()),
    sa.Column("cleaned_at", sa.DateTime(timezone=True)),
)


def _index_loose_slices(condition: str) -> None:
    op.drop_index("ix_slices_loose", table_name="slices")
    op.create_index(
        "ix_slices_loose",
        "slices",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text(condition),
    )


def upgrade() -> None:
    # At once, in the order in which workers take them.
    op.execute("LOCK TABLE slices, shards, events, outbox, jobs IN ACCESS EXCLUSIVE MODE")
    # Bells for shards now name a model. The sweeper rings again for those that are dropped.
    op.execute("DELETE FROM outbox WHERE task = 'maskmill.run_shards'")
    for column in _JOB_COLUMNS:
        op.add_column("jobs", column.copy())
    op.create_index(
        "ix_jobs_uncleaned",
        "jobs",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NOT NULL AND cleaned_at IS NULL"),
    )
    op.add_column(
        "shards",
        sa.Column("list_token", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.add_column("shards", sa.Column("retry_codes", postgresql.JSONB(astext_type=sa.Text())))
    op.create_index(
        "ix_shards_running",
        "shards",
        ["job_id"],
        unique=False,
        postgresql_where=sa.text("status = 'running'"),
    )
    _index_loose_slices("status IN ('open', 'lost', 'released')")
    op.add_column(
        "events",
        sa.Column("xid", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.alter_column("events", "xid", server_default=sa.text("(pg_current_xact_id()::text)::bigint"))
    op.drop_index(op.f("ix_events_job_id_id"), table_name="events")
    op.create_index(op.f("ix_events_job_id_xid_id"), "events", ["job_id", "xid", "id"])
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True)),
        sa.Column("delivered_at", sa.DateTime(timezone=True)),
        sa.Column("last_status", sa.Integer()),
        sa.Column("last_error", sa.Text()),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_deliveries_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    )
    op.create_index(op.f("ix_deliveries_job_id_created_at"), "deliveries", ["job_id", "created_at"])
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["next_attempt_at"],
        postgresql_where=sa.text("next_attempt_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_table("deliveries")
    op.drop_index(op.f("ix_events_job_id_xid_id"), table_name="events")
    op.create_index(op.f("ix_events_job_id_id"), "events", ["job_id", "id"])
    op.drop_column("events", "xid")
    _index_loose_slices("status <> 'committed'")
    op.drop_index("ix_shards_running", table_name="shards")
    op.drop_column("shards", "retry_codes")
    op.drop_column("shards", "list_token")
    op.drop_index("ix_jobs_uncleaned", table_name="jobs")
    for column in reversed(_JOB_COLUMNS):
        op.drop_column("jobs", column.name)
