// The result in the form of another tool: ask for it, watch it, take it.
import { get, messageOf, post, remove } from "../../lib/api.js";
import { ago, bytes, count, plural, score } from "../../lib/format.js";
import { useAction, useEvery, useFetched } from "../../lib/hooks.js";
import { html, useEffect, useState } from "../../lib/html.js";
import { Bar, Button, Empty, ErrorNotice, Skeletons } from "../../ui/basics.js";
import { ExportForm } from "./export-form.js";
import { TITLES, isGeometric } from "./export-formats.js";
import { STATES, download, isOpen } from "./made.js";

export function Exports({ job, round }) {
  const path = `/v1/jobs/${job.id}/exports`;
  const load = (signal) => get(path, { query: { limit: 100 }, signal });
  const { data, error, reload, look } = useFetched(load, [job.id, round]);
  useEvery(1, look, data?.data.some(isOpen) ?? false);
  if (job.held_at) return html`<${Empty} title="On hold"><p>Exports are made of a result: start the job first.</p><//>`;
  return html`
    <div class="export-page">
      <${ExportForm} job=${job} onMade=${reload} />
      <section class="stack" aria-label="Exports">
        <h2>Exports</h2>
        <${ErrorNotice} error=${error} retry=${reload} />
        ${!data && !error && html`<${Skeletons} count=${2} height="5rem" />`}
        ${data?.data.length === 0 && html`<${NoExports} />`}
        ${data?.data.map((one) => html`<${Export} key=${one.id} path=${path} one=${one} onChange=${reload} />`)}
      </section>
    </div>`;
}

function NoExports() {
  return html`
    <${Empty} title="No exports yet">
      <p>
        An export shows the result in a form that another tool reads. It is made of what is stored, without a GPU: make as
        many as you like.
      </p>
    <//>`;
}

function Export({ path, one, onChange }) {
  const { busy, error, run } = useAction();
  const withdraw = () => run(async () => onChange(await post(`${path}/${one.id}/cancel`)));
  const drop = () => run(async () => onChange(await remove(`${path}/${one.id}`)));
  const title = TITLES.get(one.options.format);
  return html`
    <article class="card stack tight" aria-label=${title}>
      <div class="row apart">
        <h3>
          <span class=${`chip ${one.status}`}>${STATES[one.status]}</span> ${title}
          ${one.partial && html`${" "}<span class="muted">· of a part</span>`}
        </h3>
        <span class="small muted">${ago(one.created_at)}</span>
      </div>
      <p class="small muted numbers">${chosen(one.options)}</p>
      ${isOpen(one) && html`<${Progress} progress=${one.progress} />`}
      ${one.error && html`
        <p class="notice bad small"><span><strong>${one.error.code}</strong> ${one.error.message}</span></p>`}
      ${one.report && html`<${Report} report=${one.report} />`}
      ${one.status === "succeeded" && html`<${Files} path=${`${path}/${one.id}`} />`}
      <${ErrorNotice} error=${error} />
      <div class="row">
        <${Button} kind="little danger" busy=${busy} onClick=${isOpen(one) ? withdraw : drop}>
          ${isOpen(one) ? "Cancel" : "Delete"}
        <//>
      </div>
    </article>`;
}

function Progress({ progress: { images_read: done, images_total: total, pass_number: pass } }) {
  return html`
    <${Bar} label="Progress of the export" done=${done} total=${total} />
    <p class="small numbers">
      ${count(done)} of ${total === null ? "?" : plural(total, "image")}${pass > 1 && `, pass ${pass}`}
    </p>`;
}

function Report({ report: { images, instances, loss } }) {
  return html`
    <p class="small numbers">
      ${plural(instances, "instance")} in ${plural(images, "image")}${loss && html`<span class="muted">${lost(loss)}</span>`}
    </p>`;
}

function lost({ mean_iou: mean, worst_iou: worst, dropped }) {
  const small = dropped > 0 ? `, ${dropped} too small and dropped` : "";
  return ` · polygons against masks: mean IoU ${mean.toFixed(3)}, worst ${worst.toFixed(3)}${small}`;
}

function Files({ path }) {
  const [files, setFiles] = useState(null);
  const [error, setError] = useState(null);
  const say = (refused) => setError(messageOf(refused));
  useEffect(() => {
    get(path).then((one) => setFiles(one.files), say);
  }, [path]);
  return html`
    <div class="stack tight">
      <${ErrorNotice} error=${error} />
      <ul class="files">
        ${files?.map((file) => html`
          <li key=${file.name}>
            <${Button} kind="little" icon="down" onClick=${() => download(path, file.name).catch(say)}>${file.name}<//>
            <span class="small muted numbers">${bytes(file.bytes)}</span>
          </li>`)}
      </ul>
    </div>`;
}

/** An export's options in words. */
function chosen(options) {
  const own = Object.entries(options.class_scores ?? {}).map(([name, value]) => `${name} from ${score(value)}`);
  const parts = [options.min_score === null ? "each prompt's threshold" : `from ${score(options.min_score)}`, ...own];
  if (options.nms_within !== null) parts.push(`overlaps up to ${options.nms_within}`);
  if (isGeometric(options.format)) parts.push(options.geometry);
  for (const [old, name] of Object.entries(options.classes ?? {})) {
    parts.push(name === null ? `without ${old}` : `${old} as ${name}`);
  }
  return parts.join(" · ");
}
