// The timed loop: the one place of the page where a clock is read around a call, as vitprof/runner/loop.py is elsewhere.
//
// Between two readings there is the call and, on a GPU, the wait until its queue is done. What a call gives is let go
// of outside of them.

const STEPS_PER_SAMPLE = 100;
const CLOCK_STEPS = 20;
const CLOCK_MS = 50;
const EMPTY_CALLS = 2000;
const SETTLE_MS = 200;
// A clock that stood still for so long against the wall's: the device slept.
const ASLEEP_MS = 250;

const now = () => performance.now();
const nanoseconds = (ms) => Math.round(ms * 1e6);

function free(tensors) {
  for (const tensor of tensors) if (!tensor.deleted) tensor.delete();
}

async function sample(session, repeats) {
  if (repeats === 1) {
    const start = now();
    const outputs = await session.call();
    const end = now();
    free(outputs);
    return [end - start, end];
  }
  const held = [];
  const start = now();
  for (let call = 0; call < repeats; call += 1) {
    const outputs = await session.call();
    // Kept until the clock was read, but not more of them than memory holds.
    if (held.length < 64) held.push(outputs);
    else free(outputs);
  }
  const end = now();
  held.forEach(free);
  return [end - start, end];
}

function clockFacts() {
  let step = Infinity;
  let [readings, steps] = [1, 0];
  const start = now();
  let last = start;
  while (steps < CLOCK_STEPS && last - start < CLOCK_MS) {
    const reading = now();
    readings += 1;
    if (reading > last) {
      step = Math.min(step, reading - last);
      steps += 1;
    }
    last = reading;
  }
  return { stepMs: Number.isFinite(step) ? step : 0, costMs: (last - start) / readings };
}

async function loopOverheadMs(costMs) {
  const nothing = async () => [];
  const start = now();
  for (let call = 0; call < EMPTY_CALLS; call += 1) free(await nothing());
  return Math.max(0, (now() - start) / EMPTY_CALLS - costMs);
}

// A browser compiles code again once it was called often, and calls become several times shorter.
async function settle(session, until) {
  while (now() < until) free(await session.call());
}

async function callsPerSample(session, stepMs) {
  const shortest = STEPS_PER_SAMPLE * stepMs;
  // Doubled, because one call may be shorter than a step and its time then none.
  for (let repeats = 1; ; repeats *= 2) {
    let [ms] = await sample(session, repeats);
    // One that is too short may be so by chance, and one that is long enough need not be asked again.
    if (ms < 2 * shortest) ms = Math.min(ms, (await sample(session, repeats))[0]);
    if (ms >= 2 * shortest) return repeats === 1 ? 1 : Math.ceil((repeats * shortest) / ms);
    if (ms >= shortest && repeats > 1) return Math.ceil((repeats * shortest) / ms);
  }
}

async function block(session, plan, index) {
  const wall = Date.now();
  const start = now();
  const rewarmed = start + plan.rewarm_ns / 1e6;
  const first = [];
  let end = start;
  while (!first.length || end < rewarmed) {
    const [ms, ended] = await sample(session, session.repeats);
    first.push(ms);
    end = ended;
  }
  const isSlow = first[0] * 1e6 >= plan.slow_call_ns * session.repeats;
  const counted = isSlow ? first : [];
  const until = rewarmed + plan.block_ns / 1e6;
  while (!isSlow && (counted.length < plan.min_calls || end < until)) {
    const [ms, ended] = await sample(session, session.repeats);
    counted.push(ms);
    end = ended;
  }
  const asleep = Date.now() - wall - (now() - start);
  return {
    type: "samples",
    index,
    start_ns: nanoseconds(start),
    set_aside_ns: isSlow ? [] : first.map(nanoseconds),
    samples_ns: counted.map(nanoseconds),
    sensors: asleep > ASLEEP_MS ? { asleep_ns: nanoseconds(asleep) } : {},
  };
}
