// Paints masks over an image. Each mask is kept as runs of the raster's pixels, so that painting is
// filling parts of an array with numbers: another threshold, or another class hidden, is a matter of
// filling with fewer of them, and needs neither a request nor anything decoded.
import { runLengths, scaleRuns } from "./rle.js";

const MARGIN = 8; // empty raster pixels around, in which outlines and rims are looked for
const LINE = 1.6; // pixels of the screen: an outline, inside the mask
const RIM_WIDTH = 0.8; // and around it
const TINT = 115; // of 255: how much of a colour covers the image
const STRONG_TINT = 190; // of the instance that is pointed at
const RIM = 0x99000000; // dark, around a mask: keeps like colours apart
const BLOCK = 16; // columns turned into rows at a time: a cache line of pixels

let labels = new Uint16Array(0);
let pixels = new Uint32Array(0);

/** Instances of an image as its decoded lengths, large ones first: small ones lie on top. */
export function decoded(annotations) {
  return annotations
    .map((annotation) => ({ annotation, lengths: runLengths(annotation.segmentation.counts) }))
    .sort((one, other) => other.annotation.area - one.annotation.area);
}

/** The same for one window; see `scaleRuns`. */
export function scaled(instances, window) {
  return instances.map(({ annotation, lengths }) => ({
    annotation,
    runs: scaleRuns(lengths, annotation.segmentation.size[0], window, MARGIN),
  }));
}

/**
 * `fine` are the canvas's pixels for one of the screen. Paints those of the `scaled` masks that `shows(annotation)` to the canvas, over whatever was there;
 * `colourOf(annotation)` is [red, green, blue].
 */
export function paint(canvas, masks, { shows, colourOf, fine, pointedAt = null }) {
  const { width, height } = canvas;
  const stride = height + 2 * MARGIN;
  const size = stride * (width + 2 * MARGIN);
  reserve(size, width * height);
  labels.fill(0, 0, size);
  pixels.fill(0, 0, width * height);
  const tints = new Uint32Array(masks.length + 1);
  let first = size;
  let last = 0;
  masks.forEach(({ annotation, runs }, index) => {
    if (!runs.length || !shows(annotation)) return;
    const [red, green, blue] = colourOf(annotation);
    const tint = annotation === pointedAt ? STRONG_TINT : TINT;
    tints[index + 1] = ((tint << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    for (let at = 0; at < runs.length; at += 2) labels.fill(index + 1, runs[at], runs[at + 1]);
    first = Math.min(first, runs[0]);
    last = Math.max(last, runs[runs.length - 1]);
  });
  const from = Math.max(0, Math.floor(first / stride) - 2 * MARGIN);
  const to = Math.min(width, Math.ceil(last / stride));
  const [line, rim] = [LINE, RIM_WIDTH].map((pixelsOfScreen) => Math.min(MARGIN, Math.max(1, Math.round(pixelsOfScreen * fine))));
  shade({ width, height, stride, tints, from, to, line, rim });
  const image = new ImageData(new Uint8ClampedArray(pixels.buffer, 0, 4 * width * height), width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** The annotation of the topmost of the shown masks at a pixel of the canvas. */
export function annotationAt(masks, canvas, { x, y, shows }) {
  if (x < 0 || y < 0 || x >= canvas.width || y >= canvas.height) return null;
  const position = (x + MARGIN) * (canvas.height + 2 * MARGIN) + y + MARGIN;
  const under = masks.findLast(({ annotation, runs }) => shows(annotation) && holds(runs, position));
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

/** From labels down the columns to colours along the rows: tint inside, outline, rim outside. */
function shade({ width, height, stride, tints, from, to, line, rim }) {
  for (let block = from; block < to; block += BLOCK) {
    const end = Math.min(block + BLOCK, to);
    for (let y = 0; y < height; y++) {
      let at = (block + MARGIN) * stride + y + MARGIN;
      for (let x = block; x < end; x++, at += stride) {
        const label = labels[at];
        const far = label === 0 ? rim : line;
        const up = labels[at - far];
        const down = labels[at + far];
        const left = labels[at - far * stride];
        const right = labels[at + far * stride];
        if (label === 0) {
          if (up | down | left | right) pixels[y * width + x] = RIM;
        } else if (label === up && label === down && label === left && label === right) {
          pixels[y * width + x] = tints[label];
        } else {
          pixels[y * width + x] = tints[label] | 0xff000000;
        }
      }
    }
  }
}

function reserve(size, area) {
  if (labels.length < size) labels = new Uint16Array(size);
  if (pixels.length < area) pixels = new Uint32Array(area);
}
