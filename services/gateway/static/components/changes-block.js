/** What a turn changed in the workspace: each file with its diff on demand. */

import {t, wholeNumber} from '../i18n.js';
import {visible} from '../tools.js';
import {html, nothing} from '../vendor/lit.js';
import {diffBlock} from './diff-block.js';

/**
 * @param {{changes: object[], omittedFiles: number}} changes Of `transcript.v1.FileChanges`, with
 *   every default filled in.
 * @param {boolean} [open] Whether every diff is shown at once.
 * @returns {import('../vendor/lit.js').TemplateResult}
 */
export function changesBlock({changes, omittedFiles}, open = false) {
  return html`<section class="changes" aria-label=${t('changes.label')}>
    <p class="heading">${t('changes.title', {count: wholeNumber(changes.length + omittedFiles)})}</p>
    ${changes.map(
      (change) =>
        html`<details ?open=${open}>
          <summary>
            <span class="kind ${change.kind}">${t(`changes.${change.kind}`)}</span>
            <code class="path">${visible(change.path)}</code>
            <span class="sum"
              >${t('diff.sum', {
                added: wholeNumber(change.addedLines),
                removed: wholeNumber(change.removedLines),
              })}</span
            >
          </summary>
          ${change.diff
            ? diffBlock({path: change.path, diff: change.diff})
            : html`<p class="hint">${t(change.binary ? 'changes.binary' : 'changes.noDiff')}</p>`}
        </details>`,
    )}
    ${omittedFiles
      ? html`<p class="hint">${t('changes.omitted', {count: wholeNumber(omittedFiles)})}</p>`
      : nothing}
  </section>`;
}
