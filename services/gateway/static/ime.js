/**
 * Decides what Enter means while an input method is composing.
 *
 * Pure. Hangul is composed in place, so Enter in the middle of a syllable means "send"; with
 * Chinese and Japanese it confirms a candidate. Chrome delivers the key before or after the end of
 * the composition, sometimes twice: one press must send once, and the whole syllable.
 */

const HANGUL = /[\u3131-\u318e\uac00-\ud7a3]$/;

/** Follows one text field. */
export class EnterKey {
  #composing = false;
  #sendAtEnd = false;
  #sentAtEnd = false;

  /** A composition began. */
  compositionStart() {
    this.#composing = true;
    this.#sendAtEnd = false;
  }

  /**
   * A composition ended.
   *
   * @param {string | null} data The text it left.
   * @returns {boolean} Whether to send now, after the field has taken the text.
   */
  compositionEnd(data) {
    this.#composing = false;
    const send = this.#sendAtEnd && HANGUL.test(data ?? '');
    this.#sendAtEnd = false;
    this.#sentAtEnd = send;
    return send;
  }

  /**
   * A key went down.
   *
   * @param {KeyboardEvent} event
   * @returns {'send' | 'swallow' | 'ignore'} `swallow`: it must not make a new line, but is not a
   *   second request to send either.
   */
  keyDown(event) {
    const enter = event.key === 'Enter' || event.code === 'Enter' || event.code === 'NumpadEnter';
    if (!enter || event.shiftKey || event.altKey) {
      if (event.keyCode !== 229) this.#sentAtEnd = false;
      return 'ignore';
    }
    if (this.#composing || event.isComposing || event.keyCode === 229) {
      this.#sendAtEnd = true;
      return 'ignore';
    }
    if (this.#sentAtEnd) {
      this.#sentAtEnd = false;
      return 'swallow';
    }
    return 'send';
  }

  /** A key went up: a later Enter is a new one. */
  keyUp() {
    if (!this.#composing) this.#sentAtEnd = false;
  }
}
