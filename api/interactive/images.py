"""From what a request says of an image to the bytes of its file; nobody here decodes them."""

import asyncio
import base64
import binascii
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary

from fastapi.concurrency import run_in_threadpool

from api.interactive.addresses import INVALID, address_fault
from storage.guarded_fetch import FetchFailed, FetchFailure, FetchRefused, GuardedFetcher
from storage.guarded_network import Resolve, resolve_name
from storage.settings import Settings

MALFORMED = "Malformed base64 input image."
EMPTY = "Empty image payload."
UNKNOWN_TYPE = "Image declaration contains not recognised image type."
NUMPY = "NumPy image type is not supported in this configuration of `inference`."
FORBIDDEN_ADDRESS = "URL points to a network destination that is not allowed."
NOT_FETCHED = "Data pointed by URL could not be decoded into image."

_DATA_URI = re.compile(r"data:image/[a-z]+;base64,")
_DECODED_AT_ONCE = 64 * 2**10  # characters; more is decoded in a thread
_FETCH_THREADS = 32
_FETCHES_PER_KEY = 8  # slow hosts of one caller leave threads for others


class ImageRefused(Exception):
    """`cause` is public."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class ImageLoader:
    """Images within the operator's limits. Fetches in threads of its own, so that slow hosts hold
    up nothing but other fetches."""

    def __init__(self, settings: Settings, *, resolve: Resolve = resolve_name) -> None:
        self._schemes = {"https", "http"} if settings.allow_http_images else {"https"}
        self._exempt_hosts = settings.allowed_hosts
        self._max_bytes = settings.max_request_image_bytes
        self._seconds = settings.fetch_seconds
        self._fetcher = GuardedFetcher(
            settings.allowed_hosts,
            timeout_seconds=settings.fetch_seconds,
            schemes=self._schemes,
            resolve=resolve,
        )
        self._threads = ThreadPoolExecutor(_FETCH_THREADS, thread_name_prefix="fetch-image")
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._fetcher.close()

    async def load(self, kind: str, value: Any, *, key_id: str) -> bytes:
        """An image as `{"type": kind, "value": value}` declares it. Raises `ImageRefused`."""
        match kind.lower():
            case "base64":
                return await self._decoded(value)
            case "url":
                return await self._fetched(value, key_id=key_id)
            case "numpy":
                raise ImageRefused(NUMPY)
        raise ImageRefused(UNKNOWN_TYPE)

    async def _decoded(self, value: Any) -> bytes:
        if value is None or value == "":
            raise ImageRefused(EMPTY)
        if not isinstance(value, str):
            raise ImageRefused(MALFORMED)
        if len(value) > 2 * self._max_bytes:  # base64 adds a third, and line breaks little more
            raise self._too_large()
        if len(value) <= _DECODED_AT_ONCE:
            data = _from_base64(value)
        else:
            data = await run_in_threadpool(_from_base64, value)
        return self._checked(data)

    async def _fetched(self, url: Any, *, key_id: str) -> bytes:
        if not isinstance(url, str):
            raise ImageRefused(INVALID)
        fault = address_fault(url, schemes=self._schemes, exempt_hosts=self._exempt_hosts)
        if fault:
            raise ImageRefused(fault)
        return self._checked(await self._in_turn(url, key_id=key_id))

    async def _in_turn(self, url: str, *, key_id: str) -> bytes:
        """The time limit holds for the wait as well. Whoever leaves earlier leaves a thread behind,
        which ends by itself soon after; until then it has its turn."""
        turns = self._turns.setdefault(key_id, asyncio.Semaphore(_FETCHES_PER_KEY))
        until = monotonic() + self._seconds
        try:
            async with asyncio.timeout(self._seconds):
                await turns.acquire()
                fetching = self._threads.submit(self._fetch, url, until=until)
                fetching.add_done_callback(_releasing(turns))
                return await asyncio.wrap_future(fetching)
        except FetchRefused as error:
            raise ImageRefused(FORBIDDEN_ADDRESS) from error
        except FetchFailed as error:
            if error.kind is FetchFailure.TOO_LARGE:
                raise self._too_large() from error
            raise ImageRefused(NOT_FETCHED) from error
        except (TimeoutError, ValueError) as error:
            # ValueError: libraries' word for an address that they cannot take apart
            raise ImageRefused(NOT_FETCHED) from error

    def _fetch(self, url: str, *, until: float) -> bytes:
        seconds = until - monotonic()
        return self._fetcher.get(url, max_bytes=self._max_bytes, timeout_seconds=seconds)

    def _checked(self, data: bytes) -> bytes:
        if len(data) > self._max_bytes:
            raise self._too_large()
        return data

    def _too_large(self) -> ImageRefused:
        return ImageRefused(f"An image may have {self._max_bytes} bytes.")


def _releasing(turns: asyncio.Semaphore) -> Callable[[object], None]:
    """For a thread to call; it may outlast the event loop."""
    loop = asyncio.get_running_loop()

    def release(_: object) -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(turns.release)

    return release


def _from_base64(value: str) -> bytes:
    """Lenient: characters foreign to the alphabet are left out; missing padding is a fault."""
    prefix = _DATA_URI.match(value)
    try:
        data = base64.b64decode(value[prefix.end() :] if prefix else value)
    except (binascii.Error, ValueError) as error:
        raise ImageRefused(MALFORMED) from error
    if not data:
        raise ImageRefused(MALFORMED)
    return data
