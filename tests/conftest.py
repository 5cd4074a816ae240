"""Fixtures for every test."""

import os

pytest_plugins = ["tests.services", "tests.s3_server", "tests.canary", "tests.otlp_receiver"]

# Tests beside each other on few cores would starve workers that let everybody go first.
os.environ["MASKMILL_BULK_NICENESS"] = "0"
