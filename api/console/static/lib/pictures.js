// Pictures of a job's images, a few at a time: browsers open six connections to a service, and
// the rest of the page wants some too. What was asked for last is fetched first, since it is what is
// seen; what has been scrolled away is not fetched at all.
import { getBlob } from "./api.js";

const AT_ONCE = 3;
const KEPT = 400; // pictures; 320 pixels take some 20 kB

const kept = new Map(); // address to object URL, the least recently used first
const waiting = [];
let running = 0;

export const pictureAddress = (jobId, imageIndex, longestSide) =>
  `/v1/jobs/${jobId}/images/${imageIndex}/picture?longest_side=${longestSide}`;

/** The object URL of a picture if it is at hand. */
export function pictureAtHand(address) {
  const url = kept.get(address);
  if (url) {
    kept.delete(address);
    kept.set(address, url);
  }
  return url;
}

/** Resolves to the object URL of a picture; rejects with the service's Problem, or an AbortError. */
export function fetchPicture(address, signal) {
  return new Promise((resolve, reject) => {
    waiting.push({ address, signal, resolve, reject });
    startNext();
  });
}

function startNext() {
  while (running < AT_ONCE && waiting.length) {
    const request = waiting.pop();
    if (request.signal.aborted) continue;
    running += 1;
    load(request).finally(() => {
      running -= 1;
      startNext();
    });
  }
}

async function load({ address, signal, resolve, reject }) {
  try {
    resolve(pictureAtHand(address) ?? keep(address, await getBlob(address, { signal })));
  } catch (error) {
    reject(error);
  }
}

function keep(address, blob) {
  const url = URL.createObjectURL(blob);
  kept.set(address, url);
  if (kept.size > KEPT) {
    const [oldest, oldUrl] = kept.entries().next().value;
    kept.delete(oldest);
    URL.revokeObjectURL(oldUrl);
  }
  return url;
}
