"""What an export shows of a result: thresholds, areas, classes, overlaps, coordinates.

No pixel is looked at unless masks are compared or stored coordinates asked for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from domain.exports import ExportOptions, ShownImage, ShownInstance, ViewOptions
from domain.nms import Candidates, Rivalry, survivors
from domain.orientation import UPRIGHT, Turn, turn_to_stored
from domain.results import ImageRow, InstanceRow
from domain.thresholds import effective_threshold, reaches

Shown = list[ShownInstance]


class View:
    """`categories` are the result's, in the order of their ids. `classes` are the names shown, in
    the order in which they come up there; a class's id is its position, from 0.

    Thousands of masks of one image may take minutes to compare: `before_each` mask is called, and
    what it raises ends that.
    """

    def __init__(
        self,
        options: ExportOptions,
        categories: Sequence[str],
        *,
        before_each: Callable[[], None] = lambda: None,
    ) -> None:
        names = _shown_names(options, categories)
        self.classes = tuple(dict.fromkeys(name for name in names.values() if name is not None))
        ids = {name: number for number, name in enumerate(self.classes)}
        self._class_ids = {
            category: None if name is None else ids[name] for category, name in names.items()
        }
        self._options = options
        self._before_each = before_each
        self._conflicts = tuple(_conflicts(options, ids))

    def show(self, row: ImageRow, instances: Sequence[InstanceRow]) -> ShownImage:
        """A labelled image, of whose `instances` in the result those are left that the options
        show, in the same order. Raise KeyError for a category that the view does not know."""
        shown = self._single(instances)
        for conflict in self._conflicts:
            shown = conflict.settled(shown, self._before_each)
        if self._options.top_k is not None:
            shown = _best(shown, self._options.top_k)
        turn = turn_to_stored(row.orientation) if self._options.coordinates == "raw" else UPRIGHT
        width, height = turn.size(row.width, row.height)
        return ShownImage(
            row.image_index,
            row.image,
            row.custom_id,
            width,
            height,
            row.orientation,
            tuple(shown if turn is UPRIGHT else [_turned(one, turn) for one in shown]),
            row.saturated_prompts,
            row.milliseconds,
        )

    def _single(self, instances: Sequence[InstanceRow]) -> Shown:
        """By what is looked at in each instance alone: score, area, class."""
        options = self._options
        smallest = options.min_area or 0
        largest = inf if options.max_area is None else options.max_area
        return [
            _instance(row, class_id, threshold)
            for row in instances
            if reaches(row.score, threshold := self._threshold(row))
            and smallest <= row.area <= largest
            and (class_id := self._class_ids[row.category]) is not None
        ]

    def _threshold(self, row: InstanceRow) -> float:
        """The class's own score, else that of all, else the prompt's."""
        options = self._options
        wanted = options.class_scores.get(row.category, options.min_score)
        return effective_threshold(row.threshold, wanted)


def unknown_classes(options: ViewOptions, categories: Sequence[str]) -> list[str]:
    """Class names in the options that a result of these categories does not have, in the order in
    which they come up: nothing would ever be done for them."""
    names = _shown_names(options, categories)
    exclusive = (name for group in options.exclusive for name in group.classes)
    unknown = [name for name in (*options.class_scores, *options.classes) if name not in names]
    shown = set(names.values())
    unknown += [name for name in exclusive if name not in shown]
    return list(dict.fromkeys(unknown))


def _shown_names(options: ViewOptions, categories: Sequence[str]) -> dict[str, str | None]:
    """What each category is shown as; None where it is left out."""
    return {category: options.classes.get(category, category) for category in categories}


def _instance(row: InstanceRow, class_id: int, threshold: float) -> ShownInstance:
    return ShownInstance(
        row.instance, row.prompt_index, class_id, row.score, row.box, row.area, row.mask, threshold
    )


@dataclass(frozen=True, slots=True)
class _Conflict:
    """Masks of which the better one stays. `classes` are those concerned, all where None."""

    iou: float
    rivalry: Rivalry | None = None
    classes: frozenset[int] | None = None

    def settled(self, shown: Shown, before_each: Callable[[], None]) -> Shown:
        places = [place for place, one in enumerate(shown) if self._concerns(one)]
        if len(places) < 2:
            return shown
        concerned = [shown[place] for place in places]
        kept = survivors(
            _candidates(concerned),
            iou_threshold=self.iou,
            rivalry=self.rivalry,
            before_each=before_each,
        )
        dropped = set(places) - {places[position] for position in kept}
        return [one for place, one in enumerate(shown) if place not in dropped]

    def _concerns(self, one: ShownInstance) -> bool:
        return self.classes is None or one.class_id in self.classes


def _conflicts(options: ViewOptions, ids: Mapping[str, int]) -> Iterator[_Conflict]:
    if options.nms_within is not None:
        yield _Conflict(options.nms_within, np.equal)
    if options.nms_across is not None:
        yield _Conflict(options.nms_across)
    for group in options.exclusive:
        classes = frozenset(ids[name] for name in group.classes if name in ids)
        yield _Conflict(group.iou, np.not_equal, classes)


def _candidates(shown: Shown) -> Candidates:
    return Candidates(
        [one.score for one in shown],
        [one.mask for one in shown],
        [one.box for one in shown],
        [one.area for one in shown],
        [one.class_id for one in shown],
    )


def _best(shown: Shown, count: int) -> Shown:
    """Of equal scores the earlier ones."""
    places = sorted(range(len(shown)), key=lambda place: -shown[place].score)[:count]
    return [shown[place] for place in sorted(places)]


def _turned(one: ShownInstance, turn: Turn) -> ShownInstance:
    box, mask = turn.turned(one.box, one.mask)
    return replace(one, box=box, mask=mask)
