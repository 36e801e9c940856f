/**
 * Does long work in slices, so that the page stays responsive.
 *
 * All work shares one budget for each task of the event loop. What was added last goes first: in a
 * long conversation that is the newest text, at which the reader looks.
 */

const SLICE_MS = 12;

/** A pile of work that is done a step at a time. */
export class Slices {
  #now;
  #later;
  #pile = [];
  #began = null;
  #running = false;

  /**
   * @param {object} [options]
   * @param {() => number} [options.now] Milliseconds.
   * @param {(run: () => void) => void} [options.later] Runs something in a task of its own.
   */
  constructor({now = () => performance.now(), later = (run) => setTimeout(run)} = {}) {
    this.#now = now;
    this.#later = later;
  }

  /**
   * Does the first steps at once, as far as the budget allows, and the others soon.
   *
   * @param {() => boolean} step Does a little, and tells whether more is left. A step that is
   *   waiting already is not added twice.
   */
  add(step) {
    if (!this.#pile.includes(step)) this.#pile.push(step);
    if (!this.#running) this.#run();
  }

  #run() {
    if (this.#began === null) {
      this.#began = this.#now();
      this.#later(() => this.#nextSlice());
    }
    this.#running = true;
    while (this.#pile.length && this.#now() - this.#began < SLICE_MS) {
      const step = this.#pile.at(-1);
      if (!step()) this.#pile.splice(this.#pile.indexOf(step), 1);
    }
    this.#running = false;
  }

  #nextSlice() {
    this.#began = null;
    if (this.#pile.length) this.#run();
  }
}
