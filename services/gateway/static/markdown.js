/**
 * Turns an agent's Markdown into DOM that cannot do anything.
 *
 * Raw HTML is shown as text, images become links (an image is a beacon), links leave with no
 * opener and no referrer, and all of it passes DOMPurify: nothing else may write markup here,
 * because the policy requires Trusted Types. Does not know streaming; see `blocks.js`.
 */

import {DOMPurify, Lexer, Marked} from './vendor/markdown.js';

const PURIFY = {
  RETURN_DOM_FRAGMENT: true,
  ALLOWED_TAGS:
    'a blockquote br code del em h1 h2 h3 h4 h5 h6 hr li ol p pre strong table tbody td th thead tr ul span'.split(
      ' ',
    ),
  ALLOWED_ATTR: ['href', 'title', 'class', 'start', 'align'],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
};
const SPANS = {RETURN_DOM_FRAGMENT: true, ALLOWED_TAGS: ['span'], ALLOWED_ATTR: ['class']};
const LONGEST_HIGHLIGHT = 60_000; // characters; longer code would hold the page for too long

const ESCAPES = {'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;'};
const escape = (text) => text.replace(/[&<>"']/g, (character) => ESCAPES[character]);

const marked = new Marked({
  gfm: true,
  renderer: {
    html: ({text}) => escape(text),
    image: ({href, text}) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
    checkbox: ({checked}) => (checked ? '☑ ' : '☐ '),
  },
});

/**
 * @param {string} markdown
 * @returns {import('./blocks.js').Token[]} Its top-level blocks; what is in them is not looked at.
 */
export const lex = (markdown) => new Lexer().blockTokens(markdown);

/**
 * @param {string} markdown Whole blocks.
 * @param {string} [definitions] Reference definitions from elsewhere in the text.
 * @returns {DocumentFragment}
 */
export function renderMarkdown(markdown, definitions = '') {
  const source = definitions ? `${markdown}\n\n${definitions}` : markdown;
  const fragment = DOMPurify.sanitize(marked.parse(source), PURIFY);
  for (const link of fragment.querySelectorAll('a')) {
    link.target = '_blank';
    link.rel = 'noopener noreferrer';
  }
  return fragment;
}

let highlighter = null;

/**
 * Colours code, loading the highlighter when it is first needed.
 *
 * @param {HTMLElement} code Holds only text; replaced by coloured text when its language is known.
 * @param {string} name The language as the agent wrote it.
 */
export async function highlight(code, name) {
  const source = code.textContent;
  if (!name || source.length > LONGEST_HIGHLIGHT) return;
  highlighter ??= import('./vendor/hljs.js');
  const {default: hljs} = await highlighter;
  if (!hljs.getLanguage(name) || code.textContent !== source) return;
  const {value} = hljs.highlight(source, {language: name, ignoreIllegals: true});
  code.replaceChildren(DOMPurify.sanitize(value, SPANS));
}
