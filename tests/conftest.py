"""Fixtures for every test."""

pytest_plugins = ["tests.services", "tests.s3_server", "tests.canary"]
