/** One turn: the prompt, what the agent did, how it ended. */

import './elapsed-time.js';
import './markdown-view.js';
import './permission-card.js';
import './tool-card.js';
import {failureText} from '../failure-text.js';
import {Failure} from '../failures.js';
import {duration, fullTime, money, shortNumber, t, timeOfDay, wholeNumber} from '../i18n.js';
import {html, nothing, repeat} from '../vendor/lit.js';
import {changesBlock} from './changes-block.js';
import {PageElement} from './element.js';

const LONG_PROMPT = 1200; // characters; a longer one is folded
const SHOWN_MS = 50; // a shorter duration would be shown as 0

/** `<turn-view>`: set `turn`, and `version` so that a change of it is noticed. */
export class TurnView extends PageElement {
  static properties = {
    client: {attribute: false},
    turn: {attribute: false},
    version: {attribute: false},
    stopping: {attribute: false},
    answers: {attribute: false},
    standing: {attribute: false},
  };

  render() {
    const {turn, stopping} = this;
    return html`${turn.background === null
        ? promptBlock(turn.prompt, turn.createdAt)
        : backgroundBlock(turn)}
    <div class="answer">
      ${repeat(
        turn.shown,
        ({key}) => key,
        (entry) => this.#entry(entry, turn),
      )}
      ${turn.outcome ? this.#outcome(turn) : progress(turn, stopping, this.standing)}
    </div>`;
  }

  #entry(entry, turn) {
    switch (entry.kind) {
      case 'message':
        return html`<article
          aria-label=${t(entry.parentId ? 'agent.helperSays' : 'agent.says')}
          class="message ${entry.parentId ? 'nested' : ''}"
        >
          <markdown-view .content=${{text: entry.text, writing: entry.writing}}></markdown-view>
          ${entry.partial ? html`<p class="partial">${t('turn.partial')}</p>` : nothing}
        </article>`;
      case 'thought':
        return thought(entry);
      case 'tool':
        return this.#tool(entry, turn);
      case 'attempt':
        return attempt(entry);
      case 'retry':
        return retry(entry);
      case 'fallback':
        return html`<p class="attempt">${t('turn.fallback', entry)}</p>`;
      case 'compaction':
        return html`<p class="attempt">
          ${t('turn.compaction', {count: shortNumber(entry.tokens)})}
        </p>`;
      case 'changes':
        return changesBlock(entry);
      default:
        return nothing;
    }
  }

  #tool(entry, turn) {
    const ended = turn.outcome !== null;
    const {version} = entry;
    return html`<tool-card .tool=${entry} .version=${version} .ended=${ended}></tool-card>
      ${entry.permission
        ? html`<permission-card
            .permission=${entry.permission}
            .version=${version}
            .ended=${ended}
            .sent=${this.client.answered.get(entry.permission.id)}
            @decided=${({detail}) => this.client.resolvePermission(turn.id, detail)}
          ></permission-card>`
        : nothing}`;
  }

  #outcome(turn) {
    const {state, error} = turn.outcome;
    if (state === 'finished') return meta(turn, 'turn.finished');
    if (state === 'cancelled') {
      return html`<p class="outcome cancelled">${t('turn.cancelled')}</p>
        ${meta(turn)}`;
    }
    const {what, next, details} = failureText(new Failure(error));
    return html`<div class="outcome ${state}">
        <p>
          <b>${t(state === 'lost' ? 'turn.lost' : 'turn.failed')}</b> ${what}
          ${state === 'lost' ? t('turn.lost.next') : next}
        </p>
        <details>
          <summary>${t('turn.details')}</summary>
          <code>${details}</code>
          <p lang="en">${error.message}</p>
        </details>
        <div class="buttons">${this.#remedies(turn)}</div>
      </div>
      ${meta(turn)}`;
  }

  #remedies({outcome: {error}, background, prompt}) {
    const {reason, metadata} = new Failure(error);
    // A month's budget is not the user's to raise.
    const raisable = reason === 'BUDGET_EXHAUSTED' && metadata.budget !== 'month';
    return html`${raisable
      ? html`<button type="button" class="small" @click=${() => this.tell('agent-limits')}>
          ${t('turn.raise')}
        </button>`
      : nothing}
    ${background === null
      ? html`<button type="button" class="small" @click=${() => this.client.send(prompt)}>
          ${t('turn.again')}
        </button>`
      : nothing}`;
  }
}

/** The prompt as the user wrote it. */
export function promptBlock(text, at) {
  const folded = text.length > LONG_PROMPT;
  const body = html`<p class="prompt-text">${text}</p>`;
  return html`<article class="prompt" aria-label=${t('you.said')}>
    ${folded
      ? html`<details>
          <summary>
            <span class="prompt-text">${text.slice(0, LONG_PROMPT / 4)}…</span>
            <span class="fold">${t('turn.wholePrompt', {count: wholeNumber(text.length)})}</span>
          </summary>
          ${body}
        </details>`
      : body}
    ${at ? html`<time title=${fullTime(at)}>${timeOfDay(at)}</time>` : nothing}
  </article>`;
}

function progress(turn, stopping, {queuePosition = 0, costUsdMicros = 0} = {}) {
  if (turn.waiting && !stopping) {
    return html`<p class="progress waiting">${t('turn.waiting')}</p>`;
  }
  const working = queuePosition
    ? t('turn.queued', {position: wholeNumber(queuePosition)})
    : t(turn.background === null ? 'turn.working' : 'turn.inBackground');
  return html`<p class="progress">
    <span class="pulse" aria-hidden="true"></span>
    ${stopping ? t('turn.stopping') : working}
    <elapsed-time aria-hidden="true" .since=${turn.createdAt}></elapsed-time>
    ${costUsdMicros ? html`<span class="cost">${money(costUsdMicros)}</span>` : nothing}
  </p>`;
}

function backgroundBlock({background, createdAt}) {
  return html`<p class="background">
    ${t('turn.background')} ${background ? html`<code>${background}</code>` : nothing}
    ${createdAt ? html`<time title=${fullTime(createdAt)}>${timeOfDay(createdAt)}</time>` : nothing}
  </p>`;
}

function retry({attempt: number, attempts, error}) {
  const {what, details} = failureText(new Failure(error));
  return html`<p class="attempt" title=${details}>
    ${what} ${t('turn.retry', {number: wholeNumber(number), of: wholeNumber(attempts)})}
  </p>`;
}

function thought(entry) {
  return html`<details class="thought">
    <summary>
      <span>${t(entry.writing ? 'turn.thinking' : 'turn.thought')}</span>
      <span class="preview">${entry.text.slice(0, 120)}</span>
    </summary>
    <p>${entry.text}</p>
    ${entry.partial ? html`<p class="partial">${t('turn.partial')}</p>` : nothing}
  </details>`;
}

function attempt({attempt: number, error}) {
  const {what, details} = failureText(new Failure(error));
  return html`<p class="attempt" title=${details}>
    ${t('turn.attempt', {number: wholeNumber(number)})} ${what}
  </p>`;
}

/** Duration, tokens and cost, as far as they are known. */
function meta({outcome: {usage, durationMs, model, backgroundTasks}}, stateKey = null) {
  const input = usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens;
  const facts = [
    stateKey && t(stateKey),
    durationMs >= SHOWN_MS && duration(durationMs),
    (input || usage.outputTokens) &&
      t('usage.tokens', {input: shortNumber(input), output: shortNumber(usage.outputTokens)}),
    usage.costUsdMicros > 0 && money(usage.costUsdMicros),
    model,
    backgroundTasks > 0 && t('turn.leftBehind', {count: wholeNumber(backgroundTasks)}),
  ].filter(Boolean);
  const cached = t('usage.exact', {
    input: wholeNumber(usage.inputTokens),
    output: wholeNumber(usage.outputTokens),
    read: wholeNumber(usage.cacheReadTokens),
    write: wholeNumber(usage.cacheWriteTokens),
  });
  return html`<p class="meta" title=${cached}>
    ${facts.map((fact) => html`<span>${fact}</span>`)}
  </p>`;
}

/** `<pending-turn>`: a prompt the server has not recorded yet. */
export class PendingTurn extends PageElement {
  static properties = {client: {attribute: false}, prompt: {attribute: false}};

  render() {
    const {text, at, state} = this.prompt;
    return html`${promptBlock(text, at)}
    ${state === 'failed' ? this.#failed(this.prompt) : this.#waiting(this.prompt)}`;
  }

  #waiting({turnId, failure}) {
    const {client} = this;
    const {what} = failure ? failureText(failure) : {what: ''};
    const sending = client.isStopping(turnId) ? 'turn.stopping' : 'outbox.sending';
    return html`<p class="progress">
      <span class="pulse" aria-hidden="true"></span>
      ${t(client.connected ? sending : 'outbox.kept')} ${what}
      ${client.connected && !failure
        ? nothing
        : html`<button type="button" class="quiet small" @click=${() => this.#takeBack()}>
            ${t('outbox.takeBack')}
          </button>`}
    </p>`;
  }

  #failed({turnId, failure}) {
    const {what, next} = failureText(failure);
    return html`<div class="outcome failed" role="alert">
      <p><b>${t('outbox.failed')}</b> ${what} ${next}</p>
      <button type="button" class="small" @click=${() => this.client.outbox.retry(turnId)}>
        ${t('outbox.retry')}
      </button>
      <button type="button" class="small quiet" @click=${() => this.#takeBack()}>
        ${t('outbox.edit')}
      </button>
    </div>`;
  }

  #takeBack() {
    this.closest('moorline-app').querySelector('composer-box').put(this.prompt.text);
    this.client.withdraw(this.prompt);
  }
}

customElements.define('turn-view', TurnView);
customElements.define('pending-turn', PendingTurn);
