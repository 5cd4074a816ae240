"""The ways from JPEG files to COCO run lengths, slowest first: each a row of the table."""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.engine.answers import FLOOR, MAX_PIXELS, Answer, Run, Unavailable
from benchmarks.engine.meta import a_prompt_at_a_time, batched_queries
from benchmarks.engine.plain import Stock
from benchmarks.engine.staged import Steps, changes_on_device, crops, go, on_device
from benchmarks.engine.stock import with_stages
from benchmarks.engine.subject import Subject
from domain.prompts import ConceptPrompt
from workers.engine.concepts import ConceptStages
from workers.engine.float8 import use_float8
from workers.engine.pipeline import ImageTask, Pipeline


@dataclass(frozen=True)
class Way:
    """`build` does once what a job does once: load, compile. What it returns goes the way, for
    `batch` images at once, and yields each image's answers. `takes_all`: only many images show
    what it is worth. `same_weights`: its answers can be compared."""

    key: str
    name: str
    build: Callable[[], Run]
    batch: int = 1
    takes_all: bool = False
    same_weights: bool = True


PLAIN, STOCK = "plain", "stock"  # the two rows that the others are compared with


def all_ways(subject: Subject) -> list[Way]:
    return [*_stock_ways(subject), *_staged_ways(subject)]


def plain(subject: Subject) -> Way:
    name = "(1) stock: a full forward per prompt"
    return Way(PLAIN, name, lambda: Stock(subject, subject.stock).a_forward_per_prompt)


def whole_engine(subject: Subject) -> Way:
    def build() -> Run:
        pipeline = Pipeline(subject.network, floor=FLOOR, max_pixels=MAX_PIXELS)
        return partial(_pipeline, subject, pipeline)

    name = "+ everything overlapped: the whole engine"
    return Way("engine", name, build, batch=subject.sizes.images, takes_all=True)


def _stock_ways(subject: Subject) -> list[Way]:
    stock = Stock(subject, subject.stock)
    random = subject.findings.stand_in is not None
    return [
        plain(subject),
        Way(
            "meta-processor",
            "(2) Meta's Sam3Processor: set_image, set_text_prompt",
            lambda: a_prompt_at_a_time(subject),
            same_weights=not random,
        ),
        Way(
            "meta-batched",
            "(3) Meta's code, queries batched",
            lambda: batched_queries(subject),
            same_weights=not random,
        ),
        Way(STOCK, "(4) stock: ViT once, prompts in one batch", lambda: stock.vit_once),
        Way("stock-compiled", "(5) as (4), compiled one by one", lambda: _compiled_stock(subject)),
        Way("texts", "(4) + texts encoded once per job", lambda: stock.texts_once),
        Way(
            "batches",
            "+ images in ViT batches",
            lambda: partial(stock.vit_batches, subject.sizes.images),
            batch=subject.sizes.images,
        ),
    ]


def _staged_ways(subject: Subject) -> Iterator[Way]:
    """Each exchanges one part of the way before it, down to the whole engine."""

    def way(key: str, name: str, steps: Callable[[], Steps]) -> Way:
        return Way(key, name, lambda: partial(go, subject, steps()), batch=subject.sizes.images)

    def stages(*ours: str) -> Callable[[], Steps]:
        stock = {name: one for name, one in subject.stock_stages.items() if name not in ours}
        return lambda: Steps(with_stages(subject.eager, **stock), subject.sizes)

    ours = stages(*subject.stock_stages)
    yield way("gate", "+ masks only of what passes the presence gate", stages())
    yield way("encoder", "+ our DETR encoder", stages("encoder"))
    yield way("decoder", "+ our DETR decoder", stages("encoder", "decoder"))
    yield way("masks", "+ our mask decoder", stages("encoder", "decoder", "mask_decoder"))
    yield way("vit", "+ our ViT and neck", ours)
    yield way("attention", "+ cuDNN attention", lambda: _cudnn(subject, ours()))
    yield way("compiled", "+ compiled", lambda: _compiled(subject))
    yield way("jpeg", "+ JPEG decoded on the device", lambda: _jpeg(subject))
    if subject.device.type == "cuda":
        yield way("rle", "+ run lengths on the device, no masks moved", lambda: _rle(subject))
    else:
        yield way("rle", "+ only the crop around an object resized", lambda: _crops(subject))
    yield whole_engine(subject)
    name = "  not overlapped, but a float8 ViT (on request only)"
    yield way("float8", name, lambda: _float8(subject))


def _need_cuda(subject: Subject) -> None:
    if subject.device.type != "cuda":
        raise Unavailable("CUDA only")


def _cudnn(subject: Subject, steps: Steps) -> Steps:
    _need_cuda(subject)
    return replace(steps, see=ConceptStages.see)


def _compiled(subject: Subject) -> Steps:
    _need_cuda(subject)
    if "not compiled" in subject.network.details:
        raise Unavailable("not compiled")
    return _cudnn(subject, Steps(subject.compiled, subject.sizes))


def _jpeg(subject: Subject) -> Steps:
    return replace(_compiled(subject), prepare=on_device)


def _rle(subject: Subject) -> Steps:
    return replace(_jpeg(subject), encode=changes_on_device)


def _crops(subject: Subject) -> Steps:
    return Steps(subject.compiled, subject.sizes, encode=crops)


def _float8(subject: Subject) -> Steps:
    steps = _rle(subject)
    vit = copy.deepcopy(subject.eager.vit)
    use_float8(vit)
    vit.compile(fullgraph=True)
    return replace(steps, stages=with_stages(steps.stages, vit=vit))


def _compiled_stock(subject: Subject) -> Run:
    _need_cuda(subject)
    return Stock(subject, subject.stock).compiled().vit_once


def _pipeline(
    subject: Subject, pipeline: Pipeline, jpegs: Iterable[bytes]
) -> Iterator[list[Answer]]:
    prompts = tuple(ConceptPrompt(text) for text in subject.prompts)
    tasks = (ImageTask(partial(bytes, jpeg), prompts) for jpeg in jpegs)
    for outcome in pipeline.run(tasks):
        if outcome.error_code is not None:
            raise RuntimeError(outcome.error_message)
        yield [Answer(one.prompt_index, one.score, one.mask) for one in outcome.instances]
