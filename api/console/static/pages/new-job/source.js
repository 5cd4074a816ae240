// Where a job's images come from.
import { get } from "../../lib/api.js";
import { useFetched } from "../../lib/hooks.js";
import { html } from "../../lib/html.js";
import { Choice, ErrorNotice, Field, Select } from "../../ui/basics.js";
import { Upload, isManifest } from "./upload.js";

const KINDS = [["upload", "Upload"], ["manifest", "Manifest"], ["prefix", "Bucket"], ["dataset", "Uploaded before"]];

/** {kind, id, name, manifest, manifests, uri, busy}: what is chosen so far. */
export function SourceChooser({ value, onChange }) {
  const set = (change) => onChange((old) => ({ ...old, ...change }));
  return html`
    <${Choice} label="Where the images are" value=${value.kind} options=${KINDS} onChange=${(kind) => onChange({ kind })} />
    ${value.kind === "upload" && html`<${Upload} key="upload" value=${value} onChange=${set} label="Drop a folder or images here"
      hint="JPEG, PNG, WebP, TIFF and more. They are stored by the service, under a dataset of yours. A manifest among them may name a part of them, with prompts of their own." />
      ${value.manifests?.length > 0 && html`<${Field} label="Label">${(field) => html`<${Select} ...${field} value=${value.manifest ?? ""} onChange=${(manifest) => set({ manifest: manifest || null })}
        options=${[["", "All images"], ...value.manifests.map((name) => [name, `Those that ${name} names`])]} />`}<//>`}`}
    ${value.kind === "manifest" && html`<${Manifest} value=${value} set=${set} />`}
    ${value.kind === "prefix" && html`<${Field} label="Prefix of a bucket" hint="All images below it. The operator's list says which buckets may be read.">
      ${(field) => html`<input ...${field} class="code" value=${value.uri ?? ""} placeholder="s3://bucket/photos/" spellcheck=${false} onInput=${(event) => set({ uri: event.target.value })} />`}<//>`}
    ${value.kind === "dataset" && html`<${Datasets} value=${value} set=${set} />`}`;
}

function Manifest({ value, set }) {
  return html`
    <${Field} label="Address of a manifest" hint="JSON lines, CSV, Parquet, or an address a line; s3:// only.">
      ${(field) => html`<input ...${field} class="code" value=${value.uri ?? ""} placeholder="s3://bucket/images.jsonl" spellcheck=${false} onInput=${(event) => set({ uri: event.target.value })} />`}<//>
    <p class="small muted">or a file of this computer, whose lines name s3:// or https:// images:</p>
    <${Upload} key="manifest" isSmall value=${value} onChange=${(change) => set({ ...change, ...(change.manifests && { manifest: change.manifests[0] ?? null }) })} accepts=${isManifest}
      label="Drop a manifest here" hint=".jsonl, .csv, .parquet or .txt" />`;
}

function Datasets({ value, set }) {
  const { data, error, reload } = useFetched((signal) => get("/v1/datasets", { query: { limit: 500 }, signal }), []);
  if (error) return html`<${ErrorNotice} error=${error} retry=${reload} />`;
  if (!data) return html`<div class="skeleton"></div>`;
  if (!data.data.length) return html`<p class="muted">Nothing was uploaded with this key yet.</p>`;
  const options = [["", "Choose one"], ...data.data.toReversed().map(({ id, name, created_at: at }) => [id, `${name} · ${new Date(at).toLocaleDateString()}`])];
  return html`
    <${Field} label="Dataset">${(field) => html`<${Select} ...${field} value=${value.id ?? ""} options=${options} onChange=${(id) => set({ id })} />`}<//>
    <${Field} label="Manifest in it" hint="Empty: all its images.">${(field) => html`<input ...${field} class="code" value=${value.manifest ?? ""} placeholder="images.jsonl" onInput=${(event) => set({ manifest: event.target.value || null })} />`}<//>`;
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
