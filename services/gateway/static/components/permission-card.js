/**
 * Asks whether the agent may go on, showing exactly what it would do.
 *
 * It never takes the focus by itself, and its keys work only while it has it: somebody who is
 * typing must not allow anything by accident.
 */

import './markdown-view.js';
import './question-form.js';
import {fullTime, t, wholeNumber} from '../i18n.js';
import {fileChange, parseInput, target, visible} from '../tools.js';
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

  #decide(allowed, more = {}) {
    if (this.sent !== undefined || (allowed && this.permission.omittedBytes)) return;
    const reason = allowed ? '' : (this.querySelector('input.reason')?.value.trim() ?? '');
    this.tell('decided', {permissionId: this.permission.id, allowed, reason, ...more});
  }

  #keyDown = (event) => {
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches('input')) {
      if (event.key === 'Enter' && event.target.matches('.reason')) {
        event.preventDefault();
        this.#decide(false);
      }
      return;
    }
    if (this.permission.kind === 'question') return;
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

  #request(permission, sent) {
    const {id, kind, toolName, question, expiresAt, omittedBytes} = permission;
    const waiting = sent !== undefined;
    const title = kind === 'tool' ? t('permission.title', {tool: visible(toolName)}) : t(`permission.${kind}`);
    return html`<section
      class="permission"
      role="alertdialog"
      aria-labelledby="ask-${id}"
      aria-describedby="what-${id}"
      tabindex="0"
      @keydown=${this.#keyDown}
    >
      <h2 id="ask-${id}">${title}</h2>
      <div id="what-${id}">
        ${question ? html`<p>${visible(question)}</p>` : nothing} ${this.#what(permission, waiting)}
        ${omittedBytes
          ? html`<p class="problem">${t('permission.cut', {count: wholeNumber(omittedBytes)})}</p>`
          : nothing}
      </div>
      ${expiresAt
        ? html`<p class="hint">${t('permission.expires', {time: fullTime(expiresAt)})}</p>`
        : nothing}
      ${kind === 'question' ? nothing : this.#buttons(permission, waiting)}
      ${waiting ? html`<p class="hint" role="status">${t('permission.sending')}</p>` : nothing}
    </section>`;
  }

  #what({kind, plan, questions, ...request}, waiting) {
    if (kind === 'plan') return html`<markdown-view .content=${{text: plan}}></markdown-view>`;
    if (kind === 'question') {
      return html`<question-form
        .questions=${questions}
        .waiting=${waiting}
        @answered=${({detail}) => this.#decide(true, {answers: detail})}
        @refused=${() => this.#decide(false)}
      ></question-form>`;
    }
    return exactly(request);
  }

  #buttons({kind, suggestions, omittedBytes}, waiting) {
    const plan = kind === 'plan';
    const reason = t(plan ? 'permission.planReason' : 'permission.reason');
    return html`<div class="buttons">
      <button
        type="button"
        class="primary"
        ?disabled=${waiting || omittedBytes > 0}
        aria-keyshortcuts="A"
        @click=${() => this.#decide(true)}
      >
        ${t(plan ? 'permission.carryOut' : 'permission.allow')} <kbd aria-hidden="true">A</kbd>
      </button>
      ${suggestions.map(
        ({id, rules, acceptEdits}) =>
          html`<button
            type="button"
            class="suggestion"
            ?disabled=${waiting || omittedBytes > 0}
            @click=${() => this.#decide(true, {suggestionId: id})}
          >
            ${suggestionText({acceptEdits}, kind)}
            ${rules.map((rule) => html`<code>${visible(rule)}</code> `)}
          </button>`,
      )}
      <button
        type="button"
        ?disabled=${waiting}
        aria-keyshortcuts="D"
        @click=${() => this.#decide(false)}
      >
        ${t(plan ? 'permission.goOnPlanning' : 'permission.deny')} <kbd aria-hidden="true">D</kbd>
      </button>
      <input
        type="text"
        class="reason"
        maxlength="2000"
        ?disabled=${waiting}
        aria-label=${reason}
        placeholder=${reason}
      />
    </div>`;
  }

  #decided({allowed, reason, decider, suggestionId, answers}) {
    const elsewhere = decider === 'user' && this.#askedHere && this.sent !== allowed;
    const who = decider === 'user' ? (allowed ? 'allowed' : 'denied') : decider;
    const {kind, suggestions} = this.permission;
    const chosen = suggestions.find(({id}) => id === suggestionId);
    return html`<p class="decision ${allowed ? 'allowed' : decider === 'turnEnd' ? '' : 'denied'}">
        ${t(`permission.${answers.length ? 'answered' : who}`)}
        ${chosen
          ? html`· ${suggestionText(chosen, kind)}
              ${chosen.rules.map((rule) => html`<code>${visible(rule)}</code> `)}`
          : nothing}
        ${elsewhere ? t('permission.elsewhere') : nothing}
        ${reason ? html`<q>${reason}</q>` : nothing}
      </p>
      ${answers.length
        ? html`<dl class="answers">
            ${answers.map(
              ({question, answers: said = []}) =>
                html`<dt>${question}</dt>
                  <dd>${said.join(', ')}</dd>`,
            )}
          </dl>`
        : nothing}`;
  }
}

function suggestionText({acceptEdits}, kind) {
  if (!acceptEdits) return t('permission.always');
  return t(kind === 'plan' ? 'permission.carryOutFreely' : 'permission.editFreely');
}

/** What a tool would be given, and what that would change. */
function exactly({inputJson, diff}) {
  const input = parseInput(inputJson);
  const change = diff ? {path: target(input), diff} : fileChange(input);
  if (!change) return inputBlock(inputJson);
  return html`${diffBlock(change)}
    <details>
      <summary>${t('permission.exact')}</summary>
      ${inputBlock(inputJson)}
    </details>`;
}

customElements.define('permission-card', PermissionCard);
