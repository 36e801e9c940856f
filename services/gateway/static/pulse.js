/**
 * An event target that fires an event at most once per animation frame, however often it is told.
 *
 * This is what makes a stream of a thousand fragments cost sixty renderings a second at most.
 */

const HIDDEN_MS = 250; // frames stop in a hidden tab; its title must still change

/** Base of what views follow. */
export class Pulse extends EventTarget {
  #dirty = new Set();

  /** @param {string} kind Name of the event to fire soon. */
  changed(kind) {
    if (!this.#dirty.size) this.#schedule();
    this.#dirty.add(kind);
  }

  #schedule() {
    const flush = () => {
      clearTimeout(timer);
      cancelAnimationFrame(frame);
      this.#flush();
    };
    const timer = setTimeout(flush, HIDDEN_MS);
    const frame = requestAnimationFrame(flush);
  }

  #flush() {
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    for (const kind of dirty) this.dispatchEvent(new Event(kind));
  }
}
