"""The interactive lane's way through the broker: requests, their answers, and what is kept."""

from storage.lane.errors import LaneError, LaneFull, LaneSilent
from storage.lane.front import Answer, FrontLane
from storage.lane.shelf import Kept, Shelf
from storage.lane.worker import MAX_REPLY_BYTES, Taken, WorkerLane

__all__ = [
    "MAX_REPLY_BYTES",
    "Answer",
    "FrontLane",
    "Kept",
    "LaneError",
    "LaneFull",
    "LaneSilent",
    "Shelf",
    "Taken",
    "WorkerLane",
]
