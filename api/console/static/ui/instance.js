// One mask in a list: what it is, how sure that is, and how large it is.
import { cssColour } from "../lib/colours.js";
import { count, score } from "../lib/format.js";
import { html } from "../lib/html.js";
import { Swatch } from "./basics.js";

/** `onPoint(annotation)` hears that it is pointed at; null, that it no longer is. */
export function Instance({ annotation, name, isPointedAt, onPoint }) {
  const point = () => onPoint(annotation);
  return html`
    <li>
      <button
        type="button"
        aria-pressed=${String(isPointedAt)}
        onMouseEnter=${point}
        onMouseLeave=${() => onPoint(null)}
        onFocus=${point}
        onClick=${point}
      >
        <${Swatch} colour=${cssColour(annotation.category_id - 1)} />
        <span class="grow cut">${name}</span>
        <span class="numbers">${score(annotation.score)}</span>
        <span class="numbers muted area">${count(annotation.area)} px</span>
      </button>
    </li>`;
}
