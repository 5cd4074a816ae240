"""The interactive lane's way through the broker: requests, their answers, and what is kept."""

from storage.lane.front import Answer, FrontLane, LaneError, LaneFull, LaneSilent
from storage.lane.shelf import Kept, Shelf
from storage.lane.worker import Taken, WorkerLane

__all__ = [
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
