"""Exports: a view of a job's result in a format, made beside the jobs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_INDEXES = (
    ("ix_exports_job_id_id", ["job_id", "id"], False, None),
    ("ix_exports_open", ["created_at"], False, "status IN ('queued', 'running')"),
    (
        "uq_exports_same",
        ["job_id", "options_sha256", "result"],
        True,
        "status IN ('queued', 'running', 'succeeded') AND deleted_at IS NULL",
    ),
    ("uq_exports_idempotency_key", ["job_id", "idempotency_key"], True, "deleted_at IS NULL"),
    (
        "ix_exports_kept",
        ["finished_at"],
        False,
        "finished_at IS NOT NULL AND deleted_at IS NULL",
    ),
    (
        "ix_exports_untidy",
        ["finished_at"],
        False,
        "finished_at IS NOT NULL AND (tidied_at IS NULL OR deleted_at IS NOT NULL)",
    ),
)


def upgrade() -> None:
    op.create_table(
        "exports",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("owner_key_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("options_sha256", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text()),
        sa.Column("traceparent", sa.Text()),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True)),
        sa.Column("lease_token", sa.BigInteger()),
        sa.Column("lease_owner", sa.Text()),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True)),
        sa.Column("lease_attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("pass_number", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("images_read", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("images_total", sa.BigInteger()),
        sa.Column("files", postgresql.JSONB(astext_type=sa.Text())),
        sa.Column("report", postgresql.JSONB(astext_type=sa.Text())),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text())),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("running_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
        sa.Column("tidied_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_exports_job_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["owner_key_id"], ["api_keys.id"], name=op.f("fk_exports_owner_key_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
    )
    for name, columns, unique, condition in _INDEXES:
        where = None if condition is None else sa.text(condition)
        op.create_index(name, "exports", columns, unique=unique, postgresql_where=where)


def downgrade() -> None:
    # Their files stay, below the results that they were made of.
    op.drop_table("exports")
