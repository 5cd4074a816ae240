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

export function Job({ id, tab = "images", image, query }) {
  const [exportRound, setExportRound] = useState(0);
  const { job, error, reload } = useJob(id, { onExport: () => setExportRound((number) => number + 1) });
  useTitle(job && (job.name ?? "Job"));
  if (!job) return error ? html`<${ErrorNotice} error=${error} retry=${reload} />` : html`<${Skeletons} count=${5} height="3.5rem" />`;
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
  return html`<section class="job-head" aria-label="The job">
    <div class="heading">
      <div class="stack tight">
        <a class="crumb" href="#/jobs">← Jobs</a>
        <div class="job-title"><h1>${job.name ?? job.id}</h1><${StateChip} job=${job} /></div>
        <p class="small muted">${job.name && html`<code>${job.id}</code> · `}<time datetime=${asked} title=${moment(asked)}>${ago(asked)}</time> · ${job.model}</p>
      </div>
      <${JobActions} job=${job} onChange=${reload} />
    </div>
    ${job.error && html`<div class="notice bad" role="alert"><p><strong>${job.error.code}</strong>${job.error.line && ` in line ${count(job.error.line)} of the manifest`}: ${job.error.message}</p></div>`}
    <${ProgressBar} job=${job} large />
    <dl class="facts">
      <div><dt>Images</dt><dd>${imagesDone(job)} ${!job.held_at && html`<small>${percent(doneOf(job), job.counts.total)}</small>`}</dd></div>
      <div><dt>Instances</dt><dd>${count(job.instances)}</dd></div>
      <div><dt>Failed</dt><dd class=${job.counts.failed ? "bad-text" : ""}>${count(job.counts.failed)}</dd></div>
      ${isOpenJob(job) ? html`<div><dt>Rate</dt><dd>${pace(job)}</dd></div><div><dt>Time left</dt><dd>${timeLeft(job)}</dd></div>`
        : html`<div><dt>Rate on average</dt><dd>${rate(doneOf(job) / took(job))}</dd></div><div><dt>Took</dt><dd>${duration(took(job))}</dd></div>`}
    </dl>
    <${Announcement} job=${job} />
  </section>`;
}

const took = (job) => secondsBetween(job.planning_at ?? job.created_at, job.finished_at);

/** For those who do not see the bar: every tenth of the way, and the end. */
function Announcement({ job }) {
  const tenth = Math.floor((10 * doneOf(job)) / Math.max(1, job.counts.total));
  const text = useMemo(() => {
    if (!isOpenJob(job)) return `The job is ${job.status}. ${plural(job.counts.succeeded, "image")} labelled, ${job.counts.failed} failed.`;
    return job.paused_at ? "The job is paused." : `${tenth * 10} % of the images are done.`;
  }, [job.status, job.paused_at, job.total_is_final && tenth]);
  return html`<p class="unseen" role="status">${text}</p>`;
}

function Tabs({ job, tab }) {
  const failed = job.counts.failed;
  const tabs = [["images", "Images"], ["errors", "Errors"], ["exports", "Exports"], ["evaluations", "Evaluations"], ["details", "Details"]];
  return html`<nav class="tabs" aria-label="Of this job">
    ${tabs.map(([key, text]) => html`<a href=${key === "images" ? `#/jobs/${job.id}` : `#/jobs/${job.id}/${key}`} aria-current=${key === tab ? "page" : undefined}>
      ${text}${key === "errors" && failed > 0 && html` <span class="badge bad">${count(failed)}</span>`}</a>`)}
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
    <${Gallery} job=${job} pages=${pages} view=${view} sort=${sort} onSort=${(key) => replace(`#/jobs/${job.id}${key === "index" ? "" : `?sort=${key}`}`)} onRefresh=${() => setRound((number) => number + 1)} />
    ${image !== undefined && html`<${Viewer} job=${job} pages=${pages} view=${view} sort=${sort} image=${Number(image)} position=${position} total=${total} />`}`;
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
  for (const { text, class_name: name, threshold } of job.prompts) byClass.set(name ?? text, threshold ?? USUAL_THRESHOLD);
  const thresholds = [...byClass.values()];
  const isOne = new Set(thresholds).size === 1;
  const view = new MaskView(isOne ? thresholds[0] : USUAL_THRESHOLD);
  if (!isOne) thresholds.forEach((threshold, place) => threshold !== USUAL_THRESHOLD && view.own.set(place + 1, threshold));
  return view;
}

export const viewOfJob = (jobId) => views.get(jobId);
