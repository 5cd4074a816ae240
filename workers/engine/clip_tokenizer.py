"""CLIP's tokenizer out of its list of merges, which the wheel of open_clip_torch carries."""

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

_MERGES = 49_152 - 256 - 2  # of the file's lines after the first; the rest CLIP never used


def bpe_file() -> Path | None:
    """bpe_simple_vocab_16e6.txt.gz of an installed open_clip_torch; its code is not imported."""
    spec = find_spec("open_clip")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    return file if file.is_file() else None


def clip_tokenizer_json(file: Path) -> str:
    """In the `tokenizers` format. The numbers of the tokens are those of OpenAI's CLIP: bytes,
    bytes that end a word, merges in the file's order, start and end."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = lines.read().split("\n")[1 : _MERGES + 1]
    merges = [(left, right) for left, right in (row.split() for row in rows)]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())  # CLIP's order of the 256 bytes
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += [left + right for left, right in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    build: Any = CLIPTokenizer  # takes pairs, whatever its signature says
    tokenizer = build(vocab=vocabulary, merges=merges)
    return str(tokenizer.backend_tokenizer.to_str())
