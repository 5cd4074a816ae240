"""The engine of our own: SAM 3 as a row of stages, each doing once what need not be done again."""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from domain.prompts import ModelLimits
from workers.engine.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from workers.engine.clicks import MOST_AT_ONCE, ClickStage, Target
from workers.engine.concepts import ConceptStages, Pair, Scored
from workers.engine.coordinates import clicks, concepts, objects
from workers.engine.cores import set_threads
from workers.engine.engine import Embedding, Found, ImageInput, Pointed, SquashJpegs
from workers.engine.float8 import use_float8
from workers.engine.jpeg_on_device import DeviceJpeg, decode_and_squash, decodes_like_pillow
from workers.engine.mask_changes import ImageMasks, changes
from workers.engine.passes import CPU_SIZES
from workers.engine.preprocessing import Preprocessing
from workers.engine.warm_up import prepare

T = TypeVar("T")
U = TypeVar("U")


class Network:
    """The engine of our own; see Engine. Takes over the modules of `checkpoint`.

    All work is done by one thread of its own, whoever calls: batches at once would fight for memory
    and cores, and cuDNN keeps its plans, OpenMP its workers, for each thread that asks.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        dtype: torch.dtype,
        *,
        float8: bool = False,
    ) -> None:
        config = checkpoint.detector.config
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self.name = checkpoint.name
        self.device = device
        self.weights_sha256 = checkpoint.weights_sha256
        self.notice = checkpoint.notice
        self.tokenizer_json = checkpoint.tokenizer_json
        self._preprocessing = Preprocessing(checkpoint.image_processor)
        self.limits = ModelLimits(
            text_tokens=config.text_config.max_position_embeddings,
            queries=config.detr_decoder_config.num_queries,
            image_size=self._preprocessing.side,
        )
        self._concepts = ConceptStages(
            checkpoint.detector, checkpoint.tokenizer_json, device=device, dtype=dtype
        )
        if float8:
            use_float8(self._concepts.vit)
        tracker = checkpoint.tracker
        tracker.vision_encoder.backbone = None  # the ViT above is for both
        self._clicks = ClickStage(tracker, device)
        # On a CPU another thread has time for it. From any other device small masks move quickly.
        self._resizes_masks = device.type == "cuda"
        precision = str(dtype).removeprefix("torch.") + (" with a float8 ViT" if float8 else "")
        self._sizes, self.details = CPU_SIZES, precision
        self._click_steps = 0
        self._threads = self._usual_threads = torch.get_num_threads()
        self.squash_jpegs: SquashJpegs | None = None
        if device.type == "cuda":
            self._prepare()

    def _prepare(self) -> None:
        side = self.limits.image_size
        prepared = self._thread.submit(prepare, self._concepts, image_size=side)
        self._sizes, how = prepared.result()
        decodes = self._thread.submit(decodes_like_pillow, self.device).result()
        self.squash_jpegs = self._squash_jpegs if decodes else None
        self.details += f", {how}, JPEGs decoded {'on the device' if decodes else 'by Pillow'}"

    @property
    def images_per_batch(self) -> int:
        return self._sizes.images

    @property
    def steps(self) -> int:
        return self._concepts.steps + self._click_steps

    def squash(self, pixels: np.ndarray) -> Tensor:
        return self._preprocessing.squash(pixels)

    def _squash_jpegs(self, jpegs: Sequence[DeviceJpeg]) -> list[Tensor | None]:
        side = self.limits.image_size
        return self._thread.submit(decode_and_squash, jpegs, side=side, device=self.device).result()

    def use_threads(self, count: int | None) -> None:
        self._threads = count or self._usual_threads

    def embed(self, squashed: Sequence[Tensor]) -> list[Embedding]:
        return self._thread.submit(self._fitting, self._embed, squashed).result()

    def segment(self, images: Sequence[ImageInput]) -> list[list[Found]]:
        return self._thread.submit(self._fitting, self._segment, images).result()

    def _fitting(self, work: Callable[[Sequence[T]], U], images: Sequence[T]) -> U:
        """For a single image passes get smaller until they fit, and stay so."""
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        while True:
            try:
                return work(images)
            except RuntimeError as error:
                smaller = self._sizes.halved()
                if not _is_out_of_memory(error):
                    raise
                if len(images) > 1 or smaller is None:
                    raise torch.OutOfMemoryError(str(error)) from None
            self._sizes = smaller  # and on, now that no traceback holds the tensors any more
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    @torch.inference_mode()
    def _embed(self, squashed: Sequence[Tensor]) -> list[Embedding]:
        # Cloned: a view would keep its whole pass alive.
        return [Embedding(features.clone()) for features in self._see(squashed)]

    def _see(self, squashed: Sequence[Tensor]) -> Iterator[Tensor]:
        for start in range(0, len(squashed), self._sizes.images):
            some = squashed[start : start + self._sizes.images]
            batch = torch.stack([one.to(self.device) for one in some])
            yield from self._concepts.see(self._preprocessing.normalise(batch))

    @torch.inference_mode()
    def _segment(self, images: Sequence[ImageInput]) -> list[list[Found]]:
        results: list[list[Found]] = [[] for _ in images]
        features = self._features(images)
        for found in self._find(features, images):
            results[found.image].append(found)
        return results

    def _features(self, images: Sequence[ImageInput]) -> Tensor:
        """Of all images, B x C x h x w, channels last as the ViT gives them."""
        pixels = [image.pixels for image in images]
        seen = self._see([one for one in pixels if isinstance(one, Tensor)])
        features = [next(seen) if isinstance(one, Tensor) else one.features for one in pixels]
        rows = [one.to(self.device).permute(1, 2, 0) for one in features]
        return torch.stack(rows).permute(0, 3, 1, 2)

    def _find(self, features: Tensor, images: Sequence[ImageInput]) -> Iterator[Found]:
        pairs = [pair for place, image in enumerate(images) for pair in _pairs(place, image)]
        if pairs:
            for concepts in self._concepts.find(features, pairs, sizes=self._sizes):
                yield from self._to_host(images, concepts)
        side = self.limits.image_size
        targets = [t for place, image in enumerate(images) for t in _targets(place, image, side)]
        at_once = min(self._sizes.pairs, MOST_AT_ONCE)
        for masks in self._clicks.segment(features, targets, at_once=at_once):
            self._click_steps += 1
            yield from self._to_host(images, masks)

    def _to_host(self, images: Sequence[ImageInput], scored: Sequence[Scored]) -> Iterator[Found]:
        """As changes in the full-size image where the device finds them, else small as they are."""
        masks: Sequence[Iterable[Tensor | np.ndarray]]
        if self._resizes_masks:
            sized = zip(scored, (images[one.image] for one in scored), strict=True)
            masks = changes([ImageMasks(one.masks, at.width, at.height) for one, at in sized])
        else:
            masks = [one.masks.cpu() for one in scored]
        for one, own in zip(scored, masks, strict=True):
            for place, (score, mask) in enumerate(zip(one.scores, own, strict=True)):
                pointed = isinstance(images[one.image].prompts[one.prompt], Pointed)
                logits = one.masks[place].cpu().numpy() if pointed else None
                yield Found(one.image, one.prompt, score, mask, logits)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """torch has a class of its own for that, but does not use it everywhere."""
    said = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in said  # of CUDA's own functions, and of MPS
        or "DefaultCPUAllocator" in said
    )


def _pairs(place: int, image: ImageInput) -> Iterator[Pair]:
    for one in concepts(image):
        yield Pair(place, one.prompt, one.text, one.exemplars, image.floor)


def _targets(place: int, image: ImageInput, side: int) -> Iterator[Target]:
    for position, pointed in objects(image):
        points = clicks(pointed, width=image.width, height=image.height, side=side)
        embedding = image.pixels if isinstance(image.pixels, Embedding) else None
        yield Target(place, position, embedding, points, pointed.multimask, pointed.previous)


def load(
    model: str,
    *,
    device: str,
    precision: str = "auto",
    threads: int | None = None,
    memory_share: float = 1.0,
) -> Network:
    gc.collect()  # a network before this one: its compiled steps refer to their stages and back
    set_threads(threads)
    chosen = _device(device)
    if chosen.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(memory_share, chosen)
    if precision == "auto":
        precision = "bfloat16" if _computes_in_bfloat16(chosen) else "float32"
    if precision == "float8" and not _computes_in_float8(chosen):
        raise CheckpointError("precision float8: needs a CUDA device of compute capability 8.9")
    checkpoint = load_checkpoint(model, device=torch.device("cpu"))
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    return Network(checkpoint, chosen, dtype, float8=precision == "float8")


def _computes_in_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _computes_in_float8(device: torch.device) -> bool:
    """Ada, Hopper and later; a CPU does it slowly."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 9)
    return device.type == "cpu"


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    if not available.get(name, False):
        raise CheckpointError(f"device {name}: not available on this machine")
    return torch.device(name)
