/** A file change, with signs as well as colours. */

import {diffRows, unifiedRows} from '../diffs.js';
import {t, wholeNumber} from '../i18n.js';
import {visible} from '../tools.js';
import {html, nothing} from '../vendor/lit.js';

/**
 * @param {{path: string, changes?: {before: string, after: string}[], diff?: string}} change A diff
 *   made by the server, or else texts before and after.
 * @returns {import('../vendor/lit.js').TemplateResult}
 */
export function diffBlock({path, changes, diff}) {
  const {rows, added, removed, omitted} = diff ? unifiedRows(diff) : diffRows(path, changes);
  return html`<figure class="diff">
    <figcaption>
      <span class="path">${visible(path)}</span>
      <span class="sum"
        >${t('diff.sum', {added: wholeNumber(added), removed: wholeNumber(removed)})}</span
      >
    </figcaption>
    <pre tabindex="0" role="group" aria-label=${t('diff.label', {path})}>${rows.map(
      ({kind, text}) => html`<span class=${kind}>${visible(text)}\n</span>`,
    )}</pre>
    ${omitted ? html`<p class="hint">${t('diff.omitted', {count: wholeNumber(omitted)})}</p>` : nothing}
  </figure>`;
}
