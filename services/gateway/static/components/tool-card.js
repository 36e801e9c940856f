/** One tool call: its name, its target, where it stands; input and output on demand. */

import {t, wholeNumber} from '../i18n.js';
import {fileChange, inputFields, parseInput, target, toolState, visible} from '../tools.js';
import {html, nothing} from '../vendor/lit.js';
import {diffBlock} from './diff-block.js';
import {PageElement} from './element.js';

/**
 * `<tool-card>`: set `tool`, an entry of a turn, `version`, that entry's, and `ended`, whether its
 * turn is over.
 */
export class ToolCard extends PageElement {
  static properties = {
    tool: {attribute: false},
    version: {attribute: false},
    ended: {attribute: false},
  };

  render() {
    const {tool, ended} = this;
    const state = toolState(tool, ended);
    const input = parseInput(tool.inputJson);
    const name = tool.name || t('tool.unknown');
    return html`<details
      class="tool ${state} ${tool.parentId ? 'nested' : ''}"
      ?open=${state === 'failed'}
    >
      <summary>
        <span class="dot" aria-hidden="true"></span>
        <b>${name}</b>
        <code class="target">${visible(target(input, tool.inputJson))}</code>
        <span class="state">${t(`tool.${state}`)}</span>
      </summary>
      ${this.#input(input, tool)} ${this.#output(tool.result)}
    </details>`;
  }

  #input(input, {inputJson, omittedBytes}) {
    const change = fileChange(input);
    return html`${change ? diffBlock(change) : inputBlock(inputJson)}
    ${omitted(omittedBytes)}`;
  }

  #output(result) {
    if (!result) return nothing;
    const text = result.output || t('tool.noOutput');
    return html`${textBlock(t(result.failed ? 'tool.error' : 'tool.output'), text)}
    ${omitted(result.omittedBytes)}`;
  }
}

/**
 * @param {string} label
 * @param {string} text
 * @returns {import('../vendor/lit.js').TemplateResult} Text as it is, in a box that scrolls.
 */
export const textBlock = (label, text) =>
  html`<div class="text-block">
    <span class="label">${label}</span>
    <pre tabindex="0" role="group" aria-label=${label}>${text}</pre>
  </div>`;

/**
 * @param {string} inputJson What a tool is given.
 * @returns {import('../vendor/lit.js').TemplateResult[]} Each member in a box of its own.
 */
export const inputBlock = (inputJson) =>
  inputFields(inputJson).map(({name, text}) => textBlock(name || t('tool.input'), text));

const omitted = (bytes) =>
  bytes ? html`<p class="hint">${t('tool.omitted', {count: wholeNumber(bytes)})}</p>` : nothing;

customElements.define('tool-card', ToolCard);
