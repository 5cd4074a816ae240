// What was found in an image.
import { duration, plural } from "../../lib/format.js";
import { html } from "../../lib/html.js";
import { useView } from "../../lib/mask-view.js";
import { Instance } from "../../ui/instance.js";
import { Legend, countShown } from "../../ui/threshold.js";
import { LEAST_SCORE } from "./requests.js";

export function Answer({ answer, view, isFinding, pointedAt, onPoint }) {
  useView(view);
  if (answer.seconds === null) return null;
  const { names } = answer;
  const shown = answer.annotations.filter(view.shows).toSorted((one, other) => other.score - one.score);
  const nameOf = (id) => (isFinding ? names[id - 1] ?? "like the boxes" : `object ${id}`);
  const classes = Array.from({ length: Math.max(1, names.length) }, (_, at) => ({ id: at + 1, name: nameOf(at + 1) }));
  return html`
    <div class="stack tight">
      <p class="small numbers" role="status">
        ${plural(shown.length, "mask")} <span class="muted">in ${duration(answer.seconds)}</span>
      </p>
      ${isFinding && html`
        <${Legend} view=${view} classes=${classes} counts=${countShown([answer], view)} floor=${LEAST_SCORE} />`}
      <ul class="instances">
        ${shown.map((one) => html`
          <${Instance}
            key=${one.instance}
            annotation=${one}
            name=${nameOf(one.category_id)}
            isPointedAt=${one === pointedAt}
            onPoint=${onPoint}
          />`)}
      </ul>
    </div>`;
}
