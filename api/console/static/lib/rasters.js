// Where masks are painted: rasters {scale, x, y, width, height} as `scaleRuns` reads them, whose pixels
// are aligned with the image's corner. A stage is {place: {scale, x, y}, pixels, size, fit}, see ui/zoom.js.

const MARGIN = 0.25; // of the stage, on each side: so far an image is moved with what is painted

/** All of an image. */
export function rasterOfWhole(size, scale) {
  return { scale, x: 0, y: 0, width: Math.round(size.width * scale), height: Math.round(size.height * scale) };
}

/** What a stage shows of its image, and a margin: it is no larger for a larger image. `fine` are pixels for one of the screen. */
export function rasterOfSeen({ place, pixels, size }, fine) {
  const scale = place.scale * fine;
  const [left, right] = part(place.x * fine, pixels.width * fine, size.width * scale);
  const [top, bottom] = part(place.y * fine, pixels.height * fine, size.height * scale);
  return { scale, x: -left, y: -top, width: right - left, height: bottom - top };
}

function part(offset, stage, image) {
  const from = Math.floor(-offset - MARGIN * stage);
  const to = Math.ceil(-offset + stage + MARGIN * stage);
  return [Math.max(0, from), Math.min(Math.ceil(image), to)];
}

/** Whether all that the stage shows of its image lies in the raster. */
export function covers(raster, { place, pixels, size }) {
  const isWithin = (offset, stage, image, start, length) => {
    const from = Math.max(0, -offset / place.scale) * raster.scale + start;
    const to = Math.min(image, (stage - offset) / place.scale) * raster.scale + start;
    return from > -1 && to < length + 1;
  };
  return isWithin(place.x, pixels.width, size.width, raster.x, raster.width)
    && isWithin(place.y, pixels.height, size.height, raster.y, raster.height);
}

/** The CSS transform that lays the raster on the image. Unscaled, it lies on whole pixels of the screen and stays sharp. */
export function transformOf(raster, place, fine) {
  const by = place.scale / raster.scale;
  const isUnscaled = Math.abs(by * fine - 1) < 1e-6;
  const [x, y] = [place.x - raster.x * by, place.y - raster.y * by].map((value) => (isUnscaled ? Math.round(value * fine) / fine : value));
  return `translate(${x}px, ${y}px) scale(${by})`;
}
