// One Enter sends once, in the middle of a syllable too; for Japanese it only confirms.

import assert from 'node:assert/strict';
import {test} from 'node:test';

import {EnterKey} from '../../../services/gateway/static/ime.js';

const enter = (more = {}) => ({key: 'Enter', code: 'Enter', keyCode: 13, ...more});
const composing = enter({key: 'Process', keyCode: 229, isComposing: true});

/** Plays events into a field and counts how often they send. */
function sends(...events) {
  const key = new EnterKey();
  let count = 0;
  for (const [kind, value] of events) {
    if (kind === 'start') key.compositionStart();
    else if (kind === 'end') count += key.compositionEnd(value) ? 1 : 0;
    else if (kind === 'up') key.keyUp();
    else count += key.keyDown(value) === 'send' ? 1 : 0;
  }
  return count;
}

test('Enter sends, Shift+Enter does not', () => {
  assert.equal(sends(['down', enter()]), 1);
  assert.equal(sends(['down', enter({shiftKey: true})]), 0);
});

test('Korean: the key arrives during the composition, and nothing follows it', () => {
  assert.equal(sends(['start'], ['down', composing], ['end', '요'], ['up']), 1);
});

test('Korean: the key arrives during the composition, and once more after it', () => {
  assert.equal(sends(['start'], ['down', composing], ['end', '요'], ['down', enter()], ['up']), 1);
});

test('Korean: the composition ends first', () => {
  assert.equal(sends(['start'], ['end', '요'], ['down', enter()], ['up']), 1);
});

test('Korean: two presses send twice', () => {
  const once = [['start'], ['down', composing], ['end', '요'], ['down', enter()], ['up']];
  assert.equal(sends(...once, ['down', enter()], ['up']), 2);
});

test('Japanese: Enter confirms, the next one sends', () => {
  assert.equal(sends(['start'], ['down', composing], ['end', '日本'], ['up']), 0);
  const confirmed = [['start'], ['down', composing], ['end', '日本'], ['up']];
  assert.equal(sends(...confirmed, ['down', enter()], ['up']), 1);
});
