"""What happens when: a pure function of the seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    KILL = "kill"  # SIGKILL, as an OOM kill is
    TERM = "term"  # SIGTERM, as a deploy or a spot notice
    FREEZE = "freeze"  # SIGSTOP for longer than a lease, then SIGCONT: a stale runner comes back
    FLUSH_BROKER = "flush broker"
    CUT_DATABASE = "cut database"  # every connection, as a failover does
    STORE = "store"  # the object store misbehaves for a while


WORKERS = ("bulk", "bulk2")
OTHERS = ("dispatcher", "planner", "api", "valkey", "postgres")
STORE_FAULTS = ("slow down", "internal error", "reset", "truncate", "stall", "trickle")

# How often each comes, in relation to the others.
_WEIGHTS = {
    Fault.KILL: 6,
    Fault.TERM: 3,
    Fault.FREEZE: 2,
    Fault.FLUSH_BROKER: 2,
    Fault.CUT_DATABASE: 2,
    Fault.STORE: 5,
}
FIRST_SECONDS = 3.0
MEAN_PAUSE_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Strike:
    """`at_seconds` after the first results; `lasting_seconds` for what ends by itself."""

    at_seconds: float
    fault: Fault
    target: str = ""
    lasting_seconds: float = 0.0

    def __str__(self) -> str:
        lasting = f" for {self.lasting_seconds:.1f} s" if self.lasting_seconds else ""
        return f"{self.at_seconds:7.1f} s  {self.fault} {self.target}".rstrip() + lasting


def strikes(seed: int, *, seconds: float) -> Sequence[Strike]:
    """All strikes of a run, in order, with exponential pauses between them."""
    chance = random.Random(seed)
    found = []
    at_seconds = FIRST_SECONDS
    while at_seconds < seconds:
        found.append(_strike(chance, at_seconds))
        at_seconds += 1 + chance.expovariate(1 / (MEAN_PAUSE_SECONDS - 1))
    return found


def _strike(chance: random.Random, at_seconds: float) -> Strike:
    fault = chance.choices(list(_WEIGHTS), weights=list(_WEIGHTS.values()))[0]
    match fault:
        case Fault.KILL:
            return Strike(at_seconds, fault, chance.choice(WORKERS * 2 + OTHERS))
        case Fault.TERM:
            return Strike(at_seconds, fault, chance.choice(WORKERS))
        case Fault.FREEZE:
            return Strike(at_seconds, fault, chance.choice(WORKERS), chance.uniform(6, 12))
        case Fault.STORE:
            return Strike(at_seconds, fault, chance.choice(STORE_FAULTS), chance.uniform(2, 8))
        case _:
            return Strike(at_seconds, fault)
