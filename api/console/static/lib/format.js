// Numbers, times and names as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const count = (number) => whole.format(number);
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : noun.endsWith("s") ? "es" : "s"}`;
export const score = (number) => number.toFixed(2);

export function percent(part, all) {
  if (!all) return "0 %";
  const value = (100 * part) / all;
  return `${value > 0 && value < 1 ? "<1" : value < 100 ? Math.floor(value) : 100} %`;
}

export function rate(imagesPerSecond) {
  if (imagesPerSecond === null || imagesPerSecond === undefined) return "–";
  return imagesPerSecond < 1 ? `${short.format(imagesPerSecond * 60)}/min` : `${short.format(imagesPerSecond)}/s`;
}

/** "3 d 4 h", "2 min 5 s", "12 s": two units at most. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds > 0 && seconds < 1) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  let rest = Math.round(seconds);
  const first = units.findIndex(([, size]) => rest >= size);
  if (first < 0) return "0 s";
  const parts = units.slice(first, first + 2).map(([unit, size]) => {
    const number = Math.floor(rest / size);
    rest -= number * size;
    return number && `${number} ${unit}`;
  });
  return parts.filter(Boolean).join(" ");
}

export function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = number;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit ? short.format(value) : value} ${units[unit]}`;
}

export function ago(time, now = Date.now()) {
  const seconds = (now - new Date(time)) / 1000;
  if (seconds < 45) return "just now";
  if (seconds < 86400) return `${duration(seconds).replace(/ \d+ s$| \d+ min$/, "")} ago`;
  return new Date(time).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
}

export const moment = (time) => new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const secondsBetween = (start, end) => (new Date(end ?? Date.now()) - new Date(start)) / 1000;

/** The last part of a path or an address, without its query. */
export function fileName(image) {
  const path = image.split(/[?#]/)[0].replace(/\/+$/, "");
  return path.slice(path.lastIndexOf("/") + 1) || image;
}
