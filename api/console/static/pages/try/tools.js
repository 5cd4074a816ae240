// What an image is asked with: words and boxes, or clicks.
import { plural } from "../../lib/format.js";
import { html } from "../../lib/html.js";
import { Button, Choice, Field } from "../../ui/basics.js";

const BOX_SIGNS = [["yes", "+ Like this"], ["no", "− Not like this"]];
const CLICK_SIGNS = [["yes", "+ On it"], ["no", "− Not on it"]];

export function FindTools({ text, onText, words, boxes, onBoxes, sign, onSign, busy, onSubmit }) {
  const input = (field) => html`
    <input
      ...${field}
      value=${text}
      placeholder="red circle, star"
      autocomplete="off"
      onInput=${(event) => onText(event.target.value)}
    />`;
  return html`
    <form class="stack tight" onSubmit=${onSubmit}>
      <${Field} label="Words" hint="Commas make several.">${input}<//>
      <div class="field">
        <span class="label">Boxes around examples</span>
        <${Choice} label="The next box is" value=${sign} options=${BOX_SIGNS} onChange=${onSign} />
        <p class="hint"><${Drawn} boxes=${boxes} words=${words} onRemove=${() => onBoxes([])} /></p>
      </div>
      <div><${Button} type="submit" kind="main" busy=${busy}>${busy ? "Looking…" : "Find"}<//></div>
    </form>`;
}

function Drawn({ boxes, words, onRemove }) {
  if (!boxes.length) return "Drag over the image.";
  return html`
    ${plural(boxes.length, "box")}${words.length > 1 && `, for “${words[0]}”`} ·${" "}
    <button type="button" class="quiet little" onClick=${onRemove}>Remove</button>`;
}

/** `objects` are lists of points. An empty one more asks nothing: it is told to `onObjects` alone. */
export function ClickTools({ objects, onObjects, onChange, sign, onSign }) {
  const hasNone = !objects.flat().length;
  return html`
    <div class="stack tight">
      <div class="field">
        <span class="label">The next click is</span>
        <${Choice} label="The next click is" value=${sign} options=${CLICK_SIGNS} onChange=${onSign} />
        <p class="hint">With Shift it is “not on it”.</p>
      </div>
      <div class="row">
        <${Button}
          kind="little"
          icon="plus"
          disabled=${!objects.at(-1).length}
          onClick=${() => onObjects([...objects, []])}
        >Next object<//>
        <${Button} kind="little" disabled=${hasNone} onClick=${() => onChange(withoutLast(objects))}>Take back<//>
        <${Button} kind="little" disabled=${hasNone} onClick=${() => onChange([[]])}>Clear<//>
      </div>
    </div>`;
}

function withoutLast(objects) {
  const filled = objects.filter((points) => points.length);
  const rest = [...filled.slice(0, -1), filled.at(-1).slice(0, -1)];
  return rest.at(-1).length || rest.length === 1 ? rest : rest.slice(0, -1);
}
