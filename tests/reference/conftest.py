"""Tests that need Meta's package sam3: where it is not installed there is nothing to collect."""

import warnings
from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("sam3") else ["test_*.py"]

if find_spec("sam3"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sam3 warns, on import, of a machine without CUDA
        import sam3.model_builder
        import sam3.train.data.collator  # noqa: F401
