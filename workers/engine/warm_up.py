"""Before the first image on a CUDA device: compile the stages, and see what fits its memory.

Three runs, with one and with more of images and pairs, compile all there is to compile: sizes of
batches and prompts are symbols in the compiled code, but one is always a case of its own. (The
three pairs of two images are two and one for the mask decoder.) Inductor keeps what it compiled on
disk, so that the next start only loads it.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from domain.prompts import VISUAL_TEXT
from workers.engine.concepts import ConceptStages, Pair
from workers.engine.passes import PassSizes, fitting

_Step = Callable[..., Any]

_MEASURED = 4  # images, pairs: enough that what is allocated once does not count for much


def prepare(stages: ConceptStages, *, image_size: int) -> tuple[PassSizes, str]:
    """Returns what fits the CUDA device, and in words for operators what was done.

    Compiling can fail for reasons that have nothing to do with the network (no C compiler or no
    Python headers for Triton's launchers, a folder that cannot be written): then it is done
    without. Where there is no memory even to measure, everything goes through one by one.
    """
    started = time.perf_counter()
    try:
        compile_stages(stages)
        sizes, how = warm_up(stages, image_size=image_size), "compiled"
    except torch.OutOfMemoryError:
        sizes, how = PassSizes(1, 1, 1), "compiled, too little memory to measure"
    except Exception as error:
        leave_uncompiled(stages)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        sizes, how = warm_up(stages, image_size=image_size), f"not compiled ({reason})"
    return sizes, f"{how}, ready in {time.perf_counter() - started:.0f} s, {sizes}"


def leave_uncompiled(stages: ConceptStages) -> None:
    for stage, name, _ in _STEPS:
        getattr(stages, stage).__dict__.pop(name, None)  # uncovers the class's own
    torch.compiler.reset()


def compile_stages(stages: ConceptStages, *, backend: str = "inductor") -> None:
    """In place, each step as one graph; it is compiled when first called."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_cache_folder()))
    for stage, name, sizes in _STEPS:
        owner = getattr(stages, stage)
        step = torch.compile(getattr(owner, name), backend=backend, fullgraph=True)
        setattr(owner, name, _of_any_size(step, sizes))


# Stage, method, and of each argument the dimensions whose size is no constant of the compiled
# code: numbers of images, pairs and prompt tokens.
_BATCH, _PROMPT_TOKENS = (0,), (0, 1)
_STEPS: tuple[tuple[str, str, tuple[tuple[int, ...], ...]], ...] = (
    ("vit", "forward", (_BATCH,)),
    ("neck", "coarse", (_BATCH,)),
    ("neck", "finer", (_BATCH,)),
    ("encoder", "begin", (_BATCH,)),
    ("encoder", "forward", (_BATCH, _PROMPT_TOKENS, _PROMPT_TOKENS)),
    ("decoder", "forward", (_BATCH, _PROMPT_TOKENS, _PROMPT_TOKENS)),
    ("mask_decoder", "skips", (_BATCH,)),
    ("mask_decoder", "forward", (_BATCH, _PROMPT_TOKENS, _PROMPT_TOKENS, _BATCH, _BATCH)),
)


def _of_any_size(step: _Step, sizes: tuple[tuple[int, ...], ...]) -> _Step:
    def called(*arguments: Tensor | tuple[Tensor, ...]) -> Any:
        for argument, dimensions in zip(arguments, sizes, strict=True):
            for tensor in (argument,) if isinstance(argument, Tensor) else argument:
                for dimension in dimensions:
                    torch._dynamo.maybe_mark_dynamic(tensor, dimension)
        return step(*arguments)

    return called


def _cache_folder() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "maskmill" / "compiled"


def warm_up(stages: ConceptStages, *, image_size: int) -> PassSizes:
    """Run whatever compiles at its first call, then measure on the CUDA device what fits it."""
    for images, pairs in ((2, 3), (1, 2), (1, 1)):
        _run(stages, image_size, images=images, pairs=pairs, mask_pairs=min(pairs, 2))

    def peak_bytes(images: int, pairs: int, floor: float) -> float:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        _run(stages, image_size, images=images, pairs=pairs, floor=floor)
        return (torch.cuda.max_memory_allocated() - before) / _MEASURED

    return fitting(
        _free_bytes(),
        image_bytes=peak_bytes(_MEASURED, 0, 0.0),
        pair_bytes=peak_bytes(1, _MEASURED, 2.0),  # no score is that high
        mask_pair_bytes=peak_bytes(1, _MEASURED, 0.0),
    )


@torch.inference_mode()
def _run(
    stages: ConceptStages,
    image_size: int,
    *,
    images: int,
    pairs: int,
    mask_pairs: int = _MEASURED,
    floor: float = 0.0,
) -> None:
    """Every step on black images; a floor of 0 keeps every query."""
    device = next(stages.vit.parameters()).device
    features = stages.see(torch.zeros(images, 3, image_size, image_size, device=device))
    asked = [Pair(number % images, number, VISUAL_TEXT, floor=floor) for number in range(pairs)]
    sizes = PassSizes(images, max(1, pairs), mask_pairs)
    for _ in stages.find(features, asked, sizes=sizes):
        pass


def _free_bytes() -> int:
    """That this process may still take."""
    free, total = torch.cuda.mem_get_info()
    allowed = torch.cuda.get_per_process_memory_fraction() * total
    within = min(free + torch.cuda.memory_reserved(), allowed)
    return int(within - torch.cuda.memory_allocated())
