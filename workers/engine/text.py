"""Stage 2, once per text and job: the text encoder, behind a bounded cache."""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

MAX_CACHED_TEXTS = 256  # what a job may have; 32 tokens x 256 x 4 bytes each at most: 8 MiB


class TextEncoder:
    """Features of a text, L x C for its L tokens (start and end included), no padding.

    transformers pads to 32 tokens and masks the padding. The encoder is causal and whatever
    reads its output skips the padding, so leaving it out changes no result. What is longer is
    cut, as by Meta's tokenizer (a job's texts are checked long before).
    """

    def __init__(self, encoder: Any, projection: Any, tokenizer_json: str) -> None:
        self._encoder, self._projection = encoder, projection
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._limit: int = encoder.config.max_position_embeddings
        self._cache: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = Lock()  # lanes may share a network between threads

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        with self._lock:
            found = {text: self._cache[text] for text in texts if text in self._cache}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            found.update(zip(missing, self._compute(missing), strict=True))
        with self._lock:
            self._remember(found)
        return [found[text] for text in texts]

    def _remember(self, found: dict[str, Tensor]) -> None:
        for text, features in found.items():
            self._cache[text] = features
            self._cache.move_to_end(text)
        while len(self._cache) > MAX_CACHED_TEXTS:
            self._cache.popitem(last=False)

    def _compute(self, texts: Sequence[str]) -> list[Tensor]:
        ids = [self._tokens(text) for text in texts]
        longest = max(map(len, ids))
        padded = torch.tensor([tokens + tokens[-1:] * (longest - len(tokens)) for tokens in ids])
        hidden = self._encoder(padded.to(self._encoder.device)).last_hidden_state
        features = self._projection(hidden)
        # Cloned: a slice would keep the whole batch alive for as long as one text is cached.
        return [row[: len(tokens)].clone() for row, tokens in zip(features, ids, strict=True)]

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text).ids
        return tokens if len(tokens) <= self._limit else [*tokens[: self._limit - 1], tokens[-1]]
