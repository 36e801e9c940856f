/** Asks for a token when nobody is signed in. */

import {t} from '../i18n.js';
import {html, nothing} from '../vendor/lit.js';
import {PageElement} from './element.js';

/** `<login-view>`: fires `signed-in`. */
export class LoginView extends PageElement {
  static properties = {problem: {state: true}, busy: {state: true}};

  constructor() {
    super();
    this.problem = '';
    this.busy = false;
  }

  firstUpdated() {
    this.querySelector('input').focus();
  }

  async #signIn(event) {
    event.preventDefault();
    const token = this.querySelector('input').value.trim();
    if (!token) return;
    this.busy = true;
    try {
      const response = await fetch('/v1/login', {
        method: 'POST',
        headers: {'Content-Type': 'application/json'},
        body: JSON.stringify({token}),
      });
      this.problem = response.ok ? '' : t(response.status === 401 ? 'login.wrong' : 'login.failed');
      if (response.ok) this.tell('signed-in');
    } catch {
      this.problem = t('login.unreachable');
    }
    this.busy = false;
  }

  render() {
    return html`<main class="login">
      <form @submit=${this.#signIn}>
        <img src="/static/favicon.svg" alt="" width="40" height="40" />
        <h1>${t('login.title')}</h1>
        <p>${t('login.hint')}</p>
        <label>
          <span>${t('login.token')}</span>
          <input
            type="password"
            autocomplete="current-password"
            aria-invalid=${this.problem ? 'true' : 'false'}
            aria-describedby="login-problem"
          />
        </label>
        <p id="login-problem" class="problem" role="alert">${this.problem || nothing}</p>
        <button class="primary" ?disabled=${this.busy}>${t('login.submit')}</button>
      </form>
    </main>`;
  }
}

customElements.define('login-view', LoginView);
