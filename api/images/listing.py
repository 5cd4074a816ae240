"""Pages of a job's images, out of the parts that are committed."""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

from api.context import Context
from api.documents import PageRequest, cursor_of
from api.images import ranking
from api.images.ranking import Ranked
from api.images.schemas import JobAnnotation, JobImage, JobImagePage, Sort
from api.jobs.service import find
from api.results.schemas import CocoCategory, CocoRle, ImageError
from api.results.stored import stored_part
from domain.prompts import categories
from domain.results import ImageRow, InstanceRow, instances_among, iter_images, score_ranges
from storage.jobs import Job
from storage.keys import ApiKey
from storage.object_store import ObjectStore
from storage.results_store import results_store
from storage.slices import Slice, item_categories, slices_from

_SLICES_PER_REQUEST = 100  # parts opened at most for one page by index
_ANNOTATION_BYTES = 8 * 2**20  # of run lengths in one page; its first image's whatever they are
_ALL = range(2**62)

Run = tuple[Slice, list[ImageRow]]
"""Images of one slice, in the order in which they are shown."""


def by_index(
    context: Context,
    job_id: str,
    caller: ApiKey,
    *,
    page: PageRequest,
    first: int,
    with_annotations: bool,
) -> JobImagePage:
    """A page may be short although more follow: so many parts, and so much of masks, are read."""
    after = page.after(int)
    start = after[0] if after else first
    with context.database.begin() as connection:
        job = find(connection, job_id, caller)
        parts = slices_from(connection, job_id, start, limit=_SLICES_PER_REQUEST)
        names = categories(job.parsed_prompts(), item_categories(connection, job_id))
    store = results_store(job, settings=context.settings)
    shown = _Shown(store, names, with_annotations, _ANNOTATION_BYTES)
    has_more = shown.add(_in_order(parts, store, _ALL[start:], limit=page.limit + 1))
    has_more = has_more or len(shown.data) > page.limit or len(parts) == _SLICES_PER_REQUEST
    data = shown.data[: page.limit]
    following = cursor_of(data[-1].image_index + 1) if data and has_more else None
    return _document(data, names, following=following)


def by_rank(
    context: Context,
    job_id: str,
    caller: ApiKey,
    *,
    page: PageRequest,
    sort: Sort,
    first: int,
    with_annotations: bool,
) -> JobImagePage:
    after = page.after(float, int)
    with context.database.begin() as connection:
        job = find(connection, job_id, caller)
        parts = slices_from(
            connection, job_id, 0, before=ranking.SORTED_IMAGES, limit=ranking.MAX_SLICES
        )
        names = categories(job.parsed_prompts(), item_categories(connection, job_id))
    store = results_store(job, settings=context.settings)
    shown = _Shown(store, names, with_annotations, _ANNOTATION_BYTES)
    found, sorted_of = context.rankings.ranked(
        job_id,
        parts,
        store,
        sort=sort,
        after=(after[0], after[1]) if after else first,
        limit=page.limit + 1,
    )
    shown.add(_chosen(found[: page.limit], store))
    last = found[len(shown.data) - 1] if shown.data else None
    has_more = last is not None and len(found) > len(shown.data)
    following = cursor_of(last.value, last.image_index) if last and has_more else None
    return _document(shown.data, names, following=following, sorted_of=sorted_of)


def _document(
    data: list[JobImage],
    names: Sequence[str],
    *,
    following: str | None,
    sorted_of: int | None = None,
) -> JobImagePage:
    return JobImagePage(
        data=data,
        categories=[CocoCategory(id=n, name=name) for n, name in enumerate(names, start=1)],
        sorted_of=sorted_of,
        next_cursor=following,
    )


def _in_order(
    parts: Iterable[Slice], store: ObjectStore, wanted: Container[int], *, limit: int
) -> Iterator[Run]:
    for part in parts:
        rows = list(_rows(part, store, wanted).values())[:limit]
        limit -= len(rows)
        if rows:
            yield part, rows
        if limit == 0:
            return


def _chosen(ranked: Iterable[Ranked], store: ObjectStore) -> Iterator[Run]:
    for part, places in groupby(ranked, key=attrgetter("part")):
        numbers = [place.image_index for place in places]
        rows = _rows(part, store, set(numbers))
        yield part, [rows[number] for number in numbers]


def _rows(part: Slice, store: ObjectStore, wanted: Container[int]) -> dict[int, ImageRow]:
    with stored_part(store, part.parts["images"]) as file:
        return {row.image_index: row for row in iter_images(file) if row.image_index in wanted}


@dataclass
class _Shown:
    """What goes into a page, as long as there is room."""

    store: ObjectStore
    names: Sequence[str]
    with_annotations: bool
    left_bytes: int
    data: list[JobImage] = field(default_factory=list)

    def add(self, runs: Iterable[Run]) -> bool:
        """Whether images were left out for want of room."""
        return any(not self._add(part, rows) for part, rows in runs)

    def _add(self, part: Slice, rows: list[ImageRow]) -> bool:
        if self.left_bytes < 0:
            return False
        if not self.with_annotations:
            self.data += self._with_scores(part, rows)
            return True
        instances = self._instances(part, rows)
        for row in rows:
            found = instances.get(row.image_index, [])
            if row.instances and not found and self.left_bytes < 0 and self.data:
                return False
            scores = [one.score for one in found]
            shown = _image(row, (min(scores), max(scores)) if scores else None)
            shown.annotations = [self._annotation(one) for one in found]
            self.data.append(shown)
        return True

    def _with_scores(self, part: Slice, rows: list[ImageRow]) -> Iterator[JobImage]:
        ranges: dict[int, tuple[float, float]] = {}
        if any(row.instances for row in rows):
            with stored_part(self.store, part.parts["annotations"]) as file:
                ranges = score_ranges(file)
        return (_image(row, ranges.get(row.image_index)) for row in rows)

    def _instances(self, part: Slice, rows: list[ImageRow]) -> dict[int, list[InstanceRow]]:
        """Of whole images, in the part's order until there is no room; at least of the first."""
        wanted = [row.image_index for row in rows if row.instances]
        if not wanted:
            return {}
        with stored_part(self.store, part.parts["annotations"]) as file:
            found = self._gathered(instances_among(file, wanted))
        if wanted[0] not in found and len(wanted) > 1:
            with stored_part(self.store, part.parts["annotations"]) as file:
                return self._gathered(instances_among(file, wanted[:1]))
        return found

    def _gathered(self, instances: Iterable[InstanceRow]) -> dict[int, list[InstanceRow]]:
        found: dict[int, list[InstanceRow]] = {}
        for number, rows in groupby(instances, key=attrgetter("image_index")):
            found[number] = list(rows)
            self.left_bytes -= sum(len(row.mask.counts) for row in found[number])
            if self.left_bytes < 0:
                break
        return found

    def _annotation(self, row: InstanceRow) -> JobAnnotation:
        return JobAnnotation(
            instance=row.instance,
            prompt_index=row.prompt_index,
            category_id=self.names.index(row.category) + 1,
            score=round(row.score, 6),
            threshold=row.threshold,
            bbox=row.box,
            area=row.area,
            segmentation=CocoRle(size=row.mask.size, counts=row.mask.counts.decode("ascii")),
        )


def _image(row: ImageRow, scores: tuple[float, float] | None) -> JobImage:
    error = None
    if row.error_code is not None:
        error = ImageError(code=row.error_code, message=row.error_message or "")
    return JobImage(
        image_index=row.image_index,
        image=row.image,
        custom_id=row.custom_id,
        status=row.status,
        error=error,
        width=row.width,
        height=row.height,
        orientation=row.orientation,
        instances=row.instances,
        lowest_score=round(scores[0], 6) if scores else None,
        highest_score=round(scores[1], 6) if scores else None,
        milliseconds=row.milliseconds,
        saturated_prompts=list(row.saturated_prompts),
        annotations=None,
    )


def job_of(context: Context, job_id: str, caller: ApiKey) -> Job:
    with context.database.begin() as connection:
        return find(connection, job_id, caller)
