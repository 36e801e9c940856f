/** The user's agents with what each is doing, and what concerns the whole page below them. */

import {LANGUAGES, ago, chooseLanguage, currentLanguage, money, t, wholeNumber} from '../i18n.js';
import {html, nothing, repeat} from '../vendor/lit.js';
import {lastPart} from '../wire.js';
import {PageElement} from './element.js';

const CLOCK_MS = 20_000;
const THEMES = ['auto', 'light', 'dark'];
const THEME_KEY = 'moorline/theme';

/** `<agent-list>`: fires `agent-chosen`, `agent-new`, `agent-settings` and `sign-out`. */
export class AgentList extends PageElement {
  static properties = {client: {attribute: false}};

  #clock = 0;

  connectedCallback() {
    super.connectedCallback();
    this.follow(this.client, 'agents', 'current', 'outbox');
    this.#clock = setInterval(() => this.requestUpdate(), CLOCK_MS);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    clearInterval(this.#clock);
  }

  render() {
    const {list, agents} = this.client;
    return html`<nav aria-label=${t('agents')}>
      <div class="brand">
        <img src="/static/favicon.svg" alt="" width="24" height="24" />
        <span>Moorline</span>
      </div>
      <button type="button" class="new-agent" @click=${() => this.tell('agent-new')}>
        <span class="glyph-plus" aria-hidden="true"></span>${t('agent.new')}
      </button>
      ${list.length || !agents.complete
        ? nothing
        : html`<p class="hint">${t('agents.none')}</p>`}
      <ul>
        ${repeat(
          list,
          ({name}) => name,
          (agent) => this.#item(agent),
        )}
      </ul>
      ${this.#foot()}
    </nav>`;
  }

  #item(agent) {
    const current = agent.name === this.client.current;
    const title = agent.displayName || lastPart(agent.name);
    const unread = !current && this.client.unread(agent);
    return html`<li class=${current ? 'current' : ''}>
      <button
        type="button"
        class="agent"
        aria-current=${current ? 'true' : nothing}
        @click=${() => this.tell('agent-chosen', agent.name)}
      >
        <span class="name ${unread ? 'unread' : ''}" title=${title}>${title}</span>
        <span class="facts">
          <span class="badge ${agent.state}">${stateText(agent)}</span>
          ${unread ? html`<span class="new-mark">${t('agents.unread')}</span>` : nothing}
          ${agent.activeAt
            ? html`<time class="when">${ago(agent.activeAt, Date.now())}</time>`
            : nothing}
        </span>
      </button>
      <button
        type="button"
        class="quiet icon"
        aria-label=${t('agent.settings', {name: title})}
        @click=${() => this.tell('agent-settings', agent)}
      >
        <span class="glyph-more" aria-hidden="true"></span>
      </button>
    </li>`;
  }

  #month() {
    const {usage} = this.client;
    if (!usage || (!usage.spent && !usage.budget)) return nothing;
    const facts = {cost: money(usage.spent), budget: money(usage.budget)};
    return html`<p class="month ${usage.budget && usage.spent >= usage.budget ? 'over' : ''}">
      ${t(usage.budget ? 'usage.monthOf' : 'usage.month', facts)}
    </p>`;
  }

  #foot() {
    const theme = document.documentElement.dataset.theme ?? 'auto';
    return html`<div class="foot">
      <div class="choices">
        <select aria-label=${t('language')} @change=${({target}) => chooseLanguage(target.value)}>
          ${Object.entries(LANGUAGES).map(
            ([tag, name]) =>
              html`<option value=${tag} lang=${tag} ?selected=${tag === currentLanguage()}>
                ${name}
              </option>`,
          )}
        </select>
        <select aria-label=${t('theme')} @change=${({target}) => chooseTheme(target.value)}>
          ${THEMES.map(
            (name) =>
              html`<option value=${name} ?selected=${name === theme}>${t(`theme.${name}`)}</option>`,
          )}
        </select>
      </div>
      ${this.#month()}
      <div class="who">
        <span class="user" title=${this.client.user}>${lastPart(this.client.user)}</span>
        <button type="button" class="quiet small" @click=${() => this.tell('sign-out')}>
          ${t('signOut')}
        </button>
      </div>
    </div>`;
  }
}

/** @param {object} agent @returns {string} What it does, in words. */
export const stateText = ({state, queuePosition}) =>
  queuePosition
    ? t('state.queued', {position: wholeNumber(queuePosition)})
    : t(`state.${state}`);

function chooseTheme(name) {
  if (name === 'auto') {
    localStorage.removeItem(THEME_KEY);
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem(THEME_KEY, name);
    document.documentElement.dataset.theme = name;
  }
}

customElements.define('agent-list', AgentList);
