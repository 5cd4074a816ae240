"""CLIP's tokenizer as we put it together against the one in Meta's package."""

from types import SimpleNamespace

import pytest
from sam3.model.tokenizer_ve import SimpleTokenizer
from tokenizers import Tokenizer

from workers.engine.clip_tokenizer import bpe_file, clip_tokenizer_json
from workers.engine.text import TextEncoder

TEXTS = [
    "hard hat",
    "A Red-Circle!",
    "the person's left hand, 2nd from right",
    "naïve café déjà vu",
    "Straße 東京 птица",
    "  two   spaces\tand a tab ",
    "it's we've I'm they'll x_y 3.14 $5 (a) #tag @you",
    "kids' toys & more",
    "visual",
]


@pytest.mark.parametrize("text", TEXTS)
def test_the_numbers_of_the_tokens_are_metas(text: str) -> None:
    vocabulary = bpe_file()
    assert vocabulary is not None
    ours = Tokenizer.from_str(clip_tokenizer_json(vocabulary)).encode(text).ids
    theirs = SimpleTokenizer(bpe_path=str(vocabulary))([text], context_length=77)[0].tolist()
    assert ours == theirs[: len(ours)]
    assert not any(theirs[len(ours) :])


@pytest.mark.parametrize("words", [29, 30, 31, 90])
def test_what_is_longer_than_the_network_reads_is_cut_as_by_meta(words: int) -> None:
    vocabulary = bpe_file()
    assert vocabulary is not None
    text = "red " * words
    network = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=32))
    ours = TextEncoder(network, None, clip_tokenizer_json(vocabulary))._tokens(text)
    theirs = SimpleTokenizer(bpe_path=str(vocabulary))([text], context_length=32)[0].tolist()
    assert ours == theirs[: len(ours)]
    assert not any(theirs[len(ours) :])
