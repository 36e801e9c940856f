/**
 * Where a prompt is written. Never locked: while the agent works, a prompt joins its queue.
 *
 * Drafts are kept for each agent, so that neither a reload nor another agent costs one.
 */

import {money, shortNumber, t, wholeNumber} from '../i18n.js';
import {EnterKey} from '../ime.js';
import {promptSize} from '../prompts.js';
import {html, nothing} from '../vendor/lit.js';
import {PageElement} from './element.js';
import {queueList} from './queue-list.js';

const KEEP_DRAFT_MS = 300;

/** `<composer-box>`: give it a `client`; fires `agent-chosen` when a prompt makes an agent. */
export class ComposerBox extends PageElement {
  static properties = {client: {attribute: false}, size: {state: true}};

  #enter = new EnterKey();
  #agent = null;
  #draftTimer = 0;

  constructor() {
    super();
    this.size = promptSize('');
  }

  connectedCallback() {
    super.connectedCallback();
    this.follow(this.client, 'transcript', 'current', 'outbox', 'connection', 'agents');
    addEventListener('pagehide', () => this.#keepDraft());
  }

  /** @param {string} text Put into the field, before what is there. */
  put(text) {
    const field = this.#field;
    field.value = field.value.trim() ? `${text}\n\n${field.value}` : text;
    this.#measure();
    this.#keepDraft();
    field.focus();
  }

  get #field() {
    return this.querySelector('textarea');
  }

  get #draftKey() {
    return `draft/${this.#agent || 'new'}`;
  }

  updated() {
    if (this.#agent === this.client.current) return;
    if (this.#agent !== null) this.#keepDraft();
    this.#agent = this.client.current;
    this.#field.value = this.client.keep.get(this.#draftKey) ?? '';
    this.#measure();
    if (matchMedia('(pointer: fine)').matches) this.#field.focus();
  }

  #keepDraft() {
    clearTimeout(this.#draftTimer);
    this.#draftTimer = 0;
    if (this.#agent !== null) this.client.keep.set(this.#draftKey, this.#field.value);
  }

  #typed = () => {
    this.#measure();
    this.#draftTimer ||= setTimeout(() => this.#keepDraft(), KEEP_DRAFT_MS);
  };

  #measure() {
    this.size = promptSize(this.#field.value, this.client.connection.welcome?.limits);
  }

  #send = (event) => {
    event?.preventDefault();
    const text = this.#field.value.trim();
    this.#measure();
    if (!text || this.size.over) return;
    this.#field.value = '';
    this.#measure();
    this.#keepDraft();
    const agent = this.client.send(text);
    if (agent !== this.client.current) this.tell('agent-chosen', agent);
    this.tell('prompt-sent');
  };

  #keyDown = (event) => {
    const meaning = this.#enter.keyDown(event);
    if (meaning === 'ignore') return;
    event.preventDefault();
    if (meaning === 'send') this.#send();
  };

  #compositionEnd = (event) => {
    if (this.#enter.compositionEnd(event.data)) setTimeout(this.#send);
  };

  render() {
    const {client, size} = this;
    const running = client.transcript?.running;
    return html`<form id="composer" class="composer" @submit=${this.#send}>
      ${queueList(client)}
      <div class="box">
        <textarea
          rows="1"
          aria-label=${t('composer.label')}
          aria-describedby="composer-hint"
          placeholder=${t(running ? 'composer.queuePlaceholder' : 'composer.placeholder')}
          @input=${this.#typed}
          @keydown=${this.#keyDown}
          @keyup=${() => this.#enter.keyUp()}
          @compositionstart=${() => this.#enter.compositionStart()}
          @compositionend=${this.#compositionEnd}
        ></textarea>
        ${running ? this.#stopButton(running) : nothing}
        <button class="primary" ?disabled=${size.over}>
          ${t(running ? 'composer.queue' : 'composer.send')}
        </button>
      </div>
      <div class="under">
        <span id="composer-hint" class="hint">${t('composer.hint')}</span>
        ${size.near ? this.#count(size) : nothing} ${this.#used()}
      </div>
    </form>`;
  }

  #stopButton(running) {
    const stopping = this.client.isStopping(running.id);
    return html`<button
      type="button"
      class="stop"
      aria-keyshortcuts="Escape"
      ?disabled=${stopping}
      @click=${() => this.client.stop()}
    >
      ${t(stopping ? 'composer.stopping' : 'composer.stop')}
    </button>`;
  }

  #count({characters, limit, over}) {
    const facts = {count: wholeNumber(characters), limit: wholeNumber(limit)};
    return html`<span class="count-of ${over ? 'over' : ''}" role="status">
      ${t(over ? 'composer.tooLong' : 'composer.count', facts)}
    </span>`;
  }

  /** What all turns of this agent consumed. */
  #used() {
    const used = this.client.transcript?.used;
    if (!used) return nothing;
    const input = used.inputTokens + used.cacheReadTokens + used.cacheWriteTokens;
    if (!input && !used.outputTokens) return nothing;
    const facts = {input: shortNumber(input), output: shortNumber(used.outputTokens)};
    const budget = this.client.agent?.budgetUsdMicros ?? 0;
    const cost = money(used.costUsdMicros);
    const over = budget && used.costUsdMicros >= budget;
    return html`<span class="used ${over ? 'over' : ''}">
      ${t('usage.agent')} ${t('usage.tokens', facts)} ·
      ${budget ? t('usage.ofBudget', {cost, budget: money(budget)}) : cost}
    </span>`;
  }
}

customElements.define('composer-box', ComposerBox);
