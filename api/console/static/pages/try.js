// One image, at once: words, boxes around examples, clicks.
import { messageOf } from "../lib/api.js";
import { useTitle } from "../lib/hooks.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { Button, ErrorNotice, Icon } from "../ui/basics.js";
import { Bench } from "./try/bench.js";
import { openImage } from "./try/requests.js";

export function TryIt() {
  useTitle("Try it");
  const [image, setImage] = useState(null);
  const [state, setState] = useState({ busy: false, error: null });
  const open = async (file) => {
    if (!file) return;
    setState({ busy: true, error: null });
    try {
      setImage(await openImage(file));
      setState({ busy: false, error: null });
    } catch (error) {
      setState({ busy: false, error: messageOf(error) });
    }
  };
  useEffect(() => () => image && URL.revokeObjectURL(image.url), [image]);
  return html`
    <div class="heading">
      <div>
        <h1>Try it</h1>
        <p class="muted">One image, answered at once, without a job.</p>
      </div>
      ${image && html`<${Chooser} onFile=${open} busy=${state.busy} label="Another image" />`}
    </div>
    ${image && html`
      <${ErrorNotice} error=${state.error} />
      <${Bench} key=${image.id} image=${image} />`}
    ${!image && html`<${FirstImage} onFile=${open} state=${state} />`}`;
}

function Chooser({ onFile, busy, label, kind = "" }) {
  const input = useRef(null);
  const chosen = ({ target }) => {
    onFile(target.files[0]);
    target.value = ""; // so that the same one can be chosen again
  };
  return html`
    <${Button} kind=${kind} busy=${busy} onClick=${() => input.current.click()}>
      ${busy ? "Looking at it…" : label}
    <//>
    <input ref=${input} type="file" accept="image/*" hidden data-for="image" onChange=${chosen} />`;
}

function FirstImage({ onFile, state }) {
  const [isOver, setOver] = useState(false);
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    onFile(event.dataTransfer.files[0]);
  };
  const takeOver = (event) => {
    event.preventDefault();
    setOver(true);
  };
  return html`
    <div class="try">
      <div
        class=${`drop ${isOver ? "over" : ""}`}
        onDragOver=${takeOver}
        onDragLeave=${() => setOver(false)}
        onDrop=${drop}
      >
        <p class="drop-label"><${Icon} name="folder" /> Drop an image here</p>
        <${Chooser} kind="main" busy=${state.busy} onFile=${onFile} label="Choose an image" />
        <p class="hint" role="status">
          ${state.busy
            ? "The network looks at it once; questions about it are quick then."
            : "JPEG, PNG, WebP, AVIF or GIF"}
        </p>
        <${ErrorNotice} error=${state.error} />
      </div>
      <${WhatCanBeAsked} />
    </div>`;
}

function WhatCanBeAsked() {
  return html`
    <div class="try-side">
      <h2>What can be asked</h2>
      <p>
        <strong>Words</strong>${" "}
        <span class="muted">find all instances: “hard hat”, “red circle”. Several at once, with commas.</span>
      </p>
      <p>
        <strong>Boxes around examples</strong>${" "}
        <span class="muted">say “like this” or “not like this”, with words or instead of them.</span>
      </p>
      <p>
        <strong>Clicks</strong>${" "}
        <span class="muted">cut out the one object that they point at.</span>
      </p>
    </div>`;
}
