"""Says every few seconds that this process lives, what it has loaded, and the memory it takes."""

import sys
import threading

import structlog
from sqlalchemy.exc import SQLAlchemyError

from domain.version import code_version
from storage.presence import BEAT_SECONDS, Presence, Role, say_gone, say_present
from workers.memory import memory
from workers.runtime import Runtime

log = structlog.get_logger()


class PresenceBeat:
    """A database that does not answer is asked again at the next beat."""

    def __init__(self, runtime: Runtime, role: Role) -> None:
        self._runtime = runtime
        self._role = role
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """After this it is not listed any more. One that dies without a word is, for a while."""
        self._ending.set()
        self._thread.join(timeout=BEAT_SECONDS)
        try:
            with self._runtime.database.begin() as connection:
                say_gone(connection, self._runtime.owner)
        except SQLAlchemyError as error:
            log.info("presence.not_ended", error=type(error).__name__)

    def _run(self) -> None:
        """What an earlier process of the same name has said is forgotten first."""
        is_first = True
        while True:
            try:
                self.beat(is_first=is_first)
                is_first = False
            except SQLAlchemyError as error:
                log.info("presence.not_said", error=type(error).__name__)
            except Exception:  # a worker that is not listed is still of use
                log.exception("presence.failed")
            if self._ending.wait(BEAT_SECONDS):
                return

    def beat(self, *, is_first: bool) -> None:
        now = self._now()
        with self._runtime.database.begin() as connection:
            if is_first:
                say_gone(connection, now.name)
            say_present(connection, now)

    def _now(self) -> Presence:
        runtime = self._runtime
        loaded = runtime.engines.loaded
        return Presence(
            name=runtime.owner,
            role=self._role,
            version=code_version(),
            serves=self._serves(),
            loaded=tuple(model for model, _ in loaded),
            device=_named(loaded[0][1]) if loaded else None,
            memory=memory(),
        )

    def _serves(self) -> tuple[str, ...]:
        models = tuple(self._runtime.settings.models)
        return {"bulk": models, "interactive": models[:1], "planner": ()}[self._role]


def _named(device: str) -> str:
    """cuda:0 NVIDIA H200"""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return device
    return f"{device} {torch.cuda.get_device_name(device)}"
