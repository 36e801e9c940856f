/**
 * Everything the page knows of the server, kept current over one connection.
 *
 * Does not know the page: it fires an event for what changed, at most one of a kind per animation
 * frame, and views read from it.
 */

import {Agents, agentOf} from './agents.js';
import {ConnectionState} from './connection.js';
import {Following} from './following.js';
import {Keep} from './keep.js';
import {Outbox, SendState} from './outbox.js';
import {Pulse} from './pulse.js';
import {newId} from './wire.js';

const NAME_CHARACTERS = 40;
const USAGE_MS = 3_000; // many turns may end at once

/** Fires `agents`, `transcript`, `outbox`, `backends`, `connection`, `current`, `notice`. */
export class Client extends Pulse {
  agents = new Agents();
  /** What ListBackends said; null before. */
  backends = null;
  /** What this month cost and may cost, in millionths of a dollar; null before it is known. */
  usage = null;
  /** Name of the agent that is shown; empty for none. */
  current = '';
  /** Why the shown agent cannot be followed; null when it is. */
  lost = null;
  /** The last call that failed, for the person to see; null when seen. */
  notice = null;
  /** Ids of permission requests answered in this tab, with whether they were allowed. */
  answered = new Map();
  /** Rises with every answer given in this tab. */
  answers = 0;
  /** Ids of turns that were asked to stop. */
  stopping = new Set();
  #usageTimer = 0;
  #usageStale = false;
  #withdrawn = new Set();
  #standing = {queuePosition: 0, costUsdMicros: 0};
  #following;

  /**
   * @param {object} options
   * @param {import('./connection.js').Connection} options.connection
   * @param {string} options.user `users/{user}`.
   * @param {Storage} options.storage
   */
  constructor({connection, user, storage}) {
    super();
    this.connection = connection;
    this.user = user;
    this.keep = new Keep(storage, user);
    this.outbox = new Outbox({
      keep: this.keep,
      call: (...call) => connection.call(...call),
      changed: () => this.changed('outbox'),
    });
    this.#following = new Following({
      connection,
      onUpdate: (agent, transcript) => this.#updated(agent, transcript),
      onLost: (failure) => this.#lose(failure),
      isComing: (agent) => this.outbox.of(agent).some(({state}) => state !== SendState.FAILED),
    });
    connection.addEventListener('state', () => this.changed('connection'));
    connection.addEventListener('welcome', () => this.changed('connection'));
  }

  /** Begins to follow the list of agents and sends what an earlier visit left. */
  start() {
    const request = () => {
      this.agents.watchBegins();
      return {parent: this.user};
    };
    this.connection.watch('watchAgents', request, {
      onResponse: ({updates = []}) => {
        if (!updates.length) return;
        const before = this.agents.spent;
        this.agents.apply(updates);
        this.looked();
        if (this.agents.spent !== before) this.#refreshUsageSoon();
      },
      onEnd: (failure) => this.#tell(failure),
    });
    this.outbox.resume();
    this.connection.open();
    this.refreshBackends();
    this.refreshUsage();
  }

  /** Asks which backends there are; without an answer, what was known stays. */
  async refreshBackends() {
    const {backends = this.backends} = await this.connection
      .call('listBackends', {})
      .catch(() => ({}));
    this.backends = backends;
    this.changed('backends');
  }

  /** Asks what was consumed this month; without an answer, what was known stays. */
  async refreshUsage() {
    const name = `${this.user}/usage/current`;
    const {usage} = await this.connection.call('getUsage', {name}).catch(() => ({}));
    if (!usage) return;
    const {total = {}, budgetUsdMicros = 0} = usage;
    this.usage = {spent: Number(total.costUsdMicros ?? 0), budget: Number(budgetUsdMicros)};
    this.changed('agents');
  }

  /** At once, and then no more often than every few seconds. */
  #refreshUsageSoon() {
    if (this.#usageTimer) {
      this.#usageStale = true;
      return;
    }
    this.refreshUsage();
    this.#usageTimer = setTimeout(() => {
      this.#usageTimer = 0;
      if (!this.#usageStale) return;
      this.#usageStale = false;
      this.#refreshUsageSoon();
    }, USAGE_MS);
  }

  /** @param {string} name Agent to show and follow; empty for none. */
  select(name) {
    if (name === this.current) return;
    this.current = name;
    this.lost = null;
    this.#following.follow(name);
    this.looked();
    this.changed('current');
  }

  /** @returns {boolean} Whether the server can be heard. */
  get connected() {
    return this.connection.state === ConnectionState.CONNECTED;
  }

  /** @returns {object[]} The agents, most recently active first, with those about to be created. */
  get list() {
    const coming = this.outbox.creating.filter(({agent}) => !this.agents.get(agent));
    const shown = coming.map(({agent, create}) => agentOf({name: agent, ...create}));
    return [...shown, ...this.agents.sorted];
  }

  /** @returns {object | null} The shown agent, as in `list`. */
  get agent() {
    return this.list.find(({name}) => name === this.current) ?? null;
  }

  /** @returns {{queuePosition: number, costUsdMicros: number}} Of the shown agent's running turn. */
  get standing() {
    const {queuePosition = 0, turnCostUsdMicros: costUsdMicros = 0} = this.agent ?? {};
    const {queuePosition: position, costUsdMicros: cost} = this.#standing;
    if (position !== queuePosition || cost !== costUsdMicros) {
      this.#standing = {queuePosition, costUsdMicros};
    }
    return this.#standing;
  }

  /** @returns {import('./transcript.js').Transcript | null} Of the shown agent. */
  get transcript() {
    return this.#following.of(this.current);
  }

  /** @returns {number} Agents that wait for a decision. */
  get needing() {
    return this.agents.sorted.filter(({state}) => state === 'needsYou').length;
  }

  /** @param {object} agent @returns {boolean} Whether something happened since it was looked at. */
  unread(agent) {
    return agent.headSequence > (this.keep.get(`seen/${agent.name}`) ?? 0);
  }

  /** The page is visible, or the list changed: what is shown counts as seen. */
  looked() {
    const visible = document.visibilityState === 'visible';
    for (const {name, headSequence} of this.agents.sorted) {
      const known = this.keep.get(`seen/${name}`);
      const seen = name === this.current && visible ? known !== headSequence : known === null;
      if (seen) this.keep.set(`seen/${name}`, headSequence);
    }
    this.changed('agents');
  }

  /**
   * Sends a prompt to the shown agent, or to a new one when none is shown.
   *
   * @param {string} text
   * @returns {string} Name of the agent it goes to.
   */
  send(text) {
    const create = this.current ? null : {displayName: nameFor(text)};
    const agent = this.current || `${this.user}/agents/${newId('a')}`;
    this.outbox.add({agent, turnId: newId('t'), text, at: Date.now(), create});
    return agent;
  }

  /** Stops what the shown agent does, or is about to do. */
  stop() {
    const {running} = this.transcript ?? {};
    const [coming] = this.outbox.of(this.current).filter(({state}) => state !== SendState.FAILED);
    if (running) this.cancelTurn(running.id);
    else if (coming) this.withdraw(coming);
  }

  /**
   * Takes a prompt of the outbox back. One that is on its way is stopped when it arrives.
   *
   * @param {object} prompt
   */
  withdraw({turnId, failure}) {
    this.#withdrawn.add(turnId);
    if (this.connected && !failure) this.changed('outbox');
    else this.outbox.drop(turnId);
  }

  /** @param {string} turnId @returns {boolean} Whether it was asked to stop. */
  isStopping(turnId) {
    return this.stopping.has(turnId) || this.#withdrawn.has(turnId);
  }

  /** @param {string} turnId Of the shown agent: to be stopped, or taken out of the queue. */
  cancelTurn(turnId) {
    if (this.stopping.has(turnId)) return;
    this.stopping.add(turnId);
    this.changed('transcript');
    const name = `${this.current}/turns/${turnId}`;
    this.#try('cancelTurn', {name}, () => this.stopping.delete(turnId));
  }

  /**
   * Answers a permission request of the shown agent.
   *
   * @param {string} turnId
   * @param {{permissionId: string, allowed: boolean, reason: string, suggestionId?: string,
   *   answers?: {question: string, answers: string[]}[]}} decision
   */
  resolvePermission(turnId, decision) {
    this.#answer(decision.permissionId, decision.allowed);
    const name = `${this.current}/turns/${turnId}`;
    this.#try('resolvePermission', {name, decision}, () => this.#answer(decision.permissionId));
  }

  /** @param {object} settings Of the new agent. @returns {Promise<string>} Its name. */
  async createAgent(settings) {
    const request = {parent: this.user, agentId: newId('a'), agent: settings};
    const {agent} = await this.connection.call('createAgent', request);
    this.#put(agent);
    return agent.name;
  }

  /** @param {object} agent Name, and the settings to change. @returns {Promise<void>} */
  async updateAgent(agent) {
    const {name: _, ...settings} = agent;
    const updateMask = Object.keys(settings).join(',');
    const response = await this.connection.call('updateAgent', {agent, updateMask});
    this.#put(response.agent);
  }

  /** @param {string} name @returns {Promise<void>} */
  async deleteAgent(name) {
    try {
      await this.connection.call('deleteAgent', {name});
    } catch (failure) {
      if (failure.reason !== 'RESOURCE_NOT_FOUND') throw failure;
    }
    this.agents.remove(name);
    this.#following.forget(name);
    for (const {turnId} of this.outbox.of(name)) this.outbox.drop(turnId);
    for (const kind of ['draft', 'seen']) this.keep.remove(`${kind}/${name}`);
    this.changed('agents');
  }

  /** The notice was seen. */
  dismiss() {
    this.#tell(null);
  }

  #put(agent) {
    this.agents.put(agent);
    this.changed('agents');
  }

  /** A prompt that is in the transcript has left the outbox; one taken back too late is stopped. */
  #updated(agent, transcript) {
    for (const {turnId} of this.outbox.of(agent)) {
      if (transcript.turn(turnId)) this.outbox.drop(turnId);
    }
    for (const turnId of this.#withdrawn) {
      if (transcript.turn(turnId)?.outcome === null) this.cancelTurn(turnId);
    }
    this.changed('transcript');
  }

  #lose(failure) {
    this.lost = failure;
    this.changed('current');
  }

  #answer(permissionId, allowed) {
    if (allowed === undefined) this.answered.delete(permissionId);
    else this.answered.set(permissionId, allowed);
    this.answers += 1;
    this.changed('transcript');
  }

  async #try(name, request, onFailure = () => {}) {
    try {
      return await this.connection.call(name, request);
    } catch (failure) {
      onFailure();
      this.#tell(failure);
      return {};
    }
  }

  #tell(failure) {
    this.notice = failure;
    this.changed('notice');
  }
}

function nameFor(text) {
  const line = text.trim().split('\n', 1)[0];
  const characters = [...line];
  if (characters.length <= NAME_CHARACTERS) return line;
  return `${characters.slice(0, NAME_CHARACTERS - 1).join('')}…`;
}
