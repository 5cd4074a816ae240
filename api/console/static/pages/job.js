// One job: how far it is, its images, what failed, what is made of it, and what it was asked.
import { ago, count, duration, moment, percent, plural, rate, secondsBetween } from "../lib/format.js";
import { isOpenJob, useJob, useTitle } from "../lib/hooks.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib/html.js";
import { ImagePages } from "../lib/image-pages.js";
import { MaskView } from "../lib/mask-view.js";
import { replace } from "../lib/router.js";
import { ErrorNotice, Skeletons } from "../ui/basics.js";
import { JobActions, ProgressBar, StateChip, doneOf, imagesDone, pace, timeLeft } from "../ui/job-parts.js";
import { Details } from "./job/details.js";
import { Errors } from "./job/errors.js";
import { Evaluations } from "./job/evaluations.js";
import { Exports } from "./job/exports.js";
import { Gallery, ORDERS, lengthOf } from "./job/gallery.js";
import { Preview } from "./job/preview.js";
import { Viewer } from "./job/viewer.js";

const USUAL_THRESHOLD = 0.5; // of a prompt that names none
const TABS = {
  images: "Images",
  errors: "Errors",
  exports: "Exports",
  evaluations: "Evaluations",
  details: "Details",
};

export function Job({ id, tab = "images", image, query }) {
  const [exportRound, setExportRound] = useState(0);
  const { job, error, reload } = useJob(id, { onExport: () => setExportRound((number) => number + 1) });
  useTitle(job && (job.name ?? "Job"));
  if (error && !job) return html`<${ErrorNotice} error=${error} retry=${reload} />`;
  if (!job) return html`<${Skeletons} count=${5} height="3.5rem" />`;
  return html`
    <${Head} job=${job} reload=${reload} />
    ${job.held_at && html`<${Preview} job=${job} reload=${reload} />`}
    <${Tabs} job=${job} tab=${tab} />
    ${tab === "images" && html`<${Images} job=${job} image=${image} query=${query} />`}
    ${tab === "errors" && html`<${Errors} job=${job} />`}
    ${tab === "exports" && html`<${Exports} job=${job} round=${exportRound} />`}
    ${tab === "evaluations" && html`<${Evaluations} job=${job} />`}
    ${tab === "details" && html`<${Details} job=${job} />`}`;
}

function Head({ job, reload }) {
  const asked = job.created_at;
  return html`
    <section class="job-head" aria-label="The job">
      <div class="heading">
        <div class="stack tight">
          <a class="crumb" href="#/jobs">← Jobs</a>
          <div class="job-title"><h1>${job.name ?? job.id}</h1><${StateChip} job=${job} /></div>
          <p class="small muted">
            ${job.name && html`<code>${job.id}</code> · `}
            <time datetime=${asked} title=${moment(asked)}>${ago(asked)}</time> · ${job.model}
          </p>
        </div>
        <${JobActions} job=${job} onChange=${reload} />
      </div>
      ${job.error && html`<${Fault} error=${job.error} />`}
      <${ProgressBar} job=${job} large />
      <${Facts} job=${job} />
      <${Announcement} job=${job} />
    </section>`;
}

function Fault({ error: { code, line, message } }) {
  return html`
    <div class="notice bad" role="alert">
      <p><strong>${code}</strong>${line && ` in line ${count(line)} of the manifest`}: ${message}</p>
    </div>`;
}

function Facts({ job }) {
  const share = html`<small>${percent(doneOf(job), job.counts.total)}</small>`;
  return html`
    <dl class="facts">
      <${Fact} name="Images">${imagesDone(job)} ${!job.held_at && share}<//>
      <${Fact} name="Instances">${count(job.instances)}<//>
      <${Fact} name="Failed" isBad=${job.counts.failed > 0}>${count(job.counts.failed)}<//>
      ${isOpenJob(job)
        ? html`
          <${Fact} name="Rate">${pace(job)}<//>
          <${Fact} name="Time left">${timeLeft(job)}<//>`
        : html`
          <${Fact} name="Rate on average">${rate(doneOf(job) / took(job))}<//>
          <${Fact} name="Took">${duration(took(job))}<//>`}
    </dl>`;
}

function Fact({ name, isBad = false, children }) {
  return html`<div><dt>${name}</dt><dd class=${isBad ? "bad-text" : ""}>${children}</dd></div>`;
}

const took = (job) => secondsBetween(job.planning_at ?? job.created_at, job.finished_at);

/** For those who do not see the bar: every tenth of the way, and the end. */
function Announcement({ job }) {
  const tenth = Math.floor((10 * doneOf(job)) / Math.max(1, job.counts.total));
  const text = useMemo(() => announced(job, tenth), [job.status, job.paused_at, job.total_is_final && tenth]);
  return html`<p class="unseen" role="status">${text}</p>`;
}

function announced(job, tenth) {
  if (isOpenJob(job)) return job.paused_at ? "The job is paused." : `${tenth * 10} % of the images are done.`;
  const { succeeded, failed } = job.counts;
  return `The job is ${job.status}. ${plural(succeeded, "image")} labelled, ${failed} failed.`;
}

function Tabs({ job, tab }) {
  const failed = job.counts.failed;
  const address = (key) => (key === "images" ? `#/jobs/${job.id}` : `#/jobs/${job.id}/${key}`);
  return html`
    <nav class="tabs" aria-label="Of this job">
      ${Object.entries(TABS).map(([key, text]) => html`
        <a href=${address(key)} aria-current=${key === tab ? "page" : undefined}>
          ${text}${key === "errors" && failed > 0 && html` <span class="badge bad">${count(failed)}</span>`}
        </a>`)}
    </nav>`;
}

function Images({ job, image, query }) {
  const asked = query.get("sort");
  const sort = ORDERS.some(([key]) => key === asked) ? asked : "index";
  const [round, setRound] = useState(0);
  const pages = useMemo(() => new ImagePages(job.id, sort), [job.id, sort, round]);
  useEffect(() => () => pages.close(), [pages]);
  const view = useView(job);
  const position = query.has("at") ? Number(query.get("at")) : Number(image);
  const total = lengthOf(job, pages, sort);
  const opened = useRef(null);
  useEffect(() => {
    if (image !== undefined) opened.current = position;
    else if (opened.current !== null) document.querySelector(`[data-position="${opened.current}"]`)?.focus();
  }, [image]);
  return html`
    <${Gallery}
      job=${job}
      pages=${pages}
      view=${view}
      sort=${sort}
      onSort=${(key) => replace(`#/jobs/${job.id}${key === "index" ? "" : `?sort=${key}`}`)}
      onRefresh=${() => setRound((number) => number + 1)}
    />
    ${image !== undefined && html`
      <${Viewer}
        job=${job}
        pages=${pages}
        view=${view}
        sort=${sort}
        image=${Number(image)}
        position=${position}
        total=${total}
      />`}`;
}

const views = new Map(); // a slider stays where it was put when one comes back to a job

/** Begins with the job's own thresholds: what its exports take too. */
function useView(job) {
  return useMemo(() => {
    if (!views.has(job.id)) views.set(job.id, viewOf(job));
    return views.get(job.id);
  }, [job.id]);
}

function viewOf(job) {
  const byClass = new Map();
  for (const { text, class_name: name, threshold } of job.prompts) {
    byClass.set(name ?? text, threshold ?? USUAL_THRESHOLD);
  }
  const thresholds = [...byClass.values()];
  const isOne = new Set(thresholds).size === 1;
  const view = new MaskView(isOne ? thresholds[0] : USUAL_THRESHOLD);
  for (const [place, threshold] of isOne ? [] : thresholds.entries()) {
    if (threshold !== USUAL_THRESHOLD) view.own.set(place + 1, threshold);
  }
  return view;
}

export const viewOfJob = (jobId) => views.get(jobId);
