/**
 * The files of one agent as far as they were looked at.
 *
 * Knows the calls of `WorkspaceService` and the gateway's routes for whole files; knows no element.
 */

import {Failure} from './failures.js';
import {Pulse} from './pulse.js';
import {changesOf} from './transcript.js';
import {enumWord, instant, lastPart} from './wire.js';

const SHOWN_BYTES = 256 * 1024;

/**
 * @param {string} agent `users/{user}/agents/{agent}`.
 * @param {string} path Within the workspace.
 * @param {'files' | 'archive'} [what] The file itself, or a folder as an archive.
 * @returns {string} Where the gateway has it.
 */
export function fileUrl(agent, path, what = 'files') {
  const escaped = path.split('/').map(encodeURIComponent).join('/');
  const base = `/v1/agents/${lastPart(agent)}/${what}`;
  if (what === 'archive') return path ? `${base}?path=${encodeURIComponent(path)}` : base;
  return `${base}/${escaped}`;
}

const fileOf = ({path = '', kind, size = 0, updateTime, etag = '', target = ''}) => ({
  path,
  kind: enumWord(kind, 'KIND_'),
  size,
  changedAt: instant(updateTime),
  etag,
  target,
});

/** Fires `files` when something of it has changed. */
export class Files extends Pulse {
  /** The folder that is shown. */
  folder = '';
  /** What is in it. */
  entries = [];
  /** True while an answer is awaited. */
  loading = false;
  /** The file that is shown; null for none. */
  file = null;
  /** Its text; undefined when it is no text; null before it is known. */
  text = null;
  /** What the last turn changed; null before it is known. */
  changes = null;
  /** Why the last call failed; null when it did not. */
  failure = null;
  /** How many files are on their way, of how many; null for none. */
  uploading = null;
  #call;
  #token = '';
  #closed = false;

  /**
   * @param {object} options
   * @param {string} options.agent Whose files.
   * @param {(name: string, request: object) => Promise<object>} options.call Makes a call.
   */
  constructor({agent, call}) {
    super();
    this.agent = agent;
    this.#call = call;
  }

  /** Nobody looks any more. */
  close() {
    this.#closed = true;
  }

  /** @returns {boolean} Whether the folder has more than is shown. */
  get more() {
    return this.#token !== '';
  }

  /** @param {string} folder To be shown. */
  async open(folder) {
    this.folder = folder;
    this.entries = [];
    this.file = null;
    this.#token = '';
    await this.openMore();
  }

  /** Shows the next part of a long folder. */
  async openMore() {
    const {folder} = this;
    await this.#attempt(async () => {
      const request = {parent: this.agent, path: folder, pageToken: this.#token};
      const {files = [], nextPageToken = ''} = await this.#call('listFiles', request);
      if (folder !== this.folder) return;
      this.entries = [...this.entries, ...files.map(fileOf)];
      this.#token = nextPageToken;
    });
  }

  /** @param {object} file To be shown. */
  async read(file) {
    this.file = file;
    this.text = null;
    await this.#attempt(async () => {
      const request = {parent: this.agent, path: file.path, length: SHOWN_BYTES};
      const reply = await this.#call('readFile', request);
      if (this.file?.path !== file.path) return;
      const bytes = Uint8Array.from(atob(reply.content ?? ''), (letter) => letter.charCodeAt(0));
      this.file = {...fileOf(reply.file ?? file), shownBytes: bytes.length};
      this.text = textOf(bytes, bytes.length < this.file.size);
    });
  }

  /** Asks what changed since the running turn began, or else the last one. */
  async compare() {
    await this.#attempt(async () => {
      const {changes = {}} = await this.#call('diffFiles', {parent: this.agent});
      this.changes = changesOf(changes);
    });
  }

  /** @param {object} file To be deleted. */
  async remove({path}) {
    await this.#attempt(() => this.#call('deleteFile', {parent: this.agent, path}));
    if (!this.failure) await this.open(this.folder);
  }

  /** @param {File[]} files To be put into the shown folder; files there of the same names go. */
  async upload(files) {
    const {folder} = this;
    for (const [index, file] of files.entries()) {
      this.uploading = {number: index + 1, count: files.length};
      const path = folder ? `${folder}/${file.name}` : file.name;
      await this.#attempt(() => put(fileUrl(this.agent, path), file));
      if (this.failure) break;
    }
    this.uploading = null;
    const {failure} = this;
    await this.open(folder);
    this.failure ??= failure;
    this.changed('files');
  }

  async #attempt(work) {
    this.loading = true;
    this.failure = null;
    this.changed('files');
    try {
      await work();
    } catch (failure) {
      this.failure = failure;
    }
    this.loading = false;
    if (!this.#closed) this.changed('files');
  }
}

/** The text of a file, or undefined when it is none; the last character may be cut. */
function textOf(bytes, cut) {
  try {
    const text = new TextDecoder('utf-8', {fatal: true}).decode(bytes, {stream: cut});
    return text.includes('\0') ? undefined : text;
  } catch {
    return undefined;
  }
}

async function put(url, body) {
  const response = await fetch(url, {method: 'PUT', body});
  if (response.ok) return;
  const {error} = await response.json().catch(() => ({}));
  throw new Failure(error ?? {});
}
