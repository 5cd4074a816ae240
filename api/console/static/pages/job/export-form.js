// What an export is asked for: its format, which scores, and under which names.
import { post } from "../../lib/api.js";
import { score } from "../../lib/format.js";
import { isOpenJob, useAction } from "../../lib/hooks.js";
import { html, useState } from "../../lib/html.js";
import { Button, Choice, ErrorNotice, Field, Select } from "../../ui/basics.js";
import { classNamesOf } from "../../ui/job-parts.js";
import { viewOfJob } from "../job.js";
import { FORMATS, isGeometric } from "./export-formats.js";

const SCORES = [["gallery", "Gallery"], ["job", "Job's prompts"]];
const GEOMETRIES = [["rle", "RLE"], ["polygon", "Polygons"]];

export function ExportForm({ job, onMade }) {
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
      ...(isGeometric(format) && { geometry }),
      classes: renamed(names),
      partial: isOpenJob(job),
    };
    run(async () => onMade(await post(`/v1/jobs/${job.id}/exports`, options)));
  };
  return html`
    <form class="card stack" onSubmit=${submit} aria-label="New export">
      <h2>New export</h2>
      <${Field} label="Format" hint=${FORMATS.find(([key]) => key === format)[2]}>
        ${(field) => html`<${Select} ...${field} value=${format} options=${FORMATS} onChange=${setFormat} />`}
      <//>
      <div class="field">
        <span class="label">Scores from</span>
        <${Choice} label="Scores from" value=${scores} options=${SCORES} onChange=${setScores} />
        <p class="hint">${scores === "gallery" ? saidOf(taken) : "Each prompt's own threshold, 0.50 without one."}</p>
      </div>
      ${isGeometric(format) && html`<${Geometry} value=${geometry} onChange=${setGeometry} />`}
      <details>
        <summary>Classes and overlaps</summary>
        <div class="stack tight">
          ${classes.map((name) => html`
            <${ClassName}
              key=${name}
              name=${name}
              value=${names[name]}
              onChange=${(value) => setNames({ ...names, [name]: value })}
            />`)}
          <${Overlap} value=${overlap} onChange=${setOverlap} />
        </div>
      </details>
      ${isOpenJob(job) && html`
        <p class="notice warn small">The job still runs: the export has what is labelled so far.</p>`}
      <${ErrorNotice} error=${error} />
      <div><${Button} type="submit" kind="main" busy=${busy}>Export<//></div>
    </form>`;
}

function Geometry({ value, onChange }) {
  return html`
    <div class="field">
      <span class="label">Masks as</span>
      <${Choice} label="Masks as" value=${value} options=${GEOMETRIES} onChange=${onChange} />
      ${value === "polygon" && html`<p class="hint">What polygons lose is measured and told.</p>`}
    </div>`;
}

function ClassName({ name, value, onChange }) {
  const isOut = value === null;
  const input = (field) => html`
    <input
      ...${field}
      value=${isOut ? "" : value ?? name}
      disabled=${isOut}
      placeholder=${isOut ? "left out" : name}
      onInput=${(event) => onChange(event.target.value)}
    />`;
  return html`
    <div class="class-name">
      <${Field} label=${name}>${input}<//>
      <label class="check">
        <input type="checkbox" checked=${!isOut} onChange=${(event) => onChange(event.target.checked ? name : null)} />
        <span class="unseen">Export ${name}</span>
      </label>
    </div>`;
}

function Overlap({ value, onChange }) {
  const hint = "Within a class, the lower score goes where masks overlap more than this (IoU). Empty: all stay.";
  const input = (field) => html`
    <input
      ...${field}
      type="number"
      min="0"
      max="1"
      step="0.05"
      value=${value}
      onInput=${(event) => onChange(event.target.value)}
    />`;
  return html`<${Field} label="Overlaps" hint=${hint}>${input}<//>`;
}

/** Classes that the gallery hides, as new names: null leaves one out. */
function leftOut(view, classes) {
  return Object.fromEntries(classes.filter((_, place) => view?.hidden.has(place + 1)).map((name) => [name, null]));
}

/** Those of the names that change something. */
function renamed(names) {
  const isOther = ([old, name]) => name !== old && (name === null || name.trim());
  return Object.fromEntries(Object.entries(names).filter(isOther));
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
