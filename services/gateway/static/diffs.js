/**
 * A change of a file as rows to show.
 *
 * Pure, beside loading the algorithm.
 */

import {visible} from './tools.js';
import {structuredPatch} from './vendor/diff.js';

const CONTEXT_LINES = 3;
const LONGEST_ROWS = 400;

/**
 * @param {string} path
 * @param {{before: string, after: string}[]} changes
 * @returns {{rows: {kind: 'add' | 'del' | 'same' | 'gap', text: string}[], added: number,
 *   removed: number, omitted: number}} `text` starts with its sign; `omitted` rows were left out.
 */
export function diffRows(path, changes) {
  const rows = [];
  for (const {before, after} of changes) {
    const {hunks} = structuredPatch(path, path, before, after, '', '', {context: CONTEXT_LINES});
    for (const hunk of hunks) {
      if (rows.length) rows.push({kind: 'gap', text: '⋯'});
      for (const line of hunk.lines) if (line[0] !== '\\') rows.push(row(line));
    }
  }
  return bounded(rows);
}

/**
 * @param {string} diff A unified diff of one file.
 * @returns {ReturnType<typeof diffRows>} The same as rows; its heads are left out.
 */
export function unifiedRows(diff) {
  const rows = [];
  let inside = false;
  for (const line of diff.split('\n')) {
    if (line.startsWith('@@')) {
      if (rows.length) rows.push({kind: 'gap', text: '⋯'});
      inside = true;
    } else if (inside && line && line[0] !== '\\') rows.push(row(line));
  }
  return bounded(rows);
}

const bounded = (rows) => ({
  rows: rows.slice(0, LONGEST_ROWS),
  added: rows.filter(({kind}) => kind === 'add').length,
  removed: rows.filter(({kind}) => kind === 'del').length,
  omitted: Math.max(0, rows.length - LONGEST_ROWS),
});

const KINDS = {'+': 'add', '-': 'del'};
const row = (line) => ({kind: KINDS[line[0]] ?? 'same', text: visible(line)});
