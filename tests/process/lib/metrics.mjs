// What a process says about itself under /metrics and /health/detailed.
//
//   const { pf_web_sockets } = await metrics(proc.url);
//   const codes = reasonsOf(health);

/** All samples, by name with its labels. */
export async function metrics(url) {
  const text = await (await fetch(`${url}/metrics`)).text();
  const samples = text.split('\n').filter((line) => line && !line.startsWith('#'));
  return Object.fromEntries(samples.map((line) => {
    const at = line.lastIndexOf(' ');
    return [line.slice(0, at), Number(line.slice(at + 1))];
  }));
}

/** The reasons for a health, sorted, but for loop_lag: each process has it for a minute or two, if the machine stood
 *  still for a second. */
export const reasonsOf = ({ reasons }) => reasons.map(({ code }) => code).filter((code) => code !== 'loop_lag').sort();
