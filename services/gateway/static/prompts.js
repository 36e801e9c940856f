/**
 * What may be sent as a prompt.
 *
 * Pure. The server closes the connection on a frame that is too large, so that is found here first.
 */

const DEFAULTS = {promptCharacters: 100_000, frameBytes: 524_288};
const FRAME_OVERHEAD_BYTES = 1024;
const NEAR = 0.8; // from this part of the limit on, the count is shown

/**
 * @param {string} text
 * @param {{promptCharacters?: number, frameBytes?: number}} [limits] Of the connection.
 * @returns {{characters: number, limit: number, near: boolean, over: boolean}} `limit` is in
 *   characters; a text of wide characters may be over before it reaches it.
 */
export function promptSize(text, limits = {}) {
  const {promptCharacters, frameBytes} = {...DEFAULTS, ...limits};
  const bytesLimit = frameBytes - FRAME_OVERHEAD_BYTES;
  if (text.length < NEAR * promptCharacters && text.length * 6 < bytesLimit) {
    return {characters: text.length, limit: promptCharacters, near: false, over: false};
  }
  const characters = [...text].length;
  const bytes = new TextEncoder().encode(JSON.stringify(text)).length;
  const limit = Math.min(promptCharacters, Math.floor((characters * bytesLimit) / bytes));
  return {characters, limit, near: characters >= NEAR * limit, over: characters > limit};
}
