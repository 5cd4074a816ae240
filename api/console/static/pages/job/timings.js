// Where the time of a job went, as far as what is stored says.
import { get } from "../../lib/api.js";
import { count, duration, plural } from "../../lib/format.js";
import { useFetched } from "../../lib/hooks.js";
import { html } from "../../lib/html.js";
import { Bars, Columns } from "../../ui/charts.js";
import { ErrorNotice } from "../../ui/basics.js";

const STRETCHES = [["waiting_seconds", "Waited"], ["planning_seconds", "Listed images"], ["labelling_seconds", "Labelled"], ["finishing_seconds", "Finished up"]];

export function Timings({ job }) {
  const load = (signal) => get(`/v1/jobs/${job.id}/timings`, { signal });
  const { data, error, reload } = useFetched(load, [job.id, job.status, job.counts.succeeded]);
  return html`<section class="card stack tight" aria-label="Time"><h2>Time</h2>
    <${ErrorNotice} error=${error} retry=${reload} />
    ${!data && !error && html`<div class="skeleton timings-wait"></div>`}
    ${data && html`<${Stretches} data=${data} />`}
    ${data?.steps.length > 1 && html`<h3>Images over time</h3><${Steps} steps=${data.steps} seconds=${data.step_seconds} />`}
    ${data?.image_milliseconds && html`<${PerImage} milliseconds=${data.image_milliseconds} />`}
  </section>`;
}

/** Listing and labelling overlap. */
function Stretches({ data }) {
  const known = STRETCHES.filter(([key]) => data[key] !== null);
  if (!known.length) return html`<p class="muted">Nothing has happened yet.</p>`;
  return html`<${Bars} label="How long each part took" entries=${known.map(([key, name]) => ({ name, value: data[key], text: duration(data[key]) }))} />
    ${data.first_result_seconds !== null && html`<p class="small muted">The first result came after ${duration(data.first_result_seconds)}.</p>`}`;
}

function Steps({ steps, seconds }) {
  const place = ({ began_at: at }) => Math.round((new Date(at) - new Date(steps[0].began_at)) / 1000 / seconds);
  const columns = Array.from({ length: place(steps.at(-1)) + 1 }, () => ({ value: 0, title: "no image" }));
  for (const step of steps) {
    columns[place(step)] = { value: step.images, title: `${new Date(step.began_at).toLocaleTimeString()}: ${plural(step.images, "image")}, ${count(step.failed)} failed` };
  }
  columns[0].label = new Date(steps[0].began_at).toLocaleTimeString(undefined, { timeStyle: "short" });
  columns.at(-1).label = new Date(steps.at(-1).began_at).toLocaleTimeString(undefined, { timeStyle: "short" });
  return html`<${Columns} columns=${columns} label=${`Images done, each column is ${duration(seconds)}`} />
    <p class="small muted">A column is ${duration(seconds)}, the highest ${plural(Math.max(...columns.map(({ value }) => value)), "image")}.</p>`;
}

function PerImage({ milliseconds: { images, mean, p50, p90, p99 } }) {
  const entries = [["Half are below", p50], ["Nine of ten below", p90], ["99 of 100 below", p99], ["On average", mean]];
  return html`<h3>Work on an image</h3>
    <${Bars} label="Work on an image" entries=${entries.map(([name, value]) => ({ name, value, text: duration(value / 1000) }))} />
    <p class="small muted">Of ${plural(images, "image")} spread over the job.</p>`;
}
