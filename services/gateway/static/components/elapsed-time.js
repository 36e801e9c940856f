/** Counts the seconds since an instant. */

import {duration} from '../i18n.js';

const SHOWN_AFTER_MS = 2000;

/** `<elapsed-time>`: set `since`, milliseconds since the epoch. */
export class ElapsedTime extends HTMLElement {
  #timer = 0;
  since = Date.now();

  connectedCallback() {
    this.#timer = setInterval(() => this.#show(), 1000);
    this.#show();
  }

  disconnectedCallback() {
    clearInterval(this.#timer);
  }

  #show() {
    const ms = Date.now() - this.since;
    this.textContent = ms < SHOWN_AFTER_MS ? '' : duration(Math.floor(ms / 1000) * 1000);
  }
}

customElements.define('elapsed-time', ElapsedTime);
