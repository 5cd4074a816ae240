// A job on hold: what a sample of its images says, before it runs on all of them.
import { get, post } from "../../lib/api.js";
import { cssColour } from "../../lib/colours.js";
import { count, duration, percent, plural, score } from "../../lib/format.js";
import { useAction, useEvery, useFetched } from "../../lib/hooks.js";
import { html } from "../../lib/html.js";
import { go } from "../../lib/router.js";
import { Bar, Button, ErrorNotice, Swatch } from "../../ui/basics.js";
import { ScoreHistogram } from "../../ui/charts.js";
import { classNamesOf } from "../../ui/job-parts.js";
import { Findings } from "../../ui/findings.js";

const LOOK_SECONDS = 1.5;
const ENDED = ["succeeded", "failed", "canceled"];

export function Preview({ job, reload }) {
  const load = (signal) => get(`/v1/jobs/${job.id}/preview`, { signal });
  const { data, error, look } = useFetched(load, [job.id]);
  useEvery(LOOK_SECONDS, look, data !== null && !ENDED.includes(data.status));
  const { busy, error: refusal, run } = useAction();
  const start = () => run(async () => reload(await post(`/v1/jobs/${job.id}/promote`)));
  const change = () => run(async () => {
    await post(`/v1/jobs/${job.id}/cancel`);
    go(`#/new?from=${job.id}`);
  });
  return html`
    <section class="card stack preview" aria-label="Preview">
      <div class="row apart">
        <div>
          <h2>Preview</h2>
          <p class="muted small">
            Only a sample is labelled. Look at it below, then start all images or change the prompts.
          </p>
        </div>
        <div class="row">
          <${Button} busy=${busy} onClick=${change}>Change prompts<//>
          <${Button} kind="main" icon="play" busy=${busy} onClick=${start}>Start all images<//>
        </div>
      </div>
      <${ErrorNotice} error=${refusal ?? error} />
      ${data && !data.report && html`<${Waiting} data=${data} />`}
      ${data?.report && html`<${Report} report=${data.report} job=${job} files=${data.files ?? []} />`}
    </section>`;
}

function Waiting({ data }) {
  const { images_done: done = 0, images_total: total } = data.progress ?? {};
  if (data.error) {
    return html`<p class="notice bad"><span><strong>${data.error.code}</strong> ${data.error.message}</span></p>`;
  }
  return html`
    <div class="stack tight" role="status">
      <${Bar} label="Progress of the preview" done=${done} total=${total} large />
      <p class="small numbers">
        ${total ? `${count(done)} of ${plural(total, "sampled image")} labelled` : "Choosing images for the sample…"}
      </p>
    </div>`;
}

function Report({ report, job, files }) {
  const page = files.find(({ name }) => name === "report.html");
  const failed = Object.values(report.failed).reduce((sum, number) => sum + number, 0);
  const of = failed > 0 ? `images, ${failed} failed` : "images";
  return html`
    <dl class="facts">
      <${Fact} name="Sample" value=${count(report.images)} small=${of} />
      ${report.estimate && html`<${Estimated} estimate=${report.estimate} />`}
    </dl>
    <${Findings} findings=${report.findings} prompts=${job.prompts} />
    <div class="prompt-cards">
      ${report.prompts.map((prompt) => html`
        <${PromptCard} key=${prompt.prompt_index} prompt=${prompt} report=${report} job=${job} />`)}
    </div>
    <p class="hint">Instances by score; heights are square roots of counts, and what is faint lies below the threshold.</p>
    ${page && html`
      <p class="small">
        <a href=${page.url} download=${page.name}>${page.name}</a>${" "}
        <span class="muted">has the same with pictures, to send on.</span>
      </p>`}`;
}

function Fact({ name, value, small }) {
  return html`<div><dt>${name}</dt><dd>${value} ${small && html`<small>${small}</small>`}</dd></div>`;
}

function Estimated({ estimate }) {
  const { seconds, workers, images_total: total, gpu_hours: hours, steady } = estimate;
  const name = `All ${plural(total, "image")} take about`;
  const device = hours < 0.1 ? duration(hours * 3600) : `${hours.toFixed(1)} h`;
  return html`
    <${Fact} name=${name} value=${duration(seconds)} small=${`with ${plural(workers, "worker")}`} />
    <${Fact} name="Device time" value=${device} small=${!steady && "starting up is in it"} />`;
}

function PromptCard({ prompt, report, job }) {
  const classes = classNamesOf(job);
  const colour = cssColour(classes.indexOf(prompt.class_name));
  return html`
    <article class="prompt-card stack tight" aria-label=${prompt.text}>
      <h3 class="row">
        <${Swatch} colour=${colour} /> ${prompt.text}
        ${prompt.class_name !== prompt.text && html`<span class="muted"> as ${prompt.class_name}</span>`}
      </h3>
      <p class="small numbers">
        <strong>${count(prompt.instances)}</strong> in ${plural(prompt.images, "image")}${" "}
        (${percent(prompt.images, report.images)}) from ${score(prompt.threshold)} on
      </p>
      <${ScoreHistogram} bins=${prompt.scores} threshold=${prompt.threshold} label=${prompt.text} colour=${colour} />
      <p class="small muted numbers">${bestOf(prompt)}</p>
    </article>`;
}

function bestOf({ best_score: best, median_area_share: area }) {
  const small = area === null ? "" : ` · half are below ${share(area)} of the image`;
  return `${best === null ? "No score above the floor" : `Best score ${score(best)}`}${small}`;
}

const share = (part) => (part < 0.01 ? `${(part * 100).toFixed(1)} %` : `${Math.round(part * 100)} %`);
