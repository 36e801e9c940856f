/**
 * The conversation with the shown agent, newest at the bottom.
 *
 * Stays at the bottom while the reader is there, and leaves a reader who scrolled up in peace.
 */

import './turn-view.js';
import {failureText} from '../failure-text.js';
import {t} from '../i18n.js';
import {html, nothing, repeat} from '../vendor/lit.js';
import {PageElement} from './element.js';

const PAGE_TURNS = 30;
const AT_BOTTOM_PX = 40;

/** `<transcript-view>`: give it a `client`. */
export class TranscriptView extends PageElement {
  static properties = {
    client: {attribute: false},
    limit: {state: true},
    away: {state: true},
  };

  #agent = null;
  #lastTop = 0;
  #observer = null;

  constructor() {
    super();
    this.limit = PAGE_TURNS;
    this.away = false;
  }

  connectedCallback() {
    super.connectedCallback();
    this.follow(this.client, 'transcript', 'current', 'outbox', 'agents');
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.#observer?.disconnect();
  }

  firstUpdated() {
    this.#observer = new ResizeObserver(() => this.#stay());
    this.#observer.observe(this.querySelector('.turns'));
    this.#observer.observe(this.#log);
  }

  willUpdate() {
    if (this.#agent === this.client.current) return;
    this.#agent = this.client.current;
    this.limit = PAGE_TURNS;
    this.away = false;
  }

  updated() {
    this.#stay();
  }

  get #log() {
    return this.querySelector('.log');
  }

  #stay() {
    if (!this.away) this.#log.scrollTop = this.#log.scrollHeight;
  }

  #scrolled = () => {
    const {scrollTop, scrollHeight, clientHeight} = this.#log;
    const distance = scrollHeight - scrollTop - clientHeight;
    if (distance < AT_BOTTOM_PX) this.away = false;
    else if (scrollTop < this.#lastTop) this.away = true;
    this.#lastTop = scrollTop;
  };

  /** Shows the newest, and stays there. */
  toBottom = () => {
    this.away = false;
    this.#stay();
  };

  /** The turn that was at the top stays where it is on the screen. */
  async #showEarlier() {
    const before = this.#log.scrollHeight;
    this.away = true;
    this.limit += PAGE_TURNS;
    await this.updateComplete;
    this.#log.scrollTop += this.#log.scrollHeight - before;
  }

  render() {
    const {client} = this;
    const {transcript, current, lost} = client;
    const pending = pendingTurns(client);
    const begun = startedTurns(transcript);
    const shown = begun.slice(-this.limit);
    const hidden = begun.length - shown.length;
    const empty = !begun.length && !pending.length;
    const loading = current && !transcript?.complete && empty && !lost;
    return html`<div
        class="log"
        role="log"
        aria-live="polite"
        aria-busy=${transcript?.running ? 'true' : 'false'}
        aria-label=${t('transcript.label')}
        tabindex="0"
        @scroll=${this.#scrolled}
      >
        <div class="turns">
          ${lost ? this.#lost(lost) : nothing}
          ${loading ? html`<p class="hint">${t('loading')}</p>` : nothing}
          ${empty && !loading && !lost ? this.#welcome() : nothing}
          ${hidden
            ? html`<button type="button" class="quiet earlier" @click=${this.#showEarlier}>
                ${t('transcript.earlier', {count: hidden})}
              </button>`
            : nothing}
          ${repeat(
            shown,
            ({id}) => id,
            (turn) =>
              html`<turn-view
                .client=${client}
                .turn=${turn}
                .version=${turn.version}
                .stopping=${client.isStopping(turn.id)}
                .answers=${turn.waiting ? client.answers : 0}
                .standing=${turn.outcome ? undefined : client.standing}
              ></turn-view>`,
          )}
          ${repeat(
            pending,
            ({turnId}) => turnId,
            (prompt) => html`<pending-turn .client=${client} .prompt=${{...prompt}}></pending-turn>`,
          )}
        </div>
      </div>
      ${this.#jump(begun)}`;
  }

  /** A permission request above or below what is seen must not be missed. */
  #jump(begun) {
    const waiting = begun.some((turn) => turn.waiting);
    if (!this.away) return nothing;
    return html`<button type="button" class="jump ${waiting ? 'needs-you' : ''}" @click=${this.toBottom}>
      ${t(waiting ? 'transcript.jumpToRequest' : 'transcript.jump')}
    </button>`;
  }

  #welcome() {
    const examples = ['welcome.example1', 'welcome.example2', 'welcome.example3'];
    return html`<section class="welcome">
      <h2>${t('welcome.title')}</h2>
      <p>${t(this.client.current ? 'welcome.agent' : 'welcome.text')}</p>
      <div class="examples">
        ${examples.map(
          (key) =>
            html`<button type="button" @click=${() => this.#suggest(t(key))}>${t(key)}</button>`,
        )}
      </div>
    </section>`;
  }

  #suggest(text) {
    this.closest('moorline-app').querySelector('composer-box').put(text);
  }

  #lost(failure) {
    const gone = failure.reason === 'RESOURCE_NOT_FOUND';
    const {what, next} = gone
      ? {what: t('transcript.gone'), next: t('transcript.gone.next')}
      : failureText(failure);
    return html`<p class="outcome failed" role="alert"><b>${what}</b> ${next}</p>`;
  }
}

/** Turns whose work began; the others wait in the queue. */
export function startedTurns(transcript) {
  if (!transcript) return [];
  const {turns, running} = transcript;
  return turns.filter((turn) => turn.outcome || turn === running);
}

/** Prompts that are shown as turns although the server has not named them yet. */
export function pendingTurns({current, outbox, transcript}) {
  const prompts = outbox.of(current);
  const failed = prompts.filter(({state}) => state === 'failed');
  if (transcript?.running) return failed;
  return [...failed, ...prompts.filter(({state}) => state !== 'failed').slice(0, 1)];
}

customElements.define('transcript-view', TranscriptView);
