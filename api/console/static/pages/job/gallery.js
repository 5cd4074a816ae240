// A job's images with their masks. Masks come once; what is shown of them is decided here.
import { count, plural } from "../../lib/format.js";
import { isOpenJob } from "../../lib/hooks.js";
import { html, useEffect, useRef, useState } from "../../lib/html.js";
import { useView } from "../../lib/mask-view.js";
import { queryString } from "../../lib/api.js";
import { Button, Choice, Empty, ErrorNotice, Select } from "../../ui/basics.js";
import { classNamesOf } from "../../ui/job-parts.js";
import { Legend, ThresholdSlider, countShown } from "../../ui/threshold.js";
import { VirtualGrid } from "../../ui/virtual-grid.js";
import { Tile } from "./tile.js";

export const ORDERS = [
  ["index", "As listed"],
  ["most", "Most masks"],
  ["fewest", "Fewest masks"],
  ["lowest", "Lowest score"],
  ["highest", "Highest score"],
  ["failed", "Failed only"],
];
const WIDTHS = [["140", "S"], ["220", "M"], ["340", "L"]];
const CAPTION = 48;

export function Gallery({ job, pages, view, sort, onSort, onRefresh }) {
  const [width, setWidth] = useState(() => localStorage.getItem("maskmill.tiles") ?? "220");
  const range = useRef([0, 0]);
  usePages(pages);
  const done = job.counts.succeeded + job.counts.failed;
  useEffect(() => {
    if (sort === "index") pages.refresh();
  }, [pages, done]);
  const total = lengthOf(job, pages, sort);
  const onRange = (first, last) => {
    range.current = [first, last];
    pages.want("gallery", first, last);
  };
  const cell = (position, rest) => {
    const row = pages.at(position);
    const query = queryString({ sort: sort === "index" ? null : sort, at: position });
    const href = row && `#/jobs/${job.id}/images/${row.image_index}${query}`;
    return html`<${Tile} jobId=${job.id} position=${position} row=${row} view=${view} href=${href} ...${rest} />`;
  };
  const resize = (chosen) => {
    localStorage.setItem("maskmill.tiles", chosen);
    setWidth(chosen);
  };
  return html`
    <div class="gallery">
      <aside class="side" aria-label="What is shown">
        <${ThresholdSlider} view=${view} floor=${job.floor} />
        <${Shown} job=${job} pages=${pages} view=${view} />
        <div class="field">
          <label for="order">Order</label>
          <${Select} id="order" value=${sort} options=${ORDERS} onChange=${onSort} />
        </div>
        <div class="row apart">
          <span class="label">Tiles</span>
          <${Choice} label="Size of tiles" value=${width} options=${WIDTHS} onChange=${resize} />
        </div>
        ${sort !== "index" && isOpenJob(job) && html`<${OrderAnew} onRefresh=${onRefresh} />`}
        ${pages.sortedOf !== null && pages.sortedOf < done && html`
          <p class="hint">In order: the first ${plural(pages.sortedOf, "image")} of the job.</p>`}
        <p class="hint keys">
          <kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd> from image to image, <kbd>Enter</kbd> opens
        </p>
      </aside>
      <div class="stack">
        <${ErrorNotice} error=${pages.error} retry=${() => onRange(...range.current)} />
        ${total === 0 && html`<${Nothing} job=${job} sort=${sort} />`}
        ${total !== 0 && html`
          <${VirtualGrid}
            key=${sort}
            count=${total}
            cellWidth=${Number(width)}
            captionHeight=${CAPTION}
            cell=${cell}
            onRange=${onRange}
            label=${`${count(total)} images`}
          />`}
      </div>
    </div>`;
}

function OrderAnew({ onRefresh }) {
  return html`
    <div class="stack tight">
      <p class="hint">The order is that of the images labelled when it was made.</p>
      <${Button} kind="little" icon="again" onClick=${onRefresh}>Order anew<//>
    </div>`;
}

function Shown({ job, pages, view }) {
  useView(view);
  const counts = countShown(pages.rows(), view);
  const images = [...pages.rows()].length;
  const all = [...counts.values()].reduce((sum, number) => sum + number, 0);
  return html`
    <${Legend} view=${view} classes=${pages.categories ?? classesOf(job)} counts=${counts} floor=${job.floor} />
    <p class="hint numbers" role="status">${plural(all, "mask")} in the ${plural(images, "image")} looked at so far</p>`;
}

function Nothing({ job, sort }) {
  if (sort === "failed") return html`<${Empty} title="No image failed"><p>Every image that the job has come to was labelled.</p><//>`;
  if (job.status === "failed") return html`<${Empty} title="Nothing was labelled"><p>${job.error?.message}</p><//>`;
  return html`<${Empty} title="No images yet"><p>The first ones appear here as soon as they are labelled.</p><//>`;
}

/** Those of the job's prompts, before an answer has them all. */
const classesOf = (job) => classNamesOf(job).map((name, place) => ({ id: place + 1, name }));

/** How many images there are in an order. */
export function lengthOf({ counts }, pages, sort) {
  if (sort === "index") return counts.total;
  if (sort === "failed") return counts.failed; // they are its first
  return pages.sortedOf ?? counts.succeeded + counts.failed;
}

export function usePages(pages) {
  const [, setRound] = useState(0);
  useEffect(() => pages.listen(() => setRound((number) => number + 1)), [pages]);
}
