// Many fetches at once: sent singly and measured one by one, or as one batch that the origin counts.
import { histogram, spreadTable } from './charts.js';
import { announce, byId, el, ms } from './dom.js';

const wait = () => new Promise((done) => requestAnimationFrame(done));

export class Load {
  #client;
  #request;
  #phases = null;

  /** request() is {url, options} of the form above; client() the client of the moment. */
  constructor(client, request) {
    this.#client = client;
    this.#request = request;
    byId('load-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#run();
    });
    for (const radio of document.getElementsByName('phase')) radio.addEventListener('change', () => this.#draw());
    new ResizeObserver(() => this.#draw()).observe(byId('histogram'));
  }

  async #run() {
    const form = byId('load-form'), button = form.querySelector('.primary'), problem = byId('load-error');
    const count = byId('count').valueAsNumber, batch = form.elements.mode.value === 'batch';
    button.disabled = true;
    problem.hidden = true;
    byId('load-progress').hidden = false;
    byId('load-progress').value = 0;
    try {
      await (batch ? this.#batch(count) : this.#singles(count));
    } catch (why) {
      problem.textContent = `${why.message}${why.code ? ` (code ${why.code})` : ''}`;
      problem.hidden = false;
    } finally {
      button.disabled = false;
      byId('load-progress').hidden = true;
    }
  }

  async #singles(count) {
    const client = this.#client(), { url, options } = this.#request();
    const phases = { enqueue: [], execution: [], total: [] }, failures = new Map();
    let done = 0;
    const one = async () => {
      try {
        const { times } = await client.fetch(url, options);
        for (const name of Object.keys(phases)) if (times[name] != null) phases[name].push(times[name]);
      } catch (why) {
        const name = why.code ?? why.name;
        failures.set(name, (failures.get(name) ?? 0) + 1);
      }
      done++;
    };
    const begin = performance.now();
    let running = true;
    const all = Promise.all(Array.from({ length: count }, one)).finally(() => (running = false));
    while (running) {
      byId('load-progress').value = done / count;
      await Promise.race([all, wait()]);
    }
    const failed = [...failures.values()].reduce((sum, n) => sum + n, 0);
    this.#figures({ count, succeeded: count - failed, took: performance.now() - begin, failures });
    this.#phases = phases.total.length ? phases : null;
    this.#draw();
  }

  async #batch(count) {
    const { url, options } = this.#request();
    byId('load-progress').removeAttribute('value'); // nothing is known of it until it ends
    const { include, ...rest } = options; // nobody gets the answers of a batch
    const { successCount, times } = await this.#client().batch(url, count, rest);
    const failures = new Map(successCount < count ? [['failed', count - successCount]] : []);
    this.#figures({ count, succeeded: successCount, took: times.total, failures });
    this.#phases = null;
    this.#draw();
  }

  #figures({ count, succeeded, took, failures }) {
    const figure = (name, value, tone) => el('div', {}, el('dt', {}, name), el('dd', { class: tone ?? '' }, value));
    byId('load-figures').replaceChildren(
      figure('succeeded', `${succeeded.toLocaleString('en')} of ${count.toLocaleString('en')}`, succeeded === count ? 'good' : 'bad'),
      figure('took', ms(took)),
      figure('rate', `${Math.round((count / took) * 1000).toLocaleString('en')} /s`),
      ...[...failures].map(([code, n]) => figure(code, n.toLocaleString('en'), 'bad')));
    byId('load-result').hidden = false;
    announce(`${succeeded} of ${count} succeeded in ${ms(took)}`);
  }

  #draw() {
    byId('load-distribution').hidden = !this.#phases;
    if (!this.#phases) return;
    const kind = byId('load-form').elements.phase.value, values = this.#phases[kind];
    const width = byId('histogram').clientWidth;
    byId('histogram').replaceChildren(...(values.length && width ? [histogram(values, width, kind)] : []));
    byId('load-table').replaceChildren(...spreadTable(this.#phases));
  }
}
