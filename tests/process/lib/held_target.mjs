// A target that answers when the test says so: for fetches that must still be under way while something
// else happens, however slow the machine.
//
//   const held = await heldTarget(t);
//   const system = await startSystem(t, { args: { executor: held.allow } });
//   … fetch held.url('a') …
//   await held.asked('a');                   // the request has come
//   held.release();                          // it is answered now, and whatever comes later at once
//   held.hits('a')                           // how often it came
import { createServer } from 'node:http';
import { defer, until } from './process.mjs';

export const bodyOf = (key) => `the answer to ${key}`;

export async function heldTarget(t) {
  const hits = new Map(), waiting = [];
  let released = false;
  const server = createServer((req, res) => {
    const key = req.url.slice(1);
    hits.set(key, (hits.get(key) ?? 0) + 1);
    req.resume();
    const answer = () => res.end(bodyOf(key));
    if (released) answer();
    else waiting.push(answer);
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  defer(t, () => new Promise((done) => (server.close(done), server.closeAllConnections())));
  const { port } = server.address();
  return {
    allow: ['--allow-target', `127.0.0.1/32:${port}`],
    url: (key) => `http://127.0.0.1:${port}/${key}`,
    hits: (key) => hits.get(key) ?? 0,
    asked: (key) => until(() => hits.has(key), `the request for ${key}`),
    release() {
      released = true;
      for (const answer of waiting.splice(0)) answer();
    },
  };
}
