/** What every component of the page has: light DOM, and words that change with the language. */

import {words} from '../i18n.js';
import {LitElement} from '../vendor/lit.js';

/** A Lit element without a shadow root, so that one style sheet and one document outline hold. */
export class PageElement extends LitElement {
  #subscriptions = [];

  createRenderRoot() {
    return this;
  }

  connectedCallback() {
    super.connectedCallback();
    this.follow(words, 'language');
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    for (const unsubscribe of this.#subscriptions) unsubscribe();
    this.#subscriptions = [];
  }

  /**
   * Renders again on an event, for as long as the element is in the page.
   *
   * @param {EventTarget} source
   * @param {...string} kinds
   */
  follow(source, ...kinds) {
    const update = () => this.requestUpdate();
    for (const kind of kinds) {
      source.addEventListener(kind, update);
      this.#subscriptions.push(() => source.removeEventListener(kind, update));
    }
  }

  /**
   * Tells the elements around it.
   *
   * @param {string} kind
   * @param {any} [detail]
   */
  tell(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, {detail, bubbles: true}));
  }
}
