import os
import subprocess
import sys

import pytest

from maskmill.engine_choice import Engine, Precision, engine_environment


def test_what_the_command_line_says_reaches_the_processes() -> None:
    assert engine_environment(
        engine=Engine.REFERENCE, device="cuda", precision=Precision.FLOAT32
    ) == {
        "MASKMILL_ENGINE": "reference",
        "MASKMILL_DEVICE": "cuda",
        "MASKMILL_PRECISION": "float32",
    }


def test_what_it_does_not_say_is_left_to_the_environment() -> None:
    assert engine_environment(engine=None, device=None, precision=None) == {}


@pytest.mark.parametrize("command", [["label", ".", "-o", "out"], ["up"]])
@pytest.mark.parametrize(
    ("said", "environment"),
    [
        (["--engine", "fast"], {}),
        (["--precision", "float16"], {}),
        ([], {"MASKMILL_ENGINE": "fast"}),
        ([], {"MASKMILL_PRECISION": "float16"}),
    ],
)
def test_an_unknown_choice_is_wrong_usage_that_names_the_right_ones(
    command: list[str], said: list[str], environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "maskmill", *command, *said],
        env={**os.environ, **environment, "TERMINAL_WIDTH": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    right = "reference" if "fast" in [*said, *environment.values()] else "bfloat16"
    assert right in done.stderr
