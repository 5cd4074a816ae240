import pytest

from domain.errors import ImageError, ImageErrorCode, InvalidRequest
from storage.guarded_fetch import GuardedFetcher
from storage.sources import Base, Sources, resolve_reference

S3_BASE = Base("s3://bucket/", "data/lists")
UPLOADED = Base("object:datasets/ds_1/")
LINKED = Base("local:", "lists")
FETCHER = GuardedFetcher()


def _sources(*listed: str) -> Sources:
    return Sources(
        allowed_sources=listed,
        allowed_outputs=[f"{uri.rstrip('/')}/out" for uri in listed],
        fetcher=FETCHER,
        max_image_bytes=1,
    )


@pytest.mark.parametrize("listed", ["s3://b/data", "s3://b/data/"])
@pytest.mark.parametrize("uri", ["s3://b/data", "s3://b/data/", "s3://b/data/x/y?z#.png"])
def test_a_listed_prefix_allows_itself_and_what_lies_in_it(listed: str, uri: str) -> None:
    _sources("s3://other", listed).check_source(uri)


@pytest.mark.parametrize("uri", ["s3://b", "s3://b/", "s3://b/any/key"])
def test_a_listed_bucket_allows_all_of_it(uri: str) -> None:
    _sources("s3://b").check_source(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://b/database",
        "s3://b/dat",
        "s3://b",
        "s3://b2/data/x",
        "s3://B/data/x",
        "s3://b/data/../secret",
        "s3://b/data/./x",
        "s3://b/data/..",
        "s3://b//data/x",
        "s3:///data/x",
        "s3:b/data/x",
        "s3://user@b/data/x",
        "s3://b%2fdata/x",
        "https://b/data/x",
        "file:///b/data/x",
        "object:data/x",
        "/b/data/x",
        "",
    ],
)
def test_what_is_outside_a_listed_prefix_is_refused(uri: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        _sources("s3://b/data").check_source(uri)
    assert refusal.value.code == "source_not_allowed"


def test_an_empty_list_allows_nothing() -> None:
    with pytest.raises(InvalidRequest):
        _sources().check_source("s3://b/data")


@pytest.mark.parametrize("entry", ["bucket/data", "s3:/b", "https://b/data", ""])
def test_an_entry_that_is_no_s3_address_is_an_error_at_the_start(entry: str) -> None:
    with pytest.raises(ValueError, match="not an s3://bucket/key address"):
        _sources(entry)


def test_outputs_have_a_list_of_their_own() -> None:
    sources = _sources("s3://b/data")
    sources.check_output("s3://b/data/out/job")
    with pytest.raises(InvalidRequest) as refusal:
        sources.check_output("s3://b/data/job")
    assert refusal.value.code == "output_not_allowed"


@pytest.mark.parametrize(
    ("reference", "base", "uri"),
    [
        ("a.jpg", S3_BASE, "s3://bucket/data/lists/a.jpg"),
        ("./a b#1.jpg", S3_BASE, "s3://bucket/data/lists/a b#1.jpg"),
        ("../images/a.jpg", S3_BASE, "s3://bucket/data/images/a.jpg"),
        ("a.jpg", Base("s3://bucket/"), "s3://bucket/a.jpg"),
        ("x/../y/a.jpg", UPLOADED, "object:datasets/ds_1/y/a.jpg"),
        ("../a.jpg", LINKED, "local:a.jpg"),
        ("./12:30.jpg", LINKED, "local:lists/12:30.jpg"),
        ("./local:a.jpg", UPLOADED, "object:datasets/ds_1/local:a.jpg"),
        ("2026-01-01T10:00.jpg", UPLOADED, "object:datasets/ds_1/2026-01-01T10:00.jpg"),
        ("s3://elsewhere/k/../a?b#c.jpg", UPLOADED, "s3://elsewhere/k/../a?b#c.jpg"),
        ("HTTPS://example.org/a.jpg", LINKED, "https://example.org/a.jpg"),
    ],
)
def test_references_start_at_the_folder_of_their_manifest(
    reference: str, base: Base, uri: str
) -> None:
    assert resolve_reference(reference, base=base) == uri


@pytest.mark.parametrize("base", [UPLOADED, Base("local:"), Base("s3://bucket/", "a")])
@pytest.mark.parametrize(
    "reference",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        "object:datasets/ds_2/a.jpg",
        "Object:datasets/ds_2/a.jpg",
        "local:../../etc/passwd",
        "gopher://x/",
        "data:image/png;base64,AAAA",
        "C:\\images\\a.jpg",
        "../../a.jpg",
        "x/../../../a.jpg",
        "../..",
        "a\0.jpg",
    ],
)
def test_references_to_what_is_not_the_users_are_forbidden(reference: str, base: Base) -> None:
    with pytest.raises(ImageError) as refusal:
        resolve_reference(reference, base=base)
    assert refusal.value.code is ImageErrorCode.FORBIDDEN
