/**
 * A failure in the reader's language: what happened and what to do next.
 *
 * Words are found by reason; a reason this page does not know falls back to the server's sentence.
 */

import {hasWords, t} from './i18n.js';

/**
 * @param {import('./failures.js').Failure} failure
 * @returns {{what: string, next: string, details: string}} `next` and `details` may be empty.
 */
export function failureText(failure) {
  const {reason, metadata, message} = failure;
  const known = hasWords(`failure.${reason}`);
  const facts = Object.entries(metadata).map(([key, value]) => `${key}: ${value}`);
  return {
    what: known ? t(`failure.${reason}`, metadata) : message || t('failure.UNKNOWN'),
    next: hasWords(`failure.${reason}.next`) ? t(`failure.${reason}.next`, metadata) : '',
    details: [reason, ...facts].join(' · '),
  };
}
