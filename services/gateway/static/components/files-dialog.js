/**
 * The files of the shown agent: folders, one file at a time, and what the last turn changed.
 *
 * What a file holds is never run: text is shown as text, everything else is offered to download.
 */

import {failureText} from '../failure-text.js';
import {Files, fileUrl} from '../files.js';
import {fileSize, fullTime, t} from '../i18n.js';
import {visible} from '../tools.js';
import {html, nothing, repeat} from '../vendor/lit.js';
import {lastPart} from '../wire.js';
import {changesBlock} from './changes-block.js';
import {PageElement} from './element.js';
import {textBlock} from './tool-card.js';

/** `<files-dialog>`: give it a `client`. */
export class FilesDialog extends PageElement {
  static properties = {
    client: {attribute: false},
    files: {state: true},
    tab: {state: true},
    deleting: {state: true},
  };

  constructor() {
    super();
    this.files = null;
    this.tab = 'files';
    this.deleting = false;
  }

  /** @param {object} agent Whose files. */
  async openFor(agent) {
    this.files?.close();
    const {connection} = this.client;
    this.files = new Files({agent: agent.name, call: (...call) => connection.call(...call)});
    this.follow(this.files, 'files');
    this.tab = 'files';
    this.deleting = false;
    await this.updateComplete;
    this.querySelector('dialog').showModal();
    this.files.open('');
  }

  #show(tab) {
    this.tab = tab;
    if (tab === 'changes') this.files.compare();
    else this.files.open(this.files.folder);
  }

  #choose(file) {
    this.deleting = false;
    if (file.kind === 'folder') this.files.open(file.path);
    else if (file.kind === 'file') this.files.read(file);
  }

  #upload = ({target}) => {
    this.files.upload([...target.files]);
    target.value = '';
  };

  render() {
    const {files} = this;
    if (!files) return html`<dialog></dialog>`;
    return html`<dialog class="files" aria-labelledby="files-title">
      <header>
        <h2 id="files-title">${t('files.title')}</h2>
        <div class="tabs" role="tablist">${['files', 'changes'].map((tab) => this.#tab(tab))}</div>
        <button type="button" class="quiet" @click=${() => this.querySelector('dialog').close()}>
          ${t('close')}
        </button>
      </header>
      ${this.#problem(files)}
      <div role="tabpanel" aria-labelledby="tab-${this.tab}">
        ${this.tab === 'files' ? this.#browser(files) : this.#changes(files)}
      </div>
    </dialog>`;
  }

  #tab(tab) {
    const chosen = this.tab === tab;
    return html`<button
      type="button"
      role="tab"
      id="tab-${tab}"
      aria-selected=${chosen ? 'true' : 'false'}
      class=${chosen ? 'chosen' : 'quiet'}
      @click=${() => this.#show(tab)}
    >
      ${t(`files.tab.${tab}`)}
    </button>`;
  }

  #problem({failure}) {
    if (!failure) return nothing;
    const {what, next} = failureText(failure);
    return html`<p class="problem" role="alert">${what} ${next}</p>`;
  }

  #changes({changes, loading}) {
    if (!changes) return html`<p class="hint">${t(loading ? 'loading' : 'files.unchanged')}</p>`;
    if (!changes.changes.length) return html`<p class="hint">${t('files.unchanged')}</p>`;
    return changesBlock(changes, true);
  }

  #browser(files) {
    return html`${this.#path(files)}
      <div class="tools">
        <label class="button small"
          >${t('files.upload')}<input
            type="file"
            class="offscreen"
            multiple
            @change=${this.#upload}
        /></label>
        <a class="button small" download href=${fileUrl(files.agent, files.folder, 'archive')}>
          ${t('files.archive')}
        </a>
        ${files.uploading
          ? html`<span class="hint" role="status">${t('files.uploading', files.uploading)}</span>`
          : nothing}
      </div>
      <div class="panes">
        <ul class="tree" aria-label=${t('files.list')}>
          ${files.loading && !files.entries.length ? html`<li class="hint">${t('loading')}</li>` : nothing}
          ${!files.loading && !files.entries.length
            ? html`<li class="hint">${t('files.empty')}</li>`
            : nothing}
          ${repeat(
            files.entries,
            ({path}) => path,
            (file) => this.#entry(file, files.file?.path === file.path),
          )}
          ${files.more
            ? html`<li>
                <button type="button" class="quiet small" @click=${() => files.openMore()}>
                  ${t('files.more')}
                </button>
              </li>`
            : nothing}
        </ul>
        ${files.file ? this.#file(files) : nothing}
      </div>`;
  }

  #path({folder}) {
    const parts = folder ? folder.split('/') : [];
    return html`<nav aria-label=${t('files.path')}>
      <button type="button" class="quiet small" @click=${() => this.files.open('')}>
        ${t('files.root')}
      </button>
      ${parts.map(
        (part, index) =>
          html`<span aria-hidden="true">/</span>
            <button
              type="button"
              class="quiet small"
              @click=${() => this.files.open(parts.slice(0, index + 1).join('/'))}
            >
              ${visible(part)}
            </button>`,
      )}
    </nav>`;
  }

  #entry(file, current) {
    const opens = file.kind === 'folder' || file.kind === 'file';
    const name = html`<span class="name">${visible(lastPart(`/${file.path}`))}</span>`;
    const note =
      file.kind === 'file'
        ? fileSize(file.size)
        : file.kind === 'link'
          ? `→ ${visible(file.target)}`
          : '';
    return html`<li class=${current ? 'current' : ''}>
      <button
        type="button"
        class="entry ${file.kind}"
        ?disabled=${!opens}
        aria-current=${current ? 'true' : nothing}
        @click=${() => this.#choose(file)}
      >
        <span class="sign" aria-hidden="true"></span>
        ${name} ${note ? html`<small>${note}</small>` : nothing}
        <span class="offscreen">${t(`files.kind.${file.kind}`)}</span>
      </button>
    </li>`;
  }

  #file({agent, file, text, loading}) {
    const name = visible(file.path);
    return html`<article class="view" aria-label=${name}>
      <header>
        <b>${name}</b>
        <small>${fullTime(file.changedAt)}</small>
        <a class="button small" download href=${fileUrl(agent, file.path)}>${t('files.download')}</a>
        ${this.deleting
          ? html`<button type="button" class="small danger" @click=${() => this.#delete(file)}>
              ${t('files.reallyDelete')}
            </button>`
          : html`<button type="button" class="small quiet" @click=${() => (this.deleting = true)}>
              ${t('files.delete')}
            </button>`}
      </header>
      ${loading && text === null ? html`<p class="hint">${t('loading')}</p>` : nothing}
      ${text === null
        ? nothing
        : text === undefined
          ? html`<p class="hint">${t('files.binary')}</p>`
          : textBlock(t('files.content'), visible(text))}
      ${text !== null && file.shownBytes < file.size
        ? html`<p class="hint">${t('files.partly')}</p>`
        : nothing}
    </article>`;
  }

  #delete(file) {
    this.deleting = false;
    this.files.remove(file);
  }
}

customElements.define('files-dialog', FilesDialog);
