from importlib.util import find_spec

import pytest
import torch

from workers.doctor import Serving, checks

needs_nothing = bool(find_spec("sam3")) and torch.cuda.is_available()


def test_it_names_engine_device_and_precision_of_each_model() -> None:
    first, *_ = checks(Serving(device="cpu"))
    assert first.check == "model demo-sam3"
    assert first.ok
    assert "staged engine on cpu, float32" in first.detail


def test_a_model_without_a_network_is_not_looked_for() -> None:
    first, second, _ = checks(Serving(models=["null", "null:20ms"], device="cpu"))
    assert (first.check, first.ok, second.check, second.ok) == (
        "model null",
        True,
        "model null:20ms",
        True,
    )


@pytest.mark.skipif(needs_nothing, reason="the reference engine runs here")
def test_it_says_what_the_reference_engine_lacks() -> None:
    first, *_ = checks(Serving(engine="reference"))
    assert not first.ok
    assert first.detail.startswith("the reference engine needs ")
