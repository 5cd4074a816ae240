// An image, what is asked of it, and the answer.
import { html, useMemo, useRef, useState } from "../../lib/html.js";
import { MaskView } from "../../lib/mask-view.js";
import { decoded } from "../../lib/masks.js";
import { Choice, ErrorNotice } from "../../ui/basics.js";
import { StageMasks } from "../../ui/stage-masks.js";
import { ThresholdSlider } from "../../ui/threshold.js";
import { ZoomStage } from "../../ui/zoom.js";
import { Answer } from "./answer.js";
import { ClickTools, FindTools } from "./tools.js";
import { LEAST_SCORE, cutOut, findConcepts } from "./requests.js";
import { useLatest } from "./latest.js";

const TOOLS = [["find", "Find things"], ["click", "Click on objects"]];
const NOTHING = { annotations: [], names: [], seconds: null };

export function Bench({ image }) {
  const [tool, setTool] = useState("find");
  const [sign, setSign] = useState("yes"); // of the next box or click
  const [text, setText] = useState("");
  const [boxes, setBoxes] = useState([]);
  const [objects, setObjects] = useState([[]]);
  const [drag, setDrag] = useState(null);
  const [answer, setAnswer] = useState(NOTHING);
  const [pointedAt, setPointedAt] = useState(null);
  const { busy, error, ask, drop } = useLatest(setAnswer);
  const finds = useMemo(() => new MaskView(0.5), []);
  const cuts = useMemo(() => new MaskView(0), []);
  const instances = useMemo(() => decoded(answer.annotations), [answer]);
  const hit = useRef(null);
  const isFinding = tool === "find";
  const view = isFinding ? finds : cuts;
  const words = text.split(",").map((one) => one.trim()).filter(Boolean);

  const forget = () => {
    drop();
    setAnswer(NOTHING);
  };
  const choose = (chosen) => {
    setTool(chosen);
    forget();
  };
  const find = (event) => {
    event.preventDefault();
    if (!words.length && !boxes.length) return;
    ask(async (signal) => ({ ...await findConcepts(image, conceptsOf(words, boxes), signal), names: words }));
  };
  const boxOf = ({ from, to }) => ({ ...between(from, to, image), isLike: sign === "yes" });
  const addBox = (dragged) => {
    setDrag(null);
    const box = boxOf(dragged);
    if (box.width >= 2 && box.height >= 2) setBoxes([...boxes, box]);
  };
  const changeObjects = (changed) => {
    setObjects(changed);
    const asked = changed.filter((points) => points.length);
    if (asked.length) ask(async (signal) => ({ ...await cutOut(image, asked, signal), names: [] }));
    else forget();
  };
  const addPoint = ({ x, y }, event) => {
    if (x < 0 || y < 0 || x >= image.width || y >= image.height) return;
    const point = { x, y, positive: sign === "yes" && !event.shiftKey };
    changeObjects([...objects.slice(0, -1), [...objects.at(-1), point]]);
  };
  const pointing = isFinding
    ? { label: "The image. Drag a box around an example.", onDrag: setDrag, onBox: addBox }
    : { label: "The image. Click on an object.", onPoint: addPoint };
  const marks = isFinding
    ? { boxes: drag ? [...boxes, boxOf(drag)] : boxes, points: [] }
    : { boxes: [], points: objects.flat() };
  const over = (stage) => html`
    <${StageMasks} hit=${hit} instances=${instances} view=${view} pointedAt=${pointedAt} stage=${stage} />
    <${Marks} place=${stage.place} ...${marks} />`;
  return html`
    <div class="try">
      <${ZoomStage}
        size=${image}
        url=${image.url}
        alt=${image.file.name}
        onHover=${(point) => setPointedAt(point && hit.current(point))}
        ...${pointing}
      >${over}<//>
      <div class="try-side">
        <${Choice} label="Tool" value=${tool} options=${TOOLS} onChange=${choose} />
        ${isFinding && html`
          <${FindTools}
            text=${text}
            onText=${setText}
            words=${words}
            boxes=${boxes}
            onBoxes=${setBoxes}
            sign=${sign}
            onSign=${setSign}
            busy=${busy}
            onSubmit=${find}
          />`}
        ${!isFinding && html`
          <${ClickTools}
            objects=${objects}
            onObjects=${setObjects}
            onChange=${changeObjects}
            sign=${sign}
            onSign=${setSign}
          />`}
        <${ErrorNotice} error=${error} />
        ${isFinding && answer.seconds !== null && html`<${ThresholdSlider} view=${view} floor=${LEAST_SCORE} />`}
        <${Answer}
          answer=${answer}
          view=${view}
          isFinding=${isFinding}
          pointedAt=${pointedAt}
          onPoint=${setPointedAt}
        />
      </div>
    </div>`;
}

function Marks({ place: { scale, x, y }, boxes, points }) {
  const signOf = (isGood) => (isGood ? "yes" : "no");
  return html`
    <svg class="marks" aria-hidden="true">
      ${boxes.map((box) => html`
        <rect
          class=${signOf(box.isLike)}
          x=${box.x * scale + x}
          y=${box.y * scale + y}
          width=${box.width * scale}
          height=${box.height * scale}
        />`)}
      ${points.map((point) => html`
        <circle class=${signOf(point.positive)} cx=${point.x * scale + x} cy=${point.y * scale + y} r="6" />`)}
    </svg>`;
}

/** The boxes belong to the first of the words, or stand for themselves. */
function conceptsOf(words, boxes) {
  const examples = boxes.length && {
    boxes: boxes.map(({ x, y, width, height }) => ({ x, y, width, height })),
    box_labels: boxes.map(({ isLike }) => (isLike ? 1 : 0)),
  };
  if (!words.length) return [{ type: "visual", ...examples }];
  return words.map((text, at) => ({ text, ...(at === 0 && examples) }));
}

/** The box that two of its corners span, as far as it lies in the image. */
function between(from, to, { width, height }) {
  const [left, right] = ordered(from.x, to.x, width);
  const [top, bottom] = ordered(from.y, to.y, height);
  return { x: left, y: top, width: right - left, height: bottom - top };
}

function ordered(one, other, most) {
  const within = [one, other].map((value) => Math.min(most, Math.max(0, value)));
  return [Math.min(...within), Math.max(...within)];
}
