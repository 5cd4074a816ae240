"""What a command line can say of the engine, handed on to the processes of an embedded stack."""

from enum import StrEnum


class Engine(StrEnum):
    STAGED = "staged"
    REFERENCE = "reference"


class Precision(StrEnum):
    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT8 = "float8"


def engine_environment(
    *, engine: Engine | None, device: str | None, precision: Precision | None
) -> dict[str, str]:
    said = {
        "MASKMILL_ENGINE": engine,
        "MASKMILL_DEVICE": device,
        "MASKMILL_PRECISION": precision,
    }
    return {name: str(value) for name, value in said.items() if value}
