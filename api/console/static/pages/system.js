// Who works, on what, and how long it waits: of all keys together.
import { get } from "../lib/api.js";
import { ago, count, duration, plural } from "../lib/format.js";
import { useEvery, useFetched, useTitle } from "../lib/hooks.js";
import { html } from "../lib/html.js";
import { ErrorNotice, Skeletons } from "../ui/basics.js";

const LOOK_SECONDS = 3;
const SILENT_SECONDS = 120; // without a result although something waits: worth a look

export function System() {
  useTitle("System");
  const { data, error, reload } = useFetched((signal) => get("/v1/system", { signal }), []);
  useEvery(LOOK_SECONDS, reload);
  return html`<div class="heading"><h1>System</h1>${data && html`<span class="small muted">maskmill ${data.version}</span>`}</div>
    <${ErrorNotice} error=${error} retry=${reload} />
    ${!data && !error && html`<${Skeletons} count=${3} height="7rem" />`}
    ${data && html`<${Overview} data=${data} />
      <section class="stack" aria-label="Models"><h2>Models</h2>
        <div class="models">${data.models.map((model) => html`<${Model} key=${model.name} model=${model} queue=${data.queues?.find((queue) => queue.model === model.name)} />`)}</div></section>
      <p class="hint">Memory of devices, stage times and histories are in the workers' Prometheus metrics: the repository has a Grafana dashboard for them.</p>`}`;
}

function Overview({ data: { jobs, interactive, waiting_exports: exports } }) {
  const open = jobs && Object.entries(jobs).filter(([state]) => state !== "paused").reduce((sum, [, number]) => sum + number, 0);
  return html`<div class="overview">
    <${Card} title="Jobs" number=${jobs && count(open)} unit="open">${jobs && `${count(jobs.running)} running, ${count(jobs.planning)} listing, ${count(jobs.queued)} queued${jobs.paused ? `; ${count(jobs.paused)} paused` : ""}`}<//>
    <${Card} title="Single images" number=${interactive && count(interactive.workers)} unit=${interactive?.workers === 1 ? "worker" : "workers"} isBad=${interactive?.workers === 0}>
      ${interactive && (interactive.workers ? `${plural(interactive.waiting, "request")} waiting` : "No worker lives: Try it cannot answer. Look at the interactive worker's log.")}<//>
    <${Card} title="Exports" number=${exports && count(exports.count)} unit="waiting">${exports && (exports.count ? `the oldest for ${duration(exports.oldest_seconds)}` : "None waits")}<//>
  </div>`;
}

function Card({ title, number, unit, isBad = false, children }) {
  return html`<section class=${`card stack tight ${isBad ? "bad-card" : ""}`} aria-label=${title}><h2>${title}</h2>
    <p class="big-number">${number ?? "–"} <small class="muted">${unit}</small></p>
    <p class="small muted">${number === null || number === undefined ? "Cannot be counted now" : children}</p></section>`;
}

function Model({ model, queue }) {
  const { limits } = model;
  return html`<article class="card stack" aria-label=${model.name}>
    <div class="row apart"><h3>${model.name} ${model.is_default && html`<span class="muted">· default</span>`}</h3>
      <span class=${`chip ${model.loaded_at ? "succeeded" : "queued"}`}>${model.loaded_at ? "Loaded" : "Not loaded yet"}</span></div>
    ${queue && html`<${Queue} queue=${queue} />`}
    <dl class="pairs small">
      ${model.loaded_at && html`<dt>Loaded</dt><dd>${ago(model.loaded_at)}</dd>`}
      ${limits && html`<dt>Prompts</dt><dd>${plural(limits.text_tokens, "token")} each, ${plural(limits.queries, "instance")} an image at most</dd>
        <dt>Images</dt><dd>seen at ${limits.image_size} × ${limits.image_size} pixels</dd>`}
    </dl>
  </article>`;
}

function Queue({ queue }) {
  const isSilent = queue.idle_seconds > SILENT_SECONDS;
  return html`<dl class="facts">
      <div><dt>Busy workers</dt><dd>${count(queue.busy_workers)}</dd></div>
      <div><dt>Images in the queue</dt><dd>${count(queue.waiting_images)} <small>${plural(queue.waiting_shards, "shard")}</small></dd></div>
      <div><dt>Oldest waits for</dt><dd>${queue.waiting_shards ? duration(queue.oldest_wait_seconds) : "–"}</dd></div>
    </dl>
    ${queue.expired_leases > 0 && html`<p class="notice warn small">${plural(queue.expired_leases, "shard")} whose worker fell silent: others take them over soon.</p>`}
    ${isSilent && html`<p class="notice warn small">No result for ${duration(queue.idle_seconds)} although images wait. Does a worker of this model live?</p>`}`;
}
