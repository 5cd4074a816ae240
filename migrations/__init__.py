"""The database's history (alembic). `python -m migrations upgrade` brings it up to date."""
