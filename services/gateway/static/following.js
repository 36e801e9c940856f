/**
 * Follows the events of one agent at a time, and remembers what was seen of the others.
 *
 * Does not know the page.
 */

import {Transcript} from './transcript.js';

const RETRY_MS = 100;

/** The transcripts of this visit. */
export class Following {
  #connection;
  #onUpdate;
  #onLost;
  #isComing;
  #transcripts = new Map();
  #stop = () => {};

  /**
   * @param {object} options
   * @param {import('./connection.js').Connection} options.connection
   * @param {(agent: string, transcript: Transcript) => void} options.onUpdate Something happened.
   * @param {(failure: import('./failures.js').Failure) => void} options.onLost The agent cannot be
   *   followed.
   * @param {(agent: string) => boolean} options.isComing Whether a prompt for it is on its way, which may be
   *   creating it.
   */
  constructor({connection, onUpdate, onLost, isComing}) {
    this.#connection = connection;
    this.#onUpdate = onUpdate;
    this.#onLost = onLost;
    this.#isComing = isComing;
  }

  /** @param {string} agent @returns {Transcript | null} What was seen of it. */
  of(agent) {
    return this.#transcripts.get(agent) ?? null;
  }

  /** @param {string} agent It was deleted. */
  forget(agent) {
    this.#transcripts.delete(agent);
  }

  /** @param {string} agent The one to follow from now on; empty for none. */
  follow(agent) {
    this.#stop();
    this.#stop = () => {};
    if (!agent) return;
    if (!this.#transcripts.has(agent)) this.#transcripts.set(agent, new Transcript());
    this.#watch(agent);
  }

  #watch(agent) {
    const transcript = this.#transcripts.get(agent);
    const request = () => {
      transcript.watchBegins();
      const {sequence: afterSequence, logId} = transcript;
      return {parent: agent, afterSequence, logId, includeDeltas: true};
    };
    this.#stop = this.#connection.watch('watchEvents', request, {
      onResponse: ({updates = []}) => {
        if (!updates.length) return;
        transcript.apply(updates);
        this.#onUpdate(agent, transcript);
      },
      onEnd: (failure) => this.#ended(agent, failure),
    });
  }

  #ended(agent, failure) {
    if (failure.reason === 'SEQUENCE_UNKNOWN') {
      this.#transcripts.set(agent, new Transcript());
      this.#watch(agent);
    } else if (failure.reason === 'RESOURCE_NOT_FOUND' && this.#isComing(agent)) {
      const timer = setTimeout(() => this.#watch(agent), RETRY_MS);
      this.#stop = () => clearTimeout(timer);
    } else {
      this.#onLost(failure);
    }
  }
}
