"""One line of a shard: an image to label, and what the manifest said about it."""

from dataclasses import dataclass

from domain.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Item:
    """`image` is what the user wrote (a URI, or a path relative to the dataset or manifest).

    `uri` is where it lies. `index` counts the job's images from 0 in planning order; COCO's
    image id is index + 1. `prompts` is empty when the job's own prompts apply. Item prompts
    replace the job's for this image and are numbered on from the job's: the first has the
    index `len(job.prompts)`.
    """

    index: int
    image: str
    uri: str
    custom_id: str | None = None
    prompts: tuple[Prompt, ...] = ()
