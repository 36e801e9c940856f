/**
 * An agent's history as turns, built from the updates of `WatchEvents`.
 *
 * Pure: no DOM, no clock, no connection. The rule for text still being written: a snapshot
 * replaces, anything else appends; the item with the same `block_id` wins; a discarded piece goes;
 * a new attempt or an outcome withdraws whatever is still open.
 */

import {enumWord, instant, milliseconds} from './wire.js';

/** One prompt and everything the agent did for it. */
export class Turn {
  /** Facts in order: messages, thoughts, tools, attempts; see `Entry` kinds in `Transcript`. */
  entries = [];
  /** Pieces still being written, oldest first. */
  open = [];
  /** How it ended; null while it has not. */
  outcome = null;
  /** Rises with every change, so that a view can tell whether to render. */
  version = 0;

  /** @param {string} id Last part of the turn's name. */
  constructor(id) {
    this.id = id;
    this.prompt = '';
    this.createdAt = 0;
    /** What it goes on with, for a turn that nobody asked for; null for any other. */
    this.background = null;
  }

  /** @returns {object[]} Everything to show, in order. */
  get shown() {
    return this.open.length ? [...this.entries, ...this.open] : this.entries;
  }

  /** @returns {object | undefined} The tool that waits for a decision. */
  get waiting() {
    return this.outcome ? undefined : this.entries.find((entry) => isWaiting(entry));
  }
}

const isWaiting = (entry) => entry.kind === 'tool' && entry.permission && !entry.permission.decision;

/** What a turn consumed, all zero. */
const nothingUsed = () => ({
  inputTokens: 0,
  outputTokens: 0,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
  costUsdMicros: 0,
});

/**
 * The history of one agent.
 *
 * Entries of a turn are plain objects with a `key` unique in the turn and a `kind`:
 * `message` and `thought` {text, partial, writing, parentId}; `tool` {toolCallId, name, inputJson,
 * omittedBytes, parentId, result, permission, version}; `attempt` {attempt, error}; `retry`
 * {attempt, attempts, error}; `fallback` {from, to}; `compaction` {tokens}; `changes` {changes,
 * omittedFiles}.
 */
export class Transcript {
  /** Turns in the order they were asked for. */
  turns = [];
  /** Greatest event number seen; where a watch continues. */
  sequence = 0;
  /** Which history `sequence` counts in; empty until a checkpoint tells. */
  logId = '';
  /** True once everything stored has arrived. */
  complete = false;
  /** Sum over all outcomes. */
  used = nothingUsed();
  #byId = new Map();

  /** The turn at work: turns run in order, so it is the first without an outcome. */
  get running() {
    return this.turns.find((turn) => !turn.outcome);
  }

  /** Turns that wait for the running one. */
  get queued() {
    return this.turns.filter((turn) => !turn.outcome).slice(1);
  }

  /** @param {string} id @returns {Turn | undefined} */
  turn(id) {
    return this.#byId.get(id);
  }

  /**
   * To be called when a watch begins or begins again: a piece that is still being written then
   * comes as a snapshot before the checkpoint; one that does not come is gone.
   */
  watchBegins() {
    for (const turn of this.turns) for (const piece of turn.open) piece.confirmed = false;
  }

  /** @param {object[]} updates `session.v1.EventUpdate`s in proto3 JSON. */
  apply(updates) {
    for (const update of updates) {
      if (update.delta) this.#append(update.delta);
      else if (update.event) this.#record(update.event);
      else if (update.messageDiscarded) this.#discard(update.messageDiscarded.blockId ?? '');
      else if (update.checkpoint) this.#caughtUp(update.checkpoint);
    }
  }

  #append({blockId = '', thought = false, snapshot = false, text = ''}) {
    const turn = this.running;
    if (!turn || turn.entries.some((entry) => entry.blockId === blockId)) return;
    let piece = turn.open.find((open) => open.blockId === blockId);
    if (!piece) {
      const kind = thought ? 'thought' : 'message';
      piece = {key: `block-${blockId}`, kind, blockId, text: '', partial: false, writing: true};
      turn.open.push(piece);
    }
    piece.text = snapshot ? text : piece.text + text;
    piece.confirmed = true;
    turn.version += 1;
  }

  #discard(blockId) {
    for (const turn of this.turns) {
      if (turn.outcome || !turn.open.some((piece) => piece.blockId === blockId)) continue;
      turn.open = turn.open.filter((piece) => piece.blockId !== blockId);
      turn.version += 1;
    }
  }

  #caughtUp({logId = this.logId}) {
    this.complete = true;
    this.logId = logId;
    for (const turn of this.turns) {
      const kept = turn.open.filter((piece) => piece.confirmed);
      if (kept.length === turn.open.length) continue;
      turn.open = kept;
      turn.version += 1;
    }
  }

  #record(event) {
    const sequence = event.sequence ?? 0;
    if (sequence <= this.sequence) return;
    this.sequence = sequence;
    const turn = this.#turnOf(event);
    turn.version += 1;
    const item = event.item ?? {};
    const kind = Object.keys(item)[0];
    RECORD[kind]?.(turn, item[kind], {sequence, at: instant(event.createTime)});
    if (kind === 'turnOutcome') this.#count(turn.outcome.usage);
  }

  #turnOf({turnId = '', createTime}) {
    let turn = this.#byId.get(turnId);
    if (!turn) {
      turn = new Turn(turnId);
      turn.createdAt = instant(createTime);
      this.turns.push(turn);
      this.#byId.set(turnId, turn);
    }
    return turn;
  }

  #count(usage) {
    for (const key of Object.keys(this.used)) this.used[key] += usage[key];
  }
}

/** What each kind of item does to its turn; a kind that is not here is skipped. */
const RECORD = {
  userMessage(turn, {text = ''}, {at}) {
    turn.prompt = text;
    turn.createdAt = at;
  },
  agentMessage: (turn, message, where) => complete(turn, 'message', message, where),
  agentThought: (turn, thought, where) => complete(turn, 'thought', thought, where),
  toolCall(turn, call) {
    const tool = changed(toolOf(turn, call.toolCallId ?? ''));
    tool.name = call.toolName ?? tool.name;
    tool.inputJson = call.inputJson ?? tool.inputJson;
    tool.omittedBytes = call.omittedBytes ?? 0;
    tool.parentId = call.parentToolCallId ?? '';
  },
  toolResult(turn, {toolCallId = '', output = '', failed = false, omittedBytes = 0}) {
    changed(toolOf(turn, toolCallId)).result = {output, failed, omittedBytes};
  },
  permissionRequest(turn, request) {
    const tool = changed(toolOf(turn, request.toolCallId ?? ''));
    tool.name ||= request.toolName ?? '';
    tool.inputJson ||= request.inputJson ?? '';
    tool.permission = {
      id: request.permissionId ?? '',
      toolName: request.toolName ?? '',
      inputJson: request.inputJson ?? '',
      question: request.question ?? '',
      expiresAt: instant(request.expireTime),
      kind: kindOf(request.kind),
      diff: request.diff ?? '',
      suggestions: (request.suggestions ?? []).map(suggestionOf),
      questions: (request.questions ?? []).map(questionOf),
      plan: request.plan ?? '',
      omittedBytes: request.omittedBytes ?? 0,
      decision: null,
    };
  },
  permissionDecision(turn, {permissionId = '', decider, ...decision}) {
    const tool = turn.entries.find((entry) => entry.permission?.id === permissionId);
    if (!tool) return;
    const {allowed = false, reason = '', suggestionId = '', answers = []} = decision;
    changed(tool).permission.decision = {
      allowed,
      reason,
      suggestionId,
      answers,
      decider: enumWord(decider, 'DECIDER_'),
    };
  },
  backgroundWork(turn, {description = ''}, {at}) {
    turn.background = description;
    turn.createdAt = at;
  },
  providerRetry(turn, {attempt = 0, attempts = 0, error = {}}, {sequence}) {
    turn.entries.push({key: `retry-${sequence}`, kind: 'retry', attempt, attempts, error});
  },
  modelFallback(turn, {fromModel = '', toModel = ''}, {sequence}) {
    turn.entries.push({key: `model-${sequence}`, kind: 'fallback', from: fromModel, to: toModel});
  },
  compaction(turn, {tokensBefore = 0}, {sequence}) {
    turn.entries.push({key: `memory-${sequence}`, kind: 'compaction', tokens: tokensBefore});
  },
  fileChanges(turn, changes, {sequence}) {
    turn.entries.push({key: `changes-${sequence}`, kind: 'changes', ...changesOf(changes)});
  },
  turnAttempt(turn, {attempt = 0, error = {}}, {sequence}) {
    turn.open = [];
    turn.entries.push({key: `attempt-${sequence}`, kind: 'attempt', attempt, error});
  },
  turnOutcome(turn, {state, error = {}, usage = {}, duration, backgroundTasks = 0, model = ''}) {
    turn.open = [];
    turn.outcome = {
      state: enumWord(state, 'STATE_'),
      error,
      usage: {...nothingUsed(), ...usage},
      durationMs: milliseconds(duration),
      backgroundTasks,
      model,
    };
  },
};

/** The item wins over what was streamed, and takes its place after the facts before it. */
function complete(turn, kind, message, {sequence}) {
  const {blockId = '', text = '', partial = false, parentToolCallId: parentId = ''} = message;
  turn.open = turn.open.filter((piece) => piece.blockId !== blockId);
  const known = turn.entries.some((entry) => entry.blockId === blockId);
  const key = blockId && !known ? `block-${blockId}` : `event-${sequence}`;
  turn.entries.push({key, kind, blockId, text, partial, parentId, writing: false});
}

/** A kind that this page does not know is shown as a tool: with what would run. */
function kindOf(kind) {
  const word = enumWord(kind, 'KIND_');
  return ['question', 'plan'].includes(word) ? word : 'tool';
}

const suggestionOf = ({suggestionId = '', rules = [], acceptEdits = false}) => ({
  id: suggestionId,
  rules,
  acceptEdits,
});

const questionOf = ({question = '', header = '', options = [], multiple = false}) => ({
  question,
  header,
  options: options.map(({label = '', description = ''}) => ({label, description})),
  multiple,
});

/**
 * @param {object} changes `transcript.v1.FileChanges` in proto3 JSON.
 * @returns {{changes: object[], omittedFiles: number}} The same with every default filled in.
 */
export const changesOf = ({changes = [], omittedFiles = 0}) => ({
  changes: changes.map(({path = '', kind, addedLines = 0, removedLines = 0, ...more}) => ({
    path,
    kind: enumWord(kind, 'KIND_'),
    addedLines,
    removedLines,
    diff: more.diff ?? '',
    binary: more.binary ?? false,
  })),
  omittedFiles,
});

/** Marks a tool so that its view, and no other tool's, is rendered again. */
function changed(tool) {
  tool.version += 1;
  return tool;
}

/** The tool with this id; made when a result or a request comes before its call. */
function toolOf(turn, toolCallId) {
  let tool = turn.entries.find((e) => e.kind === 'tool' && e.toolCallId === toolCallId);
  if (!tool) {
    tool = {
      key: `tool-${toolCallId}`,
      kind: 'tool',
      toolCallId,
      name: '',
      inputJson: '',
      omittedBytes: 0,
      parentId: '',
      result: null,
      permission: null,
      version: 0,
    };
    turn.entries.push(tool);
  }
  return tool;
}
