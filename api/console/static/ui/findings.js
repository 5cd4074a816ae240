// What is worth knowing of prompts before a job runs.
import { html } from "../lib/html.js";

const TITLES = { warning: "Warning", hint: "Hint" };

export function Findings({ findings, prompts }) {
  if (!findings.length) return null;
  return html`<ul class="findings">${findings.map((finding) => html`<li class=${`notice small ${finding.severity === "warning" ? "warn" : ""}`}>
    <p><strong>${TITLES[finding.severity]}: “${prompts[finding.prompt_index]?.text}”${finding.other_prompt_index !== null && html` and “${prompts[finding.other_prompt_index]?.text}”`}</strong></p>
    <p>${finding.message}</p></li>`)}</ul>`;
}
