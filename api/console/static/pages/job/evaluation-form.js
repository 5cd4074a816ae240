// What to compare a result with, and how.
import { get, post, put, remove } from "../../lib/api.js";
import { bytes } from "../../lib/format.js";
import { isOpenJob, useAction, useFetched } from "../../lib/hooks.js";
import { html, useEffect, useId, useRef, useState } from "../../lib/html.js";
import { Button, Choice, ErrorNotice, Field, Icon, Select } from "../../ui/basics.js";
import { classNamesOf } from "../../ui/job-parts.js";

const KINDS = [["upload", "Upload"], ["dataset", "Uploaded before"], ["object", "Bucket"]];
const MOST_BYTES = 512 * 2 ** 20; // the service's own
const MOST_DATASETS = 500; // of one request
const LOOKED_AT = 1024; // bytes of a file, for its first sign
const MIN_SCORE = 0.5; // the service's own

/** `mapping` has [category, class]; no class: the category is left out. */
export const newDraft = () => ({
  kind: "upload", file: null, id: "", path: "", uri: "", minScore: MIN_SCORE, suggest: true, mapping: [],
});

/** What was asked before, with categories that fitted no class. Of an upload that is gone, the `file` again. */
export async function asDraft({ truth, options }, unmatched, file) {
  const place = await placeOf(truth, file);
  const mapping = [...Object.entries(options.mapping), ...unmatched.map((name) => [name, null])];
  return {
    ...newDraft(),
    ...place,
    minScore: options.min_score,
    suggest: options.suggest,
    mapping: mapping.map(([category, name]) => [category, name ?? ""]),
  };
}

async function placeOf({ type: kind, ...place }, file) {
  if (kind === "object") return { kind, ...place };
  const { data } = await get("/v1/datasets", { query: { limit: MOST_DATASETS } });
  if (data.some(({ id }) => id === place.id)) return { kind, ...place };
  return { kind: "upload", file: file?.name === place.path ? file : null };
}

export function EvaluationForm({ job, draft, onDraft, onMade, wasThere }) {
  const { busy, error, run } = useAction();
  const set = (change) => onDraft({ ...draft, ...change });
  const leaving = useRef(null);
  useEffect(() => () => leaving.current?.abort(), []);
  const submit = (event) => {
    event.preventDefault();
    leaving.current = new AbortController();
    run(async () => onMade(await evaluate(job, draft, leaving.current.signal)));
  };
  return html`<form class="card stack" onSubmit=${submit} aria-label="New evaluation">
    <h2 id="new-evaluation" tabindex="-1">New evaluation</h2>
    <div class="field"><span class="label">Truth</span>
      <${Choice} label="Truth" value=${draft.kind} options=${KINDS} onChange=${(kind) => set({ kind })} />
      <p class="hint">COCO instances with masks: all there is of their categories in their images.</p>
    </div>
    ${draft.kind === "upload" && html`<${TruthFile} file=${draft.file} onChange=${(file) => set({ file })} />`}
    ${draft.kind === "dataset" && html`<${DatasetFile} draft=${draft} set=${set} />`}
    ${draft.kind === "object" && html`<${ObjectAddress} draft=${draft} set=${set} />`}
    <${Options} draft=${draft} set=${set} classes=${classNamesOf(job)} />
    ${isOpenJob(job) && html`<p class="notice warn small">
      ${job.held_at ? "The job is on hold" : "The job still runs"}: what is labelled so far is compared.
    </p>`}
    <${ErrorNotice} error=${error} />
    ${!busy && !error && wasThere && html`<p class="notice small" role="status">
      This was compared already: it is in the list.
    </p>`}
    <div class="row">
      <${Button} type="submit" kind="main" busy=${busy}>Evaluate<//>
      ${busy && draft.kind === "upload" && draft.file && html`<span class="small muted" role="status">
        Uploading ${bytes(draft.file.size)}…
      </span>`}
    </div>
  </form>`;
}

function TruthFile({ file, onChange }) {
  const input = useRef(null);
  const [isOver, setOver] = useState(false);
  const take = (files) => files.length && onChange(files[0]);
  const chosen = ({ target }) => {
    take([...target.files]);
    target.value = ""; // so that the same one, changed meanwhile, can be chosen again
  };
  const over = (is) => (event) => {
    event.preventDefault();
    setOver(is);
  };
  const dropped = (event) => {
    over(false)(event);
    take([...event.dataTransfer.files]);
  };
  return html`<div class=${`drop small-drop ${isOver ? "over" : ""}`}
    onDragOver=${over(true)} onDragLeave=${over(false)} onDrop=${dropped}>
    <input ref=${input} type="file" accept=".json,application/json" hidden onChange=${chosen} data-for="truth" />
    <p class="drop-label" role="status"><${Icon} name="folder" />
      ${file ? html`<span class="numbers">${file.name}, ${bytes(file.size)}</span>` : "Drop a COCO file here"}</p>
    <${Button} onClick=${() => input.current.click()}>Choose ${file ? "another" : "a file"}<//>
  </div>`;
}

function DatasetFile({ draft, set }) {
  const load = (signal) => get("/v1/datasets", { query: { limit: MOST_DATASETS }, signal });
  const { data, error, reload } = useFetched(load, []);
  if (error) return html`<${ErrorNotice} error=${error} retry=${reload} />`;
  if (!data) return html`<div class="skeleton"></div>`;
  const named = data.data.toReversed().map(({ id, name, created_at: at }) => [id, `${name} · ${dayOf(at)}`]);
  const others = draft.id && !named.some(([id]) => id === draft.id) ? [[draft.id, draft.id]] : [];
  return html`
    <${Field} label="Dataset">
      ${(field) => html`<${Select} ...${field} required value=${draft.id}
        options=${[["", "Choose one"], ...others, ...named]} onChange=${(id) => set({ id })} />`}
    <//>
    <${Field} label="File in it">
      ${(field) => html`<input ...${field} class="code" required value=${draft.path} placeholder="truth.json"
        spellcheck=${false} onInput=${({ target }) => set({ path: target.value })} />`}
    <//>`;
}

const dayOf = (time) => new Date(time).toLocaleDateString();

function ObjectAddress({ draft, set }) {
  return html`<${Field} label="Address" hint="The operator's list says which buckets may be read.">
    ${(field) => html`<input ...${field} class="code" required value=${draft.uri} placeholder="s3://bucket/truth.json"
      spellcheck=${false} onInput=${({ target }) => set({ uri: target.value })} />`}
  <//>`;
}

function Options({ draft, set, classes }) {
  const { mapping } = draft;
  const list = useId();
  const exchange = (place, ...pair) => set({ mapping: mapping.toSpliced(place, 1, ...pair) });
  return html`<details open=${mapping.length > 0}><summary>Scores and names</summary>
    <div class="stack">
      <${Field} label="Score from" hint="For cgF1, pmF1 and IL_MCC; AP takes all scores.">
        ${(field) => html`<input ...${field} type="number" required min="0" max="1" step="any" value=${draft.minScore}
          onInput=${({ target }) => set({ minScore: target.value })} />`}
      <//>
      <label class="check">
        <input type="checkbox" checked=${draft.suggest} onChange=${({ target }) => set({ suggest: target.checked })} />
        Look for the best threshold of each prompt
      </label>
      <fieldset class="stack tight">
        <legend class="label">Categories with other names</legend>
        <p class="hint">The truth's category, and the job's class that it is. Without a class it is left out.</p>
        ${mapping.map((pair, place) => html`
          <${MappedName} key=${place} pair=${pair} list=${list} onChange=${(...now) => exchange(place, ...now)} />`)}
        <datalist id=${list}>${classes.map((name) => html`<option value=${name} />`)}</datalist>
        <div>
          <${Button} kind="little" icon="plus" onClick=${() => exchange(mapping.length, ["", ""])}>Add a name<//>
        </div>
      </fieldset>
    </div>
  </details>`;
}

/** `onChange(pair)`, or without one where it goes. */
function MappedName({ pair: [category, name], list, onChange }) {
  return html`<div class="mapped-name">
    <input aria-label="Category of the truth" placeholder="hardhat" value=${category}
      onInput=${({ target }) => onChange([target.value, name])} />
    <input aria-label=${`Class of ${category || "the category"}`} placeholder="left out" list=${list} value=${name}
      onInput=${({ target }) => onChange([category, target.value])} />
    <${Button} kind="little" icon="close" label=${`Remove ${category || "this name"}`} onClick=${() => onChange()} />
  </div>`;
}

function asOptions({ minScore, suggest, mapping }) {
  const pairs = mapping.map(([category, name]) => [category, name.trim() || null]);
  return {
    min_score: Number(minScore),
    suggest,
    mapping: Object.fromEntries(pairs.filter(([category]) => category.trim())),
  };
}

/** A file of this computer is uploaded for the one evaluation, which keeps it to its end. */
async function evaluate(job, draft, signal) {
  const ask = (truth) => post(`/v1/jobs/${job.id}/evaluations`, { ...asOptions(draft), truth, partial: isOpenJob(job) }, { signal });
  const { kind, file, id, path, uri } = draft;
  if (kind === "object") return ask({ type: "object", uri: uri.trim() });
  if (kind === "dataset") return ask({ type: "dataset", id, path: path.trim() });
  await check(file);
  const dataset = await post("/v1/datasets", { name: `truth of ${job.name ?? job.id}`.slice(0, 200) }, { signal });
  const address = `/v1/datasets/${dataset.id}`;
  try {
    const stored = await put(`${address}/files/${encodeURIComponent(file.name)}`, file, { signal });
    return await ask({ type: "dataset", id: dataset.id, path: stored.path });
  } finally {
    remove(address).catch(() => {}); // else it stays, as a dataset of this key's
  }
}

/** What can be told of a file before it is sent; the service looks at the rest. */
async function check(file) {
  if (!file) throw new Error("Choose the file with the truth first.");
  if (file.size > MOST_BYTES) throw new Error(`${file.name} is too large: a truth may have 512 MiB.`);
  const begin = await file.slice(0, LOOKED_AT).text().catch(() => null);
  if (begin === null) throw new Error(`${file.name} has changed since, or is gone: choose it again.`);
  if (!/^\s*(\{|$)/.test(begin)) throw new Error(`${file.name} is no COCO JSON, which begins with “{”.`);
}
