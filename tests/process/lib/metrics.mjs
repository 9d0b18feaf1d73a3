// What a process says about itself under /metrics.
//
//   const { pf_web_sockets } = await metrics(proc.url);

/** All samples, by name with its labels. */
export async function metrics(url) {
  const text = await (await fetch(`${url}/metrics`)).text();
  const samples = text.split('\n').filter((line) => line && !line.startsWith('#'));
  return Object.fromEntries(samples.map((line) => {
    const at = line.lastIndexOf(' ');
    return [line.slice(0, at), Number(line.slice(at + 1))];
  }));
}
