// A job's server-sent events. Browsers open six connections to a service and no more, over all
// tabs, and a stream holds one for as long as it is open: so only tabs that are seen have any.

const JOB_KINDS = ["queued", "planning", "running", "succeeded", "failed", "canceled", "paused", "resumed", "promoted", "sampled"];
const EXPORT_KINDS = ["queued", "running", "succeeded", "failed", "canceled", "deleted"];
const KINDS = [...JOB_KINDS.map((kind) => `job.${kind}`), ...EXPORT_KINDS.map((kind) => `export.${kind}`)];
const ENDED = ["succeeded", "failed", "canceled"];

/**
 * Calls `onProgress(progress)` as counts change, and `onEvent(kind)` for what happens to the job and
 * to its exports. Returns the function that ends it.
 */
export function followJob(jobId, { onProgress, onEvent }) {
  let source = null;
  let lastId = null;
  const open = () => {
    const after = lastId ? `?after=${encodeURIComponent(lastId)}` : "";
    source = new EventSource(`/v1/jobs/${jobId}/events${after}`);
    source.addEventListener("progress", (event) => {
      const progress = JSON.parse(event.data);
      onProgress(progress);
      // the service would end the stream too, and the browser report that as a fault
      if (ENDED.includes(progress.status)) close();
    });
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => {
        lastId = event.lastEventId;
        onEvent(kind);
      });
    }
  };
  const close = () => {
    source?.close();
    source = null;
  };
  const follow = () => {
    if (document.hidden) close();
    else if (!source) open();
  };
  document.addEventListener("visibilitychange", follow);
  follow();
  return () => {
    document.removeEventListener("visibilitychange", follow);
    close();
  };
}
