/** How the page stands with the server, in words. */

import {ConnectionState} from '../connection.js';
import {t} from '../i18n.js';
import {html, nothing} from '../vendor/lit.js';
import {PageElement} from './element.js';

/** `<connection-status>`: set `connection`, and `sending`, how many prompts wait for it. */
export class ConnectionStatus extends PageElement {
  static properties = {connection: {attribute: false}, sending: {attribute: false}};

  connectedCallback() {
    super.connectedCallback();
    this.follow(this.connection, 'state');
  }

  render() {
    const {state, refusal} = this.connection;
    const waiting = state !== ConnectionState.CONNECTED && this.sending > 0;
    const stopped = state === ConnectionState.REFUSED;
    return html`<span role="status" class="link ${state}">
        ${t(`connection.${state}`, {code: refusal})}
        ${waiting ? html`<span class="unsent">${t('connection.unsent', {count: this.sending})}</span>` : nothing}
      </span>
      ${stopped
        ? html`<button type="button" class="small" @click=${() => location.reload()}>
            ${t('reload')}
          </button>`
        : nothing}`;
  }
}

customElements.define('connection-status', ConnectionStatus);
