// The files of an agent as the page keeps them, and diffs that the server made.

import assert from 'node:assert/strict';
import {describe, test} from 'node:test';

globalThis.requestAnimationFrame ??= (run) => setTimeout(run);
globalThis.cancelAnimationFrame ??= (frame) => clearTimeout(frame);

const {Files, fileUrl} = await import('../../../services/gateway/static/files.js');
const {unifiedRows} = await import('../../../services/gateway/static/diffs.js');

const AGENT = 'users/ada/agents/a1';
const base64 = (text) => Buffer.from(text).toString('base64');

function files(answers) {
  const calls = [];
  const call = async (name, request) => {
    calls.push([name, request]);
    const answer = answers[name];
    if (answer instanceof Error) throw answer;
    return typeof answer === 'function' ? answer(request) : answer;
  };
  return {files: new Files({agent: AGENT, call}), calls};
}

describe('files', () => {
  test('addresses are escaped part by part', () => {
    assert.equal(fileUrl(AGENT, 'a b/c#d?e'), '/v1/agents/a1/files/a%20b/c%23d%3Fe');
    assert.equal(fileUrl(AGENT, '', 'archive'), '/v1/agents/a1/archive');
    assert.equal(fileUrl(AGENT, 'a/b', 'archive'), '/v1/agents/a1/archive?path=a%2Fb');
  });

  test('a long folder is shown page by page', async () => {
    const {files: shown, calls} = files({
      listFiles: ({pageToken}) =>
        pageToken
          ? {files: [{path: 'b', kind: 'KIND_FILE', size: 3}]}
          : {files: [{path: 'a', kind: 'KIND_FOLDER'}], nextPageToken: 'next'},
    });
    await shown.open('');
    assert.equal(shown.more, true);
    await shown.openMore();
    assert.deepEqual([shown.more, shown.entries.map(({path}) => path)], [false, ['a', 'b']]);
    assert.equal(calls[1][1].pageToken, 'next');
  });

  test('text is text, and all else is not', async () => {
    const kept = {text: '한글', binary: 'a\0b', cut: '한글'};
    const {files: shown} = files({
      readFile: ({path}) => ({
        file: {path, kind: 'KIND_FILE', size: path === 'cut' ? 9 : 6},
        content: path === 'cut' ? base64('한글').slice(0, 4) + base64('') : base64(kept[path]),
      }),
    });
    await shown.read({path: 'text'});
    assert.equal(shown.text, '한글');
    await shown.read({path: 'binary'});
    assert.equal(shown.text, undefined);
    await shown.read({path: 'cut'});
    assert.equal(shown.text, '한');
  });

  test('a failure is kept until the next call', async () => {
    const answers = {listFiles: new Error('no')};
    const {files: shown} = files(answers);
    await shown.open('');
    assert.equal(shown.failure.message, 'no');
    answers.listFiles = {};
    await shown.open('');
    assert.equal(shown.failure, null);
  });
});

describe('a unified diff', () => {
  test('becomes rows without its heads', () => {
    const diff = '--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n same\n-old\n+new\n\\ No newline\n@@ -9 +9 @@\n+more\n';
    const {rows, added, removed, omitted} = unifiedRows(diff);
    assert.deepEqual(
      rows.map(({kind}) => kind),
      ['same', 'del', 'add', 'gap', 'add'],
    );
    assert.deepEqual([added, removed, omitted], [2, 1, 0]);
  });
});
