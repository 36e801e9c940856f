/**
 * The page's words in the reader's language, and numbers and times as that language writes them.
 *
 * The catalogues are `locales/{en,ko}.json`: flat keys, placeholders in braces. Knows no element.
 */

/** Languages there is a catalogue for. */
export const LANGUAGES = Object.freeze({en: 'English', ko: '한국어'});

const STORED = 'moorline/language';

/** Fires `language` when the words have changed. */
export const words = new EventTarget();

let language = 'en';
let catalogue = {};
let formats = {};

/**
 * @param {object} from
 * @param {string | null} from.stored What the person chose.
 * @param {string | null} from.asked What the address asks for.
 * @param {readonly string[]} from.preferred What the browser prefers, best first.
 * @returns {string} The language to use.
 */
export function pickLanguage({stored, asked, preferred}) {
  const wanted = [stored, asked, ...preferred].map((tag) => tag?.slice(0, 2).toLowerCase());
  return wanted.find((tag) => tag in LANGUAGES) ?? 'en';
}

/** Loads the words for this visit. */
export async function loadLanguage() {
  const asked = new URLSearchParams(location.search).get('lang');
  const stored = localStorage.getItem(STORED);
  await use(pickLanguage({stored, asked, preferred: navigator.languages}));
}

/** @param {string} tag A language of `LANGUAGES`; kept for later visits. */
export async function chooseLanguage(tag) {
  localStorage.setItem(STORED, tag);
  await use(tag);
}

/** @returns {string} The language in use. */
export const currentLanguage = () => language;

async function use(tag) {
  const response = await fetch(`/static/locales/${tag}.json`);
  catalogue = await response.json();
  language = tag;
  document.documentElement.lang = tag;
  formats = makeFormats(tag);
  words.dispatchEvent(new Event('language'));
}

/**
 * @param {string} key Of the catalogue.
 * @param {Object<string, string | number>} [values] What goes into the placeholders.
 * @returns {string} The words; the key itself when there are none.
 */
export function t(key, values = {}) {
  const text = catalogue[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** @param {string} key @returns {boolean} Whether the catalogue has it. */
export const hasWords = (key) => key in catalogue;

function makeFormats(tag) {
  return {
    whole: new Intl.NumberFormat(tag),
    compact: new Intl.NumberFormat(tag, {notation: 'compact', maximumFractionDigits: 1}),
    cents: new Intl.NumberFormat(tag, {style: 'currency', currency: 'USD'}),
    fine: new Intl.NumberFormat(tag, {
      style: 'currency',
      currency: 'USD',
      maximumSignificantDigits: 2,
    }),
    sizes: SIZES.map(
      (unit) => new Intl.NumberFormat(tag, {style: 'unit', unit, maximumFractionDigits: 1}),
    ),
    second: new Intl.NumberFormat(tag, {
      style: 'unit',
      unit: 'second',
      unitDisplay: 'short',
      maximumFractionDigits: 1,
    }),
    minute: new Intl.NumberFormat(tag, {style: 'unit', unit: 'minute', unitDisplay: 'short'}),
    relative: new Intl.RelativeTimeFormat(tag, {numeric: 'auto', style: 'short'}),
    time: new Intl.DateTimeFormat(tag, {timeStyle: 'short'}),
    full: new Intl.DateTimeFormat(tag, {dateStyle: 'medium', timeStyle: 'short'}),
  };
}

/** @param {number} count @returns {string} Short above a thousand: 12.3K. */
export const shortNumber = (count) => (count < 1000 ? formats.whole : formats.compact).format(count);

/** @param {number} count @returns {string} With every digit. */
export const wholeNumber = (count) => formats.whole.format(count);

/** @param {number} micros Millionths of a US dollar. @returns {string} */
export function money(micros) {
  const dollars = micros / 1e6;
  return (dollars > 0 && dollars < 0.1 ? formats.fine : formats.cents).format(dollars);
}

/** @param {number} ms @returns {string} Seconds, or minutes and seconds. */
export function duration(ms) {
  const seconds = ms / 1000;
  if (seconds < 60) return formats.second.format(seconds);
  const rest = Math.round(seconds % 60);
  return `${formats.minute.format(Math.floor(seconds / 60))} ${formats.second.format(rest)}`;
}

const SIZES = ['kilobyte', 'megabyte', 'gigabyte', 'terabyte'];

/** @param {number} bytes @returns {string} In the largest unit of which there is a whole one. */
export function fileSize(bytes) {
  const step = Math.min(SIZES.length, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  // No language that the page speaks has a word for it as short as the others.
  if (!step) return `${wholeNumber(bytes)} B`;
  return formats.sizes[step - 1].format(bytes / 1000 ** step);
}

const STEPS = [
  ['second', 60],
  ['minute', 60],
  ['hour', 24],
  ['day', 7],
];

/**
 * @param {number} at Milliseconds since the epoch.
 * @param {number} now The same.
 * @returns {string} "2 min. ago"; a date when it is more than a week.
 */
export function ago(at, now) {
  let amount = Math.max(0, (now - at) / 1000);
  if (amount < 45) return t('time.now');
  for (const [unit, size] of STEPS) {
    if (amount < size) return formats.relative.format(-Math.round(amount), unit);
    amount /= size;
  }
  return formats.full.format(at);
}

/** @param {number} at Milliseconds since the epoch. @returns {string} The time of day. */
export const timeOfDay = (at) => formats.time.format(at);

/** @param {number} at Milliseconds since the epoch. @returns {string} Date and time. */
export const fullTime = (at) => formats.full.format(at);
