from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch

from domain.errors import ImageError, ImageErrorCode
from workers.engine.embeddings import Embeddings, SeenImage
from workers.engine.engine import Embedding

BYTES = 100  # of each embedding


def seen(digest: str) -> SeenImage:
    return SeenImage(digest, "", 8, 8, Embedding(torch.zeros(BYTES, dtype=torch.uint8)))


def making(digest: str) -> Callable[[], SeenImage]:
    return lambda: seen(digest)


def fail() -> SeenImage:
    raise ImageError(ImageErrorCode.TRUNCATED, "cut")


def embeddings_for(near: int, far: int = 0) -> Embeddings:
    """Room for so many."""
    cpu = torch.device("cpu")
    return Embeddings(cpu, device_bytes=near * BYTES, host_bytes=far * BYTES + BYTES // 2)


def kept(embeddings: Embeddings) -> tuple[str, str]:
    """On the device and on the host, least recently used first."""
    near, far = (
        "".join(digest for _, digest in shelf._images)
        for shelf in (embeddings._near, embeddings._far)
    )
    return near, far


def test_what_was_made_is_recalled_without_making_it_again() -> None:
    embeddings = embeddings_for(2)
    assert embeddings.recall("alice", "a") is None
    first = embeddings.find("alice", "a", making("a"))
    assert embeddings.find("alice", "a", fail) is first
    assert embeddings.recall("alice", "a") is first
    assert (embeddings.hits, embeddings.misses) == (2, 1)


def test_an_embedding_is_its_owners_alone() -> None:
    embeddings = embeddings_for(3)
    hers = embeddings.find("alice", "a", making("a"))
    assert embeddings.recall("bob", "a") is None
    assert embeddings.find("bob", "a", making("a")) is not hers
    embeddings.forget("alice")
    assert embeddings.recall("alice", "a") is None
    assert embeddings.recall("bob", "a") is not None


def test_the_least_recently_used_spill_to_the_host_and_then_are_dropped() -> None:
    embeddings = embeddings_for(2, 2)
    for digest in "abcd":
        embeddings.find("alice", digest, making(digest))
    assert kept(embeddings) == ("cd", "ab")
    assert embeddings.recall("alice", "a") is not None  # comes back, and c makes room
    assert kept(embeddings) == ("da", "bc")
    embeddings.find("alice", "e", making("e"))
    assert kept(embeddings) == ("ae", "cd")
    assert embeddings.recall("alice", "b") is None
    assert embeddings._near.byte_count == embeddings._far.byte_count == 2 * BYTES


def test_forgetting_reaches_the_host_too_and_gives_the_room_back() -> None:
    embeddings = embeddings_for(1, 2)
    for digest in "abc":
        embeddings.find("alice", digest, making(digest))
    embeddings.find("bob", "d", making("d"))
    embeddings.forget("alice")
    assert kept(embeddings) == ("d", "")
    assert embeddings._far.byte_count == 0


def test_one_too_large_for_any_room_is_used_and_not_kept() -> None:
    embeddings = embeddings_for(0)
    assert embeddings.find("alice", "a", making("a")).digest == "a"
    assert kept(embeddings) == ("", "")


def test_threads_that_ask_for_the_same_image_have_it_made_once() -> None:
    embeddings = embeddings_for(2)
    begun, go = Event(), Event()

    def make() -> SeenImage:
        begun.set()
        go.wait()
        return seen("a")

    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(embeddings.find, "alice", "a", make)
        begun.wait()
        others = [threads.submit(embeddings.find, "alice", "a", fail) for _ in range(3)]
        while embeddings.hits < 3:
            pass
        go.set()
        assert {one.result() for one in others} == {first.result()}
    assert embeddings.misses == 1


def test_what_failed_is_said_to_all_who_wait_and_tried_again_by_the_next() -> None:
    embeddings = embeddings_for(2)
    begun, go = Event(), Event()

    def make() -> SeenImage:
        begun.set()
        go.wait()
        return fail()

    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(embeddings.find, "alice", "a", make)]
        begun.wait()
        asked.append(threads.submit(embeddings.find, "alice", "a", making("a")))
        while embeddings.hits < 1:
            pass
        go.set()
        for one in asked:
            with pytest.raises(ImageError, match="cut"):
                one.result()
    assert embeddings.find("alice", "a", making("a")).digest == "a"


def test_one_who_has_no_time_left_leaves_the_making_to_the_next_who_waits() -> None:
    embeddings = embeddings_for(2)
    begun, go = Event(), Event()

    def make() -> SeenImage:
        begun.set()
        go.wait()
        raise TimeoutError

    with ThreadPoolExecutor(2) as threads:
        late = threads.submit(embeddings.find, "alice", "a", make)
        begun.wait()
        waiting = threads.submit(embeddings.find, "alice", "a", making("a"))
        while embeddings.hits < 1:
            pass
        go.set()
        with pytest.raises(TimeoutError):
            late.result()
        assert waiting.result().digest == "a"


def test_who_waits_has_the_image_even_if_it_cannot_be_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embeddings = embeddings_for(2)
    begun, go = Event(), Event()

    def make() -> SeenImage:
        begun.set()
        go.wait(10)
        return seen("a")

    def no_room(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(embeddings, "_keep", no_room)
    with ThreadPoolExecutor(2) as threads:
        maker = threads.submit(embeddings.find, "alice", "a", make)
        begun.wait(10)
        waiter = threads.submit(embeddings.find, "alice", "a", fail)
        while embeddings.hits == 0:
            pass
        go.set()
        assert waiter.result(timeout=10).digest == "a"
        with pytest.raises(MemoryError):
            maker.result()
