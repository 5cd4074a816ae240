// What failed, by its code, with examples: one cause has often thousands of images.
import { pagesOf, post } from "../../lib/api.js";
import { count, fileName, plural } from "../../lib/format.js";
import { isOpenJob, useAction, useFetched } from "../../lib/hooks.js";
import { html } from "../../lib/html.js";
import { Button, Empty, ErrorNotice, Skeletons } from "../../ui/basics.js";

const LOOKED_AT = 5000; // failures that are counted; the rest is told of
const EXAMPLES = 5;

// what the reference says of the codes, docs/reference/errors.md, in short
const ADVICE = {
  not_found: "There is no such file. Check the manifest's names, or whether files were moved since.",
  forbidden: "The store refuses it. Check what the service may read, or whether links have expired.",
  too_large: "More pixels or bytes than the service takes. Make it smaller, or have the operator raise the limit.",
  truncated: "The file ends early: upload it again.",
  unsupported: "Not an image format that is read. Save it as JPEG, PNG, WebP or TIFF.",
  decode_error: "The file is damaged, or not the image that its name says.",
  out_of_memory: "The device had no memory for it. Retry; with less other work it may fit.",
  timeout: "It took too long. Retry.",
  fetch_error: "The source did not answer. Retry once it does.",
};

export function Errors({ job }) {
  const load = (signal) => failures(job.id, signal);
  const { data, error, reload } = useFetched(load, [job.id, job.counts.failed]);
  const { busy, error: refusal, run } = useAction();
  if (error && !data) return html`<${ErrorNotice} error=${error} retry=${reload} />`;
  if (!data) return html`<${Skeletons} count=${3} height="5rem" />`;
  if (!data.rows.length) return html`<${NoErrors} />`;
  const canRetry = !isOpenJob(job) && job.status !== "failed";
  const retry = (code) => run(() => post(`/v1/jobs/${job.id}/retry`, { codes: [code] }));
  return html`
    <div class="stack">
      <${ErrorNotice} error=${refusal} />
      ${data.more && html`<p class="notice">Counted among the first ${plural(data.rows.length, "failure")}.</p>`}
      ${grouped(data.rows).map(([code, rows]) => html`
        <section class="card stack tight" key=${code} aria-label=${code}>
          <div class="row apart">
            <h2><span class="chip failed">${code}</span> <span class="numbers">${plural(rows.length, "image")}</span></h2>
            ${canRetry && html`
              <${Button} kind="little" icon="again" busy=${busy} onClick=${() => retry(code)}>Retry these<//>`}
          </div>
          <p class="muted">${ADVICE[code]}</p>
          <${Examples} job=${job} rows=${rows} />
        </section>`)}
    </div>`;
}

function NoErrors() {
  return html`
    <${Empty} title="No image failed">
      <p>An image that cannot be read costs that image and nothing else: it would be listed here, with the reason.</p>
    <//>`;
}

function Examples({ job, rows }) {
  return html`
    <ul class="examples">
      ${rows.slice(0, EXAMPLES).map((row) => html`
        <li key=${row.image_index}>
          <a class="cut" href=${`#/jobs/${job.id}/images/${row.image_index}`} title=${row.image}>${fileName(row.image)}</a>
          <span class="small muted">${row.message}</span>
        </li>`)}
    </ul>
    ${rows.length > EXAMPLES && html`
      <p class="small">
        <a href=${`#/jobs/${job.id}?sort=failed`}>All failed images</a>${" "}
        <span class="muted">(${count(rows.length - EXAMPLES)} more of these)</span>
      </p>`}`;
}

async function failures(jobId, signal) {
  const rows = [];
  for await (const page of pagesOf(`/v1/jobs/${jobId}/errors`, { limit: 500 }, { signal })) {
    rows.push(...page);
    if (rows.length >= LOOKED_AT) return { rows, more: true };
  }
  return { rows, more: false };
}

/** [code, rows], the most frequent first. */
function grouped(rows) {
  const groups = Map.groupBy(rows, ({ code }) => code);
  return [...groups].toSorted(([, one], [, other]) => other.length - one.length);
}
