/**
 * What this browser keeps for one user between visits: prompts not yet sent, drafts, what was read.
 *
 * Works without storage too (private windows, a full disk): then it keeps until the tab closes.
 */

/** A map of JSON values that outlives the tab, in one user's name. */
export class Keep {
  #storage;
  #prefix;
  #fallback = new Map();
  #closed = false;

  /**
   * @param {Storage} storage
   * @param {string} user `users/{user}`; another user's values are out of reach.
   */
  constructor(storage, user) {
    this.#storage = storage;
    this.#prefix = `moorline/${user}/`;
  }

  /** @param {string} key @returns {any} The value; null when there is none. */
  get(key) {
    if (this.#fallback.has(key)) return this.#fallback.get(key);
    try {
      return JSON.parse(this.#storage.getItem(this.#prefix + key));
    } catch {
      return null;
    }
  }

  /** @param {string} key @param {any} value Anything JSON can hold; null or '' removes it. */
  set(key, value) {
    if (this.#closed) return;
    if (value === null || value === '') {
      this.remove(key);
      return;
    }
    try {
      this.#storage.setItem(this.#prefix + key, JSON.stringify(value));
      this.#fallback.delete(key);
    } catch {
      this.#fallback.set(key, value);
    }
  }

  /** @param {string} key */
  remove(key) {
    this.#fallback.delete(key);
    try {
      this.#storage.removeItem(this.#prefix + key);
    } catch {
      // Storage that cannot be written holds nothing to remove.
    }
  }

  /** @param {string} folder For example `outbox/`. @returns {string[]} The keys that start so. */
  keys(folder) {
    const start = this.#prefix + folder;
    const stored = [];
    try {
      for (let i = 0; i < this.#storage.length; i += 1) {
        const key = this.#storage.key(i);
        if (key.startsWith(start)) stored.push(key.slice(this.#prefix.length));
      }
    } catch {
      // The same as no storage.
    }
    const fallen = [...this.#fallback.keys()].filter((key) => key.startsWith(folder));
    return [...new Set([...stored, ...fallen])];
  }

  /** Removes everything of this user's, and takes nothing more: the user signs out. */
  clear() {
    for (const key of this.keys('')) this.remove(key);
    this.#closed = true;
  }
}
