// Masks over a zoom stage, in the pixels of the screen.
import { html, useLayoutEffect, useRef } from "../lib/html.js";
import { MaskLayer } from "../lib/mask-layer.js";

/** `hit.current(point)` says which annotation is shown at a point of the image. */
export function StageMasks({ hit, instances, view, pointedAt, place, pixels }) {
  const canvas = useRef(null);
  const layer = useRef(null);
  const fine = devicePixelRatio;
  const window = { scale: place.scale * fine, x: place.x * fine, y: place.y * fine, width: Math.round(pixels.width * fine), height: Math.round(pixels.height * fine) };
  hit.current = ({ x, y }) => layer.current.at(Math.floor(x * window.scale + window.x), Math.floor(y * window.scale + window.y));
  useLayoutEffect(() => {
    layer.current ??= new MaskLayer(canvas.current, fine);
    layer.current.place(instances, window);
    layer.current.draw(view, pointedAt);
  }, [instances, window.scale, window.x, window.y, window.width, window.height]);
  useLayoutEffect(() => {
    layer.current.draw(view, pointedAt);
    return view.listen(() => layer.current.draw(view, pointedAt));
  }, [instances, view, pointedAt]);
  return html`<canvas ref=${canvas} class="stage-masks" aria-hidden="true"></canvas>`;
}
