// The small models: agents, outbox, what the browser keeps, tools, sizes, languages.

import assert from 'node:assert/strict';
import {describe, test} from 'node:test';

import {Agents} from '../../../services/gateway/static/agents.js';
import {diffRows} from '../../../services/gateway/static/diffs.js';
import {Failure} from '../../../services/gateway/static/failures.js';
import {Following} from '../../../services/gateway/static/following.js';
import {pickLanguage} from '../../../services/gateway/static/i18n.js';
import {Keep} from '../../../services/gateway/static/keep.js';
import {Outbox} from '../../../services/gateway/static/outbox.js';
import {promptSize} from '../../../services/gateway/static/prompts.js';
import {
  fileChange,
  inputFields,
  parseInput,
  target,
  toolState,
} from '../../../services/gateway/static/tools.js';
import {enumWord, lastPart, milliseconds, newId} from '../../../services/gateway/static/wire.js';

class MemoryStorage {
  #values = new Map();
  full = false;

  get length() {
    return this.#values.size;
  }

  key = (index) => [...this.#values.keys()][index];
  getItem = (key) => this.#values.get(key) ?? null;
  removeItem = (key) => this.#values.delete(key);

  setItem(key, value) {
    if (this.full) throw new Error('full');
    this.#values.set(key, value);
  }
}

const settled = () => new Promise((resolve) => setImmediate(resolve));
const agent = (id, more = {}) => ({name: `users/ada/agents/${id}`, ...more});

describe('agents', () => {
  test('are sorted by their last activity', () => {
    const agents = new Agents();
    agents.apply([
      {agent: agent('old', {activityTime: '2026-01-01T00:00:00Z'})},
      {agent: agent('new', {activityTime: '2026-01-02T00:00:00Z', state: 'STATE_NEEDS_YOU'})},
    ]);
    assert.deepEqual(
      agents.sorted.map(({name, state}) => [lastPart(name), state]),
      [
        ['new', 'needsYou'],
        ['old', 'unspecified'],
      ],
    );
  });

  test('one that a new watch does not name was deleted meanwhile', () => {
    const agents = new Agents();
    agents.apply([{agent: agent('a')}, {agent: agent('b')}, {checkpoint: {}}]);
    agents.watchBegins();
    agents.apply([{agent: agent('b')}]);
    assert.equal(agents.sorted.length, 2);
    agents.apply([{checkpoint: {}}]);
    assert.deepEqual(
      agents.sorted.map(({name}) => lastPart(name)),
      ['b'],
    );
  });

  test('a removed one goes', () => {
    const agents = new Agents();
    agents.apply([{agent: agent('a')}, {removed: 'users/ada/agents/a'}]);
    assert.deepEqual(agents.sorted, []);
  });
});

describe('following an agent', () => {
  const watched = () => {
    const watches = [];
    const watch = (name, request, callbacks) => {
      watches.push({request, ...callbacks});
      return () => {};
    };
    const following = new Following({
      connection: {watch},
      onUpdate: () => {},
      onLost: () => {},
      isComing: () => false,
    });
    following.follow('users/ada/agents/a');
    return watches;
  };

  test('goes on from the position and the history it has', () => {
    const [watch] = watched();
    assert.deepEqual([watch.request().afterSequence, watch.request().logId], [0, '']);
    watch.onResponse({updates: [{event: {sequence: 1}}, {checkpoint: {sequence: 1, logId: 'one'}}]});
    assert.deepEqual([watch.request().afterSequence, watch.request().logId], [1, 'one']);
  });

  test('begins anew, with nothing, when the history is another one', () => {
    const watches = watched();
    watches[0].onResponse({updates: [{event: {sequence: 1}}, {checkpoint: {logId: 'one'}}]});
    watches[0].onEnd(new Failure({reason: 'ERROR_REASON_SEQUENCE_UNKNOWN', code: 11}));
    assert.equal(watches.length, 2);
    assert.deepEqual([watches[1].request().afterSequence, watches[1].request().logId], [0, '']);
  });
});

describe('what the browser keeps', () => {
  test('is apart for each user', () => {
    const storage = new MemoryStorage();
    new Keep(storage, 'users/ada').set('draft/x', 'secret');
    assert.equal(new Keep(storage, 'users/bob').get('draft/x'), null);
    assert.equal(new Keep(storage, 'users/ada').get('draft/x'), 'secret');
  });

  test('lasts for the visit when the storage is full', () => {
    const storage = new MemoryStorage();
    storage.full = true;
    const keep = new Keep(storage, 'users/ada');
    keep.set('outbox/1', {text: 'x'});
    assert.deepEqual(keep.get('outbox/1'), {text: 'x'});
    assert.deepEqual(keep.keys('outbox/'), ['outbox/1']);
  });

  test('is gone after clear, and only this user’s', () => {
    const storage = new MemoryStorage();
    new Keep(storage, 'users/bob').set('a', 1);
    const keep = new Keep(storage, 'users/ada');
    keep.set('a', 1);
    keep.set('outbox/b', 2);
    keep.clear();
    keep.set('draft/late', 'written while the page was closing');
    assert.deepEqual(keep.keys(''), []);
    assert.equal(new Keep(storage, 'users/bob').get('a'), 1);
  });
});

describe('the outbox', () => {
  const setUp = (answer = async () => ({})) => {
    const calls = [];
    const keep = new Keep(new MemoryStorage(), 'users/ada');
    const call = (name, request, options) => {
      calls.push([name, request]);
      return answer(name, request, options);
    };
    const outbox = new Outbox({keep, call, changed: () => {}});
    return {calls, keep, outbox, call};
  };
  const prompt = (turnId, more = {}) => ({
    agent: 'users/ada/agents/a',
    turnId,
    text: turnId,
    at: Number(turnId.slice(1)),
    create: null,
    ...more,
  });

  test('keeps a prompt until the server has recorded it', async () => {
    let record;
    const {keep, outbox} = setUp(() => new Promise((resolve) => (record = resolve)));
    outbox.add(prompt('t1'));
    await settled();
    assert.deepEqual(keep.keys('outbox/'), ['outbox/t1']);
    record({});
    await settled();
    assert.deepEqual(keep.keys('outbox/'), []);
    assert.deepEqual(
      outbox.of('users/ada/agents/a').map(({state}) => state),
      ['sent'],
    );
  });

  test('sends what an earlier visit left, with the same turn id, oldest first', async () => {
    const {keep} = setUp();
    for (const id of ['t2', 't1']) keep.set(`outbox/${id}`, prompt(id));
    const calls = [];
    const call = async (name, {turnId}) => calls.push(turnId);
    new Outbox({keep, call, changed: () => {}}).resume();
    await settled();
    await settled();
    assert.deepEqual(calls, ['t1', 't2']);
  });

  test('creates the agent first, once', async () => {
    const {calls, keep, outbox} = setUp();
    outbox.add(prompt('t1', {create: {displayName: 'x'}}));
    outbox.add(prompt('t2'));
    await settled();
    await settled();
    assert.deepEqual(
      calls.map(([name]) => name),
      ['createAgent', 'createTurn', 'createTurn'],
    );
    assert.deepEqual(calls[0][1], {
      parent: 'users/ada',
      agentId: 'a',
      agent: {displayName: 'x'},
    });
    assert.deepEqual(keep.keys(''), []);
  });

  test('a refused prompt stays, and is sent again when asked', async () => {
    let full = true;
    const {outbox} = setUp(async () => {
      if (full) throw new Failure({code: 8, reason: 'ERROR_REASON_QUEUE_FULL'});
      return {};
    });
    outbox.add(prompt('t1'));
    await settled();
    assert.equal(outbox.of('users/ada/agents/a')[0].failure.reason, 'QUEUE_FULL');
    assert.equal(outbox.unsent, 1);
    full = false;
    outbox.retry('t1');
    await settled();
    assert.equal(outbox.unsent, 0);
  });

  test('a dropped prompt is not sent any more', async () => {
    const {calls, keep, outbox} = setUp();
    outbox.add(prompt('t1'));
    outbox.drop('t1');
    await settled();
    assert.deepEqual(calls, []);
    assert.deepEqual(keep.keys(''), []);
  });
});

describe('tools', () => {
  test('name their target', () => {
    assert.equal(target({file_path: 'a.py'}), 'a.py');
    assert.equal(target({command: 'ls\ncd'}), 'ls');
    assert.equal(target({depth: 3}), '');
    assert.equal(target(parseInput('[1]')), '');
    assert.equal(target(null, '{"file_path":"a \\"b\\".py","content":"xx'), 'a "b".py');
    assert.equal(target(null, '{"content":"xx'), '');
  });

  test('show edits and writes as changes of a file', () => {
    const edit = {old_string: 'a', new_string: 'b'};
    const change = {before: 'a', after: 'b'};
    assert.deepEqual(fileChange({file_path: 'x', ...edit}), {path: 'x', changes: [change]});
    assert.deepEqual(fileChange({file_path: 'x', edits: [edit, edit]}).changes, [change, change]);
    assert.deepEqual(fileChange({file_path: 'x', content: 'new'}).changes[0].before, '');
    assert.equal(fileChange({command: 'ls'}), null);
  });

  test('inputs are read member by member, and nothing in them is hidden', () => {
    assert.deepEqual(inputFields('{"command":"a\\nb","depth":2}'), [
      {name: 'command', text: 'a\nb'},
      {name: 'depth', text: '2'},
    ]);
    assert.deepEqual(inputFields('not json'), [{name: '', text: 'not json'}]);
    const reversed = JSON.stringify({command: 'rm \u202e\u2066x\u0007'});
    assert.deepEqual(inputFields(reversed)[0].text, 'rm \\u202e\\u2066x\\u0007');
  });

  test('rows keep their signs', () => {
    const {rows, added, removed} = diffRows('x', [{before: 'a\nb\n', after: 'a\nc\n'}]);
    assert.deepEqual(
      rows.map(({text}) => text),
      [' a', '-b', '+c'],
    );
    assert.deepEqual([added, removed], [1, 1]);
  });

  test('stand in one of the states of the vocabulary', () => {
    const tool = {permission: null, result: null};
    const asked = (decision) => ({...tool, permission: {decision}});
    assert.equal(toolState(tool, false), 'running');
    assert.equal(toolState(tool, true), 'unfinished');
    assert.equal(toolState(asked(null), false), 'approvalRequested');
    assert.equal(toolState(asked({allowed: true}), false), 'approvalResponded');
    assert.equal(toolState({...asked({allowed: false}), result: {failed: true}}, true), 'denied');
    assert.equal(toolState(asked({allowed: false, decider: 'turnEnd'}), true), 'unfinished');
    assert.equal(toolState({...tool, result: {failed: true}}, true), 'failed');
    assert.equal(toolState({...tool, result: {failed: false}}, true), 'done');
  });
});

describe('sizes and words', () => {
  test('the count is shown near the limit, and a text that is long when sent has its own', () => {
    assert.equal(promptSize('x'.repeat(1000)).near, false);
    assert.deepEqual(promptSize('x'.repeat(100_001)), {
      characters: 100_001,
      limit: 100_000,
      near: true,
      over: true,
    });
    assert.equal(promptSize('가'.repeat(100_000)).over, false);
    assert.equal(promptSize('😀'.repeat(100_000)).over, false);
    assert.equal(promptSize('가'.repeat(95_000), {frameBytes: 262_144}).over, true);
    assert.equal(promptSize('\u0001'.repeat(90_000)).over, true);
  });

  test('the language is the chosen, the asked for, the preferred, or English', () => {
    const preferred = ['de-DE', 'ko-KR', 'en'];
    assert.equal(pickLanguage({stored: null, asked: null, preferred}), 'ko');
    assert.equal(pickLanguage({stored: null, asked: 'en', preferred}), 'en');
    assert.equal(pickLanguage({stored: 'ko', asked: 'en', preferred}), 'ko');
    assert.equal(pickLanguage({stored: 'xx', asked: null, preferred: ['fr']}), 'en');
  });

  test('proto3 JSON is read as it is written', () => {
    assert.equal(milliseconds('1.500s'), 1500);
    assert.equal(milliseconds(undefined), 0);
    assert.equal(enumWord('STATE_NEEDS_YOU', 'STATE_'), 'needsYou');
    assert.match(newId('t'), /^t[0-9a-f]{32}$/);
  });
});
