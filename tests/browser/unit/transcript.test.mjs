// The rules that keep an agent's text whole, without a browser.

import assert from 'node:assert/strict';
import {describe, test} from 'node:test';

import {Transcript} from '../../../services/gateway/static/transcript.js';

let last = 0;
const begin = () => {
  last = 0;
  return new Transcript();
};
const event = (turnId, item) => {
  last += 1;
  return {event: {sequence: last, turnId, createTime: '2026-11-26T10:00:00Z', item}};
};
const prompt = (turnId, text = 'hello') => event(turnId, {userMessage: {text}});
const message = (turnId, blockId, text, more = {}) =>
  event(turnId, {agentMessage: {blockId, text, ...more}});
const outcome = (turnId, state = 'STATE_FINISHED', more = {}) =>
  event(turnId, {turnOutcome: {state, ...more}});
const delta = (blockId, text, more = {}) => ({delta: {blockId, text, ...more}});
const texts = (transcript, id = 't1') => transcript.turn(id).shown.map(({text}) => text);

describe('text being written', () => {
  test('a snapshot replaces, everything else appends', () => {
    const transcript = begin();
    transcript.apply([prompt('t1'), delta('b', 'one '), delta('b', 'two ')]);
    transcript.apply([delta('b', 'one two three', {snapshot: true}), delta('b', ' four')]);
    assert.deepEqual(texts(transcript), ['one two three four']);
  });

  test('the item with the same block wins, and late fragments of it are dropped', () => {
    const transcript = begin();
    transcript.apply([prompt('t1'), delta('b', 'draft'), message('t1', 'b', 'final')]);
    transcript.apply([delta('b', ' late')]);
    assert.deepEqual(texts(transcript), ['final']);
    assert.equal(transcript.turn('t1').open.length, 0);
  });

  test('a piece keeps its key when it is complete, so that its view stays', () => {
    const transcript = begin();
    transcript.apply([prompt('t1'), delta('b', 'draft')]);
    const [{key}] = transcript.turn('t1').shown;
    transcript.apply([message('t1', 'b', 'final')]);
    assert.equal(transcript.turn('t1').shown[0].key, key);
  });

  test('a discarded piece goes', () => {
    const transcript = begin();
    transcript.apply([prompt('t1'), delta('b', 'no'), {messageDiscarded: {blockId: 'b'}}]);
    assert.deepEqual(texts(transcript), []);
  });

  test('an attempt and an outcome withdraw what is open', () => {
    const transcript = begin();
    transcript.apply([prompt('t1'), delta('b', 'lost')]);
    transcript.apply([event('t1', {turnAttempt: {attempt: 2, error: {code: 14}}})]);
    assert.deepEqual(
      transcript.turn('t1').shown.map(({kind}) => kind),
      ['attempt'],
    );
    transcript.apply([delta('c', 'again'), outcome('t1')]);
    assert.equal(transcript.turn('t1').open.length, 0);
  });

  test('a piece that is not confirmed by a new watch is gone after its checkpoint', () => {
    const transcript = begin();
    transcript.apply([prompt('t1'), delta('gone', 'x'), delta('here', 'y')]);
    transcript.watchBegins();
    transcript.apply([delta('here', 'y and more', {snapshot: true})]);
    assert.deepEqual(texts(transcript), ['x', 'y and more']);
    transcript.apply([{checkpoint: {sequence: 1}}]);
    assert.deepEqual(texts(transcript), ['y and more']);
  });

  test('its position belongs to the history that the last checkpoint named', () => {
    const transcript = begin();
    assert.equal(transcript.logId, '');
    transcript.apply([prompt('t1'), {checkpoint: {sequence: 1, logId: 'one'}}]);
    transcript.apply([{checkpoint: {sequence: 1}}]);
    assert.equal(transcript.logId, 'one');
  });

  test('fragments belong to the turn that runs, not to one that waits', () => {
    const transcript = begin();
    transcript.apply([prompt('t1'), prompt('t2'), delta('b', 'for one')]);
    assert.deepEqual(texts(transcript, 't1'), ['for one']);
    assert.deepEqual(texts(transcript, 't2'), []);
    transcript.apply([outcome('t1'), delta('b', 'for two', {snapshot: true})]);
    assert.deepEqual(texts(transcript, 't2'), ['for two']);
  });
});

describe('events', () => {
  test('one that was seen before changes nothing', () => {
    const transcript = begin();
    const first = [prompt('t1'), message('t1', 'b', 'once')];
    transcript.apply(first);
    transcript.apply(first);
    assert.deepEqual(texts(transcript), ['once']);
    assert.equal(transcript.sequence, 2);
  });

  test('a kind that is not known is skipped, and its number remembered', () => {
    const transcript = begin();
    transcript.apply([prompt('t1'), event('t1', {somethingNew: {}})]);
    assert.equal(transcript.sequence, 2);
    assert.deepEqual(texts(transcript), []);
  });

  test('the first turn without an outcome runs, the rest waits', () => {
    const transcript = begin();
    transcript.apply([prompt('t1'), prompt('t2'), prompt('t3'), outcome('t2', 'STATE_CANCELLED')]);
    assert.equal(transcript.running.id, 't1');
    assert.deepEqual(
      transcript.queued.map(({id}) => id),
      ['t3'],
    );
  });

  test('a tool collects its call, its permission and its result', () => {
    const transcript = begin();
    transcript.apply([
      prompt('t1'),
      event('t1', {toolCall: {toolCallId: 'c', toolName: 'Bash', inputJson: '{"command":"ls"}'}}),
      event('t1', {permissionRequest: {permissionId: 'p', toolCallId: 'c', toolName: 'Bash'}}),
    ]);
    assert.equal(transcript.turn('t1').waiting.permission.id, 'p');
    const decision = {permissionId: 'p', allowed: true, decider: 'DECIDER_USER'};
    transcript.apply([
      event('t1', {permissionDecision: decision}),
      event('t1', {toolResult: {toolCallId: 'c', output: 'a.txt'}}),
    ]);
    const [tool] = transcript.turn('t1').shown;
    assert.equal(transcript.turn('t1').waiting, undefined);
    const {allowed, reason, decider} = tool.permission.decision;
    assert.deepEqual([allowed, reason, decider], [true, '', 'user']);
    assert.deepEqual(tool.result, {output: 'a.txt', failed: false, omittedBytes: 0});
    assert.equal(tool.inputJson, '{"command":"ls"}');
  });

  test('a permission request that comes before its call is shown all the same', () => {
    const transcript = begin();
    const request = {permissionId: 'p', toolCallId: 'c', toolName: 'Edit', inputJson: '{}'};
    transcript.apply([prompt('t1'), event('t1', {permissionRequest: request})]);
    assert.equal(transcript.turn('t1').waiting.name, 'Edit');
  });

  test('usage is summed over the outcomes', () => {
    const transcript = begin();
    const usage = {inputTokens: 10, outputTokens: 5, costUsdMicros: 700};
    transcript.apply([prompt('t1'), outcome('t1', 'STATE_FINISHED', {usage, duration: '1.250s'})]);
    transcript.apply([prompt('t2'), outcome('t2', 'STATE_CANCELLED', {usage})]);
    assert.equal(transcript.used.inputTokens, 20);
    assert.equal(transcript.used.costUsdMicros, 1400);
    assert.equal(transcript.turn('t1').outcome.durationMs, 1250);
    assert.equal(transcript.turn('t2').outcome.state, 'cancelled');
  });
});

test('a client cut at every point ends with what an uncut one shows', () => {
  const transcript = begin();
  const updates = [
    prompt('t1'),
    delta('b1', 'Hello ', {snapshot: true}),
    delta('b1', 'world'),
    message('t1', 'b1', 'Hello world'),
    delta('b2', 'thin', {thought: true, snapshot: true}),
    delta('b2', 'king', {thought: true}),
    event('t1', {agentThought: {blockId: 'b2', text: 'thinking'}}),
    message('t1', 'b3', 'half', {partial: true}),
    outcome('t1'),
  ];
  transcript.apply(updates);
  const whole = JSON.stringify(transcript.turn('t1').shown);
  for (let cut = 0; cut <= updates.length; cut += 1) {
    const resumed = new Transcript();
    resumed.apply(updates.slice(0, cut));
    resumed.watchBegins();
    resumed.apply(snapshotsAt(updates, cut));
    resumed.apply(updates.slice(cut));
    assert.equal(JSON.stringify(resumed.turn('t1').shown), whole, `cut at ${cut}`);
  }
});

/** What the server sends between the replay and the checkpoint. */
function snapshotsAt(updates, cut) {
  const open = new Map();
  for (const {delta: piece, event: stored} of updates.slice(0, cut)) {
    if (piece) {
      const before = open.get(piece.blockId);
      open.set(piece.blockId, {...piece, text: (before?.text ?? '') + piece.text, snapshot: true});
    }
    const item = stored?.item ?? {};
    open.delete((item.agentMessage ?? item.agentThought)?.blockId);
  }
  return [...[...open.values()].map((piece) => ({delta: piece})), {checkpoint: {}}];
}

describe('what real agents do', () => {
  const asked = (more) => event('t1', {permissionRequest: {permissionId: 'p', toolCallId: 'c', ...more}});

  test('a request carries its kind, its suggestions and its questions', () => {
    const transcript = begin();
    const suggestions = [{suggestionId: 's', rules: ['Edit']}];
    const questions = [{question: 'Which?', options: [{label: 'red'}], multiple: true}];
    transcript.apply([prompt('t1'), asked({kind: 'KIND_QUESTION', suggestions, questions})]);
    const {permission} = transcript.turn('t1').entries[0];
    assert.equal(permission.kind, 'question');
    assert.deepEqual(permission.suggestions, [{id: 's', rules: ['Edit'], acceptEdits: false}]);
    assert.deepEqual(permission.questions[0].options, [{label: 'red', description: ''}]);
  });

  test('a kind that is new is shown as a tool', () => {
    const transcript = begin();
    transcript.apply([prompt('t1'), asked({kind: 'KIND_HOLOGRAM'})]);
    assert.equal(transcript.turn('t1').entries[0].permission.kind, 'tool');
  });

  test('a decision keeps what was chosen and answered', () => {
    const transcript = begin();
    const answers = [{question: 'Which?', answers: ['red']}];
    const decision = {permissionId: 'p', allowed: true, suggestionId: 's', answers};
    transcript.apply([prompt('t1'), asked({}), event('t1', {permissionDecision: decision})]);
    const kept = transcript.turn('t1').entries[0].permission.decision;
    assert.deepEqual([kept.suggestionId, kept.answers], ['s', answers]);
  });

  test('retries, other models, memory and changed files are entries of their turn', () => {
    const transcript = begin();
    transcript.apply([
      event('t1', {backgroundWork: {description: 'npm test'}}),
      event('t1', {providerRetry: {attempt: 1, attempts: 6, error: {code: 14}}}),
      event('t1', {modelFallback: {fromModel: 'opus', toModel: 'haiku'}}),
      event('t1', {compaction: {tokensBefore: 9000}}),
      event('t1', {fileChanges: {changes: [{path: 'a', kind: 'KIND_ADDED', addedLines: 2}]}}),
    ]);
    const turn = transcript.turn('t1');
    assert.equal(turn.background, 'npm test');
    assert.deepEqual(
      turn.entries.map(({kind}) => kind),
      ['retry', 'fallback', 'compaction', 'changes'],
    );
    assert.equal(turn.entries[3].changes[0].kind, 'added');
    assert.equal(new Set(turn.entries.map(({key}) => key)).size, 4);
  });
});
