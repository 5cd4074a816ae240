// Masks over a zoom stage. They are painted once for the whole image as it fits, and moved with it;
// where a zoom has come to rest, what is seen is painted again in the pixels of the screen.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../lib/html.js";
import { MaskLayer } from "../lib/mask-layer.js";
import { covers, rasterOfSeen, rasterOfWhole, transformOf } from "../lib/rasters.js";

const AT_REST_MS = 150;

/** `hit.current(point)` says which annotation is shown at a point of the image. */
export function StageMasks({ stage, ...masks }) {
  const { place, size, fit } = stage;
  const fine = devicePixelRatio;
  const whole = useMemo(() => rasterOfWhole(size, fit * fine), [size.width, size.height, fit, fine]);
  const seen = useSeen(stage, fine);
  const isSeenShown = seen !== null && covers(seen, stage);
  return html`
    <${Layer} ...${masks} raster=${whole} place=${place} fine=${fine} isShown=${!isSeenShown} />
    ${seen && html`<${Layer} ...${masks} raster=${seen} place=${place} fine=${fine} isShown=${isSeenShown} />`}`;
}

/** The raster of what was seen when the zoom last came to rest; null as long as all of the image fits. */
function useSeen(stage, fine) {
  const { place, pixels, size, fit } = stage;
  const [raster, setRaster] = useState(null);
  useEffect(() => {
    const look = () => {
      if (place.scale === fit) return setRaster(null);
      return setRaster((old) => (old?.scale === place.scale * fine && covers(old, stage) ? old : rasterOfSeen(stage, fine)));
    };
    const timer = setTimeout(look, AT_REST_MS);
    return () => clearTimeout(timer);
  }, [place.scale, place.x, place.y, pixels, size, fit, fine]);
  return raster;
}

function Layer({ hit, instances, view, pointedAt, raster, place, fine, isShown }) {
  const canvas = useRef(null);
  const layer = useRef(null);
  const at = ({ x, y }) => layer.current.at(Math.floor(x * raster.scale + raster.x), Math.floor(y * raster.scale + raster.y));
  if (isShown) hit.current = at;
  useLayoutEffect(() => {
    layer.current = new MaskLayer(canvas.current, fine);
    layer.current.place(instances, raster);
  }, [instances, raster, fine]);
  useLayoutEffect(() => {
    if (!isShown) return undefined;
    layer.current.draw(view, pointedAt);
    return view.listen(() => layer.current.draw(view, pointedAt));
  }, [instances, raster, fine, view, pointedAt, isShown]);
  const style = { transform: transformOf(raster, place, fine) };
  return html`<canvas ref=${canvas} class="stage-masks" hidden=${!isShown} style=${style} aria-hidden="true"></canvas>`;
}
