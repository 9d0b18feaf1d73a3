// The origin alone: what it refuses and how it says so, on every entry. No orchestrator is there, so
// nothing is ever fetched.
import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { BATCH } from './lib/hop.mjs';
import { reasonsOf } from './lib/metrics.mjs';
import { run, start, tempDir } from './lib/process.mjs';
import { internalUrl } from './lib/system.mjs';
import { connectWs, maskedFrame as frame } from './lib/ws_client.mjs';

const NOWHERE = 'http://127.0.0.1:1';
const arguments_ = (data) => ['--listen', 'localhost:0', '--internal-listen', 'localhost:0',
  '--orchestrator', NOWHERE, '--data', data];

/** The next message after this one was sent. */
function ask(ws, message) {
  const after = ws.messages.length;
  ws.send(message);
  return ws.next(() => true, { after, what: `answer to ${JSON.stringify(message).slice(0, 200)}` });
}

async function post(base, path, body, headers = { 'Content-Type': 'application/json' }, method = 'POST') {
  const answer = await fetch(base + path, { method, body, headers });
  return { status: answer.status, json: await answer.json() };
}

test('origin', async (t) => {
  const data = tempDir(t);
  const origin = await start(t, 'proxyfetch-origin', arguments_(data));
  const FETCH = '/v1/actors/proxy/default/fetch';

  await t.test('serves both families on one port', () => {
    assert.equal(origin.urls.length, 2);
    assert.equal(new URL(origin.urls[0]).port, new URL(origin.urls[1]).port);
  });

  await t.test('refuses frames that are not messages, and stays open', async (t) => {
    const ws = await connectWs(t, origin.url);
    const refusals = [
      ['not json', 'bad_json'],
      ['{"type":"start-fetch"', 'bad_json'],
      ['[]', 'bad_message'],
      ['{}', 'bad_message'],
      ['{"type":7}', 'bad_message'],
      ['{"type":"no-such-type","clientId":"c"}', 'unknown_type'],
      ['{"type":"start-fetch","clientId":"c"}', undefined],
      ['{"type":"start-fetch","clientId":"c","url":""}', undefined],
      ['{"type":"start-fetch","clientId":"c","url":"ftp://127.0.0.1/"}', 'bad_url'],
      ['{"type":"start-fetch","clientId":"c","url":"http://a b/"}', 'bad_url'],
      ['{"type":"start-fetch","clientId":"c","url":"http://user:pw@127.0.0.1/"}', 'bad_url'],
      ['{"type":"start-fetch","clientId":"c","url":"http://127.0.0.1/","method":"CONNECT"}', undefined],
      ['{"type":"start-fetch","clientId":"c","url":"http://127.0.0.1/","headers":{"Host":"x"}}', undefined],
      ['{"type":"start-fetch","clientId":"c","url":"http://127.0.0.1/","headers":[["a","b\\r\\nc: d"]]}', undefined],
      ['{"type":"start-fetch","clientId":"c","url":"http://127.0.0.1/","continuation":"nobody"}', undefined],
      ['{"type":"start-batch-fetch","batchId":"b","count":0,"url":"http://127.0.0.1/"}', undefined],
      ['{"type":"start-batch-fetch","batchId":"b","count":10001,"url":"http://127.0.0.1/"}', undefined],
      ['{"type":"cancel","reqId":"00000000000000000000000000000000"}', 'not_pending'],
    ];
    for (const [text, code] of refusals) {
      const error = await ask(ws, text);
      assert.equal(error.type, 'error', text);
      assert.ok(error.error.length > 5, `${text} is refused in words`);
      if (code) assert.equal(error.code, code, text);
      if (text.includes('"clientId":"c"')) assert.equal(error.clientId, 'c', text);
      if (text.includes('"batchId":"b"')) assert.equal(error.batchId, 'b', text);
    }
    assert.deepEqual(await ask(ws, { type: 'ping', id: 'still here' }), { type: 'pong', id: 'still here' });
  });

  await t.test('takes a frame of the largest size, and closes over it', async (t) => {
    const message = (size) => {
      const shell = JSON.stringify({ type: 'ping', id: '' });
      return JSON.stringify({ type: 'ping', id: 'x'.repeat(size - shell.length) });
    };
    const ws = await connectWs(t, origin.url);
    assert.notEqual((await ask(ws, message(1 << 20))).type, undefined); // answered, as a message or as too long an id
    ws.send(message((1 << 20) + 1));
    assert.equal((await ws.closed).code, 1009);
  });

  await t.test('closes what is not a text message', async (t) => {
    const cases = [
      [frame(2, 'binary'), 1003],
      [frame(1, Buffer.from([0xc3, 0x28])), 1007],
      [Buffer.concat([...Array(1030)].map((_, i) => frame(i ? 0 : 1, '', { final: false }))), 1009],
      [frame(1, '{}', { length: 2 ** 40 }), 1009],
    ];
    for (const [bytes, code] of cases) {
      const ws = await connectWs(t, origin.url);
      ws.raw(bytes);
      assert.equal((await ws.closed).code, code);
    }
  });

  await t.test('answers wrong requests with a code and words', async () => {
    const id = '0'.repeat(32);
    const cases = [
      ['POST', FETCH, 'not json', {}, 400],
      ['POST', FETCH, '{}', {}, 400],
      ['POST', FETCH, '{"url":"http://127.0.0.1/"}', { 'Content-Type': 'text/plain' }, 415],
      ['POST', '/v1/actors/nobody/default/fetch', '{"url":"http://127.0.0.1/"}', {}, 404],
      ['POST', '/v1/actors/proxy', '{}', {}, 404],
      ['POST', '/v1/actors/proxy/a/b/c', '{}', {}, 404],
      ['PUT', FETCH, '{}', {}, 405],
      ['GET', FETCH, undefined, {}, 405],
      ['GET', '/v1/jobs/xyz', undefined, {}, 400],
      ...['', 'x', '-1', '1001', '10x', '5%00x', '99999999999999999999'].map((limit) => ['GET', `/v1/jobs?limit=${limit}`, undefined, {}, 400]),
      ['GET', '/v1/jobs?state=done', undefined, {}, 400],
      ['GET', '/v1/jobs?after=', undefined, {}, 400],
      ['GET', '/v1/jobs?after=xyz', undefined, {}, 400],
      ['GET', `/v1/jobs?after=${id.slice(1)}`, undefined, {}, 400],
      ['GET', `/v1/jobs?after=${id}0`, undefined, {}, 400],
      ['GET', `/v1/jobs?after=${id.repeat(40)}`, undefined, {}, 400],
      ['GET', `/v1/jobs?after=${id.slice(1)}1`, undefined, {}, 400], // of another origin
      ['GET', `/v1/jobs/${id}`, undefined, {}, 404],
      ['GET', `/v1/jobs/${id}/body`, undefined, {}, 404],
      ['GET', `/v1/jobs/${id}/soul`, undefined, {}, 404],
      ['DELETE', `/v1/jobs/${id}`, undefined, {}, 404],
      ['GET', '/no/such/path', undefined, {}, 404],
      ['GET', `/v1/jobs/${'x'.repeat(9000)}`, undefined, {}, 400],
      ['GET', '/v1', undefined, {}, 404], // nothing of the request before it is looked at
      ['GET', '/v1/', undefined, {}, 404],
    ];
    for (const [method, path, body, headers, status] of cases) {
      const answer = await post(origin.url, path, body, { 'Content-Type': 'application/json', ...headers }, method);
      assert.equal(answer.status, status, `${method} ${path} ${body}`);
      assert.match(answer.json.error.code, /^[a-z_]+$/);
      assert.equal(answer.json.error.code === 'unsupported_media_type', status === 415);
      assert.ok(answer.json.error.message.length > 5);
    }
    for (const query of ['limit=0', 'limit=1000', 'state=', ...['pending', 'enqueued', 'received', 'parked'].map((state) => `state=${state}`)])
      assert.equal((await fetch(`${origin.url}/v1/jobs?${query}`)).status, 200, query);
  });

  await t.test('its listener for processes speaks one version', async () => {
    const internal = await internalUrl(origin);
    for (const [path, version, status, code] of [
      ['/__status', '2', 400, 'bad_version'], ['/__receiveResult', '', 400, 'bad_version'],
      ['/__status', '0', 400, 'bad_version'], ['/__receiveResult', '0', 400, 'bad_version'],
      ['/__receiveResult', '2', 400, 'bad_version'],
      ['/__status', '1', 400, 'bad_batch'], ['/nothing', '1', 404, 'not_found'],
    ]) {
      const answer = await post(internal, path, 'x', { 'Content-Type': BATCH, 'X-Pf-Version': version });
      assert.equal(answer.status, status, path);
      assert.equal(answer.json.error.code, code);
    }
    assert.equal((await (await fetch(`${internal}/__status`)).json()).error.code, 'method_not_allowed');
  });

  await t.test('its listener for processes is not for web pages, and says what it takes', async () => {
    const internal = await internalUrl(origin);
    const page = { Origin: 'http://evil.example', 'Content-Type': 'text/plain' }; // sent without asking first
    for (const [method, path, headers, status, code] of [
      ['POST', '/v1/backup', page, 403, 'origin_refused'],
      ['GET', '/metrics', page, 403, 'origin_refused'],
      ['POST', '/__receiveResult', { 'Content-Type': 'text/plain' }, 415, 'unsupported_media_type'],
      ['POST', '/__status', { 'Content-Type': 'application/json' }, 415, 'unsupported_media_type'],
      ['GET', '/', {}, 404, 'not_found'],
    ]) {
      const { status: found, json } = await post(internal, path, method === 'POST' ? 'x' : undefined, headers, method);
      assert.deepEqual([found, json.error.code], [status, code], `${method} ${path}`);
      if (status === 415) assert.equal(json.error.message, `send Content-Type: ${BATCH}`);
    }
    assert.equal(readdirSync(data).filter((name) => name.startsWith('backup')).length, 0);
  });

  await t.test('takes a request body of the largest size, and not one more', async () => {
    const limit = 2 << 20;
    const body = (size) => ' '.repeat(size - 2) + '{}';
    assert.equal((await post(origin.url, FETCH, body(limit))).status, 400); // read, and found wanting
    assert.equal((await post(origin.url, FETCH, body(limit + 1))).status, 413);
  });

  await t.test('is closed to pages of other sites', async (t) => {
    const evil = { Origin: 'http://evil.example' };
    const body = '{"url":"http://127.0.0.1/"}';
    assert.equal((await post(origin.url, FETCH, body, { 'Content-Type': 'application/json', ...evil })).status, 403);
    await assert.rejects(connectWs(t, origin.url, { headers: evil }), { status: 403 });
    await assert.rejects(connectWs(t, origin.url, { headers: { Host: 'evil.example' } }), { status: 403 });
    const own = await connectWs(t, origin.url, { headers: { Origin: origin.url } });
    assert.equal((await ask(own, { type: 'ping' })).type, 'pong');
  });

  await t.test('knows its actors by path', async (t) => {
    await connectWs(t, origin.url + '/actors/proxy/somebody');
    await connectWs(t, origin.url + '/actors/checkout/shop');
    await assert.rejects(connectWs(t, origin.url + '/actors/nobody/a'), { status: 404 });
    await assert.rejects(connectWs(t, origin.url + '/elsewhere'), { status: 404 });
    const name = 'n'.repeat(256);
    await connectWs(t, origin.url + `/actors/proxy/${name}`);
    await assert.rejects(connectWs(t, origin.url + `/actors/proxy/${name}n`), { status: 404 });
  });

  await t.test('accepts the subprotocol without requiring it', async (t) => {
    const ws = await connectWs(t, origin.url, { headers: { 'Sec-WebSocket-Protocol': 'proxyfetch.v1' } });
    assert.deepEqual(await ask(ws, { type: 'ping', id: 3 }), { type: 'pong', id: 3 });
  });

  await t.test('keeps its job while there is no orchestrator, and tells its state', async () => {
    const { status, json } = await post(origin.url, FETCH, '{"url":"http://127.0.0.1/"}');
    assert.equal(status, 202);
    const state = await (await fetch(`${origin.url}/v1/jobs/${json.reqId}`)).json();
    assert.deepEqual(state, { reqId: json.reqId, state: 'pending' });
    const gone = await fetch(`${origin.url}/v1/jobs/${json.reqId}`, { method: 'DELETE' });
    const end = await gone.json();
    assert.equal(end.state, 'done');
    assert.equal(end.result.code, 'canceled');
    assert.equal(end.result.certainty, 'sent_unknown'); // it was announced, and no answer came
  });
});

test('pages and hosts that are allowed are named as browsers name them', async (t) => {
  const origin = await start(t, 'proxyfetch-origin', [...arguments_(tempDir(t)), '--allow-origin', 'https://example.org', '--allow-origin', 'app://shop:8080',
    '--allow-host', 'example.org', '--allow-host', 'proxy.example.org:8787', '--allow-host', '[2001:db8::1]:80']);
  for (const [page, status] of [['https://example.org', 101], ['app://shop:8080', 101], ['https://example.org:8080', 403]]) {
    const upgrade = connectWs(t, origin.url, { headers: { Origin: page } });
    if (status === 101) await upgrade;
    else await assert.rejects(upgrade, { status });
  }
});

test('a data directory that cannot be made is named, with the way out', async (t) => {
  const file = join(tempDir(t), 'file');
  writeFileSync(file, '');
  const { code, stderr } = await run(t, 'proxyfetch-origin', arguments_(join(file, 'data')));
  assert.equal(code, 3);
  assert.match(stderr, /cannot create .*\/file\/data: Not a directory; choose another directory with --data/);
});

test('a second origin on the same data is refused', async (t) => {
  const data = tempDir(t);
  await start(t, 'proxyfetch-origin', arguments_(data));
  const second = await run(t, 'proxyfetch-origin', arguments_(data));
  assert.equal(second.code, 3);
  assert.match(second.stderr, /in use|locked|another process/);
});

test('a file that is not ours is refused', async (t) => {
  const data = tempDir(t);
  writeFileSync(join(data, 'origin.db'), 'This is no database at all, but it is long enough to look at.'.repeat(20));
  const refused = await run(t, 'proxyfetch-origin', arguments_(data));
  assert.equal(refused.code, 3);
  assert.match(refused.stderr, /origin\.db/);
});

test('a taken port is one clear line', async (t) => {
  const origin = await start(t, 'proxyfetch-origin', arguments_(tempDir(t)));
  const port = new URL(origin.url).port;
  const refused = await run(t, 'proxyfetch-origin',
    ['--listen', `127.0.0.1:${port}`, '--internal-listen', 'localhost:0', '--data', tempDir(t)]);
  assert.equal(refused.code, 3);
  assert.match(refused.stderr, new RegExp(`127\\.0\\.0\\.1:${port}.*in use`));
});

test('jobs survive a kill of the origin', async (t) => {
  const data = tempDir(t);
  const first = await start(t, 'proxyfetch-origin', arguments_(data));
  const { json } = await post(first.url, '/v1/actors/proxy/default/fetch', '{"url":"http://127.0.0.1/"}');
  await first.kill();
  const second = await start(t, 'proxyfetch-origin', arguments_(data));
  const state = await (await fetch(`${second.url}/v1/jobs/${json.reqId}`)).json();
  assert.deepEqual(state, { reqId: json.reqId, state: 'pending' });
});

test('pending-max: one more is refused, over HTTP and in a frame', async (t) => {
  const origin = await start(t, 'proxyfetch-origin', [...arguments_(tempDir(t)), '--pending-max', '2']);
  const submit = () => post(origin.url, '/v1/actors/proxy/default/fetch', '{"url":"http://127.0.0.1/"}');
  for (let i = 0; i < 2; i++) assert.equal((await submit()).status, 202);
  const { status, json } = await submit();
  assert.equal(status, 503);
  assert.equal(json.error.code, 'busy');
  const ws = await connectWs(t, origin.url);
  assert.equal((await ask(ws, { type: 'start-fetch', url: 'http://127.0.0.1/' })).code, 'busy');
  const wrong = await post(origin.url, '/v1/actors/proxy/default/fetch', '{"url":"http://127.0.0.1/","continuation":"none"}');
  assert.deepEqual([wrong.status, wrong.json.error.code], [400, 'bad_request']);
  const health = await (await fetch(`${origin.url}/health/detailed`)).json();
  assert.deepEqual(reasonsOf(health), ['busy', 'orchestrator_unreachable']);
});

test('bad options stop the start and are named', async (t) => {
  for (const [option, value] of [['--orchestrator', 'ftp://x'], ['--orchestrator', 'nonsense'], ['--advertise', 'localhost:1'],
    ['--orchestrator', `http://${'a.'.repeat(200)}b`], ['--pending-max', '0'], ['--listen', 'nowhere'], ['--nonsense', '1'],
    ['--allow-origin', 'example.org'], ['--allow-origin', 'https://example.org/'], ['--allow-origin', ''], ['--allow-origin', 'https://a b'],
    ['--allow-host', 'http://example.org'], ['--allow-host', 'a/b'], ['--allow-host', '*'], ['--allow-host', '']]) {
    const { code, stderr } = await run(t, 'proxyfetch-origin', ['--listen', '127.0.0.1:0', '--internal-listen', '127.0.0.1:0', '--data', tempDir(t), option, value]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, new RegExp(`^proxyfetch-origin: .*${option.slice(2)}`), stderr);
  }
});
