/**
 * Shows Markdown that may still be growing.
 *
 * Finished blocks are rendered once and stay; only the last block is rendered again, and a code
 * block being written only has its text extended.
 */

import {Blocks} from '../blocks.js';
import {copyText} from '../clipboard.js';
import {t, words} from '../i18n.js';
import {highlight, lex, renderMarkdown} from '../markdown.js';
import {Slices} from '../slices.js';

const REST_FACTOR = 4; // the page spends at most a fifth of its time on one text
const COPIED_MS = 1500;
const slices = new Slices();

/**
 * `<markdown-view>`: set `content`, as often as it changes. It has the attribute `pending` while
 * finished blocks wait to be rendered.
 */
export class MarkdownView extends HTMLElement {
  #blocks = new Blocks(lex);
  #content = {text: '', writing: false};
  #tail = null;
  #tailLanguage = null;
  #tailTokens = [];
  #waiting = [];
  #restUntil = 0;
  #timer = 0;
  #ended = false;
  /** Blocks rendered so far, those of the tail each time again. */
  rendered = 0;

  /** @param {{text: string, writing: boolean}} content All of the text, and whether it grows. */
  set content({text, writing}) {
    if (this.#ended && text === this.#content.text) return;
    this.#content = {text, writing};
    if (writing && performance.now() < this.#restUntil) {
      this.#timer ||= setTimeout(() => this.#render(), this.#restUntil - performance.now());
    } else {
      this.#render();
    }
  }

  get content() {
    return this.#content;
  }

  /** Characters that were parsed so far. */
  get lexed() {
    return this.#blocks.lexed;
  }

  connectedCallback() {
    words.addEventListener('language', this.#renderAgain);
  }

  disconnectedCallback() {
    words.removeEventListener('language', this.#renderAgain);
    clearTimeout(this.#timer);
    this.#timer = 0;
  }

  #renderAgain = () => {
    this.#clear();
    this.#blocks = new Blocks(lex);
    this.#render();
  };

  #render() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const began = performance.now();
    const {text, writing} = this.#content;
    if (!this.#blocks.update(text)) this.#clear();
    this.#ended = !writing;
    if (writing) this.#grow();
    else this.#end();
    slices.add(this.#step);
    this.toggleAttribute('pending', this.#waiting.length > 0);
    const ended = performance.now();
    this.#restUntil = ended + REST_FACTOR * (ended - began);
  }

  #grow() {
    const {finished, tail} = this.#blocks.take();
    this.#waiting.push(...finished);
    this.#tailTokens = tail;
  }

  #end() {
    const {finished, again} = this.#blocks.end();
    if (again) this.#clear();
    this.#waiting.push(...finished);
    this.#tailTokens = [];
  }

  /** Renders one finished block, and after the last of them what may still change. */
  #step = () => {
    if (this.#waiting.length) {
      this.#dropTail();
      this.append(this.#block(this.#waiting.shift(), true));
    }
    if (this.#waiting.length) return true;
    if (this.#tailTokens.length) this.#showTail(this.#tailTokens);
    else this.#dropTail();
    this.removeAttribute('pending');
    return false;
  };

  #showTail(tokens) {
    const [first] = tokens;
    const language = first.type === 'code' ? (first.lang ?? '') : null;
    const code = this.#tail?.querySelector('pre > code');
    if (code && language !== null && language === this.#tailLanguage) {
      code.textContent = first.text;
      return;
    }
    this.#dropTail();
    this.#tailLanguage = language;
    this.#tail = document.createElement('div');
    this.#tail.className = 'tail';
    this.#tail.append(this.#block(tokens.map(({raw}) => raw).join(''), false));
    this.append(this.#tail);
  }

  #dropTail() {
    this.#tail?.remove();
    this.#tail = null;
  }

  #clear() {
    this.#tail = null;
    this.#waiting = [];
    this.#tailTokens = [];
    this.replaceChildren();
  }

  #block(markdown, finished) {
    this.rendered += 1;
    const fragment = renderMarkdown(markdown, this.#blocks.definitions);
    for (const pre of fragment.querySelectorAll('pre')) frameCode(pre, finished);
    for (const table of fragment.querySelectorAll('table')) frameTable(table);
    return fragment;
  }
}

function frameCode(pre, finished) {
  const code = pre.querySelector('code') ?? pre;
  const name = /language-(\S+)/.exec(code.className)?.[1] ?? '';
  const frame = document.createElement('figure');
  frame.className = 'code';
  pre.replaceWith(frame);
  const bar = document.createElement('figcaption');
  const label = document.createElement('span');
  label.textContent = name || t('code.plain');
  bar.append(label, copyButton(code));
  frame.append(bar, pre);
  pre.tabIndex = 0;
  pre.setAttribute('role', 'region');
  pre.setAttribute('aria-label', t('code.label', {language: name || t('code.plain')}));
  if (finished) highlight(code, name);
}

function copyButton(code) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'quiet small';
  button.textContent = t('code.copy');
  button.addEventListener('click', async () => {
    const copied = await copyText(code.textContent);
    button.textContent = t(copied ? 'code.copied' : 'code.notCopied');
    setTimeout(() => {
      button.textContent = t('code.copy');
    }, COPIED_MS);
  });
  return button;
}

function frameTable(table) {
  const frame = document.createElement('div');
  frame.className = 'table';
  frame.tabIndex = 0;
  frame.setAttribute('role', 'region');
  frame.setAttribute('aria-label', t('table.label'));
  table.replaceWith(frame);
  frame.append(table);
}

customElements.define('markdown-view', MarkdownView);
