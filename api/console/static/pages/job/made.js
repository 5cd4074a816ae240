// What is made of a job's result, exports and evaluations: how they stand, and their files.
import { get } from "../../lib/api.js";

export const STATES = { queued: "Queued", running: "Running", succeeded: "Ready", failed: "Failed", canceled: "Canceled" };

export const isOpen = ({ status }) => status === "queued" || status === "running";

/** Links to files work for a while, so they are asked for when somebody wants one. */
export async function download(path, name) {
  const { files } = await get(path);
  const link = document.createElement("a");
  link.href = files.find((file) => file.name === name).url;
  link.download = name.split("/").at(-1);
  link.click();
}
