// A job in short: its state, how far it is, and what can be done with it.
import { post } from "../lib/api.js";
import { count, duration, percent, plural, rate } from "../lib/format.js";
import { isOpenJob, useAction } from "../lib/hooks.js";
import { html } from "../lib/html.js";
import { Button } from "./basics.js";

const STATES = {
  queued: "Queued",
  planning: "Listing",
  running: "Running",
  succeeded: "Done",
  failed: "Failed",
  canceled: "Canceled",
  paused: "Paused",
  held: "On hold",
};

export function stateOf(job) {
  if (!isOpenJob(job)) return job.status;
  if (job.held_at) return "held";
  return job.paused_at ? "paused" : job.status;
}

export function StateChip({ job }) {
  const state = stateOf(job);
  const text = job.cancel_requested_at && isOpenJob(job) ? "Canceling" : STATES[state];
  return html`<span class=${`chip ${state}`}>${text}</span>`;
}

/** Names of the classes of a job's prompts, in the order of their ids, which count from 1. */
export const classNamesOf = ({ prompts }) => [...new Set(prompts.map(({ text, class_name: name }) => name ?? text))];

/** With an outcome: what was canceled has none. */
export const doneOf = ({ counts }) => counts.succeeded + counts.failed;

export function ProgressBar({ job, large = false }) {
  const { total, succeeded, failed, processing } = job.counts;
  const part = (number) => ({ width: `${total ? (100 * number) / total : 0}%` });
  const done = doneOf(job);
  return html`<div class=${`bar ${large ? "large" : ""} ${isOpenJob(job) ? "" : "ended"}`} role="progressbar"
    aria-label=${`Progress of ${job.name ?? job.id}`} aria-valuemin="0" aria-valuemax=${Math.max(total, 1)} aria-valuenow=${done}
    aria-valuetext=${`${percent(done, total)}, ${plural(failed, "image")} failed`}>
    <span class="done" style=${part(succeeded)}></span><span class="bad" style=${part(failed)}></span>
    <span class="now" style=${part(processing)}></span>
  </div>`;
}

/** "1,203 of 5,000 images": the total grows while the source is listed. */
export function imagesDone(job) {
  if (job.held_at && isOpenJob(job)) {
    return job.counts.total === 0 ? "No sample yet" : `${count(doneOf(job))} of ${plural(job.counts.total, "sampled image")}`;
  }
  const all = job.total_is_final || !isOpenJob(job) ? count(job.counts.total) : `${count(job.counts.total)}+`;
  return `${count(doneOf(job))} of ${all}`;
}

export const pace = (job) => (isOpenJob(job) && !job.paused_at ? rate(job.rate) : "–");
export const timeLeft = (job) => (isOpenJob(job) ? duration(job.eta_seconds) : "–");

/** `onChange(job)` gets the job as the service says it is now. */
export function JobActions({ job, onChange, little = false }) {
  const { busy, error, run } = useAction();
  const size = little ? "little" : "";
  const act = (name) => () => run(async () => onChange(await post(`/v1/jobs/${job.id}/${name}`)));
  const cancel = () => {
    const question = `Cancel ${job.name ?? job.id}? What is labelled stays, the rest is not labelled.`;
    if (window.confirm(question)) act("cancel")();
  };
  const isOpen = isOpenJob(job) && !job.cancel_requested_at;
  return html`<div class="row job-actions">
    ${isOpen && !job.held_at && !job.paused_at && html`<${Button} kind=${size} busy=${busy} icon="pause" onClick=${act("pause")}>Pause<//>`}
    ${isOpen && job.paused_at && html`<${Button} kind=${size} busy=${busy} icon="play" onClick=${act("resume")}>Resume<//>`}
    ${isOpen && html`<${Button} kind=${`${size} danger`} busy=${busy} icon="stop" onClick=${cancel}>Cancel<//>`}
    ${!isOpenJob(job) && job.status !== "failed" && job.counts.failed > 0 && html`
      <${Button} kind=${size} busy=${busy} icon="again" onClick=${act("retry")}>Retry ${count(job.counts.failed)} failed<//>`}
    ${error && html`<p class="small bad-text" role="alert">${error}</p>`}
  </div>`;
}
