// A real headless Chromium for tests: pages that fail the test on any complaint of the browser.
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { WAIT_MS } from '../process/lib/process.mjs';

const PATHS = [process.env.PF_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];

/** A browser with a profile of its own, closed when t ends. */
export async function startBrowser(t) {
  const executablePath = PATHS.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error('no Chromium: install the package chromium, or set PF_CHROMIUM');
  const browser = await chromium.launch({ executablePath, headless: true, args: ARGUMENTS, timeout: 2 * WAIT_MS });
  t.after(() => browser.close());
  return browser;
}

/** A page in a context of its own. `page.complaints` has every error of the console and of scripts,
 *  and every request that went elsewhere than to allowed. */
export async function openPage(t, browser, url, options = {}) {
  const context = await browser.newContext({ reducedMotion: 'reduce', ...options });
  t.after(() => context.close());
  return addPage(context, url);
}

export async function addPage(context, url) {
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  page.complaints = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) page.complaints.push(message.text());
  });
  page.on('pageerror', (error) => page.complaints.push(String(error)));
  page.on('request', (request) => {
    if (!request.url().startsWith(new URL(url).origin)) page.complaints.push(`asked for ${request.url()}`);
  });
  await page.goto(url);
  return page;
}
