// From which score on masks are shown: a slider for all classes, the classes, and one of their own.
import { cssColour } from "../lib/colours.js";
import { count, score } from "../lib/format.js";
import { html, useId, useState } from "../lib/html.js";
import { useView } from "../lib/mask-view.js";
import { Button, Swatch } from "./basics.js";

const STEP = 0.01;

export function ThresholdSlider({ view, floor = 0, label = "Threshold" }) {
  useView(view);
  const id = useId(); // the gallery has one too, behind the viewer
  const set = (event) => view.change((one) => { one.threshold = Number(event.target.value); });
  return html`<div class="threshold">
    <label for=${id}>${label}</label>
    <output for=${id} class="numbers">${score(view.threshold)}</output>
    <input id=${id} type="range" min=${floor} max="1" step=${STEP} value=${view.threshold} onInput=${set}
      aria-valuetext=${`Masks with a score of ${score(view.threshold)} or more`} />
  </div>`;
}

/** `counts` are shown masks by class id. */
export function Legend({ view, classes, counts, floor = 0 }) {
  useView(view);
  return html`<ul class="legend" aria-label="Classes">
    ${classes.map((one) => html`
      <${LegendEntry} key=${one.id} view=${view} entry=${one} shown=${counts.get(one.id) ?? 0} floor=${floor} />`)}
  </ul>`;
}

function LegendEntry({ view, entry: { id, name }, shown, floor }) {
  const [isOpen, setOpen] = useState(view.own.has(id));
  const isHidden = view.hidden.has(id);
  const toggle = () => view.change(({ hidden }) => (isHidden ? hidden.delete(id) : hidden.add(id)));
  const setOwn = (value) => view.change(({ own }) => (value === null ? own.delete(id) : own.set(id, value)));
  const open = () => {
    setOpen(!isOpen);
    if (isOpen) setOwn(null);
  };
  const label = isHidden ? `Show ${name}` : `Hide ${name}`;
  return html`
    <li class=${isHidden ? "off" : ""}>
      <div class="legend-row">
        <${Swatch} colour=${cssColour(id - 1)} />
        <span class="grow cut" title=${name}>${name}</span>
        <span class="numbers muted small">${count(shown)}</span>
        <button
          type="button"
          class="quiet little"
          aria-expanded=${String(isOpen)}
          title="A threshold of its own"
          onClick=${open}
        >
          <span class="unseen">A threshold of its own for ${name}, now </span>
          ≥ <span class="numbers">${score(view.thresholdOf(id))}</span>
        </button>
        <${Button} kind="quiet little" icon=${isHidden ? "eye-off" : "eye"} label=${label} onClick=${toggle} />
      </div>
      ${isOpen && html`
        <input
          type="range"
          aria-label=${`Threshold of ${name}`}
          min=${floor}
          max="1"
          step=${STEP}
          value=${view.thresholdOf(id)}
          onInput=${(event) => setOwn(Number(event.target.value))}
        />`}
    </li>`;
}

/** Shown masks by class id. */
export function countShown(rows, view) {
  const counts = new Map();
  for (const row of rows) {
    for (const annotation of row.annotations ?? []) {
      if (view.shows(annotation)) counts.set(annotation.category_id, (counts.get(annotation.category_id) ?? 0) + 1);
    }
  }
  return counts;
}
