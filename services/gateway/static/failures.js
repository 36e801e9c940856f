/**
 * Why a call or a turn failed, as the server's `moorline.errors.v1.Error` says it.
 *
 * Knows no language: `failure-text.js` puts a failure into words.
 */

import {milliseconds} from './wire.js';

const AGAIN = new Set(['RATE_LIMITED', 'FENCED', 'CALL_TIMEOUT']);
const UNAVAILABLE = 14;

/** A failure that a program can act on. */
export class Failure extends Error {
  /**
   * @param {{code?: number, reason?: string, message?: string,
   *   metadata?: Object<string, string>, retryDelay?: string}} error The message in proto3 JSON.
   */
  constructor(error) {
    super(error.message ?? '');
    this.name = 'Failure';
    /** Canonical gRPC status code. */
    this.code = error.code ?? 0;
    /** Name of the reason without its prefix, for example `QUEUE_FULL`. */
    this.reason = (error.reason ?? 'UNSPECIFIED').replace(/^ERROR_REASON_/, '');
    /** Facts, as listed beside each reason. */
    this.metadata = error.metadata ?? {};
    /** At least this long before the same call may succeed; 0 when not said. */
    this.retryDelayMs = milliseconds(error.retryDelay);
  }

  /** True when the same call may succeed later. */
  get retryable() {
    return this.code === UNAVAILABLE || AGAIN.has(this.reason);
  }
}
