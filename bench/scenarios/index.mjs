// The named scenarios, in the order in which they run.
import { actorScenarios } from './actors.mjs';
import { authorization, continuations, limits, logs, steps, wake } from './core.mjs';
import { durabilityScenarios } from './durability.mjs';
import { messageScenarios } from './messages.mjs';
import { largeScenarios, payloadScenarios } from './payload.mjs';
import { concurrencyScenarios, knees, throughputScenarios } from './throughput.mjs';

export { Stage } from './stage.mjs';
/** The 35 of the benchmark suite: each of them has all figures. */
export const named = [...continuations, ...authorization, ...wake, ...concurrencyScenarios, ...logs, ...payloadScenarios, ...limits];
export const scenarios = [...named, ...knees, ...steps, ...throughputScenarios, ...largeScenarios, ...messageScenarios, ...actorScenarios,
  ...durabilityScenarios];
