"""What is measured: the networks, the images as JPEG files, the prompts."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Sam3ImageProcessor, Sam3Model, Sam3TrackerModel

from benchmarks.engine.findings import Findings, stand_in
from benchmarks.engine.stock import (
    StockDecoder,
    StockEncoder,
    StockMaskDecoder,
    StockNeck,
    StockVit,
)
from maskmill.sample_scenes import COLOURS, SHAPES, draw_scene
from workers.engine.checkpoint import (
    DEMO_MODEL,
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    published_config,
)
from workers.engine.concepts import ConceptStages
from workers.engine.network import Network
from workers.engine.passes import CPU_SIZES, PassSizes
from workers.engine.preprocessing import Preprocessing

# Of the first 16 three or four are in a scene, as in a job whose classes are rare.
ALL_PROMPTS = (*SHAPES, *(f"{colour} {shape}" for shape, colour in product(SHAPES, COLOURS)))
RANDOM_WEIGHTS = "random-weights"
_DIFFERENT_IMAGES = 16  # more are these again: only their number matters


@dataclass(frozen=True)
class Subject:
    """`stock` is a Sam3Model, `network` our engine (or why there is none), `eager` its stages,
    not compiled. `stock_stages` are the stock's modules by the names of our stages.
    """

    model: str
    device: torch.device
    dtype: torch.dtype
    stock: Any
    eager: ConceptStages
    stock_stages: dict[str, Any]
    built: Network | Exception
    image_processor: Any
    preprocessing: Preprocessing
    tokenizer: Any
    prompts: tuple[str, ...]
    findings: Findings

    @property
    def network(self) -> Network:
        if isinstance(self.built, Exception):
            raise RuntimeError(f"the engine was not built: {self.built}")
        return self.built

    @property
    def sizes(self) -> PassSizes:
        return CPU_SIZES if isinstance(self.built, Exception) else self.built._sizes

    @property
    def compiled(self) -> ConceptStages:
        """Of the engine: compiled only on a CUDA device."""
        return self.network._concepts

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """As Sam3Processor: padded to the text encoder's length."""
        encodings = self.tokenizer.encode_batch(list(texts))
        ids = torch.tensor([encoding.ids for encoding in encodings])
        mask = torch.tensor([encoding.attention_mask for encoding in encodings])
        return {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}

    def stand_in(self, *, prompts: int, present: int, instances: int) -> Any:
        config = self.stock.config
        finest = max(config.vision_config.scale_factors)
        return stand_in(
            prompts=prompts,
            present=present,
            instances=min(instances, config.detr_decoder_config.num_queries * present),
            queries=config.detr_decoder_config.num_queries,
            mask_side=int(self.eager.vit.side * finest),
            device=self.device,
        )


def load(model: str, device: torch.device) -> Checkpoint:
    """In float32 on the device."""
    return _random(device) if model == RANDOM_WEIGHTS else load_checkpoint(model, device=device)


def _random(device: torch.device) -> Checkpoint:
    """The published sizes. Of the tracker, which only clicks need, all that is its own."""
    torch.manual_seed(0)
    detector_class: Any = Sam3Model
    tracker_class: Any = Sam3TrackerModel
    config = published_config(Sam3TrackerModel)
    config.vision_config.backbone_config.num_hidden_layers = 1
    with device:
        detector = detector_class(published_config(Sam3Model)).eval().requires_grad_(False)
        tracker = tracker_class(config).eval().requires_grad_(False)
    tracker.vision_encoder.backbone = detector.vision_encoder.backbone
    side = detector.config.vision_config.backbone_config.image_size
    processor_class: Any = Sam3ImageProcessor
    processor = processor_class(size={"height": side, "width": side})
    tokenizer_json = (find_checkpoint(DEMO_MODEL) / "tokenizer.json").read_text()
    return Checkpoint(RANDOM_WEIGHTS, detector, tracker, processor, tokenizer_json, "", None)


def subject(checkpoint: Checkpoint, stock: Any, dtype: torch.dtype, prompts: int) -> Subject:
    """Takes the checkpoint's networks for the engine; `stock` is a copy of the detector."""
    device = next(stock.parameters()).device
    text, findings = checkpoint.tokenizer_json, Findings()
    detector = copy.deepcopy(checkpoint.detector) if device.type == "cuda" else None
    built = _attempt(lambda: Network(checkpoint, device, dtype))
    if detector is not None:
        eager = ConceptStages(detector, text, device=device, dtype=dtype)
    elif isinstance(built, Network):  # nothing is compiled, so one copy of the weights will do
        eager = built._concepts
    else:
        raise built
    stock_stages = _stock_stages(stock, side=eager.decoder.side)
    findings.watch(stock_stages["decoder"], stock_stages["mask_decoder"])
    findings.watch(eager.decoder, eager.mask_decoder)
    if isinstance(built, Network) and built._concepts is not eager:
        findings.watch(built._concepts.decoder, built._concepts.mask_decoder)
    return Subject(
        model=checkpoint.name,
        device=device,
        dtype=dtype,
        stock=stock,
        eager=eager,
        stock_stages=stock_stages,
        built=built,
        image_processor=checkpoint.image_processor,
        preprocessing=Preprocessing(checkpoint.image_processor),
        tokenizer=_padding(text, stock.config.text_config.max_position_embeddings),
        prompts=ALL_PROMPTS[:prompts],
        findings=findings,
    )


def _attempt(build: Callable[[], Network]) -> Network | Exception:
    try:
        return build()
    except Exception as error:  # e.g. of the compiler; the other ways can still be measured
        return error


def _stock_stages(stock: Any, *, side: int) -> dict[str, Any]:
    return {
        "vit": StockVit(stock),
        "neck": StockNeck(stock),
        "encoder": StockEncoder(stock, side=side),
        "decoder": StockDecoder(stock, side=side),
        "mask_decoder": StockMaskDecoder(stock),
    }


def _padding(tokenizer_json: str, length: int) -> Any:
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.enable_padding(length=length)
    return tokenizer


def in_precision(network: Any, dtype: torch.dtype) -> Any:
    """Weights in `dtype`; buffers, such as coordinates, stay as they are."""
    for parameter in network.parameters():
        parameter.data = parameter.data.to(dtype)
    return network


def jpegs(model: str, count: int, size: tuple[int, int]) -> list[bytes]:
    draw = _noise if model == RANDOM_WEIGHTS else _scene
    different = [_jpeg(draw(seed, size)) for seed in range(min(count, _DIFFERENT_IMAGES))]
    return [different[number % len(different)] for number in range(count)]


def _scene(seed: int, size: tuple[int, int]) -> Image.Image:
    return draw_scene(seed, size=max(size)).image.resize(size)


def _noise(seed: int, size: tuple[int, int]) -> Image.Image:
    """Patches with grain, so that the file is about as large as a photograph's."""
    random = np.random.default_rng(seed)
    patches = Image.fromarray(random.integers(0, 256, (18, 32, 3), dtype=np.uint8)).resize(size)
    grain = random.normal(0, 8, (size[1], size[0], 1))
    return Image.fromarray((np.asarray(patches) + grain).clip(0, 255).astype(np.uint8))


def _jpeg(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
