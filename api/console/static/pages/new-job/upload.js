// Files of this computer into a dataset of the service, several at a time.
import { messageOf, post, put } from "../../lib/api.js";
import { bytes, count, plural } from "../../lib/format.js";
import { html, useEffect, useRef, useState } from "../../lib/html.js";
import { Bar, Button, ErrorNotice, Icon } from "../../ui/basics.js";

const AT_ONCE = 3; // of the six connections that a browser opens
const IMAGES = /\.(jpe?g|png|webp|tiff?|bmp|gif|ppm|pgm|jp2|avif)$/i;
const MANIFESTS = /\.(jsonl|csv|parquet|txt)$/i;

export const isManifest = ({ path }) => MANIFESTS.test(path);
const isHidden = (path) => path.split("/").some((part) => part.startsWith("."));
const isUseful = ({ path }) => (IMAGES.test(path) || MANIFESTS.test(path)) && !isHidden(path);

const NOTHING = { busy: false, id: null, name: null, manifests: [], manifest: null };

/** `onChange` hears {busy, id, name, manifests} of the new dataset, as far as it is known. */
export function Upload({ value, onChange, label, hint, accepts = isUseful, isSmall = false }) {
  const [state, setState] = useState(null); // {isReading} of a folder, {files, done, sent, all, left}, or {error}
  const [isOver, setOver] = useState(false);
  const leaving = useRef(null);
  const isGone = useRef(false);
  useEffect(() => () => {
    isGone.current = true;
    leaving.current?.abort();
  }, []);
  const isDone = Boolean(value.id && state?.files);
  const isBusy = Boolean(state?.isReading || (state?.files && !isDone));

  const refuse = (error) => {
    if (isGone.current) return;
    onChange(NOTHING);
    setState({ error });
  };
  const take = async (found) => {
    if (isGone.current) return undefined;
    const useful = found.filter(accepts);
    if (!useful.length) return refuse("There is no file of a kind that is read here among them.");
    leaving.current = new AbortController();
    const all = useful.reduce((sum, { file }) => sum + file.size, 0);
    const progress = { files: useful.length, done: 0, sent: 0, all, left: found.length - useful.length };
    const onSent = (size) => {
      progress.done += 1;
      progress.sent += size;
      setState({ ...progress });
    };
    onChange({ busy: true, id: null });
    setState({ ...progress });
    try {
      const id = await upload(useful, { signal: leaving.current.signal, onSent });
      onChange({ busy: false, id, name: nameOf(useful), manifests: useful.filter(isManifest).map(({ path }) => path) });
    } catch (error) {
      leaving.current.abort(); // the files beside
      refuse(messageOf(error));
    }
    return undefined;
  };
  const takeDropped = (event) => {
    event.preventDefault();
    setOver(false);
    if (isBusy) return;
    setState({ isReading: true });
    droppedFiles(event.dataTransfer).then(take, (refused) => refuse(messageOf(refused)));
  };
  const takeOver = (event) => {
    event.preventDefault();
    setOver(!isBusy);
  };
  const startAgain = () => {
    setState(null);
    onChange(NOTHING);
  };
  return html`
    <div
      class=${`drop ${isOver ? "over" : ""} ${isSmall ? "small-drop" : ""}`}
      onDragOver=${takeOver}
      onDragLeave=${() => setOver(false)}
      onDrop=${takeDropped}
    >
      ${state?.isReading && html`<p class="drop-label" role="status">Looking through it…</p>`}
      ${isDone && html`<${Done} state=${state} name=${value.name} onAgain=${startAgain} />`}
      ${isBusy && state.files && html`<${Sending} state=${state} onCancel=${() => leaving.current.abort()} />`}
      ${!isDone && !isBusy && html`<${Choosing} label=${label} hint=${hint} isSmall=${isSmall} onFiles=${take} />`}
      <${ErrorNotice} error=${state?.error} />
    </div>`;
}

function Choosing({ label, hint, isSmall, onFiles }) {
  const folder = useRef(null);
  const files = useRef(null);
  const chosen = (event) => onFiles([...event.target.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
  return html`
    <input ref=${folder} type="file" webkitdirectory hidden onChange=${chosen} data-for="folder" />
    <input ref=${files} type="file" multiple hidden onChange=${chosen} data-for="files" />
    <p class="drop-label"><${Icon} name="folder" /> ${label}</p>
    <div class="row">
      ${!isSmall && html`<${Button} onClick=${() => folder.current.click()}>Choose a folder<//>`}
      <${Button} onClick=${() => files.current.click()}>Choose ${isSmall ? "a file" : "files"}<//>
    </div>
    <p class="hint">${hint}</p>`;
}

function Sending({ state, onCancel }) {
  const { files, done, sent, all } = state;
  return html`
    <div class="stack tight sending">
      <${Bar} label="Upload" done=${done} total=${files} share=${sent / Math.max(1, all)} large />
      <p class="small numbers" role="status">
        ${count(done)} of ${plural(files, "file")}, ${bytes(sent)} of ${bytes(all)}
      </p>
      <div><${Button} kind="little" onClick=${onCancel}>Stop<//></div>
    </div>`;
}

function Done({ state, name, onAgain }) {
  return html`
    <p class="drop-label" role="status">
      <span class="chip succeeded">Uploaded</span>${" "}
      <span class="numbers">${name}: ${plural(state.files, "file")}, ${bytes(state.all)}</span>
    </p>
    ${state.left > 0 && html`<p class="hint">${plural(state.left, "other file")} left out: not images.</p>`}
    <div><${Button} kind="little" onClick=${onAgain}>Choose others<//></div>`;
}

/** The id of the new dataset. A file that cannot be stored ends it. */
async function upload(files, { signal, onSent }) {
  const dataset = await post("/v1/datasets", { name: nameOf(files) }, { signal });
  const rest = files.values();
  const sendAll = async () => {
    for (const { file, path } of rest) {
      const address = path.split("/").map(encodeURIComponent).join("/");
      await put(`/v1/datasets/${dataset.id}/files/${address}`, file, { signal });
      onSent(file.size);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, sendAll));
  return dataset.id;
}

/** The folder's name, or the only file's. */
function nameOf(files) {
  const [first] = files[0].path.split("/");
  return files.length === 1 || files[0].path.includes("/") ? first : `${first} and ${files.length - 1} more`;
}

/** Files below what was dropped, folders included. */
async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  return (await Promise.all(entries.map((entry) => filesBelow(entry)))).flat();
}

async function filesBelow(entry, parent = "") {
  const path = parent + entry.name;
  if (entry.isFile) return [{ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) }];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // a reader gives a hundred at a time, and none at the end
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found.flat();
    found.push(...await Promise.all(some.map((one) => filesBelow(one, `${path}/`))));
  }
}
