/**
 * Asks whether a tool may run, showing exactly what it would be given.
 *
 * It never takes the focus by itself, and its keys work only while it has it: somebody who is
 * typing must not allow anything by accident.
 */

import {fullTime, t} from '../i18n.js';
import {fileChange, parseInput} from '../tools.js';
import {html, nothing} from '../vendor/lit.js';
import {diffBlock} from './diff-block.js';
import {PageElement} from './element.js';
import {inputBlock} from './tool-card.js';

/**
 * `<permission-card>`: set `permission`, `version` (of its entry), `ended` (the turn is over) and
 * `sent` (what was answered here: true, false, or undefined); fires `decided`.
 */
export class PermissionCard extends PageElement {
  static properties = {
    permission: {attribute: false},
    version: {attribute: false},
    ended: {attribute: false},
    sent: {attribute: false},
  };

  #askedHere = false;
  #hadFocus = false;

  willUpdate() {
    this.#hadFocus = this.contains(document.activeElement);
    this.#askedHere ||= !this.permission.decision && !this.ended;
  }

  /** Whoever answered by keyboard goes on typing instead of looking for the focus. */
  updated() {
    if (this.#hadFocus && !this.contains(document.activeElement)) this.tell('focus-lost');
  }

  #decide(allowed) {
    if (this.sent !== undefined) return;
    const reason = allowed ? '' : this.querySelector('input').value.trim();
    this.tell('decided', {permissionId: this.permission.id, allowed, reason});
  }

  #keyDown = (event) => {
    const typing = event.target.matches('input');
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (typing) {
      if (event.key === 'Enter') {
        event.preventDefault();
        this.#decide(false);
      }
      return;
    }
    // By the key's place, so that it also works while the Korean layout is on.
    if (event.code === 'KeyA') this.#decide(true);
    else if (event.code === 'KeyD') this.#decide(false);
    else return;
    event.preventDefault();
  };

  render() {
    const {permission, ended, sent} = this;
    const {decision} = permission;
    if (decision) return this.#decided(decision);
    return ended ? nothing : this.#request(permission, sent);
  }

  #request({id, toolName, question, inputJson, expiresAt}, sent) {
    const change = fileChange(parseInput(inputJson));
    const waiting = sent !== undefined;
    return html`<section
      class="permission"
      role="alertdialog"
      aria-labelledby="ask-${id}"
      aria-describedby="what-${id}"
      tabindex="0"
      @keydown=${this.#keyDown}
    >
      <h2 id="ask-${id}">${t('permission.title', {tool: toolName})}</h2>
      <div id="what-${id}">
        ${question ? html`<p>${question}</p>` : nothing}
        ${change ? diffBlock(change) : nothing}
        ${change
          ? html`<details>
              <summary>${t('permission.exact')}</summary>
              ${inputBlock(inputJson)}
            </details>`
          : inputBlock(inputJson)}
      </div>
      ${expiresAt
        ? html`<p class="hint">${t('permission.expires', {time: fullTime(expiresAt)})}</p>`
        : nothing}
      <div class="buttons">
        <button
          type="button"
          class="primary"
          ?disabled=${waiting}
          aria-keyshortcuts="A"
          @click=${() => this.#decide(true)}
        >
          ${t('permission.allow')} <kbd aria-hidden="true">A</kbd>
        </button>
        <button
          type="button"
          ?disabled=${waiting}
          aria-keyshortcuts="D"
          @click=${() => this.#decide(false)}
        >
          ${t('permission.deny')} <kbd aria-hidden="true">D</kbd>
        </button>
        <input
          type="text"
          maxlength="2000"
          ?disabled=${waiting}
          aria-label=${t('permission.reason')}
          placeholder=${t('permission.reason')}
        />
      </div>
      ${waiting ? html`<p class="hint" role="status">${t('permission.sending')}</p>` : nothing}
    </section>`;
  }

  #decided({allowed, reason, decider}) {
    const elsewhere = decider === 'user' && this.#askedHere && this.sent !== allowed;
    const who = decider === 'user' ? (allowed ? 'allowed' : 'denied') : decider;
    return html`<p class="decision ${allowed ? 'allowed' : decider === 'turnEnd' ? '' : 'denied'}">
      ${t(`permission.${who}`)} ${elsewhere ? t('permission.elsewhere') : nothing}
      ${reason ? html`<q>${reason}</q>` : nothing}
    </p>`;
  }
}

customElements.define('permission-card', PermissionCard);
