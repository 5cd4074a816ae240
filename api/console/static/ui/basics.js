// Small parts that every page has.
import { html, useId } from "../lib/html.js";

const PATHS = {
  pause: "M5 3v10M11 3v10",
  play: "M4 2.5v11l9-5.5z",
  stop: "M3.5 3.5h9v9h-9z",
  again: "M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3",
  plus: "M8 3v10M3 8h10",
  close: "M4 4l8 8M12 4l-8 8",
  left: "M10 3L5 8l5 5",
  right: "M6 3l5 5-5 5",
  down: "M8 3v9M4 8.5L8 12.5 12 8.5",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  minus: "M3 8h10",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1",
  moon: "M13.5 9.5A6 6 0 0 1 6.5 2.5a6 6 0 1 0 7 7z",
  screen: "M2 3h12v8H2zM6 14h4M8 11v3",
  leave: "M6 2.5H3v11h3M7 8h7M11 5l3 3-3 3",
  eye: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8zM8 6.2a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6z",
  "eye-off": "M2 2l12 12M6.3 3.8A6.6 6.6 0 0 1 8 3.5c4 0 6.5 4.5 6.5 4.5a11 11 0 0 1-1.9 2.4"
    + "M4 4.9C2.4 6.2 1.5 8 1.5 8S4 12.5 8 12.5a6.3 6.3 0 0 0 2.9-.7",
  folder: "M1.500 4V12.500h13V5.200H8L6.500 3.500h-5z",
  points: "M8 1.500v4M8 10.500v4M1.500 8h4M10.500 8h4M8 7.500v1",
  box: "M2.500 4h11v8h-11z",
};

export function Icon({ name }) {
  return html`<svg width="16" height="16" viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.6"
    stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
}

export function Logo({ size = 24 }) {
  return html`<img src="/console/static/favicon.svg" width=${size} height=${size} alt="" />`;
}

/** Stays where the keyboard is while it is busy: a disabled button would lose the focus. */
export function Button({ busy = false, disabled = false, kind = "", icon, label, onClick, children, ...rest }) {
  const off = busy || disabled;
  return html`
    <button
      type="button"
      ...${rest}
      class=${`${kind} ${icon && !children ? "icon" : ""}`}
      aria-disabled=${off ? "true" : undefined}
      aria-label=${label}
      title=${label}
      onClick=${(event) => (off ? event.preventDefault() : onClick?.(event))}
    >
      ${icon && html`<${Icon} name=${icon} />`}${children}
    </button>`;
}

export function Field({ label, hint, error, children }) {
  const id = useId();
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ") || undefined;
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${children({ id, "aria-describedby": described, "aria-invalid": error ? "true" : undefined })}
    ${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}
    ${error && html`<p class="hint field-error" id=${`${id}-error`}>${error}</p>`}
  </div>`;
}

/** `options` are [value, text]. */
export function Choice({ label, value, options, onChange }) {
  return html`<div class="choice" role="group" aria-label=${label}>
    ${options.map(([key, text]) => html`
      <button type="button" aria-pressed=${String(key === value)} onClick=${() => onChange(key)}>${text}</button>`)}
  </div>`;
}

export function Select({ value, options, onChange, ...rest }) {
  return html`<select ...${rest} value=${value} onChange=${(event) => onChange(event.target.value)}>
    ${options.map(([key, text]) => html`<option value=${key} selected=${key === value}>${text}</option>`)}
  </select>`;
}

export function ErrorNotice({ error, retry }) {
  if (!error) return null;
  return html`<div class="notice bad" role="alert"><p>${error}</p>
    ${retry && html`<div><${Button} kind="little" onClick=${retry}>Try again<//></div>`}</div>`;
}

export function Empty({ title, children }) {
  return html`<div class="empty"><h2>${title}</h2>${children}</div>`;
}

/** How far something is: `done` of `total`, null while that is not known. `share` is what is filled, from 0 to 1. */
export function Bar({ label, done, total, share = total ? done / total : 0, large = false }) {
  return html`
    <div
      class=${`bar ${large ? "large" : ""}`}
      role="progressbar"
      aria-label=${label}
      aria-valuemin="0"
      aria-valuemax=${Math.max(1, total ?? 1)}
      aria-valuenow=${done}
    >
      <span class="done" style=${{ width: `${100 * share}%` }}></span>
    </div>`;
}

export function Swatch({ colour }) {
  return html`<span class="swatch" style=${{ background: colour }}></span>`;
}

export function Skeletons({ count, height }) {
  return html`<div class="stack tight" aria-hidden="true">
    ${Array.from({ length: count }, () => html`<div class="skeleton" style=${{ height }}></div>`)}
  </div>`;
}
