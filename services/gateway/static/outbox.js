/**
 * Prompts on their way to the server: kept until it has recorded them, sent in order per agent.
 *
 * A prompt's turn id is made here and never changes, so sending it again, after a lost connection
 * or a reload, or from a second tab, makes one turn. Does not know the page.
 */

/** Where a prompt stands. */
export const SendState = Object.freeze({SENDING: 'sending', SENT: 'sent', FAILED: 'failed'});

/** The prompts that are not in a transcript yet. */
export class Outbox {
  #keep;
  #call;
  #changed;
  #prompts = new Map();
  #chains = new Map();

  /**
   * @param {object} options
   * @param {import('./keep.js').Keep} options.keep Where prompts outlive the tab.
   * @param {(name: string, request: object, options?: object) => Promise<object>} options.call
   *   `Connection.call`.
   * @param {() => void} options.changed Called after every change.
   */
  constructor({keep, call, changed}) {
    this.#keep = keep;
    this.#call = call;
    this.#changed = changed;
  }

  /** Takes up what an earlier visit left, oldest first. */
  resume() {
    const left = this.#keep.keys('outbox/').map((key) => this.#keep.get(key));
    for (const prompt of left.filter(Boolean).sort((a, b) => a.at - b.at)) this.#submit(prompt);
  }

  /**
   * Keeps a prompt and sends it.
   *
   * @param {object} prompt
   * @param {string} prompt.agent `users/{user}/agents/{agent}`.
   * @param {string} prompt.turnId New for every prompt.
   * @param {string} prompt.text
   * @param {number} prompt.at Milliseconds since the epoch.
   * @param {object | null} prompt.create Settings of an agent to be created first.
   */
  add(prompt) {
    this.#keep.set(`outbox/${prompt.turnId}`, prompt);
    this.#submit(prompt);
  }

  /** @param {string} agent @returns {object[]} Its prompts, oldest first. */
  of(agent) {
    return [...this.#prompts.values()].filter((prompt) => prompt.agent === agent);
  }

  /** @returns {object[]} Prompts whose agent is about to be created. */
  get creating() {
    return [...this.#prompts.values()].filter((prompt) => prompt.create);
  }

  /** @returns {number} Prompts on their way. */
  get sending() {
    return this.#count(SendState.SENDING);
  }

  /** @returns {number} Prompts that would be lost with this browser's storage. */
  get unsent() {
    return this.sending + this.#count(SendState.FAILED);
  }

  /** @param {string} turnId Sends a refused prompt again. */
  retry(turnId) {
    const prompt = this.#prompts.get(turnId);
    if (prompt?.state === SendState.FAILED) this.#submit(prompt);
  }

  /** @param {string} turnId It is in the transcript, or was given up. */
  drop(turnId) {
    const prompt = this.#prompts.get(turnId);
    if (!prompt) return;
    prompt.given.abort();
    this.#prompts.delete(turnId);
    this.#keep.remove(`outbox/${turnId}`);
    this.#changed();
  }

  #count(state) {
    return [...this.#prompts.values()].filter((prompt) => prompt.state === state).length;
  }

  #submit({agent, turnId, text, at, create}) {
    const given = new AbortController();
    const prompt = {agent, turnId, text, at, create, state: SendState.SENDING, failure: null, given};
    this.#prompts.set(turnId, prompt);
    const before = this.#chains.get(agent) ?? Promise.resolve();
    this.#chains.set(
      agent,
      before.then(() => this.#send(prompt)),
    );
    this.#changed();
  }

  async #send(prompt) {
    const {agent, turnId, text, create} = prompt;
    if (this.#prompts.get(turnId) !== prompt) return;
    const patience = {
      patienceMs: Infinity,
      signal: prompt.given.signal,
      onLater: (failure) => this.#become(prompt, {failure}),
    };
    try {
      if (create) {
        const [parent, agentId] = agent.split('/agents/');
        await this.#create({parent, agentId, agent: create}, patience);
        this.#become(prompt, {create: null});
        this.#keep.set(`outbox/${turnId}`, {agent, turnId, text, at: prompt.at, create: null});
      }
      await this.#call('createTurn', {parent: agent, turnId, turn: {prompt: {text}}}, patience);
      this.#keep.remove(`outbox/${turnId}`);
      this.#become(prompt, {state: SendState.SENT, failure: null});
    } catch (failure) {
      this.#become(prompt, {state: SendState.FAILED, failure});
    }
  }

  /** The agent may exist with other settings: made by an earlier try, and changed since. */
  async #create(request, patience) {
    try {
      await this.#call('createAgent', request, patience);
    } catch (failure) {
      if (failure.reason !== 'RESOURCE_EXISTS') throw failure;
    }
  }

  #become(prompt, change) {
    Object.assign(prompt, change);
    this.#changed();
  }
}
