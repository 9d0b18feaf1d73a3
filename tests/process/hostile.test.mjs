// What a client sends on purpose: too much, or what is no message. Each attack ends with the code that is due,
// nothing of it reaches an actor, others are served beside it, and no process keeps memory for it.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { binDir } from './lib/process.mjs';
import { metrics } from './lib/metrics.mjs';
import { RawConnection } from './lib/raw.mjs';
import { listenersOf, startSystem } from './lib/system.mjs';
import { connectWs, maskedFrame as frame } from './lib/ws_client.mjs';

const MIB = 1 << 20;
const FRAME_MAX = MIB;          // of lib/web/web.h, as are the two below
const HEAD_MAX = 16 << 10;
const FRAGMENTS_MAX = 1024;
const DEPTH_MAX = 64;           // of lib/wire/json.h, as is the next
const TOKENS_MAX = 50_000;
const GROWTH_KIB = 8 << 10;     // that an attack may leave, and
const PEAK_KIB = (4 * FRAME_MAX) >> 10; // that a message of the largest size may cost while it is looked at
const PINGS = 50_000;
const TEXTS = 300;              // of the comparison with another decoder of UTF-8

/** The system, its four listeners, and a client that is served whatever happens. */
async function setUp(t) {
  const system = await startSystem(t);
  const { origin } = system.procs;
  const listeners = await listenersOf(system.procs);
  const ws = await connectWs(t, system.wsUrl);
  let asked = 0;
  const honest = async () => {
    ws.send({ type: 'ping', id: ++asked });
    await ws.next((m) => m.type === 'pong' && m.id === asked);
  };
  const largest = JSON.stringify({ type: 'ping', id: '' }).length;
  ws.send({ type: 'ping', id: 'x'.repeat(FRAME_MAX - largest) }); // what the first one costs once and for all
  await ws.next();
  asked = 0;
  await honest();
  return { system, origin, listeners, honest };
}

/** Runs an attack: `messages` of it may reach the actors, and none of the processes grows by it. */
async function attack({ system, origin, honest }, messages, work) {
  const procs = [origin, system.procs.orchestrator, system.procs.executor];
  const before = procs.map((proc) => proc.residentKiB());
  const { pf_web_frames_in_total: heard } = await metrics(origin.url);
  await work();
  await honest();
  const now = await metrics(origin.url);
  assert.equal(now.pf_web_frames_in_total - heard, messages + 1, 'messages that reached an actor');
  if (binDir.includes('san')) return;
  for (const [i, proc] of procs.entries())
    assert.ok(proc.residentKiB() - before[i] <= GROWTH_KIB, `${proc.name}: ${before[i]} KiB before, ${proc.residentKiB()} now`);
}

/** The most memory that proc has had while work ran, above what it had before. */
async function peakKiB(proc, work) {
  writeFileSync(`/proc/${proc.pid}/clear_refs`, '5'); // from here on
  const before = proc.residentKiB();
  await work();
  return proc.peakKiB() - before;
}

test('frames that break the rules', async (t) => {
  const set = await setUp(t);
  const withBits = (bits) => {
    const bytes = frame(1, '{"type":"ping"}');
    bytes[0] |= bits;
    return bytes;
  };
  const announced = (length) => Object.assign(frame(1, '{}', { length }), { endless: true }); // what follows is of it
  const tooLong = announced(2 ** 62);
  tooLong[2] |= 0x80; // lengths have 63 bits
  const part = (text, opcode = 1) => frame(opcode, text, { final: false });
  const cases = {
    'a frame of 1 GiB': [1009, announced(2 ** 30)],
    'a frame of 2^40 bytes': [1009, announced(2 ** 40)],
    'a frame of 2^62 bytes': [1009, announced(2 ** 62)],
    'a frame of 2^63 bytes': [null, tooLong],
    'one byte over the largest message': [1009, frame(1, 'x'.repeat(FRAME_MAX + 1))],
    'the same in two': [1009, part('x'.repeat(FRAME_MAX)), frame(0, 'x')],
    'one fragment too many': [1009, ...Array.from({ length: FRAGMENTS_MAX + 1 }, (_, i) => part('', i ? 0 : 1))],
    '10,000 fragments': [1009, ...Array.from({ length: 10_000 }, (_, i) => part('x', i ? 0 : 1))],
    'reserved bit 1': [1002, withBits(0x40)],
    'reserved bit 2': [1002, withBits(0x20)],
    'reserved bit 3': [1002, withBits(0x10)],
    ...Object.fromEntries([3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((op) => [`opcode ${op}`, [1002, frame(op, 'x')]])),
    'a ping in two': [1002, part('x', 9)],
    'a ping that is too long': [null, frame(9, 'x'.repeat(126))],
    'a close that is too long': [null, frame(8, Buffer.concat([Buffer.from([3, 232]), Buffer.alloc(124, 97)]))],
    'what continues nothing': [1002, frame(0, '{"type":"ping"}')],
    'a message within a message': [1002, part('{"type"'), frame(1, '{"type":"ping"}')],
    binary: [1003, frame(2, '{"type":"ping"}')],
  };
  await attack(set, 0, async () => {
    for (const [what, [code, ...frames]] of Object.entries(cases)) {
      const ws = await connectWs(t, set.system.wsUrl);
      const last = frames.at(-1), within = (last[0] & 0x80) === 0; // the message has not ended
      if (!last.endless) frames.push(frame(within ? 0 : 1, '{"type":"ping"}'));
      ws.raw(Buffer.concat(frames));
      const closed = await ws.closed;
      assert.equal(closed.code, code ?? 1006, what); // 1006: cut off without a frame
      assert.deepEqual(ws.messages, [], what);
    }
  });
});

test('codes of a close', async (t) => {
  const set = await setUp(t);
  const bytes = (code) => [code >> 8, code & 255];
  const cases = [
    ...[1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 4000, 4999].map((code) => [bytes(code), code]),
    ...[0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999].map((code) => [bytes(code), 1002]),
    [[], 1005],
    [[3], 1005],
    [[3, 232, 0xc3, 0x28], 1006], // its words are no UTF-8: cut off
    ...[5000, 65535].map((code) => [bytes(code), code]), // libwebsockets takes them
  ];
  await attack(set, 0, async () => {
    for (const [payload, code] of cases) {
      const ws = await connectWs(t, set.system.wsUrl);
      ws.raw(Buffer.concat([frame(8, Buffer.from(payload)), frame(1, '{"type":"ping"}')]));
      assert.equal((await ws.closed).code, code, `a close of ${payload}`);
    }
  });
});

/** Numbers that a seed gives, below `end`. */
function drawer(seed) {
  let state = seed;
  return (end) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * end);
  };
}

test('UTF-8 is what another decoder takes for it, however it is cut', async (t) => {
  const set = await setUp(t);
  const good = ['x', '\u0080', '\u07ff', '\u0800', '\ud7ff', '\ue000', '\ufffe', '\uffff', '\u{10000}', '\u{1f600}', '\u{10ffff}']
    .map((text) => Buffer.from(text));
  const bad = ['80', 'bf', 'c2', 'e282', 'f09f98', 'c080', 'c1bf', 'e08080', 'e09fbf', 'f0808080', 'f08fbfbf', 'eda080', 'edbfbf',
    'f4908080', 'f5808080', 'f888808080', 'fc8480808080', 'fe', 'ff'].map((hex) => Buffer.from(hex, 'hex'));
  const draw = drawer(7);
  const pick = (list) => list[draw(list.length)];
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const decoded = (payload) => {
    try {
      return decoder.decode(payload);
    } catch {
      return undefined;
    }
  };
  const texts = [...good, ...bad];
  while (texts.length < TEXTS)
    texts.push(Buffer.concat(Array.from({ length: 1 + draw(4) }, () => pick(draw(4) ? good : bad))));
  const valid = texts.filter((text) => decoded(text) !== undefined).length;
  assert.ok(valid > TEXTS / 5 && valid < TEXTS - TEXTS / 5, `${valid} valid ones`);

  await attack(set, valid, async () => {
    let ws;
    for (const text of texts) {
      const payload = Buffer.concat([Buffer.from('{"type":"ping","id":"'), text, Buffer.from('"}')]);
      const cuts = Array.from({ length: draw(4) }, () => draw(payload.length + 1)).sort((a, b) => a - b);
      const pieces = [0, ...cuts].map((from, i) => payload.subarray(from, cuts[i] ?? payload.length));
      ws ??= await connectWs(t, set.system.wsUrl);
      const after = ws.messages.length;
      ws.raw(Buffer.concat(pieces.map((piece, i) => frame(i ? 0 : 1, piece, { final: i === pieces.length - 1 }))));
      if (decoded(payload) !== undefined) {
        assert.equal((await ws.next(() => true, { after })).id, decoded(text), text.toString('hex'));
        continue;
      }
      assert.equal((await ws.closed).code, 1007, `${text.toString('hex')} cut at ${cuts}`);
      ws = undefined;
    }
  });
});

test('JSON that is deep, long, or doubled', async (t) => {
  const set = await setUp(t);
  const ws = await connectWs(t, set.system.wsUrl);
  const fits = (text, size = FRAME_MAX) => text.slice(0, size);
  const nested = (depth) => `{"type":"ping","x":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`;
  const members = (count) => Array.from({ length: count }, (_, i) => `"k${i.toString(36)}":1`).join();
  const tokens = (count) => `{"type":"ping","x":[${Array.from({ length: count }, () => 1).join()}]}`;
  const cases = [
    [nested(DEPTH_MAX), 'pong'], [nested(DEPTH_MAX + 1)], [nested(1000)], [nested(100_000)],
    [`{"type":"ping","x":${'['.repeat(FRAME_MAX - 100)}`], [`${'{"a":'.repeat(100_000)}1`],
    [tokens(TOKENS_MAX - 100), 'pong'], [tokens(TOKENS_MAX)], [fits(tokens(FRAME_MAX / 2))],
    [`{"type":"ping",${members(20_000)}}`, 'pong'], [`{"type":"ping",${members(100_000)}}`],
    ['{"type":"ping","type":"ping"}'], ['{"type":"ping","id":1,"\\u0069d":2}'],
    ['{"type":"ping","id":"a\\u0000b"}'],
    ['{"type":"start-fetch","url":"http://127.0.0.1/\\u0000"}'], ['{"type":"start-fetch\\u0000","url":"http://127.0.0.1/"}'],
    ['{"type":"start-fetch","url":"http://127.0.0.1/","headers":[["a","b\\u0000c"]]}'],
    [`{"type":"ping","x":${'1'.repeat(FRAME_MAX - 100)}}`], [`"${'\\u0000'.repeat(FRAME_MAX / 7)}"`],
  ];
  let most = 0;
  await attack(set, cases.length, async () => {
    for (const [text, type = 'error'] of cases) {
      const after = ws.messages.length;
      let answer;
      const peak = await peakKiB(set.origin, async () => {
        ws.send(text);
        answer = await ws.next(() => true, { after, what: text.slice(0, 80) });
      });
      assert.equal(answer.type, type, `${text.slice(0, 80)}: ${JSON.stringify(answer)}`);
      most = Math.max(most, peak);
    }
  });
  t.diagnostic(`${most} KiB at most for one of them`);
  if (!binDir.includes('san')) assert.ok(most <= PEAK_KIB, `${most} KiB for a message`);
});

test('pings without end', async (t) => {
  const set = await setUp(t);
  const flood = Buffer.concat(Array.from({ length: PINGS }, () => frame(9, 'x'.repeat(125))));
  await attack(set, 3, async () => {
    const deaf = await connectWs(t, set.system.wsUrl), well = await connectWs(t, set.system.wsUrl);
    deaf.tcp.pause();
    for (const ws of [deaf, well]) ws.raw(flood);
    await set.honest();
    for (const ws of [deaf, well]) ws.send({ type: 'ping', id: 'behind them' });
    deaf.tcp.resume();
    for (const ws of [deaf, well]) assert.equal((await ws.next()).id, 'behind them');
    await deaf.destroy();
    await well.destroy();
  });
});

test('heads and bodies that are too large, on every listener', async (t) => {
  const set = await setUp(t);
  const fill = 'x'.repeat(MIB);
  await attack(set, 0, async () => {
    for (const { url, path, type = 'application/x-proxyfetch-batch' } of set.listeners) {
      const head = (fields) => `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: ${type}\r\n${fields}\r\n`;
      const field = 'X-A: ' + 'a'.repeat(1000) + '\r\n';
      const cases = [
        [head('X-A: ' + 'a'.repeat(64 << 10) + '\r\nContent-Length: 0\r\n'), 431],
        [head(field.repeat(64) + 'Content-Length: 0\r\n'), 431],
        [head('X: y\r\n'.repeat(101) + 'Content-Length: 0\r\n'), 431],
        [`GET /${'a'.repeat(HEAD_MAX)} HTTP/1.1\r\nHost: localhost\r\n\r\n`, 431],
        [head(`Content-Length: ${2 ** 30}\r\n`) + fill.repeat(4), 413],
        [head(`Content-Length: 9999999999\r\n`), 413],
        [head(`Content-Length: ${2 ** 40}\r\n`), 400],
        [head('Transfer-Encoding: chunked\r\n') + `40000000\r\n${fill}`, 400],
      ];
      for (const [text, status] of cases) {
        const c = await RawConnection.open(t, url);
        c.send(text);
        const [, got] = await c.receive(/^HTTP\/1\.1 (\d+)/);
        assert.equal(Number(got), status, `${url}${path}: ${text.slice(0, 200)}`);
        c.finish();
        await c.ended;
        c.socket.destroy();
      }
    }
  });
});
