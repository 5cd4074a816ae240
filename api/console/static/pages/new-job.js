// A new job: which images, what to look for in them, and first a look at a sample.
import { get, messageOf, post } from "../lib/api.js";
import { useAction, useTitle } from "../lib/hooks.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { go } from "../lib/router.js";
import { Button, ErrorNotice, Field } from "../ui/basics.js";
import { PromptEditor, asPrompts, fromPrompts } from "./new-job/prompts.js";
import { SourceChooser, asSource, fromSource } from "./new-job/source.js";

const SAMPLE = 50; // images of a preview
const FLOOR = 0.1; // the service's own

export function NewJob({ query }) {
  useTitle("New job");
  const from = query.get("from");
  const [source, setSource] = useState({ kind: "upload" });
  const [prompts, setPrompts] = useState([]);
  const [options, setOptions] = useState({ name: "", floor: FLOOR, priority: 0, webhook: "" });
  const [problem, setProblem] = useState(null);
  const { busy, error, run } = useAction();
  const said = useRef(null);
  useEffect(() => {
    if (!from) return;
    get(`/v1/jobs/${from}`).then((job) => {
      setSource(fromSource(job.source));
      setPrompts(fromPrompts(job.prompts));
      setOptions({ name: job.name ?? "", floor: job.floor, priority: job.priority, webhook: job.webhook_url ?? "" });
    }, (refused) => setProblem(messageOf(refused)));
  }, [from]);

  const submit = (isPreview) => async () => {
    const missing = missingOf(source, prompts);
    setProblem(missing);
    if (missing) return said.current.focus();
    return run(async () => {
      const job = await post("/v1/jobs", requestOf({ source, prompts, options, hold: isPreview }));
      if (isPreview) await post(`/v1/jobs/${job.id}/preview`, { images: SAMPLE });
      go(`#/jobs/${job.id}`);
    });
  };
  return html`
    <div class="heading"><h1>New job</h1></div>
    <form class="new-job" onSubmit=${(event) => event.preventDefault()}>
      <section class="card stack" aria-labelledby="which-images">
        <h2 id="which-images">1. Images</h2>
        <${SourceChooser} value=${source} onChange=${setSource} />
      </section>
      <div class="stack">
        <section class="card stack" aria-labelledby="what-for">
          <h2 id="what-for">2. What to look for</h2>
          <${PromptEditor} value=${prompts} onChange=${setPrompts} isOptional=${mayBringPrompts(source)} />
        </section>
        <section class="card stack" aria-labelledby="options">
          <h2 id="options">3. Options</h2>
          <${Options} value=${options} usualName=${source.name} onChange=${setOptions} />
        </section>
      </div>
      <div class="start card">
        <div class="said" ref=${said} tabindex="-1"><${ErrorNotice} error=${problem ?? error} /></div>
        <div class="row">
          <${Button} kind="main" busy=${busy} onClick=${submit(true)}>Preview on ${SAMPLE} images<//>
          <${Button} busy=${busy} onClick=${submit(false)}>Start all images<//>
        </div>
        <p class="hint">
          The preview labels a sample and waits: it shows the masks, warns of prompts that find nothing or the same things,
          and estimates the time. What it labels is not labelled again.
        </p>
      </div>
    </form>`;
}

function Options({ value, usualName, onChange }) {
  const input = (name, rest) => (field) => html`
    <input
      ...${field}
      ...${rest}
      value=${value[name]}
      onInput=${(event) => onChange({ ...value, [name]: event.target.value })}
    />`;
  const floor = { type: "number", min: "0", max: "1", step: "0.05" };
  const priority = { type: "number", min: "-100", max: "100", step: "1" };
  return html`
    <${Field} label="Name" hint="To find it again.">
      ${input("name", { maxlength: "200", placeholder: usualName ?? "street, week 12" })}
    <//>
    <details>
      <summary>More</summary>
      <div class="field-row">
        <${Field} label="Floor" hint="Lower scores are not kept; above it, thresholds can be changed at any time.">
          ${input("floor", floor)}
        <//>
        <${Field} label="Priority" hint="-100 to 100, higher runs first.">${input("priority", priority)}<//>
        <${Field} label="Webhook" hint="An https address that is told when it begins and ends.">
          ${input("webhook", { type: "url", placeholder: "https://" })}
        <//>
      </div>
    </details>`;
}

const mayBringPrompts = (source) => source.kind === "manifest" || Boolean(source.manifest);

function missingOf(source, prompts) {
  if (source.busy) return "The upload is not finished yet.";
  if (!asSource(source)) return "Choose the images first.";
  if (!asPrompts(prompts).length && !mayBringPrompts(source)) return "Add at least one thing to look for, such as “red circle”.";
  return null;
}

function requestOf({ source, prompts, options, hold }) {
  return {
    source: asSource(source),
    prompts: asPrompts(prompts),
    name: options.name.trim() || source.name || null,
    floor: Number(options.floor),
    priority: Number(options.priority),
    webhook_url: options.webhook.trim() || null,
    ...(hold && { hold }),
  };
}
