"""What lies before a job, and how fast work goes: when it may end."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from domain.pace import Stretch, images_per_second


@dataclass(frozen=True, slots=True)
class Outlook:
    """`now` is the database's. `ahead` are images of jobs with the same model that go first,
    `done` are this job's. `per_second` is of the last day's work with this model, None without,
    of which `keys` API keys have equal shares."""

    now: datetime
    ahead: int
    done: int
    keys: int
    per_second: float | None


_AHEAD = text("""
    SELECT now(),
           coalesce((SELECT sum(s.image_count - s.committed)
              FROM jobs j JOIN shards s ON s.job_id = j.id
             WHERE j.status IN ('queued', 'planning', 'running')
               AND s.status IN ('pending', 'running')
               AND j.id <> own.id AND j.model = own.model AND j.paused_at IS NULL
               AND j.cancel_requested_at IS NULL AND j.error IS NULL
               AND (j.priority > own.priority
                    OR (j.priority = own.priority AND j.owner_key_id = own.owner_key_id
                        AND j.created_at <= own.created_at))), 0),
           coalesce((SELECT sum(committed) FROM shards WHERE job_id = own.id), 0),
           (SELECT count(DISTINCT j.owner_key_id) FROM jobs j
             WHERE j.status IN ('queued', 'planning', 'running') AND j.model = own.model
               AND j.paused_at IS NULL AND j.cancel_requested_at IS NULL AND j.error IS NULL)
      FROM jobs own
     WHERE own.id = :job_id
""")

_RECENT = text("""
    SELECT recent.count, recent.created_at, recent.committed_at
      FROM jobs j
     CROSS JOIN LATERAL (
           SELECT count, created_at, committed_at
             FROM slices
            WHERE job_id = j.id AND status = 'committed'
              AND committed_at > now() - interval '1 day'
            ORDER BY committed_at DESC
            LIMIT :most
           ) AS recent
     WHERE j.model = :model
       AND (j.status IN ('queued', 'planning', 'running')
            OR (j.finished_at IS NOT NULL AND j.cleaned_at IS NULL
                AND j.finished_at > now() - interval '1 day'))
     ORDER BY recent.committed_at DESC
     LIMIT :most
""")
_MOST_SLICES = 500  # some 25 minutes of one worker


def outlook_of(connection: Connection, job_id: str, *, model: str) -> Outlook:
    now, ahead, done, keys = connection.execute(_AHEAD, {"job_id": job_id}).one()
    recent = connection.execute(_RECENT, {"model": model, "most": _MOST_SLICES})
    rate = images_per_second(Stretch(*row) for row in recent)
    return Outlook(now, int(ahead), int(done), max(1, int(keys)), rate)
