import hashlib
import io
import json
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image
from pycocotools.coco import COCO

from domain.prompts import ConceptPrompt
from domain.result_manifest import ResultManifest
from domain.results import iter_images
from maskmill.result_folder import (
    MAX_SHEET_IMAGES,
    DamagedResult,
    ResultFolder,
    write_result_folder,
)
from tests.unit.domain.result_rows import StoredResult, failed, labelled, two_slices

# pycocotools 2.0.11 has not followed numpy 2 here
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def read_image(_image: str) -> bytes | None:
    out = io.BytesIO()
    Image.new("RGB", (60, 40), "navy").save(out, "PNG")
    return out.getvalue()


def write(folder: Path, source: StoredResult, **kwargs: float) -> ResultFolder:
    return write_result_folder(folder, source, read_image=read_image, **kwargs)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_every_file_of_a_result_and_no_other(tmp_path: Path) -> None:
    source = StoredResult(two_slices())
    write(tmp_path / "new" / "out", source)
    expected = {"manifest.json", "annotations.coco.json", "errors.jsonl", "contact-sheet.png"}
    assert files_in(tmp_path / "new" / "out") == expected | set(source.objects)


def test_the_manifest_describes_the_files_beside_it(tmp_path: Path) -> None:
    write(tmp_path, StoredResult(two_slices()))
    manifest = ResultManifest.model_validate_json((tmp_path / "manifest.json").read_text())
    files = [file for part in manifest.parts for file in (part.annotations, part.images)]
    assert len(files) == 4
    for file in files:
        content = (tmp_path / file.key).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file.sha256
        assert len(content) == file.bytes
    counted = sum(
        len(list(iter_images((tmp_path / f.images.key).read_bytes()))) for f in manifest.parts
    )
    assert counted == manifest.totals.images == 4


def test_the_coco_file_holds_the_whole_job_in_image_order(tmp_path: Path) -> None:
    result = write(tmp_path, StoredResult(two_slices()))
    with redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "annotations.coco.json"))
    assert list(coco.imgs) == [1, 2, 4]
    assert [a["score"] for a in coco.anns.values()] == [0.9, 0.85]
    assert [c["name"] for c in coco.cats.values()] == ["red circle", "star"]
    assert coco.dataset["info"]["model"] == "demo-sam3"
    assert result == ResultFolder(tmp_path, images=4, succeeded=3, failed=1, annotations=2)


def test_min_score_chooses_the_instances_of_the_coco_file(tmp_path: Path) -> None:
    assert write(tmp_path, StoredResult(two_slices()), min_score=0.1).annotations == 4


def test_errors_have_a_line_for_each_failed_image(tmp_path: Path) -> None:
    write(tmp_path, StoredResult(two_slices()))
    lines = (tmp_path / "errors.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "image": "bad-2.jpg",
            "custom_id": "own-2",
            "code": "truncated",
            "message": "the file ends early",
        }
    ]


def test_the_contact_sheet_is_a_picture(tmp_path: Path) -> None:
    write(tmp_path, StoredResult(two_slices()))
    with Image.open(tmp_path / "contact-sheet.png") as sheet:
        assert sheet.width > 400


def test_the_contact_sheet_asks_for_a_few_images_from_the_whole_job(tmp_path: Path) -> None:
    rows = [labelled(index, size=(60, 40)) for index in range(100)]
    asked: list[str] = []

    def remember(image: str) -> None:
        asked.append(image)

    write_result_folder(tmp_path, StoredResult([rows[:64], rows[64:]]), read_image=remember)
    assert len(asked) == len(set(asked)) == MAX_SHEET_IMAGES
    numbers = [int(name.removeprefix("scene-").removesuffix(".png")) for name in asked]
    assert {later - earlier for earlier, later in pairwise(numbers)} == {4, 5}


def test_a_job_of_failed_images_only_has_all_files_too(tmp_path: Path) -> None:
    result = write(tmp_path, StoredResult([[failed(0), failed(1)]]))
    assert (result.succeeded, result.failed, result.annotations) == (0, 2, 0)
    assert json.loads((tmp_path / "annotations.coco.json").read_text())["images"] == []
    assert (tmp_path / "contact-sheet.png").is_file()


def test_same_named_files_are_replaced_and_others_left_alone(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("old")
    (tmp_path / "errors.jsonl").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, StoredResult(two_slices()))
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert json.loads((tmp_path / "manifest.json").read_text())["job_id"] == "job_1"
    assert "old" not in (tmp_path / "errors.jsonl").read_text()


def test_parts_of_an_earlier_result_are_removed_and_files_of_the_user_are_not(
    tmp_path: Path,
) -> None:
    write(tmp_path, StoredResult(two_slices()))
    (tmp_path / "parts" / "mine.parquet").touch()
    now = StoredResult(two_slices()[:1])
    write(tmp_path, now)
    parts = {f"parts/{path.name}" for path in (tmp_path / "parts").iterdir()}
    assert parts == {*now.objects, "parts/mine.parquet"}


def test_parts_that_are_here_are_not_fetched_again_and_damaged_ones_are(tmp_path: Path) -> None:
    source = StoredResult(two_slices())
    write(tmp_path, source)
    source.reads.clear()
    damaged = sorted(source.objects)[0]
    (tmp_path / damaged).write_bytes(b"damaged")
    write(tmp_path, source)
    assert source.reads == [damaged]
    assert (tmp_path / damaged).read_bytes() == source.objects[damaged]


def test_a_part_that_is_not_what_the_manifest_says_is_refused(tmp_path: Path) -> None:
    source = StoredResult(two_slices())
    (tmp_path / "manifest.json").write_text("old")
    key = sorted(source.objects)[2]
    source.objects[key] += b"x"
    with pytest.raises(DamagedResult, match=key):
        write(tmp_path, source)
    assert not (tmp_path / key).exists()
    assert (tmp_path / "manifest.json").read_text() == "old"


def test_a_failure_on_the_way_leaves_old_files_and_no_temporary_ones(tmp_path: Path) -> None:
    (tmp_path / "annotations.coco.json").write_text("old")
    unknown = (ConceptPrompt("moon"), ConceptPrompt("sun"))  # not in the manifest's categories
    source = StoredResult(two_slices(unknown))
    with pytest.raises(KeyError, match="moon"):
        write(tmp_path, source, min_score=0.1)
    assert files_in(tmp_path) - set(source.objects) == {"annotations.coco.json"}
    assert (tmp_path / "annotations.coco.json").read_text() == "old"


def test_progress_counts_files_up_to_all_of_them(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_result_folder(
        tmp_path,
        StoredResult(two_slices()),
        read_image=read_image,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
