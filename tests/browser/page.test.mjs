// The example page in a real browser, against the real processes. With PF_SCREENSHOTS=DIR it also
// leaves pictures there.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { heldTarget } from '../process/lib/held_target.mjs';
import { until } from '../process/lib/process.mjs';
import { http, startSystem } from '../process/lib/system.mjs';
import { addPage, openPage, startBrowser } from './lib.mjs';

const shots = process.env.PF_SCREENSHOTS;
const shoot = (page, name) => shots && page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
const connected = (page) => page.locator('#connection[data-state="open"]').waitFor();
const row = (page, index = 0) => page.locator('#jobs > li').nth(index);

/** Types a URL, sends it, and waits for the badge of its row. */
async function fetchUrl(page, url, badge, { method = 'GET' } = {}) {
  const before = await page.locator('#jobs > li').count();
  await page.fill('#url', url);
  await page.selectOption('#method', method);
  await page.click('#fetch-form .primary');
  await page.locator('#jobs > li').nth(before).waitFor();
  if (badge) await row(page).locator('.badge', { hasText: badge }).waitFor();
  return row(page);
}

test('the page', async (t) => {
  const browser = await startBrowser(t);
  const [reloaded, restarted] = [await heldTarget(t), await heldTarget(t)];
  const system = await startSystem(t, { args: { executor: [...reloaded.allow, ...restarted.allow] } });
  const open = async (t, options) => {
    const page = await openPage(t, browser, `${system.httpUrl}/?target=${system.target}`, options);
    await connected(page);
    return page;
  };
  const get = (path, init) => fetch(system.httpUrl + path, init);

  await t.test('is served with its rules, and again only when changed', async () => {
    const first = await get('/');
    assert.equal(first.status, 200);
    assert.match(first.headers.get('content-type'), /^text\/html; charset=utf-8/);
    assert.match(first.headers.get('content-security-policy'), /default-src 'none'.*script-src 'self'/);
    assert.doesNotMatch(await first.text(), /<script(?![^>]*src=)|style=|https?:\/\//); // nothing inline, nothing from elsewhere
    const etag = first.headers.get('etag');
    assert.equal((await get('/', { headers: { 'if-none-match': etag } })).status, 304);
    assert.equal((await get('/', { headers: { 'if-none-match': '"other"' } })).status, 200);
    const types = { '/page.css': 'text/css', '/page.js': 'text/javascript', '/proxyfetch.mjs': 'text/javascript', '/icon.svg': 'image/svg+xml' };
    for (const [path, type] of Object.entries(types)) {
      const answer = await get(path);
      assert.equal(answer.status, 200, path);
      assert.ok(answer.headers.get('content-type').startsWith(type), path);
      assert.equal(answer.headers.get('x-content-type-options'), 'nosniff');
    }
    const head = await get('/page.css', { method: 'HEAD' });
    assert.deepEqual([head.status, await head.text()], [200, '']);
    assert.equal((await get('/page.css', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' })).status, 405);
    assert.equal((await get('/nothing.css')).status, 404);
  });

  await t.test('a fetch: enqueued and result arrive, with their timings', async (t) => {
    const page = await open(t);
    assert.equal(await page.inputValue('#url'), `${system.target}/uuid`);
    await page.focus('#url');
    await page.keyboard.press('Enter'); // the keyboard is enough
    await row(page).locator('.badge', { hasText: '200' }).waitFor();
    assert.match(await row(page).locator('.time').textContent(), /^[\d.]+ ms$/);
    assert.match(await page.textContent('#live'), /^Result: status 200/);
    await row(page).locator('summary').first().press('Enter');
    const more = row(page).locator('.more');
    assert.match(await more.locator('pre.body').textContent(), /"uuid"/);
    assert.equal(await more.locator('.waterfall tbody tr').count() >= 8, true);
    const widths = await row(page).locator('.track i').evaluateAll((bars) => bars.map((b) => b.getBoundingClientRect().width));
    assert.ok(widths[0] > 0 && widths[1] > 0, String(widths));
    assert.deepEqual(page.complaints, []);
  });

  await t.test('errors say code, owner and certainty; what is refused at once, too', async (t) => {
    const page = await open(t);
    let job = await fetchUrl(page, 'http://127.0.0.1:1/', 'failed');
    await job.locator('summary').first().click();
    const text = await job.locator('.problem').textContent();
    for (const part of ['policy_refused', 'policy', 'not_sent', 'never left']) assert.ok(text.includes(part), text);
    job = await fetchUrl(page, `${system.target}/reset`, 'failed', { method: 'POST' });
    await job.locator('summary').first().click();
    assert.match(await job.locator('.problem').textContent(), /sent_unknown/);
    job = await fetchUrl(page, 'ftp://127.0.0.1/', 'failed');
    await job.locator('summary').first().click();
    assert.match(await job.locator('.problem').textContent(), /bad_url/);
    await page.click('.options > summary');
    await page.fill('#headers', 'no colon');
    await page.click('#fetch-form .primary');
    assert.match(await page.locator('#headers').evaluate((e) => e.validationMessage), /Name: value/);
    assert.deepEqual(page.complaints, []);
  });

  await t.test('a target cannot put markup into the page', async (t) => {
    const page = await open(t);
    await page.click('.options > summary');
    await page.fill('#body', '<img src=x onerror=alert(1)>');
    const job = await fetchUrl(page, `${system.target}/echo?<b>`, '200', { method: 'POST' });
    await job.locator('summary').first().click();
    assert.match(await job.locator('pre.body').textContent(), /<img src=x/);
    assert.equal(await job.locator('img, .name b b').count(), 0);
    assert.deepEqual(page.complaints, []);
  });

  await t.test('cancel', async (t) => {
    const page = await open(t);
    const job = await fetchUrl(page, `${system.target}/hang`, 'enqueued');
    await job.locator('summary').first().click();
    await job.getByRole('button', { name: 'Cancel' }).click();
    await job.locator('.badge', { hasText: 'failed' }).waitFor();
    assert.match(await job.locator('.problem').textContent(), /canceled/);
    await page.click('#clear');
    assert.equal(await page.locator('#jobs > li').count(), 0);
  });

  await t.test('many at once, and their distribution', async (t) => {
    const page = await open(t);
    await page.fill('#count', '300');
    await page.click('#load-form .primary');
    await page.locator('#load-figures', { hasText: '300 of 300' }).waitFor();
    assert.ok((await page.locator('#histogram rect').count()) > 2);
    const total = await page.locator('#histogram rect title').evaluateAll((all) => all.reduce((sum, t) => sum + parseInt(t.textContent, 10), 0));
    assert.equal(total, 300); // every one of them is in the picture
    assert.match(await page.getAttribute('#histogram svg', 'aria-label'), /^Distribution of 300 total times: p50 /);
    assert.equal(await page.locator('#load-table tbody tr').count(), 3);
    await page.getByText('enqueue', { exact: true }).last().click();
    await page.locator('input[name=phase][value=execution]').check({ force: true });
    assert.match(await page.getAttribute('#histogram svg', 'aria-label'), /execution times/);
    await page.locator('input[name=mode][value=batch]').check({ force: true });
    await page.fill('#count', '200');
    await page.click('#load-form .primary');
    await page.locator('#load-figures', { hasText: '200 of 200' }).waitFor();
    assert.equal(await page.isVisible('#load-distribution'), false);
    assert.deepEqual(page.complaints, []);
  });

  await t.test('a reload returns to its session, and to what runs in it', async (t) => {
    const page = await open(t);
    const session = () => page.evaluate(() => JSON.parse(sessionStorage.getItem('proxyfetch.session')).id);
    const before = await session();
    await fetchUrl(page, reloaded.url('slow'), 'enqueued');
    await page.reload();
    await row(page).locator('.badge', { hasText: 'enqueued' }).waitFor();
    await connected(page);
    assert.equal(await session(), before);
    reloaded.release();
    await row(page).locator('.badge', { hasText: '200' }).waitFor();
    assert.deepEqual(page.complaints, []);
  });

  await t.test('a second tab takes the session over, and the first can take it back', async (t) => {
    const page = await open(t);
    const stored = await page.evaluate(() => sessionStorage.getItem('proxyfetch.session'));
    await page.context().addInitScript((text) => sessionStorage.setItem('proxyfetch.session', text), stored);
    const second = await addPage(page.context(), page.url());
    await page.locator('#connection', { hasText: 'Open in another tab' }).waitFor();
    await connected(second);
    await page.getByRole('button', { name: 'Take it back' }).click();
    await connected(page);
    await second.locator('#connection', { hasText: 'Open in another tab' }).waitFor();
  });

  await t.test('pictures', { skip: !shots && 'PF_SCREENSHOTS is not set' }, async (t) => {
    const views = { light: {}, dark: { colorScheme: 'dark' }, narrow: { viewport: { width: 390, height: 800 } } };
    for (const [name, view] of Object.entries(views)) {
      const page = await open(t, { viewport: { width: 1180, height: 900 }, ...view });
      await shoot(page, `${name}-empty`);
      await fetchUrl(page, `${system.target}/redirect/2`, '200');
      await fetchUrl(page, `${system.target}/delay/120`, '200');
      await fetchUrl(page, `${system.target}/status/503`, '503');
      const bad = await fetchUrl(page, `${system.target}/reset`, 'failed', { method: 'POST' });
      await bad.locator('summary').first().click();
      const good = await fetchUrl(page, `${system.target}/json`, '200');
      await good.locator('summary').first().click();
      await fetchUrl(page, `${system.target}/delay/5000`, 'enqueued');
      await fetchUrl(page, `${system.target}/uuid`, '200');
      await page.fill('#count', '1000');
      await page.click('#load-form .primary');
      await page.locator('#load-figures', { hasText: '1,000 of 1,000' }).waitFor();
      await shoot(page, name);
    }
  });

  await t.test('a job without an executor says that it waits, and runs when one comes', async (t) => {
    const page = await open(t);
    await system.crash('executor');
    const queue = `http://127.0.0.1:${system.ports.orchestrator}/v1/queue`;
    await until(async () => !(await http(queue)).body.executors.length, 'the executor is missed');
    const job = await fetchUrl(page, `${system.target}/uuid`, 'waiting');
    await job.locator('summary').first().click();
    assert.match(await job.locator('.notice').textContent(), /no executor is there/);
    await system.restart('executor');
    await job.locator('.badge', { hasText: '200' }).waitFor();
    assert.deepEqual(page.complaints, []);
  });

  // Last: it ends what the others need.
  await t.test('a restart of the origin under a running fetch', async (t) => {
    const page = await open(t);
    await fetchUrl(page, restarted.url('slow'), 'enqueued');
    await system.crash('origin');
    await page.locator('#connection[data-state="waiting"]').waitFor();
    await system.restart('origin');
    await connected(page);
    restarted.release();
    await row(page).locator('.badge', { hasText: '200' }).waitFor();
  });
});
