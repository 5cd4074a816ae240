// The result against drawn truth: ask for a comparison, watch it, read its figures.
import { get, post, remove } from "../../lib/api.js";
import { ago, count, plural, score } from "../../lib/format.js";
import { useAction, useEvery, useFetched } from "../../lib/hooks.js";
import { html, useEffect, useRef, useState } from "../../lib/html.js";
import { Bar, Button, Empty, ErrorNotice, Skeletons } from "../../ui/basics.js";
import { Figures } from "./evaluation-figures.js";
import { EvaluationForm, asDraft, newDraft } from "./evaluation-form.js";
import { STATES, isOpen } from "./made.js";

const AT_FIRST = 10;
const MOST = 500; // of one request
const truthName = ({ uri, path }) => path ?? uri;

export function Evaluations({ job }) {
  const path = `/v1/jobs/${job.id}/evaluations`;
  const [limit, setLimit] = useState(AT_FIRST);
  const load = (signal) => get(path, { query: { limit }, signal });
  const { data, error, reload, look } = useFetched(load, [job.id, limit]);
  useEvery(1, look, data?.data.some(isOpen) ?? false);
  const [draft, setDraft] = useState(newDraft);
  const [asked, setAsked] = useState(null);
  const made = data?.data ?? [];
  const hear = ({ id }) => {
    setAsked({ id, wasThere: made.some((one) => one.id === id) });
    reload();
  };
  return html`<div class="export-page">
    <${EvaluationForm} job=${job} draft=${draft} onDraft=${setDraft} onMade=${hear} wasThere=${asked?.wasThere} />
    <section class="stack" aria-label="Evaluations">
      <h2>Evaluations</h2>
      <p class="unseen" role="status">${made.length > 0 && `${truthName(made[0].truth)}: ${STATES[made[0].status]}`}</p>
      <${ErrorNotice} error=${error} retry=${reload} />
      ${!data && !error && html`<${Skeletons} count=${2} height="5rem" />`}
      ${data && !made.length && html`<${None} />`}
      ${made.map((one, place) => html`
        <${Evaluation}
          key=${one.id}
          job=${job}
          path=${`${path}/${one.id}`}
          one=${one}
          isFirst=${place === 0}
          asked=${asked?.id === one.id && asked}
          onChange=${reload}
          file=${draft.file}
          onAgain=${setDraft}
        />`)}
      ${data?.next_cursor && limit < MOST && html`<div><${Button} onClick=${() => setLimit(MOST)}>Show older<//></div>`}
    </section>
  </div>`;
}

function None() {
  return html`<${Empty} title="No evaluations yet">
    <p>Where people have drawn some of the images, the result can be measured: how good the masks are, at which
      score to cut each prompt, and which images went worst.</p>
  <//>`;
}

/** `asked` is what a person has just asked for: it comes into sight. */
function Evaluation({ job, path, one, isFirst, asked, file, onChange, onAgain }) {
  const { busy, error, run } = useAction();
  const withdraw = () => run(async () => onChange(await post(`${path}/cancel`)));
  const drop = () => run(async () => onChange(await remove(path)));
  const card = useRef(null);
  useEffect(() => {
    if (asked) card.current.scrollIntoView({ block: "nearest" });
  }, [asked]);
  const again = (unmatched = []) => run(async () => {
    onAgain(await asDraft(one, unmatched, file));
    document.getElementById("new-evaluation").focus();
  });
  return html`<article ref=${card} class="card stack tight evaluation" aria-label=${truthName(one.truth)}>
    <div class="row apart">
      <h3><span class=${`chip ${one.status}`}>${STATES[one.status]}</span> ${truthName(one.truth)}
        ${one.partial && html` <span class="muted">· of a part</span>`}</h3>
      <span class="small muted">${ago(one.created_at)}</span>
    </div>
    <p class="small muted numbers">${chosen(one.options)}</p>
    ${isOpen(one) && html`<${Progress} one=${one} />`}
    ${one.error && html`<p class="notice bad small">
      <span><strong>${one.error.code}</strong> ${one.error.message}</span>
    </p>`}
    ${one.status === "succeeded" && html`<${Figures} job=${job} path=${path} isOpen=${isFirst} onAgain=${again} />`}
    <${ErrorNotice} error=${error} />
    <div class="row">
      ${!isOpen(one) && html`<${Button} kind="little" icon="again" onClick=${() => again()}>Other options<//>`}
      <${Button} kind="little danger" busy=${busy} onClick=${isOpen(one) ? withdraw : drop}>
        ${isOpen(one) ? "Cancel" : "Delete"}
      <//>
    </div>
  </article>`;
}

function Progress({ one: { status, progress } }) {
  const { images_read: done, images_total: total } = progress;
  const before = status === "queued" ? "Waits for its turn" : "Reading the truth";
  return html`
    <${Bar} label="Progress of the evaluation" done=${done} total=${total} />
    <p class="small numbers">${total === null ? `${before}…` : `${count(done)} of ${plural(total, "image")}`}</p>`;
}

function chosen({ min_score: least, suggest, mapping }) {
  const parts = [`from ${score(least)}`, suggest ? "thresholds looked for" : "no thresholds looked for"];
  for (const [category, name] of Object.entries(mapping)) {
    parts.push(name === null ? `without ${category}` : `${category} is ${name}`);
  }
  return parts.join(" · ");
}
