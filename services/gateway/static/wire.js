/**
 * How proto3 JSON writes names, times and durations.
 *
 * Knows no message of the contract.
 */

/**
 * @param {string | undefined} duration For example `1.500s`; absent means none.
 * @returns {number} Milliseconds.
 */
export const milliseconds = (duration) => (duration ? Number.parseFloat(duration) * 1000 : 0);

/**
 * @param {string | undefined} timestamp RFC 3339; the server may send nanoseconds.
 * @returns {number} Milliseconds since the epoch; 0 when absent.
 */
export const instant = (timestamp) => (timestamp ? Date.parse(timestamp) : 0);

/**
 * @param {string} name For example `users/ada/agents/a1`.
 * @returns {string} Its last part.
 */
export const lastPart = (name) => name.slice(name.lastIndexOf('/') + 1);

/**
 * @param {string | undefined} value For example `STATE_NEEDS_YOU`.
 * @param {string} prefix For example `STATE_`.
 * @returns {string} For example `needsYou`; `unspecified` when absent.
 */
export function enumWord(value, prefix) {
  const word = (value ?? `${prefix}UNSPECIFIED`).slice(prefix.length).toLowerCase();
  return word.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
}

/**
 * @param {string} prefix Letters the id starts with.
 * @returns {string} A new id: `prefix` and 32 random hexadecimal digits.
 */
export function newId(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return prefix + Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
