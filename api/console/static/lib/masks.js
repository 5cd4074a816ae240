// Paints masks over an image. Each mask is kept as parts of the raster's rows, so that painting is
// filling parts of an array: another threshold, or another class hidden, is a matter of filling fewer
// of them, and needs neither a request nor anything decoded.
import { grown, runLengths, scaleRuns } from "./rle.js";

const TINT = 115; // of 255: how much of a colour covers the image
const STRONG_TINT = 190; // of the instance that is pointed at
const RIM_COLOUR = 0x99000000; // dark, around a mask: keeps like colours apart
const LINE_WIDTH = 1.6; // pixels of the screen: an outline, inside the mask
const RIM_WIDTH = 0.8; // and around it
const [RIM, LINE, INSIDE] = [1, 2, 3];
const SHORT = 12; // pixels that are quicker set one by one

let pixels = new Uint32Array(0);
let box = new Uint8Array(0);

/** Instances of an image with their decoded lengths, large ones first: small ones lie on top. */
export function decoded(annotations) {
  return annotations
    .map((annotation) => ({ annotation, lengths: runLengths(annotation.segmentation.counts) }))
    .toSorted((one, other) => other.annotation.area - one.annotation.area);
}

/** The same for one window, see `scaleRuns`; `fine` are its pixels for one of the screen. */
export function scaled(instances, window, fine) {
  const [line, rim] = [LINE_WIDTH, RIM_WIDTH].map((width) => Math.max(1, Math.round(width * fine)));
  return instances.map(({ annotation, lengths }) => {
    const runs = scaleRuns(lengths, annotation.segmentation.size[0], window);
    return { annotation, runs, parts: runs.length ? partsOf(runs, window, { line, rim }) : runs };
  });
}

/**
 * Paints those of the `scaled` masks that `shows(annotation)` to the canvas, over whatever was there;
 * `colourOf(annotation)` is [red, green, blue].
 */
export function paint(canvas, masks, { shows, colourOf, pointedAt = null }) {
  const { width, height } = canvas;
  if (pixels.length < width * height) pixels = new Uint32Array(width * height);
  pixels.fill(0, 0, width * height);
  for (const { annotation, parts } of masks) {
    if (!shows(annotation)) continue;
    const [red, green, blue] = colourOf(annotation);
    const colour = (blue << 16) | (green << 8) | red;
    const tint = annotation === pointedAt ? STRONG_TINT : TINT;
    fill(parts, [0, RIM_COLOUR, colour | 0xff000000, colour | (tint << 24)]);
  }
  const image = new ImageData(new Uint8ClampedArray(pixels.buffer, 0, 4 * width * height), width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function fill(parts, colours) {
  for (let at = 0; at < parts.length; at += 3) {
    const colour = colours[parts[at]];
    const end = parts[at + 2];
    if (end - parts[at + 1] > SHORT) pixels.fill(colour, parts[at + 1], end);
    else for (let pixel = parts[at + 1]; pixel < end; pixel++) pixels[pixel] = colour;
  }
}

/** The annotation of the topmost of the shown masks at a pixel of the canvas. */
export function annotationAt(masks, { width, height }, { x, y, shows }) {
  if (x < 0 || y < 0 || x >= width || y >= height) return null;
  const under = masks.findLast(({ annotation, runs }) => shows(annotation) && holds(runs, x * height + y));
  return under?.annotation ?? null;
}

/** Runs are sorted. */
function holds(runs, position) {
  let low = 0;
  let high = runs.length / 2;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (runs[2 * middle + 1] <= position) low = middle + 1;
    else high = middle;
  }
  return 2 * low < runs.length && runs[2 * low] <= position;
}

/** [kind, start, end, ...] along the rows of the raster: inside, outline and rim of a mask. */
function partsOf(runs, window, { line, rim }) {
  const around = 2 * Math.max(line, rim); // empty, so that neighbours may be looked at
  const { left, top, columns, rows } = drawBox(runs, window.height, around);
  let parts = new Uint32Array(1024);
  let used = 0;
  const firstRow = Math.max(around - rim, around - top);
  const lastRow = Math.min(rows - around + rim, window.height - top + around);
  const firstColumn = Math.max(around - rim, around - left);
  const lastColumn = Math.min(columns - around + rim, window.width - left + around);
  for (let y = firstRow; y < lastRow; y++) {
    const start = (y + top - around) * window.width + left - around;
    let kind = 0;
    let begun = 0;
    for (let x = firstColumn; x <= lastColumn; x++) {
      const found = x < lastColumn ? kindAt(y * columns + x, columns, line, rim) : 0;
      if (found === kind) continue;
      if (kind !== 0) {
        if (used + 3 > parts.length) parts = grown(parts);
        parts[used++] = kind;
        parts[used++] = start + begun;
        parts[used++] = start + x;
      }
      kind = found;
      begun = x;
    }
  }
  return parts.slice(0, used);
}

function kindAt(at, columns, line, rim) {
  if (box[at]) {
    const isInside = box[at - line] & box[at + line] & box[at - line * columns] & box[at + line * columns];
    return isInside ? INSIDE : LINE;
  }
  return box[at - rim] | box[at + rim] | box[at - rim * columns] | box[at + rim * columns] ? RIM : 0;
}

/** Draws the mask to `box`, along its rows, with so many empty pixels around it. */
function drawBox(runs, height, around) {
  const left = Math.floor(runs[0] / height);
  const right = Math.floor(runs[runs.length - 2] / height);
  let top = height;
  let bottom = 0;
  for (let at = 0; at < runs.length; at += 2) {
    const y = runs[at] % height;
    top = Math.min(top, y);
    bottom = Math.max(bottom, y + runs[at + 1] - runs[at]);
  }
  const columns = right - left + 1 + 2 * around;
  const rows = bottom - top + 2 * around;
  if (box.length < columns * rows) box = new Uint8Array(columns * rows);
  box.fill(0, 0, columns * rows);
  for (let at = 0; at < runs.length; at += 2) {
    const x = Math.floor(runs[at] / height);
    let pixel = (runs[at] - x * height - top + around) * columns + x - left + around;
    for (let count = runs[at + 1] - runs[at]; count > 0; count--, pixel += columns) box[pixel] = 1;
  }
  return { left, top, columns, rows };
}
