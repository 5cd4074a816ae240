// Where a job's images come from.
import { get } from "../../lib/api.js";
import { useFetched } from "../../lib/hooks.js";
import { html } from "../../lib/html.js";
import { Choice, ErrorNotice, Field, Select } from "../../ui/basics.js";
import { Upload, isManifest } from "./upload.js";

const KINDS = [["upload", "Upload"], ["manifest", "Manifest"], ["prefix", "Bucket"], ["dataset", "Uploaded before"]];
const UPLOAD_HINT = "JPEG, PNG, WebP, TIFF and more. They are stored by the service, under a dataset of yours. "
  + "A manifest among them may name a part of them, with prompts of their own.";

/** {kind, id, name, manifest, manifests, uri, busy}: what is chosen so far. */
export function SourceChooser({ value, onChange }) {
  const set = (change) => onChange((old) => ({ ...old, ...change }));
  const choose = (kind) => onChange({ kind });
  const Chooser = CHOOSERS[value.kind];
  return html`
    <${Choice} label="Where the images are" value=${value.kind} options=${KINDS} onChange=${choose} />
    <${Chooser} value=${value} set=${set} />`;
}

const CHOOSERS = { upload: Uploaded, manifest: Manifest, prefix: Prefix, dataset: Datasets };

function Uploaded({ value, set }) {
  return html`
    <${Upload}
      value=${value}
      onChange=${set}
      label="Drop a folder or images here"
      hint=${UPLOAD_HINT}
    />
    ${value.manifests?.length > 0 && html`<${Label} value=${value} set=${set} />`}`;
}

/** All images of an upload, or those that a manifest in it names. */
function Label({ value, set }) {
  const options = [["", "All images"], ...value.manifests.map((name) => [name, `Those that ${name} names`])];
  const choose = (manifest) => set({ manifest: manifest || null });
  return html`
    <${Field} label="Label">
      ${(field) => html`<${Select} ...${field} value=${value.manifest ?? ""} onChange=${choose} options=${options} />`}
    <//>`;
}

function Manifest({ value, set }) {
  const take = (change) => set({ ...change, ...(change.manifests && { manifest: change.manifests[0] ?? null }) });
  return html`
    <${Field} label="Address of a manifest" hint="JSON lines, CSV, Parquet, or an address a line; s3:// only.">
      ${(field) => html`<${Address} ...${field} value=${value} set=${set} placeholder="s3://bucket/images.jsonl" />`}
    <//>
    <p class="small muted">or a file of this computer, whose lines name s3:// or https:// images:</p>
    <${Upload}
      isSmall
      value=${value}
      onChange=${take}
      accepts=${isManifest}
      label="Drop a manifest here"
      hint=".jsonl, .csv, .parquet or .txt"
    />`;
}

function Prefix({ value, set }) {
  return html`
    <${Field} label="Prefix of a bucket" hint="All images below it. The operator's list says which buckets may be read.">
      ${(field) => html`<${Address} ...${field} value=${value} set=${set} placeholder="s3://bucket/photos/" />`}
    <//>`;
}

function Address({ value, set, ...rest }) {
  const change = (event) => set({ uri: event.target.value });
  return html`<input ...${rest} class="code" value=${value.uri ?? ""} spellcheck=${false} onInput=${change} />`;
}

function Datasets({ value, set }) {
  const load = (signal) => get("/v1/datasets", { query: { limit: 500 }, signal });
  const { data, error, reload } = useFetched(load, []);
  if (error) return html`<${ErrorNotice} error=${error} retry=${reload} />`;
  if (!data) return html`<div class="skeleton"></div>`;
  if (!data.data.length) return html`<p class="muted">Nothing was uploaded with this key yet.</p>`;
  const nameOf = ({ name, created_at: at }) => `${name} · ${new Date(at).toLocaleDateString()}`;
  const options = [["", "Choose one"], ...data.data.toReversed().map((one) => [one.id, nameOf(one)])];
  const choose = (id) => set({ id });
  const input = (field) => html`
    <input
      ...${field}
      class="code"
      value=${value.manifest ?? ""}
      placeholder="images.jsonl"
      onInput=${(event) => set({ manifest: event.target.value || null })}
    />`;
  return html`
    <${Field} label="Dataset">
      ${(field) => html`<${Select} ...${field} value=${value.id ?? ""} options=${options} onChange=${choose} />`}
    <//>
    <${Field} label="Manifest in it" hint="Empty: all its images.">${input}<//>`;
}

/** As `POST /v1/jobs` takes it; null while something is missing. */
export function asSource({ kind, id, manifest, uri }) {
  if (kind === "prefix") return uri?.trim() ? { type: "prefix", uri: uri.trim() } : null;
  if (kind === "manifest" && uri?.trim()) return { type: "manifest", uri: uri.trim() };
  if (kind === "manifest" && !manifest) return null;
  return id ? { type: "dataset", id, ...(manifest && { manifest }) } : null;
}

export function fromSource({ type, id, manifest, uri }) {
  return type === "dataset" ? { kind: "dataset", id, manifest } : { kind: type, uri };
}
