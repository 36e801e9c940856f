/** Makes an agent, or changes or deletes one. */

import {failureText} from '../failure-text.js';
import {money, t} from '../i18n.js';
import {html, nothing} from '../vendor/lit.js';
import {lastPart} from '../wire.js';
import {PageElement} from './element.js';

const MODES = [
  ['ask', 'PERMISSION_MODE_ASK'],
  ['acceptEdits', 'PERMISSION_MODE_ACCEPT_EDITS'],
  ['acceptAll', 'PERMISSION_MODE_ACCEPT_ALL'],
  ['plan', 'PERMISSION_MODE_PLAN'],
];
const MODEL_CHARACTERS = 100;
const MOST_DOLLARS = 1_000_000;
const MICROS = 1_000_000;
const NAME_CHARACTERS = 63;
const INSTRUCTION_CHARACTERS = 20_000;

/** `<agent-dialog>`: fires `agent-chosen` with the name of a new agent, or '' after a deletion. */
export class AgentDialog extends PageElement {
  static properties = {
    client: {attribute: false},
    agent: {state: true},
    deleting: {state: true},
    busy: {state: true},
    failure: {state: true},
  };

  constructor() {
    super();
    this.agent = null;
    this.deleting = false;
    this.busy = false;
    this.failure = null;
  }

  connectedCallback() {
    super.connectedCallback();
    this.follow(this.client, 'backends');
  }

  /**
   * @param {object | null} agent To be changed; null for a new one.
   * @param {{limits?: boolean}} [more] Whether its limits are what is to be changed.
   */
  async openFor(agent, {limits = false} = {}) {
    this.agent = agent;
    this.deleting = false;
    this.failure = null;
    this.client.refreshBackends();
    this.requestUpdate();
    await this.updateComplete;
    this.querySelector('form').reset();
    this.#dialog.showModal();
    this.querySelector('.more').open = limits || hasLimits(agent);
    const first = this.querySelector(limits ? '.more input' : '[name=displayName]');
    first.focus();
    first.select();
  }

  get #dialog() {
    return this.querySelector('dialog');
  }

  get #settings() {
    const data = new FormData(this.querySelector('form'));
    const settings = {
      displayName: data.get('displayName').trim(),
      instructions: data.get('instructions').trim(),
      permissionMode: data.get('permissionMode'),
      model: data.get('model').trim(),
      turnBudgetUsdMicros: micros(data.get('turnBudget')),
      budgetUsdMicros: micros(data.get('budget')),
      maxSteps: Number(data.get('maxSteps') || 0),
      allowedRules: data
        .get('allowedRules')
        .split('\n')
        .map((rule) => rule.trim())
        .filter(Boolean),
    };
    const backend = data.get('backend');
    return backend === null ? settings : {...settings, backend};
  }

  async #attempt(action) {
    this.busy = true;
    this.failure = null;
    try {
      await action();
      this.#dialog.close();
    } catch (failure) {
      this.failure = failure;
    }
    this.busy = false;
  }

  #save = (event) => {
    event.preventDefault();
    const {agent, client} = this;
    this.#attempt(async () => {
      if (agent) await client.updateAgent({name: agent.name, ...this.#settings});
      else this.tell('agent-chosen', await client.createAgent(this.#settings));
    });
  };

  #delete = () => {
    const {agent, client} = this;
    this.#attempt(async () => {
      await client.deleteAgent(agent.name);
      if (client.current === agent.name) this.tell('agent-chosen', '');
    });
  };

  async #askToDelete() {
    this.deleting = true;
    await this.updateComplete;
    this.querySelector('.confirm .cancel').focus();
  }

  render() {
    const {agent} = this;
    const title = agent ? t('agentDialog.change') : t('agent.new');
    return html`<dialog aria-labelledby="agent-dialog-title">
      <form method="dialog" @submit=${this.#save}>
        <h2 id="agent-dialog-title">${title}</h2>
        <label class="field">
          <span>${t('agentDialog.name')}</span>
          <input
            name="displayName"
            maxlength=${NAME_CHARACTERS}
            autocomplete="off"
            .defaultValue=${agent?.displayName ?? ''}
            placeholder=${agent ? lastPart(agent.name) : t('agentDialog.namePlaceholder')}
          />
        </label>
        ${this.#backends()} ${this.#modes()} ${this.#model()} ${this.#limits()}
        <label class="field">
          <span>${t('agentDialog.instructions')}</span>
          <textarea
            name="instructions"
            rows="3"
            maxlength=${INSTRUCTION_CHARACTERS}
            .defaultValue=${agent?.instructions ?? ''}
          ></textarea>
        </label>
        ${this.#problem()}
        ${this.deleting ? this.#confirmation() : this.#buttons()}
      </form>
    </dialog>`;
  }

  #backends() {
    const {backends} = this.client;
    if (!backends?.length) return nothing;
    const chosen = this.agent?.backend || backends.find((backend) => backend.default)?.name;
    return html`<fieldset>
      <legend>${t('agentDialog.backend')}</legend>
      ${backends.map((backend) => {
        const id = lastPart(backend.name);
        const detail = backend.available
          ? backend.default
            ? t('agentDialog.default')
            : ''
          : t('agentDialog.unavailable', {detail: backend.detail ?? ''});
        return html`<label class="choice">
          <input
            type="radio"
            name="backend"
            value=${id}
            .defaultChecked=${id === lastPart(chosen ?? '')}
            ?disabled=${!backend.available && id !== lastPart(chosen ?? '')}
          />
          <span><b>${id}</b> ${detail ? html`<small>${detail}</small>` : nothing}</span>
        </label>`;
      })}
    </fieldset>`;
  }

  #modes() {
    const current = this.agent?.permissionMode ?? 'ask';
    return html`<fieldset>
      <legend>${t('agentDialog.mode')}</legend>
      ${MODES.map(
        ([word, value]) =>
          html`<label class="choice">
            <input
              type="radio"
              name="permissionMode"
              value=${value}
              .defaultChecked=${word === (current === 'unspecified' ? 'ask' : current)}
            />
            <span><b>${t(`mode.${word}`)}</b> <small>${t(`mode.${word}.hint`)}</small></span>
          </label>`,
      )}
    </fieldset>`;
  }

  #model() {
    const models = (this.client.backends ?? []).flatMap((backend) => backend.models ?? []);
    return html`<label class="field">
      <span>${t('agentDialog.model')}</span>
      <input
        name="model"
        list="models"
        maxlength=${MODEL_CHARACTERS}
        autocomplete="off"
        .defaultValue=${this.agent?.model ?? ''}
        placeholder=${models[0] ?? t('agentDialog.default')}
      />
      <datalist id="models">
        ${[...new Set(models)].map((model) => html`<option value=${model}></option>`)}
      </datalist>
    </label>`;
  }

  #limits() {
    const {agent} = this;
    const spent = agent?.costUsdMicros ?? 0;
    return html`<details class="more">
      <summary>${t('agentDialog.limits')}</summary>
      ${spent
        ? html`<p class="hint">${t('agentDialog.spent', {cost: money(spent)})}</p>`
        : nothing}
      <div class="row">
        ${amount('turnBudget', agent?.turnBudgetUsdMicros)}
        ${amount('budget', agent?.budgetUsdMicros)}
        <label class="field">
          <span>${t('agentDialog.maxSteps')}</span>
          <input
            name="maxSteps"
            type="number"
            min="0"
            max="100000"
            step="1"
            .defaultValue=${agent?.maxSteps ? String(agent.maxSteps) : ''}
            placeholder=${t('agentDialog.noLimit')}
          />
        </label>
      </div>
      <label class="field">
        <span>${t('agentDialog.rules')}</span>
        <textarea
          name="allowedRules"
          rows="3"
          spellcheck="false"
          .defaultValue=${(agent?.allowedRules ?? []).join('\n')}
          placeholder="Edit&#10;Bash(npm test:*)"
        ></textarea>
      </label>
    </details>`;
  }

  #problem() {
    if (!this.failure) return nothing;
    const {what, next} = failureText(this.failure);
    return html`<p class="problem" role="alert">${what} ${next}</p>`;
  }

  #buttons() {
    return html`<div class="buttons">
      ${this.agent
        ? html`<button type="button" class="danger quiet" @click=${this.#askToDelete}>
            ${t('agentDialog.delete')}
          </button>`
        : nothing}
      <span class="gap"></span>
      <button type="button" @click=${() => this.#dialog.close()}>${t('cancel')}</button>
      <button class="primary" ?disabled=${this.busy}>
        ${t(this.agent ? 'agentDialog.save' : 'agentDialog.create')}
      </button>
    </div>`;
  }

  #confirmation() {
    const name = this.agent.displayName || lastPart(this.agent.name);
    return html`<div class="confirm" role="alertdialog" aria-labelledby="confirm-delete">
      <p id="confirm-delete">${t('agentDialog.confirmDelete', {name})}</p>
      <div class="buttons">
        <span class="gap"></span>
        <button type="button" class="cancel" @click=${() => (this.deleting = false)}>
          ${t('agentDialog.keep')}
        </button>
        <button type="button" class="danger" ?disabled=${this.busy} @click=${this.#delete}>
          ${t('agentDialog.delete')}
        </button>
      </div>
    </div>`;
  }
}

const hasLimits = (agent) =>
  Boolean(
    agent &&
      (agent.turnBudgetUsdMicros ||
        agent.budgetUsdMicros ||
        agent.maxSteps ||
        agent.allowedRules?.length),
  );

/** Dollars as they are typed, in millionths; nothing is 0, which is no limit. */
const micros = (dollars) => String(Math.round(Number(dollars || 0) * MICROS));

function amount(name, current) {
  return html`<label class="field">
    <span>${t(`agentDialog.${name}`)}</span>
    <input
      name=${name}
      type="number"
      min="0"
      max=${MOST_DOLLARS}
      step="any"
      inputmode="decimal"
      .defaultValue=${current ? String(current / MICROS) : ''}
      placeholder=${t('agentDialog.noLimit')}
    />
  </label>`;
}

customElements.define('agent-dialog', AgentDialog);
