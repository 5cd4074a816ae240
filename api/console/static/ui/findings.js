// What is worth knowing of prompts before a job runs.
import { html } from "../lib/html.js";

const TITLES = { warning: "Warning", hint: "Hint" };

export function Findings({ findings, prompts }) {
  if (!findings.length) return null;
  return html`
    <ul class="findings">
      ${findings.map((finding) => html`<${Finding} finding=${finding} prompts=${prompts} />`)}
    </ul>`;
}

function Finding({ finding: { severity, message, prompt_index: index, other_prompt_index: other }, prompts }) {
  const textOf = (number) => `“${prompts[number]?.text}”`;
  const about = other === null ? textOf(index) : `${textOf(index)} and ${textOf(other)}`;
  return html`
    <li class=${`notice small ${severity === "warning" ? "warn" : ""}`}>
      <p><strong>${TITLES[severity]}: ${about}</strong></p>
      <p>${message}</p>
    </li>`;
}
