// A canvas that shows an image's masks, and paints them anew only where something changes.
import { annotationAt, paint, scaled } from "./masks.js";

export class MaskLayer {
  #canvas;
  #masks = [];
  #shown = ""; // which masks the canvas has now
  #view = null;
  #fine;

  /** `fine` are the canvas's pixels for one of the screen. */
  constructor(canvas, fine) {
    this.#canvas = canvas;
    this.#fine = fine;
  }

  /** `window` is in pixels of the canvas; see `scaleRuns`. */
  place(instances, window) {
    if (this.#canvas.width !== window.width) this.#canvas.width = window.width;
    if (this.#canvas.height !== window.height) this.#canvas.height = window.height;
    this.#masks = scaled(instances, window, this.#fine);
    this.#shown = null;
  }

  draw(view, pointedAt = null) {
    this.#view = view;
    const flags = this.#masks.map(({ annotation }) => (view.shows(annotation) ? (annotation === pointedAt ? "2" : "1") : "0")).join("");
    if (flags === this.#shown) return;
    this.#shown = flags;
    paint(this.#canvas, this.#masks, { shows: view.shows, colourOf: view.colourOf, pointedAt });
  }

  at(x, y) {
    return annotationAt(this.#masks, this.#canvas, { x, y, shows: this.#view.shows });
  }
}
