/**
 * One WebSocket to the gateway that outlives its own end.
 *
 * Calls and watches are kept until they are answered, and sent again on the next socket: every
 * call of this protocol may be repeated. Knows frames; does not know agents, turns or the page.
 */

import {Failure} from './failures.js';
import {milliseconds} from './wire.js';

/** What a connection can be. */
export const ConnectionState = Object.freeze({
  CONNECTING: 'connecting',
  CONNECTED: 'connected',
  RECONNECTING: 'reconnecting',
  OFFLINE: 'offline',
  SIGNED_OUT: 'signedOut',
  REFUSED: 'refused',
});

const HANDSHAKE_MS = 10_000;
const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 5_000;
const STEADY_MS = 5_000; // a socket that lived shorter than this does not reset the backoff
const SIGNED_OUT_CODE = 4501;
const ABNORMAL_CODE = 1006;

/** @param {number} code A close code. @returns {boolean} Whether it allows another attempt. */
export const mayReconnect = (code) => code < 4500 || code > 4999;

/**
 * @param {number} tries Attempts that failed so far.
 * @param {number} random From 0 to 1.
 * @returns {number} Milliseconds until the next one: doubling, capped, half to one and a half of it.
 */
export const backoff = (tries, random) =>
  Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(tries, 10)) * (0.5 + random);

/** Fires `state` when `state`, and `welcome` when the server's limits, may have changed. */
export class Connection extends EventTarget {
  #connect;
  #signedIn;
  #online;
  #clock;
  #random;
  #socket = null;
  #lastId = 0;
  #calls = new Map();
  #watches = new Map();
  #tries = 0;
  #timer = null;
  #heartbeat = null;
  #heardAt = 0;
  #connectedAt = 0;
  #askedDelayMs = null;

  /** One of `ConnectionState`. */
  state = ConnectionState.CONNECTING;
  /** Close code of a refused connection; 0 otherwise. */
  refusal = 0;
  /** The server's first frame; null before it. */
  welcome = null;

  /**
   * @param {object} options
   * @param {() => WebSocket} options.connect Opens a socket.
   * @param {() => Promise<boolean>} options.signedIn Whether the cookie is still good; may throw
   *   when the server cannot be reached.
   * @param {() => boolean} options.online Whether the machine has a network.
   * @param {object} [options.clock] `setTimeout`, `clearTimeout` and `now`.
   * @param {() => number} [options.random] From 0 to 1.
   */
  constructor({connect, signedIn, online, clock, random}) {
    super();
    this.#connect = connect;
    this.#signedIn = signedIn;
    this.#online = online;
    this.#random = random ?? Math.random;
    this.#clock = clock ?? {
      setTimeout: (run, ms) => setTimeout(run, ms),
      clearTimeout: (timer) => clearTimeout(timer),
      now: () => performance.now(),
    };
  }

  /** Connects, and stays connected until `close`. A second call changes nothing. */
  open() {
    if (!this.#socket && this.#timer === null) this.#dial();
  }

  /** Ends it for good. What was not answered stays kept for the next `open`. */
  close() {
    this.#abandonSocket();
    this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
  }

  /** To be told when the network or the tab came back: what waits is tried at once. */
  wake() {
    const connected = this.state === ConnectionState.CONNECTED;
    if (connected && this.#clock.now() - this.#heardAt > this.#silenceMs) {
      this.#lost(ABNORMAL_CODE);
    }
    if (!this.#socket && this.#timer !== null) this.#dial();
  }

  /**
   * Calls the server, as often as it takes.
   *
   * @param {string} name Member of `ClientFrame`, for example `createTurn`.
   * @param {object} request The request in proto3 JSON.
   * @param {object} [options]
   * @param {number} [options.patienceMs] How long answers that say "later" are obeyed; waiting
   *   for a connection does not count.
   * @param {(failure: Failure) => void} [options.onLater] Called for each such answer.
   * @param {AbortSignal} [options.signal] Aborted: it is not sent again, and never settles.
   * @returns {Promise<object>} The response. Rejects with a `Failure`.
   */
  call(name, request, {patienceMs = 20_000, onLater, signal} = {}) {
    return new Promise((resolve, reject) => {
      const answer = {resolve, reject, onLater};
      this.#sendCall({name, request, answer, signal, patienceMs, tries: 0, since: null});
    });
  }

  /**
   * Follows a stream, from one socket to the next.
   *
   * @param {string} name Member of `ClientFrame`, for example `watchEvents`.
   * @param {() => object} request Asked again each time the stream is begun, so that it can name
   *   the current position.
   * @param {object} handlers
   * @param {(response: object) => void} handlers.onResponse
   * @param {(failure: Failure) => void} handlers.onEnd It is over, and trying again is useless.
   * @returns {() => void} Stops following.
   */
  watch(name, request, {onResponse, onEnd}) {
    const watch = {name, request, onResponse, onEnd, tries: 0, timer: null, id: 0};
    this.#beginWatch(watch);
    return () => {
      this.#clock.clearTimeout(watch.timer);
      if (this.#watches.get(watch.id) === watch) {
        this.#watches.delete(watch.id);
        this.#send({id: watch.id, cancel: {}});
      }
    };
  }

  get #silenceMs() {
    return 2 * (milliseconds(this.welcome?.heartbeatInterval) || 20_000);
  }

  #nextId() {
    this.#lastId += 1;
    return this.#lastId;
  }

  #send(frame) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(frame));
  }

  #sendCall(call) {
    if (call.signal?.aborted) return;
    const id = this.#nextId();
    this.#calls.set(id, call);
    this.#send({id, [call.name]: call.request});
  }

  #beginWatch(watch) {
    const id = this.#nextId();
    watch.id = id;
    watch.timer = null;
    this.#watches.set(id, watch);
    this.#send({id, [watch.name]: watch.request()});
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event('state'));
  }

  #dial() {
    this.#clock.clearTimeout(this.#timer);
    const socket = this.#connect();
    this.#socket = socket;
    this.#timer = this.#clock.setTimeout(() => this.#lost(ABNORMAL_CODE), HANDSHAKE_MS);
    socket.onopen = () => this.#resend();
    socket.onmessage = (message) => this.#hear(JSON.parse(message.data));
    socket.onclose = (closed) => this.#lost(closed.code);
  }

  /** Ids are new on each socket, so that a late frame of the old one cannot be mistaken. */
  #resend() {
    const [watches, calls] = [[...this.#watches.values()], [...this.#calls.values()]];
    this.#watches.clear();
    this.#calls.clear();
    for (const watch of watches) this.#beginWatch(watch);
    for (const call of calls) this.#sendCall(call);
  }

  #hear(frame) {
    this.#heardAt = this.#clock.now();
    this.#watchSilence();
    if (frame.welcome) this.#greeted(frame.welcome);
    else if (frame.goAway) this.#askedDelayMs = milliseconds(frame.goAway.reconnectDelay);
    else if (this.#calls.has(frame.id)) this.#answered(this.#calls.get(frame.id), frame);
    else if (this.#watches.has(frame.id)) this.#watched(this.#watches.get(frame.id), frame);
  }

  #greeted(welcome) {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    this.#connectedAt = this.#clock.now();
    this.welcome = welcome;
    this.#become(ConnectionState.CONNECTED);
    this.dispatchEvent(new Event('welcome'));
  }

  #answered(call, frame) {
    this.#calls.delete(frame.id);
    if (!frame.error) {
      call.answer.resolve(frame[`${call.name}Response`] ?? {});
      return;
    }
    const failure = new Failure(frame.error);
    call.since ??= this.#clock.now();
    if (!failure.retryable || this.#clock.now() - call.since > call.patienceMs) {
      call.answer.reject(failure);
      return;
    }
    call.answer.onLater?.(failure);
    const waitMs = Math.max(failure.retryDelayMs, backoff(call.tries++, this.#random()));
    this.#clock.setTimeout(() => this.#sendCall(call), waitMs);
  }

  #watched(watch, frame) {
    if (!frame.error && !frame.end) {
      watch.tries = 0;
      watch.onResponse(frame[`${watch.name}Response`] ?? {});
      return;
    }
    const failure = frame.error && new Failure(frame.error);
    this.#watches.delete(frame.id);
    if (failure && !failure.retryable) {
      watch.onEnd(failure);
      return;
    }
    const waitMs = Math.max(failure?.retryDelayMs ?? 0, backoff(watch.tries++, this.#random()));
    watch.timer = this.#clock.setTimeout(() => this.#beginWatch(watch), waitMs);
  }

  #watchSilence() {
    this.#clock.clearTimeout(this.#heartbeat);
    this.#heartbeat = this.#clock.setTimeout(() => this.#lost(ABNORMAL_CODE), this.#silenceMs);
  }

  /** Lets go of the socket without waiting for its closing handshake, which a dead one never ends. */
  #abandonSocket() {
    const socket = this.#socket;
    this.#socket = null;
    this.#clock.clearTimeout(this.#heartbeat);
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  async #lost(code) {
    const greeted = this.state === ConnectionState.CONNECTED;
    this.#abandonSocket();
    this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    if (!mayReconnect(code)) {
      this.refusal = code;
      this.#become(code === SIGNED_OUT_CODE ? ConnectionState.SIGNED_OUT : ConnectionState.REFUSED);
      return;
    }
    if (greeted && this.#clock.now() - this.#connectedAt > STEADY_MS) this.#tries = 0;
    this.#become(this.#online() ? ConnectionState.RECONNECTING : ConnectionState.OFFLINE);
    const waitMs = this.#askedDelayMs ?? backoff(this.#tries, this.#random());
    this.#askedDelayMs = null;
    this.#tries += 1;
    this.#timer = this.#clock.setTimeout(() => this.#dial(), waitMs);
    if (!greeted) await this.#checkLogin();
  }

  /** A browser does not tell why a handshake failed, so the page asks by other means. */
  async #checkLogin() {
    const signedIn = await this.#signedIn().catch(() => true);
    if (signedIn || this.state === ConnectionState.CONNECTED) return;
    this.close();
    this.#become(ConnectionState.SIGNED_OUT);
  }
}
