/**
 * A failure in the reader's language: what happened and what to do next.
 *
 * Words are found by reason; a reason this page does not know falls back to the server's sentence.
 */

import {hasWords, t} from './i18n.js';

/** Reasons with more than one sentence, and the fact that says which; any other value has none. */
const CASES = {BUDGET_EXHAUSTED: 'budget'};

/**
 * @param {import('./failures.js').Failure} failure
 * @returns {{what: string, next: string, details: string}} `next` and `details` may be empty.
 */
export function failureText(failure) {
  const {reason, metadata, message} = failure;
  const facts = Object.entries(metadata).map(([key, value]) => `${key}: ${value}`);
  return {
    what: words(failure) || message || t('failure.UNKNOWN'),
    next: words(failure, '.next'),
    details: [reason, ...facts].join(' · '),
  };
}

function words({reason, metadata}, end = '') {
  const one = metadata[CASES[reason]];
  const keys = [`failure.${reason}.${one}${end}`, `failure.${reason}${end}`];
  const key = keys.find((each) => hasWords(each));
  return key ? t(key, metadata) : '';
}
