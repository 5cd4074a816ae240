import hashlib
import io

import pytest

from domain.digests import sha256_of


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1, 3_000_000])
def test_a_file_has_the_digest_of_its_bytes_whatever_their_number(size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert sha256_of(io.BytesIO(content)) == hashlib.sha256(content).hexdigest()


def test_reading_begins_where_the_file_stands_and_ends_at_its_end() -> None:
    file = io.BytesIO(b"head and tail")
    file.seek(5)
    assert sha256_of(file) == hashlib.sha256(b"and tail").hexdigest()
    assert file.tell() == 13


def test_progress_is_noted_while_bytes_go() -> None:
    noted: list[None] = []
    sha256_of(io.BytesIO(bytes(3 * 2**20)), note=lambda: noted.append(None))
    assert len(noted) == 3
