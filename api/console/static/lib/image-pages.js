// The images of a job in one order, fetched in pages as they come into view.
import { get, messageOf } from "./api.js";

const PAGE = 24;
const KEPT = 120; // pages; those looked at longest ago are forgotten

export class ImagePages {
  categories = null;
  sortedOf = null; // images, of an order other than their own, once it is known
  error = null;
  #jobId;
  #sort;
  #pages = new Map(); // number to {rows, isFull}
  #running = new Map(); // number to AbortController
  #wanted = new Map(); // who wants it to numbers of pages
  #listeners = new Set();

  constructor(jobId, sort) {
    this.#jobId = jobId;
    this.#sort = sort;
  }

  /** undefined: not fetched yet; null: the job has no outcome for it so far. */
  at(position) {
    const page = this.#pages.get(Math.floor(position / PAGE));
    return page && (page.rows[position % PAGE] ?? null);
  }

  *rows() {
    for (const page of this.#pages.values()) yield* page.rows.filter(Boolean);
  }

  /** Fetches what is missing from `first` to `last`, and gives up what nobody wants any more. */
  want(who, first, last) {
    const [from, to] = [first, last].map((position) => Math.floor(position / PAGE));
    this.#wanted.set(who, Array.from({ length: to - from + 1 }, (_, at) => from + at));
    const all = new Set([...this.#wanted.values()].flat());
    for (const [number, leaving] of this.#running) if (!all.has(number)) leaving.abort();
    for (const number of all) {
      if (!this.#pages.has(number) && !this.#running.has(number)) this.#fetch(number);
    }
  }

  /** The job has come further: pages with gaps are asked for again, and stay until then. */
  refresh() {
    for (const number of new Set([...this.#wanted.values()].flat())) {
      const page = this.#pages.get(number);
      if (page && !page.isFull && !this.#running.has(number)) this.#fetch(number);
    }
  }

  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close() {
    for (const leaving of this.#running.values()) leaving.abort();
  }

  async #fetch(number) {
    const leaving = new AbortController();
    this.#running.set(number, leaving);
    try {
      this.#keep(number, await this.#rowsOf(number, leaving.signal));
      this.error = null;
    } catch (error) {
      this.error = messageOf(error) ?? this.error;
    } finally {
      this.#running.delete(number);
    }
    for (const listener of this.#listeners) listener();
  }

  /** By place in the page; answers may be short although more follow. */
  async #rowsOf(number, signal) {
    const start = number * PAGE;
    const query = { sort: this.#sort, first: start, limit: PAGE, annotations: true, cursor: null };
    const rows = [];
    let place = 0;
    do {
      const answer = await get(`/v1/jobs/${this.#jobId}/images`, { query, signal });
      for (const row of answer.data) {
        place = this.#sort === "index" ? row.image_index - start : rows.length;
        if (place < PAGE) rows[place] = row;
      }
      this.categories = answer.categories;
      this.sortedOf = answer.sorted_of;
      query.cursor = answer.next_cursor;
    } while (query.cursor !== null && place < PAGE - 1);
    return rows;
  }

  #keep(number, rows) {
    this.#pages.delete(number);
    this.#pages.set(number, { rows, isFull: rows.filter(Boolean).length === PAGE });
    if (this.#pages.size > KEPT) this.#pages.delete(this.#pages.keys().next().value);
  }
}
