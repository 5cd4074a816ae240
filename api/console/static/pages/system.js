// Who works, on what, and how long it waits: of all keys together.
import { get } from "../lib/api.js";
import { ago, bytes, count, duration, plural } from "../lib/format.js";
import { useEvery, useFetched, useTitle } from "../lib/hooks.js";
import { html } from "../lib/html.js";
import { ErrorNotice, Skeletons } from "../ui/basics.js";

const LOOK_SECONDS = 3;
const SILENT_SECONDS = 120; // without a result although something waits: worth a look
const ROLES = { bulk: "Jobs", interactive: "Single images", planner: "Lists and exports" };

export function System() {
  useTitle("System");
  const { data, error, reload, look } = useFetched((signal) => get("/v1/system", { signal }), []);
  useEvery(LOOK_SECONDS, look);
  return html`
    <div class="heading">
      <h1>System</h1>
      ${data && html`<span class="small muted">maskmill ${data.version}</span>`}
    </div>
    <${ErrorNotice} error=${error} retry=${reload} />
    ${!data && !error && html`<${Skeletons} count=${3} height="7rem" />`}
    ${data && html`
      <${Overview} data=${data} />
      <${Workers} data=${data} />
      <${Models} data=${data} />
      <p class="hint">
        Histories are in Prometheus metrics of the service and of its workers; the repository has a Grafana dashboard for them.
      </p>`}`;
}

function Overview({ data: { jobs, interactive, waiting_exports: exports } }) {
  return html`
    <div class="overview">
      <${Card} title="Jobs" number=${jobs && count(openJobs(jobs))} unit="open">${jobs && jobStates(jobs)}<//>
      <${Card}
        title="Single images"
        number=${interactive && count(interactive.workers)}
        unit=${interactive?.workers === 1 ? "worker" : "workers"}
        isBad=${interactive?.workers === 0}
      >
        ${interactive && (interactive.workers
          ? `${plural(interactive.waiting, "request")} waiting`
          : "No worker lives: Try it cannot answer. Look at the interactive worker's log.")}
      <//>
      <${Card} title="Exports" number=${exports && count(exports.count)} unit="waiting">
        ${exports && (exports.count ? `the oldest for ${duration(exports.oldest_seconds)}` : "None waits")}
      <//>
    </div>`;
}

const openJobs = ({ queued, planning, running }) => queued + planning + running;

function jobStates({ queued, planning, running, paused }) {
  const states = `${count(running)} running, ${count(planning)} listing, ${count(queued)} queued`;
  return paused ? `${states}; ${count(paused)} paused` : states;
}

function Card({ title, number, unit, isBad = false, children }) {
  const isKnown = number !== null && number !== undefined;
  return html`
    <section class=${`card stack tight ${isBad ? "bad-card" : ""}`} aria-label=${title}>
      <h2>${title}</h2>
      <p class="big-number">${isKnown ? number : "–"} <small class="muted">${unit}</small></p>
      <p class="small muted">${isKnown ? children : "Cannot be counted now"}</p>
    </section>`;
}

function Workers({ data: { workers, version } }) {
  return html`
    <section class="stack" aria-label="Workers">
      <h2>Workers</h2>
      ${!workers && html`<p class="muted">Cannot be listed now.</p>`}
      ${workers?.length === 0 && html`
        <p class="notice warn">No worker says that it lives: jobs wait until one does.</p>`}
      ${workers?.length > 0 && html`
        <table class="card plain workers">
          <thead><tr><th>For</th><th>Model</th><th>Memory</th><th>State</th></tr></thead>
          <tbody>
            ${workers.map((worker) => html`
              <${Worker} key=${worker.name ?? worker.started_at} worker=${worker} version=${version} />`)}
          </tbody>
        </table>`}
    </section>`;
}

function Worker({ worker, version }) {
  return html`
    <tr>
      <td>
        ${ROLES[worker.role]}
        <span class="small muted">${worker.name} started ${ago(worker.started_at)}</span>
        ${worker.version !== version && html`<span class="small bad-text">maskmill ${worker.version}</span>`}
      </td>
      <td>
        ${worker.loaded.join(", ") || (worker.serves.length ? "none loaded" : "–")}
        ${worker.device && html`<span class="small muted">${worker.device}</span>`}
      </td>
      <td><${Memory} worker=${worker} /></td>
      <td><${WorkerState} worker=${worker} /></td>
    </tr>`;
}

function Memory({ worker: { memory_used_bytes: used, memory_total_bytes: total } }) {
  const said = `${bytes(used)} of ${bytes(total)}`;
  return html`
    <meter min="0" max=${total} value=${used} aria-label=${said}></meter>
    <span class="small muted numbers">${said}</span>`;
}

function WorkerState({ worker }) {
  const [state, text] = worker.is_busy
    ? ["running", "Busy"]
    : worker.serves.length && !worker.loaded.length
      ? ["queued", "No model yet"]
      : ["succeeded", worker.is_busy === null ? "Ready" : "Idle"];
  return html`<span class=${`chip ${state}`}>${text}</span>`;
}

function Models({ data: { models, queues, workers } }) {
  const servers = (name) => workers?.filter((one) => one.role === "bulk" && one.serves.includes(name)).length;
  return html`
    <section class="stack" aria-label="Models">
      <h2>Models</h2>
      <div class="models">
        ${models.map((model) => html`
          <${Model}
            key=${model.name}
            model=${model}
            queue=${queues?.find((queue) => queue.model === model.name)}
            workers=${servers(model.name)}
          />`)}
      </div>
    </section>`;
}

function Model({ model, queue, workers }) {
  const { limits } = model;
  return html`
    <article class="card stack" aria-label=${model.name}>
      <div class="row apart">
        <h3>${model.name} ${model.is_default && html`<span class="muted">· default</span>`}</h3>
        <span class=${`chip ${model.loaded_at ? "succeeded" : "queued"}`}>
          ${model.loaded_at ? "Loaded" : "Not loaded yet"}
        </span>
      </div>
      ${queue && html`<${Queue} queue=${queue} workers=${workers} />`}
      <dl class="pairs small">
        ${model.loaded_at && html`<dt>Loaded</dt><dd>${ago(model.loaded_at)}</dd>`}
        ${limits && html`
          <dt>Prompts</dt>
          <dd>${plural(limits.text_tokens, "token")} each, ${plural(limits.queries, "instance")} an image at most</dd>
          <dt>Images</dt>
          <dd>seen at ${limits.image_size} × ${limits.image_size} pixels</dd>`}
      </dl>
    </article>`;
}

function Queue({ queue, workers }) {
  return html`
    <dl class="facts">
      <div><dt>Busy workers</dt><dd>${count(queue.busy_workers)} <small>${workers ? `of ${count(workers)}` : ""}</small></dd></div>
      <div>
        <dt>Images in the queue</dt>
        <dd>${count(queue.waiting_images)} <small>${plural(queue.waiting_shards, "shard")}</small></dd>
      </div>
      <div><dt>Oldest waits for</dt><dd>${queue.waiting_shards ? duration(queue.oldest_wait_seconds) : "–"}</dd></div>
    </dl>
    ${queue.expired_leases > 0 && html`
      <p class="notice warn small">
        ${plural(queue.expired_leases, "shard")} whose worker fell silent: others take them over soon.
      </p>`}
    ${workers === 0 && queue.waiting_shards > 0
      ? html`<p class="notice warn small">No worker that lives takes images of this model.</p>`
      : queue.idle_seconds > SILENT_SECONDS && html`
        <p class="notice warn small">No result for ${duration(queue.idle_seconds)} although images wait.</p>`}`;
}
