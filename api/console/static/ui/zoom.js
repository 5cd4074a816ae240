// A stage on which a picture can be moved and zoomed, by wheel, fingers, mouse and keys.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { useSize } from "../lib/hooks.js";
import { Button } from "./basics.js";

const MOST = 32;
const STEP = 1.5;
const FITTING = { factor: 1, x: 0.5, y: 0.5 };

/**
 * `size` is the image's {width, height}; `children({place, pixels, size, fit})` are drawn with `place` = {scale,
 * x, y}, CSS pixels of the stage, which is `pixels` = {width, height} large; at the scale `fit` it shows all.
 * `onPoint(point)` hears clicks, in pixels of the image; `onDrag`, if given, hears {from, to} of a drag that
 * then moves nothing.
 */
export function ZoomStage({ size, url, alt, children, onPoint, onHover, onDrag, onBox, label }) {
  const [ref, pixels] = useSize();
  const [zoom, setZoom] = useState(FITTING); // the factor of what fits; the middle, in parts of the image
  const showAll = () => setZoom(FITTING);
  useEffect(showAll, [size.width, size.height, url === null]);
  const fit = pixels ? Math.min(pixels.width / size.width, pixels.height / size.height) : 0;
  const scale = fit * zoom.factor;
  const start = (side, part) => (pixels ? pixels[side] / 2 - part * size[side] * scale : 0);
  const place = { scale, x: start("width", zoom.x), y: start("height", zoom.y) };
  const state = useRef(null);
  state.current = { place, pixels, size, zoom };

  const change = (by, at) => setZoom((old) => zoomed(old, by, { at, ...state.current, fit }));
  const larger = () => change(STEP);
  const smaller = () => change(1 / STEP);
  const imagePoint = (event) => {
    const box = ref.current.getBoundingClientRect();
    return { x: (event.clientX - box.left - place.x) / scale, y: (event.clientY - box.top - place.y) / scale };
  };
  useWheel(ref, change);
  const pointers = usePointers({ ref, imagePoint, change, setZoom, state, onPoint, onDrag, onBox, onHover });
  const onKeyDown = (event) => {
    const acts = { "+": larger, "=": larger, "-": smaller, 0: showAll };
    acts[event.key]?.();
  };
  const shown = {
    width: `${size.width}px`,
    height: `${size.height}px`,
    transform: `translate(${place.x}px, ${place.y}px) scale(${scale})`,
    imageRendering: scale * devicePixelRatio > 4 ? "pixelated" : "auto",
  };
  return html`
    <div class="zoom">
      <div
        ref=${ref}
        class=${`zoom-stage ${onDrag || onBox ? "drawing" : ""}`}
        tabindex="0"
        role="application"
        aria-label=${label}
        onKeyDown=${onKeyDown}
        ...${pointers}
      >
        ${pixels && url && html`<img src=${url} alt=${alt} style=${shown} draggable=${false} />`}
        ${pixels && children({ place, pixels, size, fit })}
      </div>
      <div class="zoom-tools">
        <${Button} kind="little" icon="minus" label="Zoom out (−)" onClick=${smaller} />
        <span class="numbers small">${Math.round(zoom.factor * 100)} %</span>
        <${Button} kind="little" icon="plus" label="Zoom in (+)" onClick=${larger} />
        <${Button} kind="little" icon="fit" label="Fit (0)" onClick=${showAll} />
      </div>
    </div>`;
}

/** Keeps the point of the image that is at `at`, CSS pixels of the stage, where it is. */
function zoomed(old, by, { at, place, pixels, size, fit }) {
  const factor = Math.min(MOST, Math.max(1, old.factor * by));
  if (!at || factor === 1) return { ...clamped(old, factor), factor };
  const scale = fit * factor;
  const x = (at.x - place.x) / place.scale - (at.x - pixels.width / 2) / scale;
  const y = (at.y - place.y) / place.scale - (at.y - pixels.height / 2) / scale;
  return { ...clamped({ x: x / size.width, y: y / size.height }, factor), factor };
}

/** The image's middle stays near enough that some of it is always seen. */
function clamped({ x, y }, factor) {
  if (factor === 1) return { x: 0.5, y: 0.5 };
  return { x: Math.min(1, Math.max(0, x)), y: Math.min(1, Math.max(0, y)) };
}

function useWheel(ref, change) {
  const latest = useRef(change);
  latest.current = change;
  useEffect(() => {
    const onWheel = (event) => {
      event.preventDefault();
      const box = ref.current.getBoundingClientRect();
      latest.current(Math.exp(-event.deltaY / 400), { x: event.clientX - box.left, y: event.clientY - box.top });
    };
    ref.current.addEventListener("wheel", onWheel, { passive: false });
    return () => ref.current?.removeEventListener("wheel", onWheel);
  }, []);
}

function usePointers({ ref, imagePoint, change, setZoom, state, onPoint, onDrag, onBox, onHover }) {
  const active = useRef(new Map());
  const start = useRef(null);
  const onPointerDown = (event) => {
    if (event.button !== 0) return;
    ref.current.setPointerCapture(event.pointerId);
    active.current.set(event.pointerId, event);
    start.current = { x: event.clientX, y: event.clientY, point: imagePoint(event), zoom: state.current.zoom, moved: false };
  };
  const onPointerMove = (event) => {
    if (!active.current.has(event.pointerId)) return onHover?.(imagePoint(event));
    if (active.current.size === 2) pinch(active.current, event, { change, ref });
    active.current.set(event.pointerId, event);
    if (active.current.size > 1 || !start.current) return undefined;
    const dx = event.clientX - start.current.x;
    const dy = event.clientY - start.current.y;
    start.current.moved ||= Math.hypot(dx, dy) > 4;
    if (!start.current.moved) return undefined;
    if (onBox) return onDrag?.({ from: start.current.point, to: imagePoint(event) });
    const { place, size } = state.current;
    const from = start.current.zoom;
    const middle = { x: from.x - dx / place.scale / size.width, y: from.y - dy / place.scale / size.height };
    return setZoom({ factor: from.factor, ...clamped(middle, from.factor) });
  };
  const onPointerUp = (event) => {
    if (!active.current.delete(event.pointerId) || !start.current) return;
    const { moved, point } = start.current;
    start.current = null;
    if (!moved) onPoint?.(point, event);
    else onBox?.({ from: point, to: imagePoint(event) });
  };
  const onPointerCancel = (event) => {
    active.current.delete(event.pointerId);
    start.current = null;
  };
  return { onPointerDown, onPointerMove, onPointerUp, onPointerCancel, onPointerLeave: () => onHover?.(null) };
}

function pinch(pointers, event, { change, ref }) {
  const other = [...pointers.values()].find((one) => one.pointerId !== event.pointerId);
  const before = pointers.get(event.pointerId);
  const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
  const box = ref.current.getBoundingClientRect();
  const middle = { x: (event.clientX + other.clientX) / 2 - box.left, y: (event.clientY + other.clientY) / 2 - box.top };
  change(apart(event) / Math.max(1, apart(before)), middle);
}
