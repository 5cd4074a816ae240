"""Pure rules: no files, no network, no database."""
