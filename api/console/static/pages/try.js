// One image, at once: words, boxes around examples, clicks.
import { messageOf } from "../lib/api.js";
import { cssColour } from "../lib/colours.js";
import { count, duration, plural, score } from "../lib/format.js";
import { useTitle } from "../lib/hooks.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib/html.js";
import { MaskView, useView } from "../lib/mask-view.js";
import { decoded } from "../lib/masks.js";
import { Button, Choice, ErrorNotice, Field, Icon, Swatch } from "../ui/basics.js";
import { StageMasks } from "../ui/stage-masks.js";
import { Legend, ThresholdSlider, countShown } from "../ui/threshold.js";
import { ZoomStage } from "../ui/zoom.js";
import { cutOut, findConcepts, openImage } from "./try/requests.js";

const TOOLS = [["find", "Find things"], ["click", "Click on objects"]];
const SIGNS = [["yes", "+ Like this"], ["no", "− Not like this"]];
const NOTHING = { annotations: [], seconds: null };

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
    <div class="heading"><div><h1>Try it</h1><p class="muted">One image, answered at once, without a job.</p></div>
      ${image && html`<${Chooser} onFile=${open} busy=${state.busy} label="Another image" />`}</div>
    ${image ? html`<${ErrorNotice} error=${state.error} /><${Bench} key=${image.id} image=${image} />` : html`<${FirstImage} onFile=${open} state=${state} />`}`;
}

function Chooser({ onFile, busy, label, kind = "" }) {
  const input = useRef(null);
  return html`<${Button} kind=${kind} busy=${busy} onClick=${() => input.current.click()}>${busy ? "Looking at it…" : label}<//>
    <input ref=${input} type="file" accept="image/*" hidden data-for="image" onChange=${(event) => onFile(event.target.files[0])} />`;
}

function FirstImage({ onFile, state }) {
  const [isOver, setOver] = useState(false);
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    onFile(event.dataTransfer.files[0]);
  };
  return html`<div class="try"><div class=${`drop ${isOver ? "over" : ""}`} onDragOver=${(event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)} onDrop=${drop}>
    <p class="drop-label"><${Icon} name="folder" /> Drop an image here</p>
    <${Chooser} kind="main" busy=${state.busy} onFile=${onFile} label="Choose an image" />
    <p class="hint" role="status">${state.busy ? "The network looks at it once; questions about it are quick then." : "JPEG, PNG, WebP, AVIF or GIF"}</p>
    <${ErrorNotice} error=${state.error} />
  </div>
  <div class="try-side"><h2>What can be asked</h2>
    <p><strong>Words</strong> <span class="muted">find all instances: “hard hat”, “red circle”. Several at once, with commas.</span></p>
    <p><strong>Boxes around examples</strong> <span class="muted">say “like this” or “not like this”, with words or instead of them.</span></p>
    <p><strong>Clicks</strong> <span class="muted">cut out the one object that they point at.</span></p></div></div>`;
}

function Bench({ image }) {
  const [tool, setTool] = useState("find");
  const [sign, setSign] = useState("yes");
  const [text, setText] = useState("");
  const [boxes, setBoxes] = useState([]);
  const [objects, setObjects] = useState([[]]);
  const [drag, setDrag] = useState(null);
  const [answer, setAnswer] = useState(NOTHING);
  const [pointedAt, setPointedAt] = useState(null);
  const { busy, error, ask } = useLatest(setAnswer);
  const finds = useMemo(() => new MaskView(0.5), []);
  const cuts = useMemo(() => new MaskView(0), []);
  const view = tool === "find" ? finds : cuts;
  const instances = useMemo(() => decoded(answer.annotations), [answer]);
  const hit = useRef(null);
  const words = text.split(",").map((one) => one.trim()).filter(Boolean);

  const choose = (chosen) => {
    setTool(chosen);
    setAnswer(NOTHING);
  };
  const find = (event) => {
    event?.preventDefault();
    if (words.length || boxes.length) ask((signal) => findConcepts(image, conceptsOf(words, boxes), signal));
  };
  const addBox = ({ from, to }) => {
    setDrag(null);
    const box = boxOf(from, to, image);
    if (box.width >= 2 && box.height >= 2) setBoxes([...boxes, { ...box, isLike: sign === "yes" }]);
  };
  const addPoint = ({ x, y }, event) => {
    if (x < 0 || y < 0 || x >= image.width || y >= image.height) return;
    const point = { x, y, positive: sign === "yes" && !event.shiftKey };
    changeObjects([...objects.slice(0, -1), [...objects.at(-1), point]]);
  };
  const changeObjects = (changed) => {
    setObjects(changed);
    const asked = changed.filter((points) => points.length);
    if (asked.length) ask((signal) => cutOut(image, asked, signal));
    else setAnswer(NOTHING);
  };
  const isFinding = tool === "find";
  return html`<div class="try">
    <${ZoomStage} size=${image} url=${image.url} alt=${image.file.name} label=${isFinding ? "The image. Drag a box around an example." : "The image. Click on an object."}
      onPoint=${isFinding ? undefined : addPoint} onHover=${(point) => setPointedAt(point && hit.current(point))} onDrag=${isFinding ? setDrag : undefined} onBox=${isFinding ? addBox : undefined}>
      ${(stage) => html`<${StageMasks} hit=${hit} instances=${instances} view=${view} pointedAt=${pointedAt} stage=${stage} />
        <${Marks} place=${stage.place} boxes=${isFinding ? [...boxes, ...(drag ? [{ ...boxOf(drag.from, drag.to, image), isLike: sign === "yes" }] : [])] : []} points=${isFinding ? [] : objects.flat()} />`}<//>
    <div class="try-side">
      <${Choice} label="Tool" value=${tool} options=${TOOLS} onChange=${choose} />
      ${isFinding ? html`<form class="stack tight" onSubmit=${find}>
          <${Field} label="Words" hint="Commas make several.">${(field) => html`<input ...${field} value=${text} placeholder="red circle, star" autocomplete="off" onInput=${(event) => setText(event.target.value)} />`}<//>
          <div class="field"><span class="label">Boxes around examples</span><${Choice} label="The next box is" value=${sign} options=${SIGNS} onChange=${setSign} />
            <p class="hint">${boxes.length ? html`${plural(boxes.length, "box")}${words.length > 1 && `, for “${words[0]}”`} · <button type="button" class="quiet little" onClick=${() => setBoxes([])}>Remove</button>` : "Drag over the image."}</p></div>
          <div><${Button} type="submit" kind="main" busy=${busy}>${busy ? "Looking…" : "Find"}<//></div>
        </form>`
      : html`<div class="stack tight"><div class="field"><span class="label">The next click is</span><${Choice} label="The next click is" value=${sign} options=${[["yes", "+ On it"], ["no", "− Not on it"]]} onChange=${setSign} /><p class="hint">With Shift it is “not on it”.</p></div>
          <div class="row"><${Button} kind="little" icon="plus" disabled=${!objects.at(-1).length} onClick=${() => setObjects([...objects, []])}>Next object<//>
            <${Button} kind="little" disabled=${!objects.flat().length} onClick=${() => changeObjects(withoutLast(objects))}>Take back<//>
            <${Button} kind="little" disabled=${!objects.flat().length} onClick=${() => changeObjects([[]])}>Clear<//></div></div>`}
      <${ErrorNotice} error=${error} />
      ${isFinding && answer.seconds !== null && html`<${ThresholdSlider} view=${view} floor=${0.1} />`}
      <${Answer} answer=${answer} view=${view} names=${isFinding ? words : []} isFinding=${isFinding} pointedAt=${pointedAt} onPoint=${setPointedAt} />
    </div>
  </div>`;
}

function Answer({ answer, view, names, isFinding, pointedAt, onPoint }) {
  useView(view);
  if (answer.seconds === null) return null;
  const shown = answer.annotations.filter(view.shows).sort((one, other) => other.score - one.score);
  const ids = Array.from({ length: Math.max(1, names.length) }, (_, place) => place + 1);
  const nameOf = (id) => (isFinding ? names[id - 1] ?? "like the boxes" : `object ${id}`);
  return html`<div class="stack tight">
    <p class="small numbers" role="status">${plural(shown.length, "mask")} <span class="muted">in ${duration(answer.seconds)}</span></p>
    ${isFinding && html`<${Legend} view=${view} classes=${ids.map((id) => ({ id, name: nameOf(id) }))} counts=${countShown([answer], view)} floor=${0.1} />`}
    <ul class="instances">${shown.map((one) => html`<li key=${one.instance}><button type="button" aria-pressed=${String(one === pointedAt)} onMouseEnter=${() => onPoint(one)} onMouseLeave=${() => onPoint(null)} onFocus=${() => onPoint(one)}>
      <${Swatch} colour=${cssColour(one.category_id - 1)} /><span class="grow cut">${nameOf(one.category_id)}</span><span class="numbers">${score(one.score)}</span><span class="numbers muted area">${count(one.area)} px</span></button></li>`)}</ul>
  </div>`;
}

function Marks({ place: { scale, x, y }, boxes, points }) {
  return html`<svg class="marks" aria-hidden="true">
    ${boxes.map((box) => html`<rect class=${box.isLike ? "yes" : "no"} x=${box.x * scale + x} y=${box.y * scale + y} width=${box.width * scale} height=${box.height * scale} />`)}
    ${points.map((point) => html`<circle class=${point.positive ? "yes" : "no"} cx=${point.x * scale + x} cy=${point.y * scale + y} r="6" />`)}
  </svg>`;
}

/** The boxes belong to the first of the words, or stand for themselves. */
function conceptsOf(words, boxes) {
  const examples = boxes.length && { boxes: boxes.map(({ x, y, width, height }) => ({ x, y, width, height })), box_labels: boxes.map(({ isLike }) => (isLike ? 1 : 0)) };
  if (!words.length) return [{ type: "visual", ...examples }];
  return words.map((text, at) => ({ text, ...(at === 0 && examples) }));
}

function boxOf(from, to, { width, height }) {
  const within = (value, most) => Math.min(most, Math.max(0, value));
  const [left, right] = [from.x, to.x].map((value) => within(value, width)).sort((one, other) => one - other);
  const [top, bottom] = [from.y, to.y].map((value) => within(value, height)).sort((one, other) => one - other);
  return { x: left, y: top, width: right - left, height: bottom - top };
}

function withoutLast(objects) {
  const filled = objects.filter((points) => points.length);
  const rest = [...filled.slice(0, -1), filled.at(-1).slice(0, -1)];
  return rest.at(-1).length || rest.length === 1 ? rest : rest.slice(0, -1);
}

/** Asks one question at a time: a new one takes the place of the one under way. */
function useLatest(onAnswer) {
  const [state, setState] = useState({ busy: false, error: null });
  const leaving = useRef(null);
  useEffect(() => () => leaving.current?.abort(), []);
  const ask = async (question) => {
    leaving.current?.abort();
    const own = new AbortController();
    leaving.current = own;
    setState({ busy: true, error: null });
    try {
      const answer = await question(own.signal);
      if (!own.signal.aborted) onAnswer(answer);
    } catch (error) {
      if (!own.signal.aborted) setState({ busy: false, error: messageOf(error) });
    }
    if (!own.signal.aborted) setState((old) => ({ ...old, busy: false }));
  };
  return { ...state, ask };
}
