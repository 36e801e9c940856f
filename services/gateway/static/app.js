/**
 * Starts the page: words first, then who is signed in, then the connection.
 *
 * The only module that builds objects out of others.
 */

import './components/moorline-app.js';
import {Client} from './client.js';
import {Connection} from './connection.js';
import {loadLanguage} from './i18n.js';

const SUBPROTOCOL = 'moorline.v1';

/** @returns {Promise<string | null>} `users/{user}`; null when nobody is signed in. */
async function whoAmI() {
  const response = await fetch('/v1/me', {headers: {Accept: 'application/json'}});
  if (response.status === 401 || response.status === 403) return null;
  if (!response.ok) throw new Error(`/v1/me answered ${response.status}`);
  return (await response.json()).user;
}

function newConnection() {
  const address = new URL('/v1/ws', location.href);
  address.protocol = address.protocol.replace('http', 'ws');
  const connection = new Connection({
    connect: () => new WebSocket(address, SUBPROTOCOL),
    signedIn: async () => (await whoAmI()) !== null,
    online: () => navigator.onLine,
  });
  addEventListener('online', () => connection.wake());
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'visible') connection.wake();
  });
  return connection;
}

async function start(app) {
  const user = await whoAmI();
  if (user === null) {
    app.signedOut = true;
    return;
  }
  const client = new Client({connection: newConnection(), user, storage: localStorage});
  app.client = client;
  app.signedOut = false;
  client.start();
}

await loadLanguage();
const app = document.querySelector('moorline-app');
app.addEventListener('signed-in', () => location.reload());
await start(app);
