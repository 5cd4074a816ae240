"""What is remembered: rows in PostgreSQL, bytes in object storage."""
