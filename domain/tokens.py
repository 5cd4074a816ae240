"""Counts the tokens of a prompt as the network's text encoder will see it, without torch."""

from tokenizers import Tokenizer

from domain.prompts import TokenCounter


def token_counter(tokenizer_json: str) -> TokenCounter:
    """`tokenizer_json` is what a worker publishes: a tokenizer in the `tokenizers` format.

    The count has the start and end tokens, and no padding or truncation.
    """
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return lambda text: len(tokenizer.encode(text).ids)
