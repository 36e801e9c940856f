/**
 * The page: agents on one side, the shown agent's conversation on the other.
 *
 * Keeps the address, the title and the keyboard in step with the client.
 */

import './agent-dialog.js';
import {stateText} from './agent-list.js';
import './composer-box.js';
import './connection-status.js';
import './files-dialog.js';
import './login-view.js';
import './transcript-view.js';
import {ConnectionState} from '../connection.js';
import {failureText} from '../failure-text.js';
import {t} from '../i18n.js';
import {html, nothing} from '../vendor/lit.js';
import {lastPart} from '../wire.js';
import {PageElement} from './element.js';

const AGENT_HASH = '#/agents/';

/** `<moorline-app>`: give it a `client`, or say `signedOut`. */
export class MoorlineApp extends PageElement {
  static properties = {
    client: {attribute: false},
    signedOut: {attribute: false},
    menuOpen: {state: true},
  };

  #client = null;

  constructor() {
    super();
    this.signedOut = false;
    this.menuOpen = false;
  }

  get client() {
    return this.#client;
  }

  set client(client) {
    this.#client = client;
    this.follow(client, 'agents', 'current', 'connection', 'notice', 'outbox');
    client.addEventListener('agents', () => this.#agentsChanged());
    client.select(this.#agentInAddress());
    this.requestUpdate();
  }

  connectedCallback() {
    super.connectedCallback();
    addEventListener('hashchange', () => this.#client?.select(this.#agentInAddress()));
    addEventListener('keydown', (event) => this.#keyDown(event));
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') this.#client?.looked();
    });
  }

  #agentInAddress() {
    const {hash} = location;
    const id = hash.startsWith(AGENT_HASH) ? hash.slice(AGENT_HASH.length) : '';
    return /^[a-z][a-z0-9-]{0,62}$/.test(id) ? `${this.#client.user}/agents/${id}` : '';
  }

  #show(name) {
    this.menuOpen = false;
    location.hash = name ? AGENT_HASH + lastPart(name) : '#/';
  }

  /** Without a choice in the address, the most recent agent is shown. */
  #agentsChanged() {
    const {agents, current, list} = this.#client;
    if (agents.complete && !current && !location.hash && list.length) {
      history.replaceState(null, '', AGENT_HASH + lastPart(list[0].name));
      this.#client.select(list[0].name);
    }
    this.#showTitle();
  }

  #showTitle() {
    const {needing, agent} = this.#client;
    const name = agent ? `${agent.displayName || lastPart(agent.name)} · Moorline` : 'Moorline';
    document.title = needing ? `(${needing}) ${t('state.needsYou')} · ${name}` : name;
  }

  #keyDown(event) {
    if (event.isComposing || event.defaultPrevented || document.querySelector('dialog[open]')) return;
    if (event.key === 'Escape' && !event.target.matches?.('select')) this.#escape(event);
    else if (event.altKey && (event.key === 'ArrowUp' || event.key === 'ArrowDown')) {
      event.preventDefault();
      this.#step(event.key === 'ArrowDown' ? 1 : -1);
    }
  }

  #escape(event) {
    if (this.menuOpen) {
      this.menuOpen = false;
      this.querySelector('.menu-button').focus();
      return;
    }
    event.preventDefault();
    this.#client?.stop();
  }

  #step(by) {
    const list = this.#client?.list ?? [];
    if (!list.length) return;
    const at = list.findIndex(({name}) => name === this.#client.current);
    this.#show(list[(at + by + list.length) % list.length].name);
  }

  updated(changed) {
    if (this.#client) this.#showTitle();
    if (this.menuOpen && changed.has('menuOpen')) this.querySelector('agent-list button').focus();
  }

  async #signOut() {
    if (this.#client.outbox.unsent && !confirm(t('signOut.unsent'))) return;
    this.#client.keep.clear();
    this.#client.connection.close();
    await fetch('/v1/logout', {method: 'POST'});
    location.assign('/');
  }

  render() {
    const client = this.#client;
    if (this.signedOut || client?.connection.state === ConnectionState.SIGNED_OUT) {
      return html`<login-view></login-view>`;
    }
    if (!client) return html`<p class="loading" role="status">${t('loading')}</p>`;
    return html`
      <a class="skip" href="#composer" @click=${this.#skip}>${t('skip')}</a>
      <agent-list
        class=${this.menuOpen ? 'open' : ''}
        .client=${client}
        @agent-chosen=${({detail}) => this.#show(detail)}
        @agent-new=${() => this.#dialog.openFor(null)}
        @agent-settings=${({detail}) => this.#dialog.openFor(detail)}
        @sign-out=${this.#signOut}
      ></agent-list>
      ${this.menuOpen
        ? html`<div class="shade" @click=${() => (this.menuOpen = false)}></div>`
        : nothing}
      <main class="conversation" ?inert=${this.menuOpen}>
        ${this.#bar(client)} ${this.#notice(client)}
        <transcript-view
          .client=${client}
          @focus-lost=${this.#toField}
          @agent-limits=${() => this.#dialog.openFor(client.agent, {limits: true})}
        ></transcript-view>
        <composer-box
          .client=${client}
          @agent-chosen=${({detail}) => this.#show(detail)}
          @prompt-sent=${() => this.querySelector('transcript-view').toBottom()}
        ></composer-box>
      </main>
      <agent-dialog
        .client=${client}
        @agent-chosen=${({detail}) => this.#show(detail)}
      ></agent-dialog>
      <files-dialog .client=${client}></files-dialog>
    `;
  }

  get #dialog() {
    return this.querySelector('agent-dialog');
  }

  #skip = (event) => {
    event.preventDefault();
    this.#toField();
  };

  #toField = () => this.querySelector('composer-box textarea').focus();

  #bar({agent, connection, needing, outbox}) {
    const title = agent ? agent.displayName || lastPart(agent.name) : t('agent.new');
    const others = needing - (agent?.state === 'needsYou' ? 1 : 0);
    return html`<header class="bar">
      <button
        type="button"
        class="quiet icon menu-button"
        aria-label=${t('menu.open')}
        aria-expanded=${this.menuOpen}
        @click=${() => (this.menuOpen = true)}
      >
        <span class="glyph-menu" aria-hidden="true"></span>
        ${others > 0 ? html`<span class="count">${others}</span>` : nothing}
      </button>
      <h1>${title}</h1>
      ${agent
        ? html`<span class="badge ${agent.state}" role="status">${stateText(agent)}</span>
            <button
              type="button"
              class="quiet files"
              @click=${() => this.querySelector('files-dialog').openFor(agent)}
            >
              ${t('files.open')}
            </button>
            <button
              type="button"
              class="quiet icon"
              aria-label=${t('agent.settings', {name: title})}
              @click=${() => this.#dialog.openFor(agent)}
            >
              <span class="glyph-more" aria-hidden="true"></span>
            </button>`
        : nothing}
      <connection-status .connection=${connection} .sending=${outbox.sending}></connection-status>
    </header>`;
  }

  #notice({notice}) {
    if (!notice) return nothing;
    const {what, next} = failureText(notice);
    return html`<div class="notice" role="alert">
      <span><b>${what}</b> ${next}</span>
      <button type="button" class="quiet small" @click=${() => this.#client.dismiss()}>
        ${t('dismiss')}
      </button>
    </div>`;
  }
}

customElements.define('moorline-app', MoorlineApp);
