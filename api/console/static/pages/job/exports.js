// The result in the form of another tool: ask for it, watch it, take it.
import { get, messageOf, post, remove } from "../../lib/api.js";
import { ago, bytes, count, percent, plural, score } from "../../lib/format.js";
import { isOpenJob, useAction, useEvery, useFetched } from "../../lib/hooks.js";
import { html, useEffect, useState } from "../../lib/html.js";
import { Button, Choice, Empty, ErrorNotice, Field, Select, Skeletons } from "../../ui/basics.js";
import { classNamesOf } from "../../ui/job-parts.js";
import { viewOfJob } from "../job.js";

// docs/how-to/export.md, in short
const FORMATS = [
  ["coco", "COCO", "One JSON file, read by pycocotools and nearly every tool."],
  ["coco-shards", "COCO, in pieces", "COCO with a file for every 10,000 images."],
  ["yolo", "YOLO segmentation", "Label files and data.yaml, for ultralytics. Scores are lost, masks become one polygon each."],
  ["label-studio", "Label Studio", "Tasks with predictions to import, and the project's labelling config."],
  ["cvat", "CVAT", "CVAT for images 1.1, a task for every 10,000 images."],
  ["voc", "Pascal VOC", "PNG masks and XML files; of overlapping masks the better one is seen."],
  ["fiftyone", "FiftyOne", "A FiftyOneDataset to load with from_dir."],
  ["hugging-face", "Hugging Face", "Parquet with features, for load_dataset."],
  ["parquet", "Parquet", "The result's own columns, with these thresholds applied."],
];
const GEOMETRIC = ["coco", "coco-shards", "label-studio"];
const TITLES = new Map(FORMATS.map(([key, title]) => [key, title]));
const STATES = { queued: "Queued", running: "Running", succeeded: "Ready", failed: "Failed", canceled: "Canceled" };
const isOpen = ({ status }) => status === "queued" || status === "running";

export function Exports({ job, round }) {
  const path = `/v1/jobs/${job.id}/exports`;
  const { data, error, reload } = useFetched((signal) => get(path, { query: { limit: 100 }, signal }), [job.id, round]);
  useEvery(1, reload, data?.data.some(isOpen) ?? false);
  if (job.held_at) return html`<${Empty} title="On hold"><p>Exports are made of a result: start the job first.</p><//>`;
  return html`<div class="export-page">
    <${ExportForm} job=${job} onMade=${reload} />
    <section class="stack" aria-label="Exports">
      <h2>Exports</h2>
      <${ErrorNotice} error=${error} retry=${reload} />
      ${!data && !error && html`<${Skeletons} count=${2} height="5rem" />`}
      ${data?.data.length === 0 && html`<${Empty} title="No exports yet"><p>An export shows the result in a form that another tool reads. It is made of what is stored, without a GPU: make as many as you like.</p><//>`}
      ${data?.data.map((one) => html`<${Export} key=${one.id} path=${path} one=${one} onChange=${reload} />`)}
    </section>
  </div>`;
}

function ExportForm({ job, onMade }) {
  const [format, setFormat] = useState("coco");
  const [scores, setScores] = useState("gallery");
  const [geometry, setGeometry] = useState("rle");
  const [overlap, setOverlap] = useState("");
  const { busy, error, run } = useAction();
  const classes = classNamesOf(job);
  const view = viewOfJob(job.id);
  const [names, setNames] = useState(() => leftOut(view, classes));
  const taken = thresholds(view, classes);
  const submit = (event) => {
    event.preventDefault();
    const options = {
      format,
      ...(scores === "gallery" && taken),
      ...(overlap && { nms_within: Number(overlap) }),
      ...(GEOMETRIC.includes(format) && { geometry }),
      classes: Object.fromEntries(Object.entries(names).filter(([old, name]) => name !== old && (name === null || name.trim()))),
      partial: isOpenJob(job),
    };
    run(async () => onMade(await post(`/v1/jobs/${job.id}/exports`, options)));
  };
  return html`<form class="card stack" onSubmit=${submit} aria-label="New export">
    <h2>New export</h2>
    <${Field} label="Format" hint=${FORMATS.find(([key]) => key === format)[2]}>
      ${(field) => html`<${Select} ...${field} value=${format} options=${FORMATS} onChange=${setFormat} />`}<//>
    <div class="field"><span class="label">Scores from</span>
      <${Choice} label="Scores from" value=${scores} options=${[["gallery", "Gallery"], ["job", "Job's prompts"]]} onChange=${setScores} />
      <p class="hint">${scores === "gallery" ? saidOf(taken) : "Each prompt's own threshold, 0.50 without one."}</p></div>
    ${GEOMETRIC.includes(format) && html`<div class="field"><span class="label">Masks as</span>
      <${Choice} label="Masks as" value=${geometry} options=${[["rle", "RLE"], ["polygon", "Polygons"]]} onChange=${setGeometry} />
      ${geometry === "polygon" && html`<p class="hint">What polygons lose is measured and told.</p>`}</div>`}
    <details><summary>Classes and overlaps</summary>
      <div class="stack tight">
        ${classes.map((name) => html`<${ClassName} key=${name} name=${name} value=${names[name]} onChange=${(value) => setNames({ ...names, [name]: value })} />`)}
        <${Field} label="Overlaps" hint="Within a class, the lower score goes where masks overlap more than this (IoU). Empty: all stay.">
          ${(field) => html`<input ...${field} type="number" min="0" max="1" step="0.05" value=${overlap} onInput=${(event) => setOverlap(event.target.value)} />`}<//>
      </div>
    </details>
    ${isOpenJob(job) && html`<p class="notice warn small">The job still runs: the export has what is labelled so far.</p>`}
    <${ErrorNotice} error=${error} />
    <div><${Button} type="submit" kind="main" busy=${busy}>Export<//></div>
  </form>`;
}

function ClassName({ name, value, onChange }) {
  const isOut = value === null;
  return html`<div class="class-name">
    <${Field} label=${name}>${(field) => html`<input ...${field} value=${isOut ? "" : value ?? name} disabled=${isOut} placeholder=${isOut ? "left out" : name} onInput=${(event) => onChange(event.target.value)} />`}<//>
    <label class="check"><input type="checkbox" checked=${!isOut} onChange=${(event) => onChange(event.target.checked ? name : null)} /><span class="unseen">Export ${name}</span></label>
  </div>`;
}

/** Classes that the gallery hides, as new names: null leaves one out. */
function leftOut(view, classes) {
  return Object.fromEntries(classes.filter((_, place) => view?.hidden.has(place + 1)).map((name) => [name, null]));
}

/** What the gallery shows, as options of an export. */
function thresholds(view, classes) {
  if (!view) return {};
  const own = classes.map((name, place) => [name, view.own.get(place + 1)]).filter(([, value]) => value !== undefined);
  return { min_score: view.threshold, class_scores: Object.fromEntries(own) };
}

function saidOf({ min_score: least, class_scores: own = {} }) {
  if (least === undefined) return "Look at the images first: the slider there sets them. Until then each prompt's own.";
  const single = Object.entries(own).map(([name, value]) => `, ${name} ${score(value)}`).join("");
  return `As the slider stands: ${score(least)}${single}.`;
}

function Export({ path, one, onChange }) {
  const { busy, error, run } = useAction();
  const withdraw = () => run(async () => onChange(await post(`${path}/${one.id}/cancel`)));
  const drop = () => run(async () => onChange(await remove(`${path}/${one.id}`)));
  const { images_read: done, images_total: total, pass_number: pass } = one.progress;
  return html`<article class="card stack tight" aria-label=${TITLES.get(one.options.format)}>
    <div class="row apart">
      <h3><span class=${`chip ${one.status}`}>${STATES[one.status]}</span> ${TITLES.get(one.options.format)}${one.partial && html` <span class="muted">· of a part</span>`}</h3>
      <span class="small muted">${ago(one.created_at)}</span>
    </div>
    <p class="small muted numbers">${chosen(one.options)}</p>
    ${isOpen(one) && html`<div class="bar" role="progressbar" aria-label="Progress of the export" aria-valuemin="0" aria-valuemax=${Math.max(1, total ?? 1)} aria-valuenow=${done}>
      <span class="done" style=${{ width: total ? percent(done, total).replace(/[< %]/g, "") + "%" : "0%" }}></span></div>
      <p class="small numbers">${count(done)} of ${total === null ? "?" : plural(total, "image")}${pass > 1 && `, pass ${pass}`}</p>`}
    ${one.error && html`<p class="notice bad small"><span><strong>${one.error.code}</strong> ${one.error.message}</span></p>`}
    ${one.report && html`<${Report} report=${one.report} />`}
    ${one.status === "succeeded" && html`<${Files} path=${`${path}/${one.id}`} />`}
    <${ErrorNotice} error=${error} />
    <div class="row">${isOpen(one) ? html`<${Button} kind="little danger" busy=${busy} onClick=${withdraw}>Cancel<//>` : html`<${Button} kind="little danger" busy=${busy} onClick=${drop}>Delete<//>`}</div>
  </article>`;
}

function Report({ report: { images, instances, loss } }) {
  return html`<p class="small numbers">${plural(instances, "instance")} in ${plural(images, "image")}${loss && html`<span class="muted"> · polygons against masks: mean IoU ${loss.mean_iou.toFixed(3)}, worst ${loss.worst_iou.toFixed(3)}${loss.dropped > 0 && `, ${loss.dropped} too small and dropped`}</span>`}</p>`;
}

/** Links work for a while, so they are asked for when the files are. */
function Files({ path }) {
  const [files, setFiles] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    get(path).then((one) => setFiles(one.files), (refused) => setError(messageOf(refused)));
  }, [path]);
  const download = async (name) => {
    const { files: fresh } = await get(path);
    const link = document.createElement("a");
    link.href = fresh.find((file) => file.name === name).url;
    link.download = name.split("/").at(-1);
    link.click();
  };
  return html`<div class="stack tight"><${ErrorNotice} error=${error} />
    <ul class="files">${files?.map((file) => html`<li key=${file.name}>
      <${Button} kind="little" icon="down" onClick=${() => download(file.name).catch((refused) => setError(messageOf(refused)))}>${file.name}<//><span class="small muted numbers">${bytes(file.bytes)}</span></li>`)}</ul></div>`;
}

function chosen(options) {
  const own = Object.entries(options.class_scores ?? {}).map(([name, value]) => `${name} from ${score(value)}`);
  const parts = [options.min_score === null ? "each prompt's threshold" : `from ${score(options.min_score)}`, ...own];
  if (options.nms_within !== null) parts.push(`overlaps up to ${options.nms_within}`);
  if (GEOMETRIC.includes(options.format)) parts.push(options.geometry);
  for (const [old, name] of Object.entries(options.classes ?? {})) parts.push(name === null ? `without ${old}` : `${old} as ${name}`);
  return parts.join(" · ");
}
