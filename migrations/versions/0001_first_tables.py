"""first tables"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(sa.schema.CreateSequence(sa.Sequence("lease_tokens", data_type=sa.BigInteger())))
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_api_keys_secret_sha256")),
    )
    op.create_table(
        "models",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tokenizer_json", sa.Text(), nullable=False),
        sa.Column("text_tokens", sa.Integer(), nullable=False),
        sa.Column("queries", sa.Integer(), nullable=False),
        sa.Column("image_size", sa.Integer(), nullable=False),
        sa.Column("weights_sha256", sa.Text(), nullable=False),
        sa.Column(
            "published_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_models")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("arguments", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_table(
        "datasets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner_key_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("local_root", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["owner_key_id"], ["api_keys.id"], name=op.f("fk_datasets_owner_key_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
    )
    op.create_index(
        op.f("ix_datasets_owner_key_id_id"), "datasets", ["owner_key_id", "id"], unique=False
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner_key_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("floor", sa.Double(), nullable=False),
        sa.Column("prompts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("source", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_sha256", sa.Text(), nullable=False),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("plan_cursor", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("lease_token", sa.BigInteger(), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("manifest_number", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("planning_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("running_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["owner_key_id"], ["api_keys.id"], name=op.f("fk_jobs_owner_key_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint(
            "owner_key_id", "idempotency_key", name=op.f("uq_jobs_owner_key_id_idempotency_key")
        ),
    )
    op.create_index(
        "ix_jobs_open",
        "jobs",
        ["priority", "created_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'planning', 'running')"),
    )
    op.create_index(op.f("ix_jobs_owner_key_id_id"), "jobs", ["owner_key_id", "id"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("shard_number", sa.Integer(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "data",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_events_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_job_id_id"), "events", ["job_id", "id"], unique=False)
    op.create_table(
        "shards",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("first_image_index", sa.BigInteger(), nullable=False),
        sa.Column("image_count", sa.Integer(), nullable=False),
        sa.Column("committed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("succeeded", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("instances", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "available_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("lease_token", sa.BigInteger(), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_shards_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_shards")),
    )
    op.create_index(
        "ix_shards_open",
        "shards",
        ["job_id", "number"],
        unique=False,
        postgresql_where=sa.text("status IN ('pending', 'running')"),
    )
    op.create_table(
        "slices",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("shard_number", sa.Integer(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("annotations_key", sa.Text(), nullable=False),
        sa.Column("images_key", sa.Text(), nullable=False),
        sa.Column("parts", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("failed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("first_image_index", sa.BigInteger(), nullable=False),
        sa.Column("committed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["job_id", "shard_number"],
            ["shards.job_id", "shards.number"],
            name=op.f("fk_slices_job_id_shard_number"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_id", "shard_number", "start", "token", name=op.f("pk_slices")),
    )
    op.create_index("ix_slices_committed_at", "slices", ["job_id", "committed_at"], unique=False)
    op.create_index(
        "ix_slices_images",
        "slices",
        ["job_id", "first_image_index"],
        unique=False,
        postgresql_where=sa.text("status = 'committed'"),
    )
    op.create_index(
        "ix_slices_failed",
        "slices",
        ["job_id", "first_image_index"],
        unique=False,
        postgresql_where=sa.text("failed > 0 AND status = 'committed'"),
    )
    op.create_index(
        "ix_slices_loose",
        "slices",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("status <> 'committed'"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_slices_loose", table_name="slices", postgresql_where=sa.text("status <> 'committed'")
    )
    op.drop_index(
        "ix_slices_failed",
        table_name="slices",
        postgresql_where=sa.text("failed > 0 AND status = 'committed'"),
    )
    op.drop_index(
        "ix_slices_images", table_name="slices", postgresql_where=sa.text("status = 'committed'")
    )
    op.drop_index("ix_slices_committed_at", table_name="slices")
    op.drop_table("slices")
    op.drop_index(
        "ix_shards_open",
        table_name="shards",
        postgresql_where=sa.text("status IN ('pending', 'running')"),
    )
    op.drop_table("shards")
    op.drop_index(op.f("ix_events_job_id_id"), table_name="events")
    op.drop_table("events")
    op.drop_index(op.f("ix_jobs_owner_key_id_id"), table_name="jobs")
    op.drop_index(
        "ix_jobs_open",
        table_name="jobs",
        postgresql_where=sa.text("status IN ('queued', 'planning', 'running')"),
    )
    op.drop_table("jobs")
    op.drop_index(op.f("ix_datasets_owner_key_id_id"), table_name="datasets")
    op.drop_table("datasets")
    op.drop_table("outbox")
    op.drop_table("models")
    op.drop_table("api_keys")
    op.execute(sa.schema.DropSequence(sa.Sequence("lease_tokens")))
