/**
 * What a tool call is about: its target, its state in words, the change it makes to a file.
 *
 * Pure. Knows the argument names of Claude Code's tools; any other tool is shown by its input.
 */

const TARGETS = [
  'file_path',
  'path',
  'notebook_path',
  'command',
  'pattern',
  'url',
  'query',
  'text',
  'description',
];

/**
 * @param {string} inputJson A JSON object as text.
 * @returns {object | null} The object; null when it is none.
 */
export function parseInput(inputJson) {
  try {
    const input = JSON.parse(inputJson);
    return input && typeof input === 'object' && !Array.isArray(input) ? input : null;
  } catch {
    return null;
  }
}

/**
 * @param {object | null} input A tool's arguments.
 * @param {string} [cut] The beginning of their JSON, for arguments of which more did not come.
 * @returns {string} What it acts on, one line; empty when that cannot be told.
 */
export function target(input, cut = '') {
  const known = input ?? parseInput(`${FIRST.exec(cut)?.[0]}}`);
  const key = TARGETS.find((name) => typeof known?.[name] === 'string');
  return key ? known[key].split('\n', 1)[0] : '';
}

const FIRST = /^\{\s*"(?:file_path|path|command)"\s*:\s*"(?:[^"\\]|\\.)*"/;

/**
 * @param {object | null} input A tool's arguments.
 * @returns {{path: string, changes: {before: string, after: string}[]} | null} The change to a
 *   file that they describe; null when they describe none.
 */
export function fileChange(input) {
  const path = input?.file_path ?? input?.path;
  if (typeof path !== 'string') return null;
  if (Array.isArray(input.edits) && input.edits.every(isEdit)) {
    return {path, changes: input.edits.map(change)};
  }
  if (isEdit(input)) return {path, changes: [change(input)]};
  const content = input.content ?? input.text;
  return typeof content === 'string' ? {path, changes: [{before: '', after: content}]} : null;
}

const isEdit = (edit) => typeof edit?.old_string === 'string' && typeof edit.new_string === 'string';
const change = (edit) => ({before: edit.old_string, after: edit.new_string});

/**
 * The states a tool call can be in; the vocabulary of the AI SDK, which covers what Claude Code
 * does, and `unfinished` for a call whose turn ended without its result.
 *
 * @param {object} tool An entry of kind `tool`.
 * @param {boolean} ended Whether its turn is over.
 * @returns {'running' | 'approvalRequested' | 'approvalResponded' | 'done' | 'failed' | 'denied' |
 *   'unfinished'}
 */
export function toolState(tool, ended) {
  const decision = tool.permission?.decision;
  if (decision?.decider === 'turnEnd') return 'unfinished';
  if (decision && !decision.allowed) return 'denied';
  if (tool.result) return tool.result.failed ? 'failed' : 'done';
  if (ended) return 'unfinished';
  if (tool.permission) return decision ? 'approvalResponded' : 'approvalRequested';
  return 'running';
}

/**
 * @param {string} inputJson A JSON object as text.
 * @returns {{name: string, text: string}[]} Its members as a person reads them: a text is shown as
 *   it is, with its line breaks, anything else as JSON. One nameless member when it is no object.
 */
export function inputFields(inputJson) {
  const members = Object.entries(parseInput(inputJson) ?? {});
  if (!members.length) return [{name: '', text: visible(inputJson)}];
  return members.map(([name, value]) => ({
    name: visible(name),
    text: visible(typeof value === 'string' ? value : JSON.stringify(value, null, 2)),
  }));
}

const HIDDEN = /[\0-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/**
 * @param {string} text
 * @returns {string} The same, with characters that cannot be seen written as escapes: a command
 *   must not read otherwise than it runs.
 */
export const visible = (text) =>
  text.replace(HIDDEN, (hidden) => `\\u${hidden.charCodeAt(0).toString(16).padStart(4, '0')}`);
