// One socket after another, on a clock that tests turn by hand.

import assert from 'node:assert/strict';
import {describe, test} from 'node:test';

import {
  Connection,
  ConnectionState,
  backoff,
  mayReconnect,
} from '../../../services/gateway/static/connection.js';

class Clock {
  #at = 0;
  #timers = new Map();
  #last = 0;

  now = () => this.#at;

  setTimeout = (run, ms) => {
    this.#last += 1;
    this.#timers.set(this.#last, {run, at: this.#at + ms});
    return this.#last;
  };

  clearTimeout = (timer) => this.#timers.delete(timer);

  async pass(ms) {
    const end = this.#at + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, {at}]) => at <= end);
      if (!due.length) break;
      const [id, {run, at}] = due.sort(([, a], [, b]) => a.at - b.at)[0];
      this.#timers.delete(id);
      this.#at = at;
      run();
      await settled();
    }
    this.#at = end;
  }
}

class Socket {
  readyState = 0;
  sent = [];
  closed = false;

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.closed = true;
  }

  open() {
    this.readyState = 1;
    this.onopen();
    this.hear({id: 0, welcome: {user: 'users/ada', heartbeatInterval: '20s'}});
  }

  hear(frame) {
    this.onmessage({data: JSON.stringify(frame)});
  }

  end(code) {
    this.onclose?.({code});
  }
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

function setUp({signedIn = async () => true, online = () => true} = {}) {
  const clock = new Clock();
  const sockets = [];
  const connect = () => {
    sockets.push(new Socket());
    return sockets.at(-1);
  };
  const connection = new Connection({connect, signedIn, online, clock, random: () => 0.5});
  return {clock, sockets, connection, socket: () => sockets.at(-1)};
}

describe('when to come back', () => {
  test('codes from 4500 to 4999 forbid it, all others allow it', () => {
    assert.deepEqual(
      [1001, 1006, 1012, 1013, 4000, 4499].map(mayReconnect),
      [true, true, true, true, true, true],
    );
    assert.deepEqual([4500, 4501, 4506, 4999].map(mayReconnect), [false, false, false, false]);
  });

  test('the wait doubles, is capped, and is spread by half', () => {
    assert.equal(backoff(0, 0.5), 250);
    assert.equal(backoff(3, 0.5), 2000);
    assert.equal(backoff(50, 0.5), 5_000);
    assert.deepEqual([backoff(1, 0), backoff(1, 1)], [250, 750]);
  });

  test('a lost socket is replaced after the backoff', async () => {
    const {clock, connection, sockets, socket} = setUp();
    connection.open();
    socket().open();
    assert.equal(connection.state, ConnectionState.CONNECTED);
    await clock.pass(6000);
    socket().end(1012);
    assert.equal(connection.state, ConnectionState.RECONNECTING);
    await clock.pass(249);
    assert.equal(sockets.length, 1);
    await clock.pass(1);
    assert.equal(sockets.length, 2);
  });

  test('a server that drops every socket at once is not hammered', async () => {
    const {clock, connection, sockets, socket} = setUp();
    connection.open();
    for (let i = 0; i < 6; i += 1) {
      socket().open();
      socket().end(4006);
      await clock.pass(backoff(i, 0.5));
    }
    assert.equal(sockets.length, 7);
    assert.equal(clock.now(), 250 * (1 + 2 + 4 + 8 + 16 + 20));
  });

  test('a handshake that hangs is given up after ten seconds', async () => {
    const {clock, connection, sockets} = setUp();
    connection.open();
    await clock.pass(10_000 + 250);
    assert.equal(sockets.length, 2);
    assert.equal(sockets[0].closed, true);
  });

  test('two silent heartbeat intervals mean that the socket is dead', async () => {
    const {clock, connection, socket} = setUp();
    connection.open();
    socket().open();
    await clock.pass(39_000);
    socket().hear({id: 0, heartbeat: {}});
    await clock.pass(39_999);
    assert.equal(connection.state, ConnectionState.CONNECTED);
    await clock.pass(1);
    assert.equal(connection.state, ConnectionState.RECONNECTING);
  });

  test('the delay of go_away is respected', async () => {
    const {clock, connection, sockets, socket} = setUp();
    connection.open();
    socket().open();
    socket().hear({id: 0, goAway: {reconnectDelay: '3.500s'}});
    socket().end(1012);
    await clock.pass(3499);
    assert.equal(sockets.length, 1);
    await clock.pass(1);
    assert.equal(sockets.length, 2);
  });

  test('waking tries at once instead of waiting', async () => {
    const {connection, sockets, socket} = setUp();
    connection.open();
    socket().open();
    socket().end(1006);
    connection.wake();
    assert.equal(sockets.length, 2);
  });

  test('4501 means signed out, other refusals stop and say so', () => {
    for (const [code, state] of [
      [4501, ConnectionState.SIGNED_OUT],
      [4503, ConnectionState.REFUSED],
    ]) {
      const {connection, sockets, socket} = setUp();
      connection.open();
      socket().open();
      socket().end(code);
      assert.equal(connection.state, state);
      assert.equal(connection.refusal, code);
      assert.equal(sockets.length, 1);
    }
  });

  test('a handshake refused because of the login means signed out', async () => {
    const {clock, connection, sockets, socket} = setUp({signedIn: async () => false});
    connection.open();
    socket().end(1006);
    await settled();
    assert.equal(connection.state, ConnectionState.SIGNED_OUT);
    await clock.pass(60_000);
    assert.equal(sockets.length, 1);
  });

  test('without a network it is offline, and tries all the same', async () => {
    const {clock, connection, sockets, socket} = setUp({online: () => false});
    connection.open();
    socket().end(1006);
    assert.equal(connection.state, ConnectionState.OFFLINE);
    await clock.pass(250);
    assert.equal(sockets.length, 2);
  });
});

describe('calls', () => {
  test('one answer settles one call', async () => {
    const {connection, socket} = setUp();
    connection.open();
    socket().open();
    const call = connection.call('getAgent', {name: 'a'});
    const [{id, getAgent}] = socket().sent;
    assert.deepEqual(getAgent, {name: 'a'});
    socket().hear({id, getAgentResponse: {agent: {name: 'a'}}});
    assert.deepEqual(await call, {agent: {name: 'a'}});
  });

  test('what was not answered is sent again on the next socket, with a new id', async () => {
    const {clock, connection, sockets, socket} = setUp();
    const early = connection.call('createTurn', {turnId: 't1'});
    connection.open();
    socket().open();
    socket().end(1006);
    await clock.pass(250);
    socket().open();
    const [first, second] = sockets.map(({sent}) => sent[0]);
    assert.deepEqual(first.createTurn, second.createTurn);
    assert.notEqual(first.id, second.id);
    socket().hear({id: second.id, createTurnResponse: {}});
    assert.deepEqual(await early, {});
  });

  test('an error that does not pass rejects with its reason', async () => {
    const {connection, socket} = setUp();
    connection.open();
    socket().open();
    const call = connection.call('createTurn', {});
    const error = {code: 8, reason: 'ERROR_REASON_QUEUE_FULL', metadata: {limit: '20'}};
    socket().hear({id: socket().sent[0].id, error});
    await assert.rejects(call, {reason: 'QUEUE_FULL', metadata: {limit: '20'}});
  });

  test('UNAVAILABLE is tried again after the delay it asks for', async () => {
    const {clock, connection, socket} = setUp();
    connection.open();
    socket().open();
    const later = [];
    const call = connection.call('createTurn', {}, {onLater: ({reason}) => later.push(reason)});
    const error = {code: 14, reason: 'ERROR_REASON_STORE_UNAVAILABLE', retryDelay: '2s'};
    socket().hear({id: socket().sent[0].id, error});
    await clock.pass(1999);
    assert.equal(socket().sent.length, 1);
    await clock.pass(1);
    socket().hear({id: socket().sent[1].id, createTurnResponse: {}});
    assert.deepEqual(await call, {});
    assert.deepEqual(later, ['STORE_UNAVAILABLE']);
  });

  test('patience has an end', async () => {
    const {clock, connection, socket} = setUp();
    connection.open();
    socket().open();
    const call = connection.call('getAgent', {}, {patienceMs: 1000});
    const refused = assert.rejects(call, {code: 14});
    for (let i = 0; i < 4; i += 1) {
      socket().hear({id: socket().sent.at(-1).id, error: {code: 14}});
      await clock.pass(2000);
    }
    await refused;
  });

  test('an aborted call is not sent again', async () => {
    const {clock, connection, socket} = setUp();
    const given = new AbortController();
    connection.call('createTurn', {}, {signal: given.signal});
    given.abort();
    connection.open();
    socket().open();
    await clock.pass(1000);
    assert.deepEqual(socket().sent, []);
  });
});

describe('watches', () => {
  test('go on from the current position on the next socket', async () => {
    const {clock, connection, socket} = setUp();
    let position = 0;
    const seen = [];
    connection.watch('watchEvents', () => ({afterSequence: position}), {
      onResponse: ({updates}) => seen.push(...updates),
      onEnd: assert.fail,
    });
    connection.open();
    socket().open();
    socket().hear({id: socket().sent[0].id, watchEventsResponse: {updates: ['one']}});
    position = 1;
    socket().end(4002);
    await clock.pass(250);
    socket().open();
    assert.deepEqual(socket().sent[0].watchEvents, {afterSequence: 1});
    socket().hear({id: socket().sent[0].id, watchEventsResponse: {updates: ['two']}});
    assert.deepEqual(seen, ['one', 'two']);
  });

  test('begin again after an error that passes, and end at one that does not', async () => {
    const {clock, connection, socket} = setUp();
    const ends = [];
    connection.watch('watchEvents', () => ({}), {
      onResponse: assert.fail,
      onEnd: ({reason}) => ends.push(reason),
    });
    connection.open();
    socket().open();
    socket().hear({id: socket().sent[0].id, error: {code: 14, reason: 'ERROR_REASON_DRAINING'}});
    await clock.pass(250);
    assert.equal(socket().sent.length, 2);
    const error = {code: 11, reason: 'ERROR_REASON_SEQUENCE_UNKNOWN'};
    socket().hear({id: socket().sent[1].id, error});
    await clock.pass(60_000 - 30_000);
    assert.deepEqual(ends, ['SEQUENCE_UNKNOWN']);
    assert.equal(socket().sent.length, 2);
  });

  test('end when asked to, and hear nothing more', () => {
    const {connection, socket} = setUp();
    const handlers = {onResponse: assert.fail, onEnd: assert.fail};
    const stop = connection.watch('watchAgents', () => ({}), handlers);
    connection.open();
    socket().open();
    const {id} = socket().sent[0];
    stop();
    assert.deepEqual(socket().sent[1], {id, cancel: {}});
    socket().hear({id, watchAgentsResponse: {updates: []}});
    socket().hear({id, end: {}});
  });
});
