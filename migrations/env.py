"""Run by alembic. An advisory lock lets several processes call upgrade at once."""

from alembic import context
from sqlalchemy import create_engine, pool, text

from storage.tables import metadata

UPGRADE_LOCK = 7_355_608  # any number that no other lock of this database uses

engine = create_engine(context.config.attributes["database_url"], poolclass=pool.NullPool)
with engine.connect() as connection:
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": UPGRADE_LOCK})
    connection.commit()
    context.configure(connection=connection, target_metadata=metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
