// Long work leaves the page room to breathe.

import assert from 'node:assert/strict';
import {test} from 'node:test';

import {Slices} from '../../../services/gateway/static/slices.js';

/** Work that takes `ms` a step, on a clock that only work moves. */
function setUp() {
  let at = 0;
  const tasks = [];
  const slices = new Slices({now: () => at, later: (run) => tasks.push(run)});
  const done = [];
  const work = (name, steps, ms) => {
    let left = steps;
    return () => {
      at += ms;
      left -= 1;
      done.push(name);
      return left > 0;
    };
  };
  const turn = () => tasks.splice(0).forEach((run) => run());
  return {slices, done, work, turn};
}

test('little work is done at once', () => {
  const {slices, done, work} = setUp();
  slices.add(work('a', 3, 1));
  assert.deepEqual(done, ['a', 'a', 'a']);
});

test('long work goes on in later tasks until it is done', () => {
  const {slices, done, work, turn} = setUp();
  slices.add(work('a', 10, 5));
  assert.equal(done.length, 3);
  turn();
  assert.equal(done.length, 6);
  for (let i = 0; i < 5; i += 1) turn();
  assert.equal(done.length, 10);
});

test('everything added in one task shares its budget, and the newest goes first', () => {
  const {slices, done, work, turn} = setUp();
  for (const name of ['old', 'middle', 'new']) slices.add(work(name, 2, 10));
  assert.deepEqual(done, ['old', 'old']);
  turn();
  assert.deepEqual(done, ['old', 'old', 'new', 'new']);
  turn();
  assert.deepEqual(done.slice(-2), ['middle', 'middle']);
});
