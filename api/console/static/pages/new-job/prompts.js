// What to look for: a chip for each prompt, with its class and threshold, and what is worth knowing of it.
import { post } from "../../lib/api.js";
import { cssColour } from "../../lib/colours.js";
import { plural } from "../../lib/format.js";
import { html, useEffect, useRef, useState } from "../../lib/html.js";
import { Button, Swatch } from "../../ui/basics.js";
import { Findings } from "../../ui/findings.js";

const STILL_MS = 350; // of typing, before what is typed is looked at
let made = 0;

const promptOf = (text, rest = {}) => ({ key: made++, text, className: "", threshold: "", ...rest });

/** Prompts are [{key, text, className, threshold}], as they are typed. */
export function PromptEditor({ value, onChange, isOptional }) {
  const [typed, setTyped] = useState("");
  const input = useRef(null);
  const add = (text) => {
    const texts = text.split(/[\n;,]/).map((one) => one.trim()).filter(Boolean);
    if (texts.length) onChange((old) => [...old, ...texts.map((one) => promptOf(one))]);
    setTyped("");
  };
  const change = (key, part) => onChange((old) => old.map((one) => (one.key === key ? { ...one, ...part } : one)));
  const drop = (key) => {
    onChange((old) => old.filter((one) => one.key !== key));
    input.current.focus();
  };
  const addTyped = () => {
    add(typed);
    input.current.focus();
  };
  const onKeyDown = (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      add(typed);
    } else if (event.key === "Backspace" && !typed && value.length) drop(value.at(-1).key);
  };
  const onPaste = (event) => {
    const text = event.clipboardData.getData("text");
    if (!/[\n;,]/.test(text)) return;
    event.preventDefault();
    add(typed + text);
  };
  const pending = typed.trim() ? [...value, promptOf(typed.trim())] : value;
  const findings = useFindings(pending);
  return html`
    <div class="field">
      <label for="prompt">Add a thing</label>
      <div class="row">
        <input
          id="prompt"
          ref=${input}
          class="grow"
          value=${typed}
          placeholder=${value.length ? "another thing" : "hard hat"}
          autocomplete="off"
          aria-describedby="prompt-hint"
          onInput=${(event) => setTyped(event.target.value)}
          onKeyDown=${onKeyDown}
          onPaste=${onPaste}
        />
        <${Button} icon="plus" onClick=${addTyped}>Add<//>
      </div>
      <p class="hint" id="prompt-hint">
        A short English noun phrase, as in “hard hat” or “red circle”. Enter adds it; commas make several.
        ${isOptional && " May stay empty where the manifest brings prompts."}
      </p>
    </div>
    ${value.length > 0 && html`
      <ul class="prompts" aria-label=${plural(value.length, "prompt")}>
        ${value.map((prompt, index) => html`
          <${PromptChip}
            key=${prompt.key}
            prompt=${prompt}
            colour=${cssColour(classNumber(value, index))}
            onChange=${change}
            onDrop=${drop}
          />`)}
      </ul>`}
    <div aria-live="polite"><${Findings} findings=${findings} prompts=${pending} /></div>`;
}

function PromptChip({ prompt: { key, text, className, threshold }, colour, onChange, onDrop }) {
  const set = (name) => (event) => onChange(key, { [name]: event.target.value });
  return html`
    <li class="prompt">
      <${Swatch} colour=${colour} />
      <input class="prompt-text" value=${text} aria-label="Text" onInput=${set("text")} />
      <label class="prompt-part">
        as${" "}
        <input value=${className} placeholder=${text} aria-label=${`Class of ${text}`} onInput=${set("className")} />
      </label>
      <label class="prompt-part threshold-part">
        ≥${" "}
        <input
          type="number"
          min="0"
          max="1"
          step="0.05"
          value=${threshold}
          placeholder="0.50"
          aria-label=${`Threshold of ${text}`}
          onInput=${set("threshold")}
        />
      </label>
      <${Button} kind="quiet little" icon="close" label=${`Remove ${text}`} onClick=${() => onDrop(key)} />
    </li>`;
}

/** Prompts of one class have one colour. */
function classNumber(prompts, index) {
  const names = prompts.map(({ text, className }) => className.trim() || text);
  return [...new Set(names)].indexOf(names[index]);
}

function useFindings(prompts) {
  const [findings, setFindings] = useState([]);
  const asked = JSON.stringify(asPrompts(prompts));
  useEffect(() => {
    if (asked === "[]") return setFindings([]);
    const leaving = new AbortController();
    const timer = setTimeout(() => {
      // advice: where it cannot be had, starting the job says what is wrong
      post("/v1/lint", { prompts: JSON.parse(asked) }, { signal: leaving.signal }).then(
        (answer) => setFindings(answer.findings),
        () => {},
      );
    }, STILL_MS);
    return () => {
      clearTimeout(timer);
      leaving.abort();
    };
  }, [asked]);
  return findings.filter(({ prompt_index: index }) => index < prompts.length);
}

/** As `POST /v1/jobs` takes them. */
export function asPrompts(prompts) {
  return prompts.filter(({ text }) => text.trim()).map(({ text, className, threshold }) => ({
    text: text.trim(),
    ...(className.trim() && { class_name: className.trim() }),
    ...(threshold !== "" && { threshold: Number(threshold) }),
  }));
}

export function fromPrompts(prompts) {
  return prompts.map(({ text, class_name: name, threshold }) => promptOf(text, {
    className: name ?? "",
    threshold: threshold ?? "",
  }));
}
