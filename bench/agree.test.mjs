// What other load tools say is read as they mean it, and the comparison runs with those that are there.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { agreeCommand, ofHey, ofWrk, settingsOf } from './agree.mjs';

const wrk = `Running 1s test @ http://127.0.0.1/uuid
  1 threads and 10 connections
  Latency Distribution
     50%   36.00us
     75%   40.00us
     90%    1.20ms
     99%    2.21s
  168454 requests in 1.00s, 24.90MB read
Requests/sec: 168231.93
`;
const hey = `
Summary:
  Requests/sec:\t46354.8641

Latency distribution:
  50% in 0.0002 secs
  99% in 0.0015 secs

Status code distribution:
  [200]\t46438 responses
`;

test('wrk', () => {
  assert.deepEqual(ofWrk(wrk), { ops: 168231.93, p50: 0.036, p99: 2210 });
  assert.throws(() => ofWrk(`${wrk}  Non-2xx or 3xx responses: 3\n`), /saw errors/);
  assert.throws(() => ofWrk('nothing'), /no .*in:\nnothing/);
});

test('hey', () => {
  assert.deepEqual(ofHey(hey), { ops: 46354.8641, p50: 0.2, p99: 1.5 });
  assert.throws(() => ofHey(`${hey}\nError distribution:\n  [3]\tconnection refused\n`), /saw errors/);
});

test('it runs', async () => {
  const script = fileURLToPath(new URL('agree.mjs', import.meta.url));
  const { code, stdout, stderr } = await new Promise((done) =>
    execFile(process.execPath, [script, '--short'], { timeout: 60_000 }, (why, stdout, stderr) => done({ code: why ? why.code : 0, stdout, stderr })));
  assert.equal(code, 0, stderr);
  assert.match(stdout, /\| proxyfetch bench \| [\d,.]+\/s \|/);
  for (const tool of ['wrk', 'hey']) assert.match(stdout, new RegExp(`\\| ${tool} \\| .* %|${tool} is not installed`));
});

test('settings have limits', async () => {
  assert.deepEqual(settingsOf(['--seconds', '3600', '--connections', '10000', '--rounds', '99']), { seconds: 3600, connections: 10_000, rounds: 99, path: '/uuid' });
  for (const args of [['--seconds', '0'], ['--seconds', '3601'], ['--connections', '10001'], ['--rounds', '100'], ['--rounds', '1.5'], ['--what']])
    assert.equal(await agreeCommand(args), 2, args.join(' '));
});
