"""The scale benchmark runs, and its readings of processes are right."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import scale_celery
from benchmarks.processes import cpu_seconds, memory_mib, watched

BUSY = "import time; start = time.process_time()\nwhile time.process_time() - start < 0.5: pass"


def test_cpu_seconds_are_those_of_a_process_and_of_its_ended_children() -> None:
    before = cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    assert 0.4 < cpu_seconds(os.getpid()) - before < 3


def test_memory_is_that_of_a_process_and_of_its_living_children() -> None:
    code = "held = bytearray(200 * 2**20); print(flush=True); input()"
    before = memory_mib(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        grown = memory_mib(os.getpid()) - before
        process.communicate(b"\n")
    assert 195 < grown < 300


def test_a_process_that_has_gone_takes_nothing() -> None:
    assert cpu_seconds(2**22 + 1) == 0
    assert memory_mib(2**22 + 1) == 0


def test_peaks_are_told_before_and_after_what_was_measured() -> None:
    done = iter(range(10**6))
    with watched(lambda: {"this": os.getpid()}, measure=lambda: next(done), seconds=0.01) as taken:
        while len(taken.memory) < 3:
            time.sleep(0.01)
    assert 0 < taken.peak_mib("this", until=0) <= taken.peak_mib("this")
    assert taken.peak_mib("other") == 0
    assert taken.cpu_seconds["this"] >= 0


def test_the_usual_design_labels_every_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(scale_celery.__file__).parent.parent)
    result = scale_celery.measured(50)
    assert result["results"] == 50
    assert result["images_per_second"] > 0
    assert result["broker_bytes_per_image"] > 500
    json.dumps(result)
