// One image, as large as the window: zoom, its instances one by one, and the raw answer.
import { get, messageOf, queryString } from "../../lib/api.js";
import { count, duration, fileName, plural } from "../../lib/format.js";
import { html, useEffect, useMemo, useRef, useState } from "../../lib/html.js";
import { useView } from "../../lib/mask-view.js";
import { decoded } from "../../lib/masks.js";
import { fetchPicture, pictureAddress, pictureAtHand } from "../../lib/pictures.js";
import { replace } from "../../lib/router.js";
import { Button, ErrorNotice } from "../../ui/basics.js";
import { Instance } from "../../ui/instance.js";
import { ThresholdSlider } from "../../ui/threshold.js";
import { StageMasks } from "../../ui/stage-masks.js";
import { ZoomStage } from "../../ui/zoom.js";
import { usePages } from "./gallery.js";

const LONGEST_SIDE = 1600;
const LISTED = 60; // instances: more make the slider slow, and nobody reads them

export function Viewer({ job, pages, view, sort, image, position, total }) {
  const dialog = useRef(null);
  usePages(pages);
  useEffect(() => {
    pages.want("viewer", Math.max(0, position - 1), Math.min(total - 1, position + 1));
  }, [pages, position]);
  useEffect(() => {
    const opened = dialog.current;
    opened.showModal();
    return () => opened.close();
  }, []);
  const row = pages.at(position);
  const close = () => replace(`#/jobs/${job.id}${queryString({ sort: sort === "index" ? null : sort })}`);
  const goTo = (target) => {
    if (target < 0 || target >= total) return;
    const index = pages.at(target)?.image_index ?? target;
    replace(`#/jobs/${job.id}/images/${index}${queryString({ sort: sort === "index" ? null : sort, at: target })}`);
  };
  const onKeyDown = (event) => {
    if (event.target.matches("input, select, textarea")) return;
    if (event.key === "ArrowLeft") goTo(position - 1);
    if (event.key === "ArrowRight") goTo(position + 1);
  };
  const onCancel = (event) => {
    event.preventDefault();
    close();
  };
  const categories = pages.categories ?? [];
  return html`
    <dialog ref=${dialog} class="viewer" aria-label=${`Image ${image}`} onCancel=${onCancel} onKeyDown=${onKeyDown}>
      <header>
        <${Step} icon="left" label="Previous image (←)" isEnd=${position === 0} onStep=${() => goTo(position - 1)} />
        <${Step} icon="right" label="Next image (→)" isEnd=${position >= total - 1} onStep=${() => goTo(position + 1)} />
        <h2 class="grow cut">${row ? fileName(row.image) : `Image ${image}`}</h2>
        <span class="numbers small muted">${count(position + 1)} of ${count(total)}</span>
        <${Button} kind="quiet" icon="close" label="Close (Esc)" onClick=${close} />
      </header>
      ${row && html`<${Shown} key=${row.image_index} job=${job} row=${row} view=${view} categories=${categories} />`}
      ${!row && html`
        <div class="viewer-wait">
          ${row === null ? html`<p>This image is not labelled yet.</p>` : html`<${ErrorNotice} error=${pages.error} />`}
        </div>`}
    </dialog>`;
}

function Step({ icon, label, isEnd, onStep }) {
  return html`<${Button} kind="quiet" icon=${icon} label=${label} disabled=${isEnd} onClick=${onStep} />`;
}

function Shown({ job, row, view, categories }) {
  const [pointedAt, setPointedAt] = useState(null);
  const instances = useMemo(() => decoded(row.annotations ?? []), [row]);
  const hit = useRef(null);
  const [url, error] = usePicture(row.error ? null : pictureAddress(job.id, row.image_index, LONGEST_SIDE));
  const find = (point) => setPointedAt(point && hit.current?.(point));
  if (row.error) {
    return html`
      <div class="viewer-body">
        <${FailedStage} error=${row.error} />
        <${Facts} job=${job} row=${row} />
      </div>`;
  }
  const masks = (stage) => html`
    <${StageMasks} hit=${hit} instances=${instances} view=${view} pointedAt=${pointedAt} stage=${stage} />`;
  return html`
    <div class="viewer-body">
      <${ZoomStage}
        size=${{ width: row.width, height: row.height }}
        url=${url}
        alt=${fileName(row.image)}
        onHover=${find}
        onPoint=${find}
        label="The image with its masks. + and − zoom, 0 fits it, the arrows go to its neighbours."
      >${masks}<//>
      <aside class="viewer-side" aria-label="Instances">
        ${error && html`<p class="notice warn small">No picture: ${error}</p>`}
        <${ThresholdSlider} view=${view} floor=${job.floor} />
        <${InstanceList} row=${row} view=${view} categories=${categories} pointedAt=${pointedAt} onPoint=${setPointedAt} />
        <${Facts} job=${job} row=${row} />
      </aside>
    </div>`;
}

function FailedStage({ error }) {
  return html`
    <div class="viewer-wait">
      <div class="stack tight">
        <p><span class="chip failed">${error.code}</span></p>
        <p>${error.message}</p>
        <p class="small muted">
          The job went on without this image. <a href="/docs">What codes mean</a> is in the reference; once it is mended,
          retry the failed images.
        </p>
      </div>
    </div>`;
}

function InstanceList({ row, view, categories, pointedAt, onPoint }) {
  useView(view);
  const names = new Map(categories.map(({ id, name }) => [id, name]));
  const shown = (row.annotations ?? []).filter(view.shows).toSorted((one, other) => other.score - one.score);
  const hidden = (row.annotations?.length ?? 0) - shown.length;
  return html`
    <div class="stack tight">
      <p class="small numbers" role="status">
        ${plural(shown.length, "mask")}
        ${hidden > 0 && html`<span class="muted">, ${hidden} below the threshold or hidden</span>`}
      </p>
      <ul class="instances">
        ${shown.slice(0, LISTED).map((annotation) => html`
          <${Instance}
            key=${annotation.instance}
            annotation=${annotation}
            name=${names.get(annotation.category_id)}
            isPointedAt=${annotation === pointedAt}
            onPoint=${onPoint}
          />`)}
      </ul>
      ${shown.length > LISTED && html`<p class="small muted">The ${LISTED} best are listed, all are shown.</p>`}
    </div>`;
}

function Facts({ job, row }) {
  const [json, setJson] = useState(null);
  const [error, setError] = useState(null);
  const show = () => {
    const path = `/v1/jobs/${job.id}/images/${row.image_index}/annotations`;
    get(path, { query: { min_score: 0 } }).then(
      (found) => setJson(JSON.stringify(found, null, 2)),
      (refused) => setError(messageOf(refused)),
    );
  };
  const turned = row.orientation > 1 && `, turned (EXIF ${row.orientation})`;
  return html`
    <div class="stack tight">
      <dl class="pairs small">
        <dt>Image</dt><dd>${row.image}</dd>
        ${row.custom_id !== null && html`<dt>Your id</dt><dd>${row.custom_id}</dd>`}
        ${row.width > 0 && html`<dt>Size</dt><dd class="numbers">${row.width} × ${row.height}${turned}</dd>`}
        <dt>Labelled in</dt><dd class="numbers">${duration(row.milliseconds / 1000)}</dd>
      </dl>
      <${Saturated} job=${job} indexes=${row.saturated_prompts ?? []} />
      <${ErrorNotice} error=${error} />
      ${json === null && html`<div><${Button} kind="little" onClick=${show}>Raw JSON<//></div>`}
      ${json !== null && html`<pre class="raw" tabindex="0" aria-label="Raw JSON">${json}</pre>`}
    </div>`;
}

function Saturated({ job, indexes }) {
  if (!indexes.length) return null;
  const texts = indexes.map((index) => job.prompts[index]?.text ?? `prompt ${index}`);
  return html`
    <p class="notice warn small">
      Near the most instances that the network can return for: ${texts.join(", ")}. There may be more.
    </p>`;
}

function usePicture(address) {
  const [state, setState] = useState([address && (pictureAtHand(address) ?? null), null]);
  useEffect(() => {
    if (!address || state[0]) return undefined;
    const leaving = new AbortController();
    fetchPicture(address, leaving.signal).then(
      (url) => setState([url, null]),
      (refused) => setState([null, messageOf(refused)]),
    );
    return () => leaving.abort();
  }, [address]);
  return state;
}
