"""Every saving of the engine as a row: how fast, in how much memory, with what answers.

    python -m benchmarks.engine                                  the demo network
    python -m benchmarks.engine --random-weights                 the published size, no download
    python -m benchmarks.engine --model facebook/sam3            the real one

Each way goes from JPEG files to COCO run lengths and gives the same answers, or the table says
how far they differ from the plain way: (1), the stock Sam3Model run once per image and prompt.
On CUDA all ways run in bfloat16 and answers are compared with those of (1) in float32. From (4)
on each row adds one saving to the row before it, and what does not pay shows.

Ways are measured in turns, a few seconds each, and the median of the rounds counts. Memory is the
peak on the device beyond the weights. With --random-weights nothing is found, so after they were
computed scores and masks are replaced, in every way alike: --present of the prompts have
--instances instances, smooth blobs, in every image. Answers are compared before that.

Runs unattended, needs torch, torchvision, transformers, numpy and Pillow, and takes three minutes
on two cores, less than eight on a large GPU. After each row it writes what it has so far.
"""

import argparse
import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import machine
from benchmarks.engine.meter import COMPARED_IMAGES, Expected, Meter, say
from benchmarks.engine.plain import Stock
from benchmarks.engine.report import Report, Table
from benchmarks.engine.subject import (
    ALL_PROMPTS,
    RANDOM_WEIGHTS,
    Subject,
    in_precision,
    jpegs,
    load,
    subject,
)
from benchmarks.engine.ways import all_ways, plain, whole_engine

_CROWD = 100  # instances of one prompt, or as many as there are queries


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    files = jpegs(options.model, options.images, options.size)
    measured = _subject(options)
    report = _report(options, measured)
    expected = _expected(measured, files)
    report.notes.append(_compared(expected))
    all_of_it, crowd = report.tables
    meter = Meter(measured, files, report.write)
    meter.measure(all_of_it, all_ways(measured), options.rounds, expected)
    _crowd(measured, files, crowd, report, options.rounds)
    say(f"\n{report.text()}\nwritten to {report.files}.txt and .json")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", default="demo-sam3", help="as maskmill's (default: demo-sam3)")
    which.add_argument(
        "--random-weights",
        dest="model",
        action="store_const",
        const=RANDOM_WEIGHTS,
        help="a network of the published size: as fast as the real one, without downloading it",
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--images", type=_count, help="default: 128 on CUDA, 32 on a CPU")
    parser.add_argument("--prompts", type=_count, default=16, help=f"1 to {len(ALL_PROMPTS)}")
    parser.add_argument("--present", type=_count, default=4, help="random weights only")
    parser.add_argument("--instances", type=_count, default=10, help="random weights only")
    parser.add_argument(
        "--size", type=_size, help="default: 1920x1080 with random weights, else 512x512"
    )
    parser.add_argument("--rounds", type=_count, default=3, help="default: 3")
    parser.add_argument(
        "--output", type=Path, help="folder; default: benchmarks/results/ and this machine's name"
    )
    options = parser.parse_args(arguments)
    if options.prompts > len(ALL_PROMPTS):
        parser.error(f"--prompts: at most {len(ALL_PROMPTS)}")
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.precision == "auto":
        options.precision = "bfloat16" if options.device == "cuda" else "float32"
    options.images = options.images or (128 if options.device == "cuda" else 32)
    options.size = options.size or ((1920, 1080) if options.model == RANDOM_WEIGHTS else (512, 512))
    return options


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    width, height = map(int, text.split("x"))
    return width, height


def _subject(options: argparse.Namespace) -> Subject:
    say(f"loading {options.model}; the engine for {options.device} in {options.precision}")
    checkpoint = load(options.model, torch.device(options.device))
    stock = copy.deepcopy(checkpoint.detector)
    dtype = getattr(torch, options.precision)
    measured = subject(checkpoint, stock, dtype, options.prompts)
    if options.model == RANDOM_WEIGHTS:
        measured.findings.stand_in = measured.stand_in(
            prompts=options.prompts, present=options.present, instances=options.instances
        )
    return measured


def _expected(measured: Subject, files: Sequence[bytes]) -> Expected:
    """In float32, and only then do the stock's weights get the precision of the others."""
    say(f"the plain way in float32, {min(len(files), COMPARED_IMAGES)} images")
    plain_way = Stock(measured, measured.stock).a_forward_per_prompt
    expected = Meter(measured, files, lambda: None).expected(plain_way)
    in_precision(measured.stock, measured.dtype)
    return expected


def _crowd(
    measured: Subject, files: Sequence[bytes], table: Table, report: Report, rounds: int
) -> None:
    alone = replace(measured, prompts=measured.prompts[:1])
    stand_in = measured.stand_in(prompts=1, present=1, instances=_CROWD)
    with measured.findings.replaced_by(stand_in):
        ways = [plain(alone), whole_engine(alone)]
        Meter(alone, files, report.write).measure(table, ways, rounds, expected=None)


def _report(options: argparse.Namespace, measured: Subject) -> Report:
    width, height = options.size
    scenario = (
        f"{options.model} in {options.precision} on {options.device}: JPEG images of "
        f"{width}x{height}, {options.prompts} prompts each"
    )
    if options.model == RANDOM_WEIGHTS:
        scenario += f", {options.present} of them present, {options.instances} instances in all"
    folder = options.output or (
        Path(__file__).parents[1] / "results" / machine.folder_name(measured.device)
    )
    crowd = min(_CROWD, measured.stock.config.detr_decoder_config.num_queries)
    return Report(
        files=folder / f"engine-{Path(options.model).name}",
        scenario=scenario,
        arguments={key: value for key, value in vars(options).items() if key != "output"},
        machine=machine.description(),
        notes=_notes(measured),
        tables=(Table("From JPEG to run lengths"), Table(f"One prompt, {crowd} instances")),
    )


def _compared(expected: Expected) -> str:
    found = sum(map(len, expected.answers))
    return f"Compared with (1) in float32: {found} instances in {len(expected.answers)} images."


def _notes(measured: Subject) -> list[str]:
    if isinstance(measured.built, Exception):
        return [f"The engine was not built: {measured.built}"]
    return [f"Engine: {measured.built.details}."]


if __name__ == "__main__":
    raise SystemExit(main())
