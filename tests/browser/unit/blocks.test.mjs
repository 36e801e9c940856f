// Growing Markdown costs its length, not its square, and ends as if it had come at once.

import assert from 'node:assert/strict';
import {test} from 'node:test';

import {Blocks} from '../../../services/gateway/static/blocks.js';
import {Lexer} from '../../../services/gateway/static/vendor/markdown.js';

const lex = (markdown) => new Lexer().blockTokens(markdown);

/** Feeds a text in pieces and returns the blocks that stay on the page. */
function grown(text, step) {
  const blocks = new Blocks(lex);
  let shown = [];
  for (let end = step; end < text.length; end += step) {
    blocks.update(text.slice(0, end));
    shown.push(...blocks.take().finished);
  }
  blocks.update(text);
  const {finished, again} = blocks.end();
  shown = again ? finished : [...shown, ...finished];
  return {shown, lexed: blocks.lexed};
}

const TEXTS = {
  paragraphs: 'One.\n\nTwo *words*.\n\nThree.',
  'a loose list': '- a\n\n- b\n\n  more of b\n\n- c\n\nafter',
  'a numbered list': '1. a\n2. b\n\n3. c\n',
  code: 'before\n\n```python\nprint("#")\n\n# not a heading\n```\n\nafter',
  'a setext heading': 'Title\n=====\n\ntext\n\nOther\n---\n',
  'a table': '| a | b |\n|---|---|\n| 1 | 2 |\n\ntext',
  'late definitions': 'See [this][1].\n\nAnd that.\n\n[1]: https://example.com\n',
  'carriage returns': 'one\r\n\r\ntwo\r\n\r\n- a\r\n- b\r\n',
  html: '<div>\n\ntext\n\n</div>\n\nend',
};

for (const [name, text] of Object.entries(TEXTS)) {
  test(`${name}: every way of cutting ends with the blocks of the whole`, () => {
    const whole = lex(text.replace(/\r\n?/g, '\n')).map(({raw}) => raw);
    for (const step of [1, 2, 3, 7, 1000]) assert.deepEqual(grown(text, step).shown, whole);
  });
}

test('an answer of 100 kB in 2,500 pieces is lexed a few times over, not 1,250 times', () => {
  const text = Array.from({length: 400}, (_, i) => `Paragraph ${i} ${'word '.repeat(48)}`).join('\n\n');
  assert.ok(text.length > 95_000);
  const {lexed} = grown(text, Math.ceil(text.length / 2500));
  assert.ok(lexed < 8 * text.length, `${lexed} characters lexed for ${text.length}`);
});

test('a text that was replaced is shown anew', () => {
  const blocks = new Blocks(lex);
  blocks.update('one\n\ntwo');
  blocks.take();
  assert.equal(blocks.update('other\n\ntext'), false);
  assert.deepEqual(blocks.end().finished.join(''), 'other\n\ntext');
});
