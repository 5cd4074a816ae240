// Charts as SVG: bars of counts, and bars one below the other.
import { count } from "../lib/format.js";
import { html } from "../lib/html.js";

const WIDTH = 240;
const HEIGHT = 56;

/** Counts in equal bins from 0 to 1, with a line at the threshold; bins below it are faint. */
export function ScoreHistogram({ bins, threshold, label, colour }) {
  const most = Math.max(1, ...bins);
  const width = WIDTH / bins.length;
  const all = bins.reduce((sum, one) => sum + one, 0);
  const bar = (number, index) => {
    const height = number ? Math.max(2, (HEIGHT - 2) * Math.sqrt(number / most)) : 0;
    return html`
      <rect
        x=${index * width + 0.5}
        y=${HEIGHT - height}
        width=${width - 1}
        height=${height}
        rx="1"
        fill=${colour}
        opacity=${(index + 0.5) / bins.length < threshold ? 0.35 : 1}
      />`;
  };
  const at = threshold * WIDTH;
  return html`
    <svg
      class="histogram"
      viewBox=${`0 -4 ${WIDTH} ${HEIGHT + 18}`}
      role="img"
      aria-label=${`${label}: ${count(all)} instances by score, threshold ${threshold}`}
    >
      ${bins.map(bar)}
      <line x1="0" x2=${WIDTH} y1=${HEIGHT} y2=${HEIGHT} class="axis" />
      <line x1=${at} x2=${at} y1="-4" y2=${HEIGHT} class="mark" />
      ${[[0, "start"], [0.5, "middle"], [1, "end"]].map(([value, anchor]) => html`
        <text x=${value * WIDTH} y=${HEIGHT + 12} text-anchor=${anchor}>${value}</text>`)}
    </svg>`;
}

/** `entries` are [{name, value, text}]. */
export function Bars({ entries, label }) {
  const most = Math.max(...entries.map(({ value }) => value), Number.EPSILON);
  return html`
    <dl class="bars" aria-label=${label}>
      ${entries.map(({ name, value, text }) => html`
        <div>
          <dt>${name}</dt>
          <dd>
            <svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
              <rect width=${Math.max(0.5, (100 * value) / most)} height="8" rx="1" />
            </svg>
            <span class="numbers">${text}</span>
          </dd>
        </div>`)}
    </dl>`;
}

/** `columns` are [{label, value, title}], from left to right. */
export function Columns({ columns, label }) {
  const most = Math.max(...columns.map(({ value }) => value), 1);
  const width = 600 / columns.length;
  const column = ({ value, title }, index) => {
    const height = (96 * value) / most;
    return html`
      <rect x=${index * width + 1} y=${100 - height} width=${Math.max(1, width - 2)} height=${height} rx="1.5">
        <title>${title}</title>
      </rect>`;
  };
  const caption = ({ label: text }, index) => text && html`
    <text x=${index === 0 ? 0 : 600} y="114" text-anchor=${index === 0 ? "start" : "end"}>${text}</text>`;
  return html`
    <svg class="columns" viewBox="0 0 600 120" role="img" aria-label=${label}>
      ${columns.map(column)}
      <line x1="0" x2="600" y1="100" y2="100" class="axis" />
      ${columns.map(caption)}
    </svg>`;
}
