import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.documents import ManifestLine
from domain.errors import InvalidRequest
from storage.manifests import MAX_LINE_BYTES, ManifestKind, manifest_kind, read_manifest


def _read(folder: Path, content: bytes | str, kind: ManifestKind) -> list[tuple[int, ManifestLine]]:
    path = folder / "manifest"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_manifest(path, kind=kind))


def _refusal(folder: Path, content: bytes | str, kind: ManifestKind) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        _read(folder, content, kind)
    assert caught.value.code == "manifest_invalid"
    assert len(caught.value.message) <= 200
    return caught.value


def _images(lines: list[tuple[int, ManifestLine]]) -> list[tuple[int, str]]:
    return [(number, line.image) for number, line in lines]


def _parquet(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", ManifestKind.JSONL),
        ("s3://b/a.NDJSON", ManifestKind.JSONL),
        ("a.b.csv", ManifestKind.CSV),
        ("a.parquet", ManifestKind.PARQUET),
        ("a.txt", ManifestKind.TEXT),
    ],
)
def test_the_kind_follows_from_the_name(name: str, kind: ManifestKind) -> None:
    assert manifest_kind(name) is kind


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=r"\.jsonl, .*\.txt"):
        manifest_kind("images.xlsx")


def test_jsonl_carries_custom_ids_and_prompts(tmp_path: Path) -> None:
    line = {
        "uri": "a.jpg",
        "custom_id": "7",
        "prompts": [{"text": "star"}, {"box": {"x": 1, "y": 2, "width": 3, "height": 4}}],
    }
    [(number, read)] = _read(tmp_path, json.dumps(line), ManifestKind.JSONL)
    assert (number, read.image, read.custom_id) == (1, "a.jpg", "7")
    assert [prompt.to_prompt().category for prompt in read.prompts] == ["star", "object"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_blank_lines_byte_order_marks_and_crlf_are_tolerated(
    tmp_path: Path, end: str, bom: str
) -> None:
    jsonl = bom + end.join(['{"image": "a"}', "", "  ", '{"image": "b"}'])
    assert _images(_read(tmp_path, jsonl, ManifestKind.JSONL)) == [(1, "a"), (4, "b")]
    text = bom + end.join(["s3://b/a b.jpg", "", " c.jpg ", ""])
    expected = [(1, "s3://b/a b.jpg"), (3, "c.jpg")]
    assert _images(_read(tmp_path, text, ManifestKind.TEXT)) == expected
    table = bom + end.join(["url,custom_id", "a,1", "", "b,"])
    lines = _read(tmp_path, table, ManifestKind.CSV)
    assert _images(lines) == [(2, "a"), (4, "b")]
    assert [line.custom_id for _, line in lines] == ["1", None]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image": "b"', "Invalid JSON: EOF while parsing an object at column 13"),
        ('"b"', "Input should be an object"),
        ("{}", "image: Field required"),
        ('{"image": 3}', "image: Input should be a valid string"),
        ('{"image": ""}', "image: String should have at least 1 character"),
        ('{"image": "b", "prompt": []}', "prompt: unknown field"),
        (
            '{"image": "b", "prompts": [{}]}',
            "prompts.0: a prompt needs text or at least one box",
        ),
        (
            '{"image": "b", "prompts": [{"text": "x", "threshold": 2}]}',
            "prompts.0.threshold: Input should be less than or equal to 1",
        ),
        ("[" * 10_000, "Invalid JSON: recursion limit exceeded at column 202"),
    ],
)
def test_a_broken_jsonl_line_is_reported_with_number_and_reason(
    tmp_path: Path, line: str, message: str
) -> None:
    refusal = _refusal(
        tmp_path, f'{{"image": "a"}}\n\n{line}\n{{"image": "c"}}', ManifestKind.JSONL
    )
    assert (refusal.line, refusal.message) == (3, message)


def test_the_lines_before_a_broken_one_are_read(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"image": "a"}\nnot json')
    lines = read_manifest(path, kind=ManifestKind.JSONL)
    assert next(lines)[1].image == "a"
    with pytest.raises(InvalidRequest):
        next(lines)


@pytest.mark.parametrize("kind", [ManifestKind.JSONL, ManifestKind.TEXT, ManifestKind.CSV])
def test_bytes_that_are_not_utf8_are_reported_with_their_line(
    tmp_path: Path, kind: ManifestKind
) -> None:
    first = {
        ManifestKind.JSONL: b'{"image": "a"}',
        ManifestKind.TEXT: b"a",
        ManifestKind.CSV: b"image",
    }[kind]
    refusal = _refusal(tmp_path, first + b"\nab\xe9\n", kind)
    assert (refusal.line, refusal.message) == (2, "not UTF-8 at byte 3 of the line")


def test_utf16_is_refused(tmp_path: Path) -> None:
    assert _refusal(tmp_path, "a.jpg\n".encode("utf-16"), ManifestKind.TEXT).line == 1


@pytest.mark.parametrize("kind", [ManifestKind.JSONL, ManifestKind.TEXT, ManifestKind.CSV])
def test_an_endless_line_is_refused_without_being_read(tmp_path: Path, kind: ManifestKind) -> None:
    path = tmp_path / "m"
    with path.open("wb") as file:
        file.truncate(4 * 2**30)  # sparse: 4 GiB of NUL
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InvalidRequest, match=f"longer than {MAX_LINE_BYTES} bytes"):
        next(read_manifest(path, kind=kind))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 2**10 * (2**10 if sys.platform == "darwin" else 1)


def test_a_long_unknown_field_is_not_echoed_in_full(tmp_path: Path) -> None:
    line = json.dumps({"image": "a", "x" * 10_000: 1})
    assert _refusal(tmp_path, line, ManifestKind.JSONL).message.endswith("...: unknown field")


def test_csv_from_other_tools_may_have_further_columns(tmp_path: Path) -> None:
    table = 'width, url,note,custom_id\n10,https://x/a.jpg,"two\nlines, quoted",7\n20,b.jpg,,\n'
    lines = _read(tmp_path, table, ManifestKind.CSV)
    assert _images(lines) == [(2, "https://x/a.jpg"), (4, "b.jpg")]
    assert [line.custom_id for _, line in lines] == ["7", None]


@pytest.mark.parametrize(
    ("table", "line", "message"),
    [
        ("", 1, "no column image or uri or url or file_name; found: none"),
        ("image;id\na;1", 1, "no column image or uri or url or file_name; found: image;id"),
        ("image,prompts\na,x", 1, "CSV cannot carry prompts; use JSONL or Parquet"),
        ("image,custom_id\na,1\n\nb", 4, "1 cells, but the header has 2"),
        ("image,custom_id\na,1,2", 2, "3 cells, but the header has 2"),
        ("image,custom_id\n,2", 2, "image: String should have at least 1 character"),
        ('image\na\n"b', 3, "unexpected end of data"),
        ('image\n"' + "b\n" * 100_000, 2, "field larger than field limit (131072)"),
    ],
)
def test_a_broken_csv_is_reported_with_the_line_where_the_row_starts(
    tmp_path: Path, table: str, line: int, message: str
) -> None:
    refusal = _refusal(tmp_path, table, ManifestKind.CSV)
    assert (refusal.line, refusal.message) == (line, message)


def test_parquet_prompts_may_be_structs(tmp_path: Path) -> None:
    prompts = [
        [{"text": "star", "threshold": None}, {"text": None, "threshold": 0.5, "boxes": [BOX]}],
        None,
    ]
    path = _parquet(
        tmp_path / "m.parquet",
        {"file_name": ["a", "b"], "custom_id": ["1", None], "prompts": prompts, "width": [1, 2]},
    )
    (_, first), (number, second) = read_manifest(path, kind=ManifestKind.PARQUET)
    assert [prompt.text for prompt in first.prompts] == ["star", None]
    assert first.prompts[1].boxes[0].x1 == 4
    assert (number, second.image, second.custom_id, second.prompts) == (2, "b", None, [])


def test_parquet_prompts_may_be_json_text(tmp_path: Path) -> None:
    path = _parquet(
        tmp_path / "m.parquet", {"image": ["a"], "prompts": [json.dumps([{"text": "star"}])]}
    )
    [(_, line)] = read_manifest(path, kind=ManifestKind.PARQUET)
    assert line.prompts[0].text == "star"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": ["a", None]}, "image: Field required"),
        ({"image": ["a", ""]}, "image: String should have at least 1 character"),
        (
            {"image": ["a", "b"], "prompts": ["[]", "[{]"]},
            "prompts: key must be a string at line 1 column 3",
        ),
        (
            {"image": ["a", "b"], "prompts": ["[]", "[" * 10_000]},
            "prompts: recursion limit exceeded at line 1 column 202",
        ),
    ],
)
def test_a_broken_parquet_row_is_reported_with_its_number(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    path = _parquet(tmp_path / "m.parquet", columns)
    with pytest.raises(InvalidRequest) as caught:
        list(read_manifest(path, kind=ManifestKind.PARQUET))
    assert (caught.value.line, caught.value.message) == (2, message)


def test_a_parquet_file_without_an_image_column_says_what_it_has(tmp_path: Path) -> None:
    path = _parquet(tmp_path / "m.parquet", {"path": ["a"]})
    with pytest.raises(InvalidRequest, match="found: path"):
        list(read_manifest(path, kind=ManifestKind.PARQUET))


def test_what_is_no_parquet_file_is_refused_without_naming_our_paths(tmp_path: Path) -> None:
    for content in (b"", b"not parquet at all", b"PAR1" + bytes(100) + b"PAR1"):
        refusal = _refusal(tmp_path, content, ManifestKind.PARQUET)
        assert refusal.message.startswith("not a readable Parquet file")
        assert str(tmp_path) not in refusal.message


def test_a_truncated_parquet_page_is_refused(tmp_path: Path) -> None:
    path = _parquet(tmp_path / "m.parquet", {"image": [f"{i}.jpg" for i in range(5000)]})
    data = bytearray(path.read_bytes())
    data[20:2000] = bytes(1980)
    refusal = _refusal(tmp_path, bytes(data), ManifestKind.PARQUET)
    assert refusal.message.startswith("not a readable Parquet file")


BOX = {"x0": 1.0, "y0": 2.0, "x1": 4.0, "y1": 5.0}


def _repeated(value: str | bytes, count: int) -> "pa.DictionaryArray[Any, Any]":
    """One long value in many rows: once in the file, `count` times in Python."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([value]))


def _peak_growth_bytes(read: Callable[[], object]) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (after - before) * (1 if sys.platform == "darwin" else 1024)


def test_a_long_value_of_many_parquet_rows_does_not_unfold(tmp_path: Path) -> None:
    table = pa.table({"image": _repeated("x" * 2**20, 20_000)})
    path = tmp_path / "bomb"
    pq.write_table(table, path, store_schema=False)
    assert path.stat().st_size < 2**20

    def read() -> None:
        with pytest.raises(InvalidRequest, match="rows 1 to 1024: over 134217728 bytes"):
            next(read_manifest(path, kind=ManifestKind.PARQUET))

    assert _peak_growth_bytes(read) < 200 * 2**20


def test_a_long_text_of_many_prompts_does_not_unfold(tmp_path: Path) -> None:
    texts = pa.StructArray.from_arrays([_repeated("x" * 2**20, 3000)], names=["text"])
    prompts = pa.ListArray.from_arrays(pa.array([0, 3000], pa.int32()), texts)
    path = tmp_path / "bomb"
    pq.write_table(pa.table({"image": ["a"], "prompts": prompts}), path, store_schema=False)

    def read() -> None:
        with pytest.raises(InvalidRequest, match="rows 1 to 1: over"):
            next(read_manifest(path, kind=ManifestKind.PARQUET))

    assert _peak_growth_bytes(read) < 200 * 2**20


def test_a_row_group_that_declares_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.manifests._MAX_ROW_GROUP_BYTES", 1000)
    large = _parquet(tmp_path / "large", {"image": [f"{n}.jpg" for n in range(200)]})
    with pytest.raises(InvalidRequest, match="a row group of over"):
        list(read_manifest(large, kind=ManifestKind.PARQUET))
    other = _parquet(tmp_path / "other", {"image": ["a"], "bytes": [b"x" * 5000]})
    assert len(list(read_manifest(other, kind=ManifestKind.PARQUET))) == 1


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]
)
def test_parquet_texts_of_every_kind_are_read(tmp_path: Path, kind: pa.DataType) -> None:
    images = [f"{number % 7}.jpg" for number in range(3000)]
    columns = {"image": pa.array(images).cast(kind), "custom_id": pa.array([None, "b"] * 1500)}
    lines = list(read_manifest(_parquet(tmp_path / "m", columns), kind=ManifestKind.PARQUET))
    assert [line.image for _, line in lines] == images
    assert [number for number, _ in lines] == list(range(1, 3001))
    assert lines[1][1].custom_id == "b"


def test_parquet_text_that_is_not_utf8_is_reported_with_its_row(tmp_path: Path) -> None:
    offsets = pa.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0")
    text = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"a\xff\xfe"))
    path = _parquet(tmp_path / "m", {"image": text})
    with pytest.raises(InvalidRequest, match="utf-8") as caught:
        list(read_manifest(path, kind=ManifestKind.PARQUET))
    assert caught.value.line == 2


def test_fixed_length_bytes_of_any_length_are_no_text(tmp_path: Path) -> None:
    column = pa.array([b"x" * 1000], pa.binary(1000))
    with pytest.raises(InvalidRequest, match="fixed-length"):
        list(read_manifest(_parquet(tmp_path / "m", {"image": column}), kind=ManifestKind.PARQUET))


def test_names_from_the_file_cannot_steer_a_terminal_or_break_the_database(tmp_path: Path) -> None:
    line = {"image": "a", "x\n\x1b[2J\0\u202e": 1}
    message = _refusal(tmp_path, json.dumps(line), ManifestKind.JSONL).message
    assert message == r"x\n\x1b[2J\x00\u202e: unknown field"
    header = "\x1b]0;x\x07,b\n1,2\n"
    assert _refusal(tmp_path, header, ManifestKind.CSV).message.isprintable()


_JSONL_PIECES = st.sampled_from(
    [b'{"image": "a', b'"}', b'", "custom_id": "', b"\\u00e9", b"\\ud800", b"\\u0000", b"\xe9",
     "\u00e9\u2028".encode(), b"\xed\xa0\x80", b"\xf8", b" ", "\u3000".encode(), b"\x1c", b"\t",
     b"\0", b"\xef\xbb\xbf", b"NaN", b'{"image": "a"}', b'{"url": "b"}'],
)  # fmt: skip


@given(st.lists(_JSONL_PIECES, max_size=5).map(b"".join))
def test_a_jsonl_line_is_read_as_its_text_is(
    tmp_path_factory: pytest.TempPathFactory, line: bytes
) -> None:
    """However it is looked at: the reader takes the bytes where they are good."""
    path = tmp_path_factory.getbasetemp() / "one-line.jsonl"
    path.write_bytes(b'{"image": "first"}\n' + line + b"\n")
    try:
        text = line.decode().strip()
        expected = [(2, ManifestLine.model_validate_json(text))] if text else []
    except (UnicodeDecodeError, ValidationError):
        with pytest.raises(InvalidRequest) as caught:
            list(read_manifest(path, kind=ManifestKind.JSONL))
        assert caught.value.line == 2
    else:
        assert list(read_manifest(path, kind=ManifestKind.JSONL))[1:] == expected
