"""The schema. Times are the database's (`now()`); counts of images live in shard rows only."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from domain.stages import STAGES

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Time = DateTime(timezone=True)


def _created_at() -> Column[object]:
    return Column("created_at", Time, nullable=False, server_default=func.now())


# Every lease gets the next number: a runner that holds an older one can change nothing.
lease_tokens = Sequence("lease_tokens", metadata=metadata, data_type=BigInteger)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False, unique=True),
    Column("is_admin", Boolean, nullable=False),
    _created_at(),
    Column("revoked_at", Time),
)

models = Table(  # what the workers say of the networks they have loaded
    "models",
    metadata,
    Column("name", Text, primary_key=True),
    Column("tokenizer_json", Text, nullable=False),
    Column("text_tokens", Integer, nullable=False),
    Column("queries", Integer, nullable=False),
    Column("image_size", Integer, nullable=False),
    Column("weights_sha256", Text, nullable=False),
    Column("published_at", Time, nullable=False, server_default=func.now()),
)

workers = Table(  # processes that say that they live
    "workers",
    metadata,
    Column("name", Text, primary_key=True),  # as in their leases
    Column("role", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("serves", JSONB, nullable=False),  # names of models it takes work of
    Column("loaded", JSONB, nullable=False),  # names of models
    Column("device", Text),
    Column("memory_used_bytes", BigInteger, nullable=False),
    Column("memory_total_bytes", BigInteger, nullable=False),
    Column("started_at", Time, nullable=False, server_default=func.now()),
    Column("seen_at", Time, nullable=False, server_default=func.now()),
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner_key_id", Text, ForeignKey("api_keys.id"), nullable=False),
    Column("name", Text, nullable=False),
    # A folder of the operator's own machine; only the operator's command line sets it.
    Column("local_root", Text),
    _created_at(),
    Column("leaving_at", Time),  # nobody sees it any more, and it is about to go with its files
    Index(None, "owner_key_id", "id"),
    Index("ix_datasets_leaving", "leaving_at", postgresql_where=text("leaving_at IS NOT NULL")),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner_key_id", Text, ForeignKey("api_keys.id"), nullable=False),
    Column("name", Text),
    Column("status", Text, nullable=False),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    Column("model", Text, nullable=False),
    Column("floor", Double, nullable=False),
    Column("prompts", JSONB, nullable=False),
    Column("source", JSONB, nullable=False),
    Column("output", Text),
    Column("webhook_url", Text),
    Column("accept_expiring_links", Boolean, nullable=False, server_default=text("false")),
    Column("idempotency_key", Text),
    Column("request_sha256", Text, nullable=False),
    # Wishes. A cancel keeps what is done, a pause too; an error ends the job as failed.
    Column("cancel_requested_at", Time),
    Column("paused_at", Time),
    Column("wanted_at", Time, nullable=False, server_default=func.now()),  # since when, again
    Column("held_at", Time),  # not to be labelled but for a sample, until it is promoted
    Column("error", JSONB),
    # So many images are to be looked at before the others; these are the job's first shards, as
    # many, once they are drawn.
    Column("sample_images", Integer),
    Column("sample_shards", Integer),
    # Planning: where to go on. The lease is the planner's, and at the end the finisher's.
    Column("plan_cursor", JSONB),
    Column("lease_token", BigInteger),
    Column("lease_owner", Text),
    Column("lease_expires_at", Time),
    Column("lease_attempts", Integer, nullable=False, server_default=text("0")),
    Column("manifest_number", Integer, nullable=False, server_default=text("0")),
    Column("totals", JSONB),  # its counts, once it has ended: shard rows need not be summed
    Column("traceparent", Text),  # W3C Trace Context of the request that made it
    _created_at(),
    Column("planning_at", Time),
    Column("running_at", Time),
    Column("finished_at", Time),
    Column("cleaned_at", Time),  # by the retention policy
    UniqueConstraint("owner_key_id", "idempotency_key"),
    Index(None, "owner_key_id", "id"),
    Index(
        "ix_jobs_uncleaned",
        "finished_at",
        postgresql_where=text("finished_at IS NOT NULL AND cleaned_at IS NULL"),
    ),
    Index(
        "ix_jobs_open",
        "priority",
        "created_at",
        postgresql_where=text("status IN ('queued', 'planning', 'running')"),
    ),
)

shards = Table(
    "shards",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("status", Text, nullable=False),
    Column("first_image_index", BigInteger, nullable=False),
    Column("image_count", Integer, nullable=False),
    # The lease of the planner that wrote its list: a stale one cannot write over it.
    Column("list_token", BigInteger, nullable=False, server_default=text("0")),
    Column("committed", Integer, nullable=False, server_default=text("0")),
    Column("succeeded", Integer, nullable=False, server_default=text("0")),
    Column("failed", Integer, nullable=False, server_default=text("0")),
    Column("instances", BigInteger, nullable=False, server_default=text("0")),
    # Runs begun since the last committed slice, counted before each begins.
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("available_at", Time, nullable=False, server_default=func.now()),
    Column("lease_token", BigInteger),
    Column("lease_owner", Text),
    Column("lease_expires_at", Time),
    Column("last_error", Text),
    # What its runs have taken, all threads together.
    *(
        Column(f"{stage}_seconds", Double, nullable=False, server_default=text("0"))
        for stage in STAGES
    ),
    # Set while failed images are tried again: {"codes": of those that are, none for all of them,
    # "position": in the shard, how far this has come}.
    Column("retry_codes", JSONB),
    Index("ix_shards_running", "job_id", postgresql_where=text("status = 'running'")),
    Index(
        "ix_shards_open",
        "job_id",
        "number",
        postgresql_where=text("status IN ('pending', 'running')"),
    ),
)

slices = Table(
    "slices",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("shard_number", Integer, primary_key=True),
    Column("start", Integer, primary_key=True),
    Column("token", BigInteger, primary_key=True),
    Column("count", Integer, nullable=False),
    # open, committed, lost (its runner died), released (its runner gave the shard back),
    # superseded (its failed images were tried again: another slice has its place)
    Column("status", Text, nullable=False),
    Column("annotations_key", Text, nullable=False),
    Column("images_key", Text, nullable=False),
    Column("parts", JSONB),  # sizes, rows and checksums of the two files once committed
    Column("failed", Integer, nullable=False, server_default=text("0")),
    Column("first_image_index", BigInteger, nullable=False),
    Column("committed_at", Time),
    _created_at(),
    ForeignKeyConstraint(
        ["job_id", "shard_number"], ["shards.job_id", "shards.number"], ondelete="CASCADE"
    ),
    Index("ix_slices_committed_at", "job_id", "committed_at"),
    Index(
        "ix_slices_images",
        "job_id",
        "first_image_index",
        postgresql_where=text("status = 'committed'"),
    ),
    Index(
        "ix_slices_failed",
        "job_id",
        "first_image_index",
        postgresql_where=text("failed > 0 AND status = 'committed'"),
    ),
    Index(
        "ix_slices_loose",
        "created_at",
        postgresql_where=text("status IN ('open', 'lost', 'released')"),
    ),
)

exports = Table(  # and what else is made of a result: evaluations, previews
    "exports",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("owner_key_id", Text, ForeignKey("api_keys.id"), nullable=False),
    Column("kind", Text, nullable=False, server_default=text("'export'")),
    Column("status", Text, nullable=False),
    Column("options", JSONB, nullable=False),
    Column("options_sha256", Text, nullable=False),
    Column("result", Text, nullable=False),  # which one of the job's: storage.exports
    Column("idempotency_key", Text),
    Column("traceparent", Text),
    Column("cancel_requested_at", Time),
    Column("lease_token", BigInteger),
    Column("lease_owner", Text),
    Column("lease_expires_at", Time),
    Column("lease_attempts", Integer, nullable=False, server_default=text("0")),
    # Writers read the result once or several times.
    Column("pass_number", Integer, nullable=False, server_default=text("0")),
    Column("images_read", BigInteger, nullable=False, server_default=text("0")),  # in this pass
    Column("images_total", BigInteger),
    Column("files", JSONB),  # name, key, sha256 and bytes of each, once it has succeeded
    Column("report", JSONB),
    Column("error", JSONB),
    _created_at(),
    Column("running_at", Time),
    Column("finished_at", Time),
    Column("deleted_at", Time),  # nobody sees it any more, and its files are about to go
    Column("tidied_at", Time),
    Index(None, "job_id", "kind", "id"),
    Index(
        "ix_exports_open",
        "created_at",
        postgresql_where=text("status IN ('queued', 'running')"),
    ),
    Index(
        "uq_exports_same",
        "job_id",
        "options_sha256",
        "result",
        unique=True,
        postgresql_where=text(
            "status IN ('queued', 'running', 'succeeded') AND deleted_at IS NULL"
        ),
    ),
    Index(
        "uq_exports_idempotency_key",
        "job_id",
        "idempotency_key",
        unique=True,
        postgresql_where=text("deleted_at IS NULL"),
    ),
    Index(
        "ix_exports_kept",
        "finished_at",
        postgresql_where=text("kind = 'export' AND finished_at IS NOT NULL AND deleted_at IS NULL"),
    ),
    Index(
        "ix_exports_untidy",
        "finished_at",
        postgresql_where=text(
            "finished_at IS NOT NULL AND (tidied_at IS NULL OR deleted_at IS NOT NULL)"
        ),
    ),
)

outbox = Table(  # doorbells to ring once the transaction that wants them is committed
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("task", Text, nullable=False),
    Column("arguments", JSONB, nullable=False),
    _created_at(),
)

# Ids are given before a transaction ends, so a reader may see 11 before 10. What no transaction
# can precede any more is told by `xid`: storage.events.
_THIS_TRANSACTION = text("(pg_current_xact_id()::text)::bigint")

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("xid", BigInteger, nullable=False, server_default=_THIS_TRANSACTION),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("shard_number", Integer),
    Column("kind", Text, nullable=False),
    Column("data", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("at", Time, nullable=False, server_default=func.now()),
    Index(None, "job_id", "xid", "id"),
)

deliveries = Table(  # webhook calls: what is to be sent, and how sending went
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_attempt_at", Time),  # None: delivered, or given up
    Column("delivered_at", Time),
    Column("last_status", Integer),  # of HTTP
    Column("last_error", Text),
    _created_at(),
    Index(None, "job_id", "created_at"),
    Index(
        "ix_deliveries_due", "next_attempt_at", postgresql_where=text("next_attempt_at IS NOT NULL")
    ),
)
