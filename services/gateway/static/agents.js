/**
 * A user's agents, built from the updates of `WatchAgents`.
 *
 * Pure: no DOM, no connection.
 */

import {enumWord, instant} from './wire.js';

/**
 * @param {object} agent `session.v1.Agent` in proto3 JSON.
 * @returns {object} The same with every default filled in, enums as words and instants as numbers.
 */
export const agentOf = (agent) => ({
  name: agent.name,
  displayName: agent.displayName ?? '',
  instructions: agent.instructions ?? '',
  backend: agent.backend ?? '',
  permissionMode: enumWord(agent.permissionMode, 'PERMISSION_MODE_'),
  etag: agent.etag ?? '',
  state: enumWord(agent.state, 'STATE_'),
  runningTurn: agent.runningTurn ?? '',
  queuedTurns: agent.queuedTurns ?? [],
  headSequence: agent.headSequence ?? 0,
  model: agent.model ?? '',
  turnBudgetUsdMicros: Number(agent.turnBudgetUsdMicros ?? 0),
  budgetUsdMicros: Number(agent.budgetUsdMicros ?? 0),
  maxSteps: agent.maxSteps ?? 0,
  allowedRules: agent.allowedRules ?? [],
  costUsdMicros: Number(agent.usage?.costUsdMicros ?? 0),
  queuePosition: agent.queuePosition ?? 0,
  turnCostUsdMicros: agent.turnUsage?.costUsdMicros ?? 0,
  activeAt: instant(agent.activityTime) || instant(agent.createTime),
});

/** The list of agents and what is known about each. */
export class Agents {
  /** True once every agent that existed has arrived. */
  complete = false;
  #byName = new Map();
  #confirmed = null;

  /** To be called when a watch begins or begins again: what it does not name is gone. */
  watchBegins() {
    this.#confirmed = new Set();
  }

  /** @param {object[]} updates `session.v1.AgentUpdate`s in proto3 JSON. */
  apply(updates) {
    for (const update of updates) {
      if (update.agent) this.put(update.agent);
      else if (update.removed) this.remove(update.removed);
      else if (update.checkpoint) this.#caughtUp();
    }
  }

  /** @param {object} agent An agent as the server stores it. */
  put(agent) {
    this.#confirmed?.add(agent.name);
    this.#byName.set(agent.name, agentOf(agent));
  }

  /** @param {string} name The agent that is gone. */
  remove(name) {
    this.#byName.delete(name);
  }

  /** @param {string} name @returns {object | undefined} */
  get(name) {
    return this.#byName.get(name);
  }

  /** @returns {number} What all of them cost so far, in millionths of a dollar. */
  get spent() {
    return [...this.#byName.values()].reduce((sum, {costUsdMicros}) => sum + costUsdMicros, 0);
  }

  /** @returns {object[]} Most recently active first. */
  get sorted() {
    return [...this.#byName.values()].sort(
      (a, b) => b.activeAt - a.activeAt || a.name.localeCompare(b.name),
    );
  }

  #caughtUp() {
    for (const name of this.#byName.keys()) {
      if (this.#confirmed && !this.#confirmed.has(name)) this.#byName.delete(name);
    }
    this.#confirmed = null;
    this.complete = true;
  }
}
