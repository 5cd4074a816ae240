// What is shown of masks that are at hand already: from which score on, and which classes.
import { classColour } from "./colours.js";
import { useEffect, useState } from "./html.js";

/** Listeners hear of a change once a frame. Classes are [{id, name}], ids count from 1. */
export class MaskView {
  threshold;
  own = new Map(); // thresholds of single classes
  hidden = new Set();
  #listeners = new Set();
  #frame = 0;

  constructor(threshold) {
    this.threshold = threshold;
  }

  thresholdOf = (classId) => this.own.get(classId) ?? this.threshold;
  shows = ({ category_id: classId, score }) => !this.hidden.has(classId) && score >= this.thresholdOf(classId);
  colourOf = ({ category_id: classId }) => classColour(classId - 1);

  change(act) {
    act(this);
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      for (const listener of this.#listeners) listener();
    });
  }

  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** Renders anew whenever the view changes, after the masks are painted: they are what is looked at. */
export function useView(view) {
  const [, setRound] = useState(0);
  useEffect(() => view.listen(() => setTimeout(() => setRound((number) => number + 1))), [view]);
}
