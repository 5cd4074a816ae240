// One image of the gallery: its picture, its masks, and what is known of it.
import { messageOf } from "../../lib/api.js";
import { fileName, plural, score } from "../../lib/format.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../../lib/html.js";
import { MaskLayer } from "../../lib/mask-layer.js";
import { decoded } from "../../lib/masks.js";
import { fetchPicture, pictureAddress, pictureAtHand } from "../../lib/pictures.js";

const SIDES = [320, 640, 1024]; // few sizes, so that pictures are kept and found again

export function Tile({ jobId, position, row, view, href, width, ...focus }) {
  if (row === undefined) return html`<div class="tile"><div class="skeleton"></div></div>`;
  if (row === null) {
    return html`<div class="tile waiting" ...${focus}><div class="stage"></div>
      <p class="caption"><span class="muted">Image ${position}</span><span class="muted small">Not labelled yet</span></p></div>`;
  }
  return html`<a class="tile" href=${href} ...${focus}>
    ${row.error ? html`<${Failure} error=${row.error} />` : html`<${Labelled} jobId=${jobId} row=${row} view=${view} width=${width} />`}
    <${Caption} row=${row} view=${view} />
  </a>`;
}

function Failure({ error }) {
  return html`<div class="stage failure"><span class="chip failed">${error.code}</span><span class="small">${error.message}</span></div>`;
}

function Caption({ row, view }) {
  const shownOf = () => (row.annotations ?? []).filter(view.shows).length;
  const [shown, setShown] = useState(shownOf);
  useEffect(() => {
    const look = () => setShown(shownOf());
    look();
    return view.listen(look);
  }, [row, view]);
  const all = row.annotations?.length ?? 0;
  return html`<span class="caption"><span class="cut" title=${row.image}>${fileName(row.image)}</span>
    <span class="muted small numbers">${row.error ? "Failed" : shown === all ? plural(all, "mask") : `${shown} of ${plural(all, "mask")}`}
      ${!row.error && all > 0 && html` · ${score(row.lowest_score)}–${score(row.highest_score)}`}</span></span>`;
}

function Labelled({ jobId, row, view, width }) {
  const height = Math.round(width * 0.75);
  const fit = Math.min(width / row.width, height / row.height);
  const side = SIDES.find((one) => one >= Math.max(row.width, row.height) * fit * Math.min(devicePixelRatio, 2)) ?? SIDES.at(-1);
  const size = { width: `${row.width * fit}px`, height: `${row.height * fit}px` };
  return html`<div class="stage"><div class="picture" style=${size}>
    <${Picture} key=${side} address=${pictureAddress(jobId, row.image_index, side)} name=${fileName(row.image)} />
    <${Masks} row=${row} view=${view} fit=${fit} />
  </div></div>`;
}

function Picture({ address, name }) {
  const [url, setUrl] = useState(() => pictureAtHand(address));
  const [error, setError] = useState(null);
  useEffect(() => {
    if (url) return undefined;
    const leaving = new AbortController();
    fetchPicture(address, leaving.signal).then(setUrl, (refused) => setError(messageOf(refused)));
    return () => leaving.abort();
  }, [address]);
  if (error) return html`<span class="no-picture small">No picture: ${error}</span>`;
  return url ? html`<img src=${url} alt=${name} draggable=${false} />` : html`<div class="skeleton"></div>`;
}

/** Twice as fine as the screen, which smooths the outlines. */
function Masks({ row, view, fit }) {
  const canvas = useRef(null);
  const instances = useMemo(() => decoded(row.annotations ?? []), [row]);
  useLayoutEffect(() => {
    const fine = Math.max(2, devicePixelRatio);
    const layer = new MaskLayer(canvas.current, fine);
    const scale = fit * fine;
    layer.place(instances, { scale, x: 0, y: 0, width: Math.round(row.width * scale), height: Math.round(row.height * scale) });
    layer.draw(view);
    return view.listen(() => layer.draw(view));
  }, [instances, fit, view]);
  return html`<canvas ref=${canvas} class="masks" aria-hidden="true"></canvas>`;
}
