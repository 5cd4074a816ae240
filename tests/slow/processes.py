"""Measurements in processes of their own."""

import json
import subprocess
import sys
from typing import Any


def answer_of(module: str, *words: str) -> dict[str, Any]:
    """Of a process of its own: its memory is nobody else's."""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"tests.slow.{module}", *words],
        check=False,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    answer: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return answer
