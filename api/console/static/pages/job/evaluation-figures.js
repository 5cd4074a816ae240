// What an evaluation says, once it is made.
import { get, messageOf } from "../../lib/api.js";
import { cssColour } from "../../lib/colours.js";
import { bytes, count, fileName, plural } from "../../lib/format.js";
import { useFetched } from "../../lib/hooks.js";
import { html, useState } from "../../lib/html.js";
import { Button, ErrorNotice, Swatch } from "../../ui/basics.js";
import { classNamesOf } from "../../ui/job-parts.js";
import { download } from "./made.js";

const ROWS = 20; // of a table; the report has all
const WORST = 5;
const NAMES = 3;
const HEADLINES = [
  ["AP", "precision", "ap"], ["AP50", "precision", "ap50"], ["AP75", "precision", "ap75"], ["AR", "precision", "ar100"],
  ["cgF1", "concept", "cg_f1"], ["pmF1", "concept", "pm_f1"], ["IL_MCC", "concept", "il_mcc"],
];

const figure = (value) => (value === null ? "–" : value.toFixed(3));
const named = ({ count: number, first }) => first.slice(0, NAMES).join(", ") + (number > NAMES ? ", …" : "");

/** `onAgain(unmatched)`: with names for these categories. */
export function Figures({ job, path, isOpen, onAgain }) {
  const { data, error, reload } = useFetched((signal) => get(path, { signal }), [path]);
  if (error) return html`<${ErrorNotice} error=${error} retry=${reload} />`;
  if (!data) return html`<div class="skeleton"></div>`;
  const { report, files } = data;
  const isAny = report.images.evaluated > 0;
  return html`
    ${isAny && html`<dl class="facts">
      ${HEADLINES.map(([name, group, key]) => html`<div>
        <dt>${name}</dt><dd>${figure(report.overall[group][key])}</dd>
      </div>`)}
    </dl>`}
    <${Compared} report=${report} onAgain=${onAgain} />
    ${isAny && html`<details open=${isOpen}><summary>By class, by prompt, and the worst images</summary>
      <div class="stack">
        <${Classes} rows=${report.classes} names=${classNamesOf(job)} />
        <${Prompts} rows=${report.prompts} least=${report.options.min_score} />
        <${Worst} job=${job} images=${report.worst} />
      </div>
    </details>`}
    <${Files} path=${path} files=${files} />`;
}

/** How much was compared, and what was not. */
function Compared({ report: { images, categories }, onAgain }) {
  const unmatched = Object.entries(categories.unmatched);
  const left = [
    ["in the truth, not in the job", images.not_in_job],
    ["in the truth, failed in the job", images.failed],
    ["whose names fit several", images.ambiguous],
    ["of another size in the truth", images.sizes_differ],
    ...(images.evaluated ? [] : [["in the job, not in the truth", images.not_in_truth]]),
  ].filter(([, { count: number }]) => number > 0);
  return html`
    ${images.evaluated
      ? html`<p class="small numbers">${plural(images.evaluated, "image")} compared</p>`
      : html`<p class="notice bad small">None of the truth's images has a result in this job.</p>`}
    ${left.length > 0 && html`<ul class="small muted numbers">
      ${left.map(([what, listed]) => html`<li>${plural(listed.count, "image")} ${what}: ${named(listed)}</li>`)}
    </ul>`}
    ${unmatched.length > 0 && html`<div class="notice warn small">
      <p>These categories of the truth fit no class:${" "}
        ${unmatched.map(([name, number]) => `${name} (${plural(number, "annotation")})`).join(", ")}</p>
      <div>
        <${Button} kind="little" onClick=${() => onAgain(unmatched.map(([name]) => name))}>Say what they are<//>
      </div>
    </div>`}
    ${categories.without_truth.length > 0 && html`<p class="small muted">
      Classes without truth: ${categories.without_truth.join(", ")}
    </p>`}`;
}

function Classes({ rows, names }) {
  const row = ({ class_name: name, truth, instances, precision }) => html`<tr>
    <th scope="row"><span class="row">
      ${names.includes(name) && html`<${Swatch} colour=${cssColour(names.indexOf(name))} />`}${name}
    </span></th>
    ${[count(truth), count(instances), figure(precision.ap), figure(precision.ap50), figure(precision.ap75),
      figure(precision.ar100)].map((text) => html`<td class="number">${text}</td>`)}
  </tr>`;
  return html`<${Table} label="Figures by class" rows=${rows} row=${row} first="Class"
    heads=${["Truth", "Found", "AP", "AP50", "AP75", "AR"]} />`;
}

function Prompts({ rows, least }) {
  const row = ({ text, concept, at_min_score: at, suggestion }) => html`<tr>
    <th scope="row">${text}</th>
    ${[figure(concept.cg_f1), figure(at.precision), figure(at.recall), figure(at.f1), suggestion?.threshold ?? "–",
      suggestion ? figure(suggestion.figures.f1) : "–"].map((told) => html`<td class="number">${told}</td>`)}
  </tr>`;
  return html`<${Table} label="Figures by prompt" rows=${rows} row=${row} first="Prompt"
      heads=${["cgF1", "Precision", "Recall", "F1", "Best cut", "F1 there"]} />
    <p class="hint">Precision, recall and F1 are of scores from ${least} on; the best cut is the threshold with the
      greatest F1. All at IoU 0.5, but for cgF1.</p>`;
}

function Table({ label, rows, row, first, heads }) {
  return html`<div class="stack tight">
    <div class="figures" role="region" tabindex="0" aria-label=${label}>
      <table class="plain">
        <thead><tr>
          <th scope="col">${first}</th>
          ${heads.map((head) => html`<th scope="col" class="number">${head}</th>`)}
        </tr></thead>
        <tbody>${rows.slice(0, ROWS).map(row)}</tbody>
      </table>
    </div>
    ${rows.length > ROWS && html`<p class="small muted">The report has all ${count(rows.length)}.</p>`}
  </div>`;
}

function Worst({ job, images }) {
  if (!images.length) return null;
  return html`<div class="stack tight">
    <p class="label">Worst images</p>
    <ul class="examples">${images.slice(0, WORST).map((one) => html`<li key=${one.image_index}>
      <a class="cut" href=${`#/jobs/${job.id}/images/${one.image_index}`} title=${one.image}>${fileName(one.image)}</a>
      <span class="small muted numbers">${count(one.false_positives)} wrong, ${count(one.misses)} missed</span>
    </li>`)}</ul>
  </div>`;
}

function Files({ path, files }) {
  const [error, setError] = useState(null);
  const json = files.find(({ name }) => name === "report.json");
  const take = () => {
    setError(null);
    download(path, json.name).catch((refused) => setError(messageOf(refused)));
  };
  return html`
    <div class="row">
      <a class="button little" href=${`${path}/report.html`} target="_blank" rel="noopener">Open the report</a>
      <${Button} kind="little" icon="down" onClick=${take}>${json.name}<//>
      <span class="small muted numbers">${bytes(json.bytes)}</span>
    </div>
    <${ErrorNotice} error=${error} />`;
}
