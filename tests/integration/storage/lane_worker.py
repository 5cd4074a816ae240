"""`python -m tests.integration.storage.lane_worker BROKER_URL`: takes one request, and keeps it.

It says `taken` and goes on beating until it is killed.
"""

import sys
import time

from storage.lane import keys
from tests.integration.storage.lanes import Hands, lane_settings


def main() -> None:
    hands = Hands(lane_settings(sys.argv[1]), name="doomed")
    hands.lane.beat()
    taken = hands.lane.take(hands.hear(seconds=30))
    sys.stdout.write("taken\n" if taken else "nothing\n")
    sys.stdout.flush()
    while True:
        hands.lane.beat()
        time.sleep(keys.BEAT_SECONDS)


if __name__ == "__main__":
    main()
