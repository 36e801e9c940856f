/** Questions of the agent, each with answers to choose from and room for own words. */

import {t} from '../i18n.js';
import {html, nothing} from '../vendor/lit.js';
import {PageElement} from './element.js';

/**
 * `<question-form>`: set `questions` and `waiting` (an answer is on its way); fires `answered` with
 * `{question, answers}[]`, and `refused`.
 */
export class QuestionForm extends PageElement {
  static properties = {
    questions: {attribute: false},
    waiting: {attribute: false},
    missing: {state: true},
  };

  constructor() {
    super();
    this.missing = false;
  }

  #send = (event) => {
    event.preventDefault();
    const data = new FormData(this.querySelector('form'));
    const answers = this.questions.map(({question}, index) => {
      const words = String(data.get(`words-${index}`) ?? '').trim();
      return {question, answers: [...data.getAll(`choice-${index}`), ...(words ? [words] : [])]};
    });
    this.missing = answers.some(({answers: said}) => !said.length);
    if (!this.missing) this.tell('answered', answers);
  };

  render() {
    return html`<form @submit=${this.#send}>
      ${this.questions.map((question, index) => this.#question(question, index))}
      ${this.missing
        ? html`<p class="problem" role="alert">${t('permission.answerAll')}</p>`
        : nothing}
      <div class="buttons">
        <button class="primary" ?disabled=${this.waiting}>${t('permission.answer')}</button>
        <button type="button" ?disabled=${this.waiting} @click=${() => this.tell('refused')}>
          ${t('permission.refuse')}
        </button>
      </div>
    </form>`;
  }

  #question({question, header, options, multiple}, index) {
    return html`<fieldset>
      <legend>${header ? html`<small>${header}</small> ` : nothing}${question}</legend>
      ${options.map(
        ({label, description}) =>
          html`<label class="choice">
            <input
              type=${multiple ? 'checkbox' : 'radio'}
              name="choice-${index}"
              value=${label}
              @change=${multiple ? nothing : () => this.#clearWords(index)}
            />
            <span>
              <b>${label}</b>
              ${description && description !== label ? html`<small>${description}</small>` : nothing}
            </span>
          </label>`,
      )}
      <input
        type="text"
        name="words-${index}"
        maxlength="2000"
        aria-label=${t('permission.ownWords', {question})}
        placeholder=${t('permission.ownWords.hint')}
        @input=${multiple ? nothing : () => this.#clearChoice(index)}
      />
    </fieldset>`;
  }

  /** One answer is one answer: own words or a choice. */
  #clearWords(index) {
    this.querySelector(`[name=words-${index}]`).value = '';
  }

  #clearChoice(index) {
    for (const choice of this.querySelectorAll(`[name=choice-${index}]`)) choice.checked = false;
  }
}

customElements.define('question-form', QuestionForm);
