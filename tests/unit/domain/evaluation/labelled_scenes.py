"""Sample scenes with what the demo network finds in them."""

from functools import partial

from domain.annotations import ImageOutcome
from domain.prompts import ConceptPrompt
from maskmill.sample_scenes import Scene, draw_scene
from tests.unit.domain.evaluation.cases import FLOOR, Case, Found, Wanted
from tests.unit.domain.hard_masks import pixels
from workers.engine import load_engine
from workers.engine.pipeline import ImageTask, Pipeline

SHAPES = ("circle", "star")


def labelled_scenes(count: int) -> list[Case]:
    """A prompt for each of the shapes."""
    scenes = [draw_scene(seed, size=256) for seed in range(count)]
    prompts = tuple(ConceptPrompt(shape) for shape in SHAPES)
    tasks = [ImageTask(partial(bytes, scene.encoded()), prompts) for scene in scenes]
    engine = load_engine("demo-sam3", device="cpu", threads=1)
    outcomes = Pipeline(engine, floor=FLOOR, max_pixels=10**6).run(tasks)
    return [_case(scene, outcome) for scene, outcome in zip(scenes, outcomes, strict=True)]


def _case(scene: Scene, outcome: ImageOutcome) -> Case:
    found = [Found(pixels(one.mask), one.score, one.prompt_index) for one in outcome.instances]
    wanted = [
        Wanted(one.mask, SHAPES.index(one.shape)) for one in scene.objects if one.shape in SHAPES
    ]
    return Case(found, wanted, (256, 256))
