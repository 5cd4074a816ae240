// What the job was asked, when what happened, and where the time went.
import { get } from "../../lib/api.js";
import { cssColour } from "../../lib/colours.js";
import { count, duration, moment, score, secondsBetween } from "../../lib/format.js";
import { useFetched } from "../../lib/hooks.js";
import { html } from "../../lib/html.js";
import { Swatch } from "../../ui/basics.js";
import { classNamesOf } from "../../ui/job-parts.js";
import { Timings } from "./timings.js";

const EVENTS = 500;

export function Details({ job }) {
  return html`
    <div class="columns-2">
      <div class="stack">
        <section class="card stack tight" aria-label="Prompts"><h2>Prompts</h2><${Prompts} job=${job} /></section>
        <section class="card stack tight" aria-label="Settings"><h2>Settings</h2><${Settings} job=${job} /></section>
      </div>
      <div class="stack">
        <${Timings} job=${job} />
        <section class="card stack tight" aria-label="Events"><h2>What happened</h2><${Events} job=${job} /></section>
      </div>
      <section class="card stack tight wide" aria-label="Raw">
        <details>
          <summary>The job as the API says it</summary>
          <pre class="raw" tabindex="0" aria-label="Raw JSON">${JSON.stringify(job, null, 2)}</pre>
        </details>
      </section>
    </div>`;
}

function Prompts({ job }) {
  if (!job.prompts.length) return html`<p class="muted">Its manifest's items bring their own.</p>`;
  const classes = classNamesOf(job);
  return html`
    <table class="plain">
      <thead>
        <tr><th scope="col">Text</th><th scope="col">Class</th><th scope="col" class="number">Threshold</th></tr>
      </thead>
      <tbody>
        ${job.prompts.map(({ text, class_name: name, threshold }) => html`
          <tr>
            <td>${text}</td>
            <td><span class="row"><${Swatch} colour=${cssColour(classes.indexOf(name ?? text))} /> ${name ?? text}</span></td>
            <td class="number">${threshold === null ? html`<span class="muted">0.50</span>` : score(threshold)}</td>
          </tr>`)}
      </tbody>
    </table>`;
}

function Settings({ job }) {
  const { source } = job;
  const dataset = `dataset ${source.id}${source.manifest ? `, ${source.manifest}` : ""}`;
  const place = source.type === "dataset" ? dataset : source.uri;
  const waited = job.planning_at ? duration(secondsBetween(job.created_at, job.planning_at)) : "still waits";
  return html`<dl class="pairs">
    <dt>Images</dt><dd><code>${place}</code></dd>
    <dt>Model</dt><dd>${job.model}</dd>
    <dt>Floor</dt><dd class="numbers">${score(job.floor)} <span class="muted">— lower scores are not kept</span></dd>
    <dt>Priority</dt><dd class="numbers">${job.priority}</dd>
    ${job.output && html`<dt>Results</dt><dd><code>${job.output}</code></dd>`}
    ${job.webhook_url && html`<dt>Webhook</dt><dd><code>${job.webhook_url}</code></dd>`}
    <dt>Waited</dt><dd class="numbers">${waited}</dd>
    ${job.finished_at && html`<dt>Ended</dt><dd>${moment(job.finished_at)}</dd>`}
  </dl>`;
}

function Events({ job }) {
  const load = (signal) => get(`/v1/jobs/${job.id}/events`, { query: { limit: EVENTS }, signal });
  const { data } = useFetched(load, [job.id, job.status, job.paused_at, job.counts.succeeded]);
  const told = (data?.data ?? []).filter(({ kind }) => !kind.startsWith("shard."));
  if (data?.note) return html`<p class="muted">${data.note}</p>`;
  return html`
    <ol class="events" tabindex="0" aria-label="Events">
      ${told.map((event) => html`<${Told} key=${event.id} event=${event} />`)}
    </ol>`;
}

function Told({ event: { at, kind, data } }) {
  return html`
    <li>
      <time class="small muted numbers" datetime=${at}>${moment(at)}</time>
      <code>${kind}</code>
      ${Object.keys(data).length > 0 && html`
        <span class="small muted cut" title=${JSON.stringify(data)}>${said(data)}</span>`}
    </li>`;
}

const said = (data) => Object.entries(data).map(([key, value]) => `${key.replaceAll("_", " ")} ${inWords(value)}`).join(", ");

function inWords(value) {
  if (typeof value === "number") return count(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}
