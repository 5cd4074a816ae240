// COCO's compressed run lengths, and the same masks at the size in which they are shown.

/**
 * As rleFrString of cocodataset/cocoapi, common/maskApi.c: 5 bits a character, lowest first, in two's
 * complement; 32 says that more follow. From the fourth on, a length stands as its difference to the
 * one two before it. Lengths are of zeros and ones in turn, down the columns.
 */
export function runLengths(counts) {
  const lengths = new Uint32Array(counts.length);
  let found = 0;
  for (let at = 0; at < counts.length; ) {
    let number = 0;
    let shift = 0;
    let code;
    do {
      code = counts.charCodeAt(at++) - 48;
      number |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16 && shift < 32) number |= -1 << shift;
    if (found > 2) number += lengths[found - 2];
    lengths[found++] = number;
  }
  return lengths.slice(0, found);
}

/**
 * A mask of `height` rows as a window shows it: runs [start, end) of its pixels, down the columns of
 * a raster of `window.width` x `window.height`, none longer than a column. A pixel (x, y) of the image
 * lies at (x * scale + window.x, y * scale + window.y); each raster pixel shows the image pixel in its
 * middle.
 */
export function scaleRuns(lengths, height, { scale, x, y, width, height: rows }) {
  let runs = new Uint32Array(256);
  let used = 0;
  let position = 0;
  for (let at = 0; at < lengths.length; at++) {
    const from = position;
    position += lengths[at];
    if (at % 2 === 0 || from === position) continue;
    const lastColumn = Math.floor((position - 1) / height);
    for (let column = Math.floor(from / height); column <= lastColumn; column++) {
      const left = Math.max(0, firstIn(column, scale, x));
      const right = Math.min(width, firstIn(column + 1, scale, x));
      if (left >= right) continue;
      const above = Math.max(from - column * height, 0);
      const below = Math.min(position - column * height, height);
      const top = Math.max(0, firstIn(above, scale, y));
      const bottom = Math.min(rows, firstIn(below, scale, y));
      if (top >= bottom) continue;
      for (let shown = left; shown < right; shown++) {
        if (used + 2 > runs.length) runs = grown(runs);
        runs[used++] = shown * rows + top;
        runs[used++] = shown * rows + bottom;
      }
    }
  }
  return runs.slice(0, used);
}

/** The first raster pixel whose middle is at or behind the image pixel's beginning. */
const firstIn = (pixel, scale, offset) => Math.ceil(pixel * scale + offset - 0.5);

export function grown(numbers) {
  const larger = new Uint32Array(2 * numbers.length);
  larger.set(numbers);
  return larger;
}
