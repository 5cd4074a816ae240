// A colour per class: those of domain/overlays.py, so that a class looks the same in a contact
// sheet, a report and here.

const COLOURS = [
  [0, 200, 255], [255, 64, 129], [124, 220, 60], [255, 165, 0], [150, 110, 255], [255, 235, 59],
  [0, 190, 150], [240, 80, 60], [90, 150, 255], [230, 120, 230], [170, 130, 80], [200, 230, 200],
];

/** [red, green, blue] of the class with this number, from 0. */
export function classColour(number) {
  if (number < COLOURS.length) return COLOURS[number];
  // steps of the golden ratio keep neighbouring hues apart
  return fromHsv((number * 0.618034) % 1, 0.55 + (number % 3) * 0.15, 0.95);
}

export const cssColour = (number) => `rgb(${classColour(number).join(" ")})`;

function fromHsv(hue, saturation, value) {
  const sector = Math.floor(hue * 6);
  const rest = hue * 6 - sector;
  const low = value * (1 - saturation);
  const falling = value * (1 - saturation * rest);
  const rising = value * (1 - saturation * (1 - rest));
  const parts = [
    [value, rising, low], [falling, value, low], [low, value, rising],
    [low, falling, value], [rising, low, value], [value, low, falling],
  ][sector % 6];
  return parts.map((part) => Math.round(part * 255));
}
