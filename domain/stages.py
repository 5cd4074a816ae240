"""What a worker does with an image, one stage after the other."""

from typing import Literal, get_args

Stage = Literal["fetch", "decode", "network", "encode", "commit"]
STAGES: tuple[Stage, ...] = get_args(Stage)
