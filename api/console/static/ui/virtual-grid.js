// A grid of any number of cells of which only those near the window exist.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../lib/html.js";
import { useSize } from "../lib/hooks.js";

const GAP = 12;
const AROUND = 1; // rows above and below the window that exist too
const HIGHEST = 8e6; // pixels; browsers can lay out a little more

/**
 * `cell(position, {width, ...focus})` renders one; its root takes the focus properties. `onRange(first,
 * last)` hears which cells exist. Arrow keys go from cell to cell, Home and End to the ends.
 */
export function VirtualGrid({ count, cellWidth, captionHeight, cell, onRange, label }) {
  const [ref, size] = useSize();
  const [focused, setFocused] = useState(0);
  const columns = size ? Math.max(1, Math.floor((size.width + GAP) / (cellWidth + GAP))) : 1;
  const width = size ? (size.width - GAP * (columns - 1)) / columns : 0;
  const rowHeight = Math.round(width * 0.75) + captionHeight + GAP;
  const mostRows = Math.max(1, Math.floor(HIGHEST / rowHeight));
  const rows = Math.min(Math.ceil(count / columns), mostRows);
  const seen = useSeenRows(ref, { rowHeight, rows, isReady: size !== null });
  const first = Math.max(0, seen.first - AROUND) * columns;
  const last = Math.min(Math.min(count, rows * columns), (seen.last + AROUND + 1) * columns) - 1;
  useEffect(() => {
    if (size && last >= first) onRange(first, last);
  }, [first, last, size === null]);

  const wished = useRef(null);
  useLayoutEffect(() => {
    if (wished.current === null) return;
    ref.current.querySelector(`[data-position="${wished.current}"]`)?.focus({ preventScroll: true });
    wished.current = null;
  });
  const goTo = (position) => {
    const target = Math.max(0, Math.min(count - 1, rows * columns - 1, position));
    wished.current = target;
    setFocused(target);
    scrollToRow(ref.current, Math.floor(target / columns), rowHeight);
  };
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -Infinity, End: Infinity };
  const onKeyDown = (event) => {
    const step = steps[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    goTo(Number(event.target.closest("[data-position]")?.dataset.position ?? focused) + step);
  };
  const positions = Array.from({ length: Math.max(0, last - first + 1) }, (_, at) => first + at);
  const reachable = focused >= first && focused <= last ? focused : seen.first * columns;
  const focusOf = (position) => ({
    "data-position": position,
    tabindex: position === reachable ? 0 : -1,
    onFocus: () => setFocused(position),
  });
  const style = {
    transform: `translateY(${Math.floor(first / columns) * rowHeight}px)`,
    gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))`,
    gridAutoRows: `${rowHeight - GAP}px`,
    gap: `${GAP}px`,
  };
  const height = `${rows * rowHeight}px`;
  return html`
    <div ref=${ref} class="grid" role="list" aria-label=${label} style=${{ height }} onKeyDown=${onKeyDown}>
      <div class="grid-rows" style=${style}>
        ${size && positions.map((position) => html`
          <div key=${position} role="listitem" aria-setsize=${count} aria-posinset=${position + 1}>
            ${cell(position, { width, ...focusOf(position) })}
          </div>`)}
      </div>
    </div>`;
}

function useSeenRows(ref, { rowHeight, rows, isReady }) {
  const [seen, setSeen] = useState({ first: 0, last: 0 });
  useLayoutEffect(() => {
    if (!isReady) return undefined;
    let frame = 0;
    const look = () => {
      frame = 0;
      const above = -ref.current.getBoundingClientRect().top;
      const first = Math.min(Math.max(0, Math.floor(above / rowHeight)), Math.max(0, rows - 1));
      const last = Math.min(rows - 1, Math.floor((above + window.innerHeight) / rowHeight));
      setSeen((old) => (old.first === first && old.last === last ? old : { first, last }));
    };
    const lookSoon = () => {
      frame ||= requestAnimationFrame(look);
    };
    look();
    window.addEventListener("scroll", lookSoon, { passive: true });
    window.addEventListener("resize", lookSoon);
    return () => {
      cancelAnimationFrame(frame);
      window.removeEventListener("scroll", lookSoon);
      window.removeEventListener("resize", lookSoon);
    };
  }, [rowHeight, rows, isReady]);
  return seen;
}

function scrollToRow(grid, row, rowHeight) {
  const top = grid.getBoundingClientRect().top + window.scrollY + row * rowHeight;
  const head = document.querySelector(".top")?.offsetHeight ?? 0;
  if (top < window.scrollY + head) window.scrollTo({ top: top - head - GAP });
  else if (top + rowHeight > window.scrollY + window.innerHeight) window.scrollTo({ top: top + rowHeight - window.innerHeight });
}
