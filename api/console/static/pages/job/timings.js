// Where the time of a job went, as far as what is stored says.
import { get } from "../../lib/api.js";
import { count, duration, plural } from "../../lib/format.js";
import { useFetched } from "../../lib/hooks.js";
import { html } from "../../lib/html.js";
import { Bars, Columns } from "../../ui/charts.js";
import { ErrorNotice } from "../../ui/basics.js";

const STRETCHES = {
  waiting_seconds: "Waited",
  planning_seconds: "Listed images",
  labelling_seconds: "Labelled",
  finishing_seconds: "Finished up",
};
const STAGES = {
  fetch: "Fetch images",
  decode: "Decode them",
  network: "Network",
  encode: "Encode masks",
  commit: "Commit results",
};

export function Timings({ job }) {
  const load = (signal) => get(`/v1/jobs/${job.id}/timings`, { signal });
  const { data, error, reload } = useFetched(load, [job.id, job.status, job.counts.succeeded, job.counts.failed]);
  return html`
    <section class="card stack tight" aria-label="Time">
      <h2>Time</h2>
      <${ErrorNotice} error=${error} retry=${reload} />
      ${!data && !error && html`<div class="skeleton timings-wait"></div>`}
      ${data && html`<${Stretches} data=${data} />`}
      ${data?.steps.length > 1 && html`<${Steps} steps=${data.steps} seconds=${data.step_seconds} />`}
      ${data?.stage_seconds && html`<${Stages} seconds=${data.stage_seconds} counts=${job.counts} />`}
      ${data?.image_milliseconds && html`<${PerImage} found=${data.image_milliseconds} />`}
    </section>`;
}

const milliseconds = (number) => (number < 10 ? `${number.toFixed(1)} ms` : `${count(number)} ms`);

/** Listing and labelling overlap. */
function Stretches({ data }) {
  const known = Object.keys(STRETCHES).filter((key) => data[key] !== null);
  if (!known.length) return html`<p class="muted">Nothing has happened yet.</p>`;
  const entries = known.map((key) => ({ name: STRETCHES[key], value: data[key], text: duration(data[key]) }));
  return html`
    <${Bars} label="How long each part took" entries=${entries} />
    ${data.first_result_seconds !== null && html`
      <p class="small muted">The first result came after ${duration(data.first_result_seconds)}.</p>`}`;
}

function Steps({ steps, seconds }) {
  const columns = columnsOf(steps, seconds);
  const most = Math.max(...columns.map(({ value }) => value));
  return html`
    <h3>Images over time</h3>
    <${Columns} columns=${columns} label=${`Images done, each column is ${duration(seconds)}`} />
    <p class="small muted">A column is ${duration(seconds)}, the highest ${plural(most, "image")}.</p>`;
}

function columnsOf(steps, seconds) {
  const began = new Date(steps[0].began_at);
  const place = ({ began_at: at }) => Math.round((new Date(at) - began) / 1000 / seconds);
  const columns = Array.from({ length: place(steps.at(-1)) + 1 }, () => ({ value: 0, title: "no image" }));
  for (const step of steps) {
    const done = `${plural(step.images, "image")}, ${count(step.failed)} failed`;
    const title = `${new Date(step.began_at).toLocaleTimeString()}: ${done}`;
    columns[place(step)] = { value: step.images, title };
  }
  const clock = (at) => new Date(at).toLocaleTimeString(undefined, { timeStyle: "short" });
  columns[0].label = clock(began);
  columns.at(-1).label = clock(steps.at(-1).began_at);
  return columns;
}

function Stages({ seconds, counts }) {
  const images = counts.succeeded;
  if (!images) return null;
  const entries = Object.keys(STAGES).map((stage) => ({
    name: STAGES[stage],
    value: seconds[stage],
    text: milliseconds((1000 * seconds[stage]) / images),
  }));
  const all = Object.values(seconds).reduce((sum, one) => sum + one, 0);
  return html`
    <h3>Stages of an image, on average</h3>
    <${Bars} label="How long each stage takes, on average of all images" entries=${entries} />
    <p class="small muted">
      ${duration(all)} of work in all, over threads and workers: they fetch, decode and encode some images while the
      network sees others.
    </p>`;
}

function PerImage({ found: { images, mean, p50, p90, p99 } }) {
  const values = { "Half are below": p50, "Nine of ten below": p90, "99 of 100 below": p99, "On average": mean };
  const entries = Object.entries(values).map(([name, value]) => ({ name, value, text: milliseconds(value) }));
  return html`
    <h3>Work on an image</h3>
    <${Bars} label="Work on an image" entries=${entries} />
    <p class="small muted">Without fetching, of ${plural(images, "image")} spread over the job.</p>`;
}
