/** Prompts that wait for the agent, each with a way to take it back. */

import {t} from '../i18n.js';
import {html, nothing, repeat} from '../vendor/lit.js';

const PREVIEW_CHARACTERS = 160;

/**
 * @param {import('../client.js').Client} client
 * @returns {import('../vendor/lit.js').TemplateResult | typeof nothing}
 */
export function queueList(client) {
  const waiting = waitingPrompts(client);
  if (!waiting.length) return nothing;
  return html`<section class="queue" aria-label=${t('queue.label')}>
    <h2>${t('queue.title', {count: waiting.length})}</h2>
    <ol>
      ${repeat(
        waiting,
        ({id}) => id,
        (prompt) => row(prompt),
      )}
    </ol>
  </section>`;
}

/**
 * @param {import('../client.js').Client} client
 * @returns {{id: string, text: string, sent: boolean, stopping: boolean, cancel: () => void}[]}
 */
function waitingPrompts(client) {
  const {transcript, outbox, current} = client;
  const recorded = (transcript?.queued ?? []).map(({id, prompt}) => ({
    id,
    text: prompt,
    sent: true,
    stopping: client.isStopping(id),
    cancel: () => client.cancelTurn(id),
  }));
  const coming = outbox.of(current).filter(({state}) => state !== 'failed');
  const unrecorded = (transcript?.running ? coming : coming.slice(1)).map((prompt) => ({
    id: prompt.turnId,
    text: prompt.text,
    sent: false,
    stopping: client.isStopping(prompt.turnId),
    cancel: () => client.withdraw(prompt),
  }));
  return [...recorded, ...unrecorded];
}

const row = ({text, sent, stopping, cancel}) =>
  html`<li>
    <span class="text">${text.slice(0, PREVIEW_CHARACTERS)}</span>
    ${sent ? nothing : html`<span class="hint">${t('queue.unsent')}</span>`}
    <button type="button" class="quiet small" ?disabled=${stopping} @click=${cancel}>
      ${t('queue.cancel')}<span class="offscreen"> ${text.slice(0, PREVIEW_CHARACTERS)}</span>
    </button>
  </li>`;
