// All jobs of the key: how far they are, and what can be done with them.
import { get } from "../lib/api.js";
import { followJob } from "../lib/events.js";
import { ago, count, moment } from "../lib/format.js";
import { isOpenJob, useAction, useEvery, useFetched, useTitle } from "../lib/hooks.js";
import { html, useEffect, useState } from "../lib/html.js";
import { replace } from "../lib/router.js";
import { Button, Choice, Empty, ErrorNotice, Skeletons } from "../ui/basics.js";
import { JobActions, ProgressBar, StateChip, imagesDone, pace, timeLeft } from "../ui/job-parts.js";

const FILTERS = [
  ["", "All"],
  ["running", "Running"],
  ["planning", "Listing"],
  ["queued", "Queued"],
  ["succeeded", "Done"],
  ["failed", "Failed"],
  ["canceled", "Canceled"],
];
const PAGE = 50;
const STREAMS = 2; // of the six connections that a browser opens
const LOOK_SECONDS = 5; // for new jobs, and those without a stream

export function Jobs({ query }) {
  useTitle("Jobs");
  const status = query.get("status") ?? "";
  const load = (signal) => get("/v1/jobs", { query: { limit: PAGE, status: status || null }, signal });
  const { data, error, reload, look } = useFetched(load, [status]);
  const [older, setOlder] = useState({ jobs: [], cursor: undefined });
  const { busy, run } = useAction();
  const [changes, setChanges] = useState({});
  useEffect(() => setOlder({ jobs: [], cursor: undefined }), [status]);
  useEffect(() => setChanges({}), [data]);
  useEvery(LOOK_SECONDS, look);

  const change = (id, latest) => setChanges((all) => ({ ...all, [id]: { ...all[id], ...latest } }));
  const jobs = data && [...data.data, ...older.jobs].map((job) => ({ ...job, ...changes[job.id] }));
  useStreams(jobs, { onProgress: change, onEvent: reload });

  const cursor = older.cursor === undefined ? data?.next_cursor : older.cursor;
  const more = () => run(async () => {
    const page = await get("/v1/jobs", { query: { limit: PAGE, cursor, status: status || null } });
    setOlder({ jobs: [...older.jobs, ...page.data], cursor: page.next_cursor });
  });
  const filter = (key) => replace(key ? `#/jobs?status=${key}` : "#/jobs");
  return html`
    <div class="heading"><h1>Jobs</h1><a class="button main" href="#/new">New job</a></div>
    <${Choice} label="Which jobs" value=${status} options=${FILTERS} onChange=${filter} />
    <${ErrorNotice} error=${error} retry=${reload} />
    ${!jobs && !error && html`<${Skeletons} count=${6} height="4.25rem" />`}
    ${jobs?.length === 0 && html`<${NoJobs} status=${status} />`}
    ${jobs?.length > 0 && html`<${JobTable} jobs=${jobs} onChange=${(job) => change(job.id, job)} />`}
    ${cursor && html`<div><${Button} busy=${busy} onClick=${more}>Older jobs<//></div>`}`;
}

/** Streams for the newest jobs that are open; all others are looked at now and then. */
function useStreams(jobs, { onProgress, onEvent }) {
  const followed = (jobs ?? []).filter(isOpenJob).slice(0, STREAMS).map((job) => job.id);
  useEffect(() => {
    const since = Date.now();
    const leave = followed.map((id) => followJob(id, {
      onProgress: (progress) => onProgress(id, progress),
      onEvent: () => Date.now() - since > 2000 && onEvent(), // before that it tells what has been
    }));
    return () => leave.forEach((end) => end());
  }, [followed.join()]);
}

function NoJobs({ status }) {
  if (status) {
    return html`
      <${Empty} title="No such jobs">
        <p>None of your jobs is in this state. <a href="#/jobs">Show all</a></p>
      <//>`;
  }
  return html`
    <${Empty} title="Nothing labelled yet">
      <p>
        A job takes a folder of images and some words for what to look for, and finds every instance in every image. Here it
        can be watched, and its masks looked at.
      </p>
      <a class="button main" href="#/new">Start the first job</a>
      <p class="small">Or from a shell:</p>
      <pre>maskmill submit photos/ --prompt "red circle"</pre>
    <//>`;
}

function JobTable({ jobs, onChange }) {
  return html`
    <table class="jobs">
      <caption class="unseen">Your jobs, newest first</caption>
      <thead>
        <tr>
          <th scope="col">Job</th>
          <th scope="col">State</th>
          <th scope="col">Images</th>
          <th scope="col" class="number">Instances</th>
          <th scope="col" class="number">Failed</th>
          <th scope="col" class="number">Rate</th>
          <th scope="col" class="number">Time left</th>
          <th scope="col"><span class="unseen">Actions</span></th>
        </tr>
      </thead>
      <tbody>${jobs.map((job) => html`<${JobRow} key=${job.id} job=${job} onChange=${onChange} />`)}</tbody>
    </table>`;
}

function JobRow({ job, onChange }) {
  const words = job.prompts.map((prompt) => prompt.text).join(", ");
  return html`
    <tr>
      <th scope="row" class="name">
        <a class="cut" href=${`#/jobs/${job.id}`}>${job.name ?? job.id}</a>
        <span class="muted small cut" title=${words}>
          ${words || "prompts of its manifest"} ·${" "}
          <time datetime=${job.created_at} title=${moment(job.created_at)}>${ago(job.created_at)}</time>
        </span>
      </th>
      <td class="state"><${StateChip} job=${job} /></td>
      <td class="progress">
        <div><span class="numbers small">${imagesDone(job)}</span><${ProgressBar} job=${job} /></div>
      </td>
      <td class="number" data-label="Instances">${count(job.instances)}</td>
      <td class="number" data-label="Failed"><${FailedImages} job=${job} /></td>
      <td class="number" data-label="Rate">${pace(job)}</td>
      <td class="number" data-label="Time left">${timeLeft(job)}</td>
      <td class="actions"><${JobActions} job=${job} onChange=${onChange} little /></td>
    </tr>`;
}

function FailedImages({ job }) {
  const { failed } = job.counts;
  return failed ? html`<a class="bad-text" href=${`#/jobs/${job.id}/errors`}>${count(failed)}</a>` : "0";
}
