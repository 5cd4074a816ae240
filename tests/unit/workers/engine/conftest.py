import pytest

from workers.engine import load_engine
from workers.engine.network import Network


@pytest.fixture(scope="session")
def network() -> Network:
    # One thread: test processes run side by side, and more threads would fight for the cores.
    return load_engine("demo-sam3", device="cpu", threads=1)
