/**
 * Splits growing Markdown into finished blocks and one tail that may still change.
 *
 * Pure: the lexer is passed in. Finished blocks are given out once and never looked at again, so
 * the cost of a long answer grows with its length, not with its square.
 */

/**
 * @typedef {{raw: string, type: string, text?: string, lang?: string}} Token A top-level token.
 */

/** Follows one text. */
export class Blocks {
  #lexer;
  #text = '';
  #finished = [];
  #length = 0;
  /** Characters the lexer was given in all: what the streaming cost. */
  lexed = 0;
  /** Reference definitions of the whole text, known once it has ended. */
  definitions = '';

  /** @param {(markdown: string) => Token[]} lexer */
  constructor(lexer) {
    this.#lexer = lexer;
  }

  /**
   * @param {string} text The whole text so far.
   * @returns {boolean} Whether it only grew; false means: throw away what was shown.
   */
  update(text) {
    const unix = text.replace(/\r\n?/g, '\n');
    const grew = unix.startsWith(this.#text);
    this.#text = unix;
    if (!grew) this.#reset();
    return grew;
  }

  /**
   * @returns {{finished: string[], tail: Token[]}} Markdown of the blocks that became finished
   *   since the last call, and the tokens that may still change.
   */
  take() {
    const tokens = this.#lex(this.#text.slice(this.#length));
    const tail = tokens.splice(lastBlock(tokens));
    const finished = tokens.map(({raw}) => raw);
    this.#finish(finished);
    return {finished, tail};
  }

  /**
   * Nothing follows.
   *
   * @returns {{finished: string[], again: boolean}} The rest of the blocks; with `again` all
   *   blocks, because what comes late in Markdown can change the meaning of what came before.
   */
  end() {
    const whole = this.#lex(this.#text);
    const raws = whole.map(({raw}) => raw);
    const same = this.#finished.every((raw, index) => raw === raws[index]);
    const definitions = whole.filter(({type}) => type === 'def').map(({raw}) => raw);
    this.definitions = definitions.join('\n');
    const again = this.#finished.length > 0 && (!same || definitions.length > 0);
    if (again) this.#reset();
    const finished = raws.slice(this.#finished.length);
    this.#finish(finished);
    return {finished, again};
  }

  #lex(markdown) {
    this.lexed += markdown.length;
    return markdown ? [...this.#lexer(markdown)] : [];
  }

  #finish(raws) {
    this.#finished.push(...raws);
    this.#length += raws.reduce((sum, raw) => sum + raw.length, 0);
  }

  #reset() {
    this.#finished = [];
    this.#length = 0;
  }
}

/**
 * Index of the last block with content: blank lines after a list do not end it, the next line may
 * be another of its items.
 */
function lastBlock(tokens) {
  let index = tokens.length - 1;
  while (index > 0 && tokens[index].type === 'space') index -= 1;
  return Math.max(index, 0);
}
