// The page: asks the server what to do, runs each Plan in a worker of its own, and shows how it stands.
//
// Beside worker.js, because this thread must stay free while that one measures: it notices when the page is hidden,
// when a deadline passes, and when the server has gone.

const MEGABYTE = 1e6;
// Of all models that are loaded at a time. A session holds the file, packed weights and activations, about four times
// the file; iOS ends a page at about 1.5 GB.
const MOST_BYTES = isPhone() ? 256 * MEGABYTE : 1024 * MEGABYTE;
// The server answers a question within 20 s.
const ANSWER_MS = 40_000;
const DRAW_MS = 1_000;
const TRACE_POINTS = 120;

const show = (id) => document.getElementById(id);
const links = new Map();
// What a run has brought, by model and place, its failures too: shown until the next one begins.
const cells = new Map();
// What is wrong with the page as long as it is open.
let flaw = "";
let drawnAt = 0;
let tab = null;
let runtimeVersion = "";
let lastHiddenAt = document.hidden ? performance.now() : -1;
let isHidden = document.hidden;
let wakeLock = null;

function isPhone() {
  const isIpad = /Macintosh/.test(navigator.userAgent) && navigator.maxTouchPoints > 1;
  return isIpad || /iPhone|iPad|Android|Mobile/.test(navigator.userAgent);
}

// How the page stands.

async function gpuFacts() {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (!adapter) return { gpu: null };
  const { vendor, architecture } = adapter.info ?? {};
  return { gpu: [vendor, architecture].filter(Boolean).join(" ") || "a GPU" };
}

// LiteRT.js has threads with relaxed SIMD only, which not every browser has.
async function mayUseThreads() {
  const library = await import("./litert/core.js");
  return self.crossOriginIsolated && (await library.supportsFeature("relaxedSimd"));
}

async function facts() {
  const isThreaded = await mayUseThreads();
  return {
    user_agent: navigator.userAgent,
    platform: navigator.userAgentData?.platform ?? navigator.platform ?? null,
    // Those that a session here may use: it is what its threads are set to unless a person says otherwise.
    cores: isThreaded ? (navigator.hardwareConcurrency ?? 1) : 1,
    device_cores: navigator.hardwareConcurrency ?? null,
    device_memory_gib: navigator.deviceMemory ?? null,
    cross_origin_isolated: self.crossOriginIsolated,
    ...(await gpuFacts()),
  };
}

async function batteryFacts() {
  // Chromium alone tells; a phone on its battery may be slower.
  const battery = await navigator.getBattery?.().catch(() => null);
  return battery ? { power: battery.charging ? "mains" : "battery", battery_share: battery.level } : {};
}

async function environment() {
  const { gpu, ...known } = await facts();
  return { ...known, ...(await batteryFacts()), page_hidden: document.hidden };
}

async function runtimes() {
  const { gpu } = await gpuFacts();
  return { litert: runtimeVersion, "litert-gpu": gpu ? runtimeVersion : null };
}

async function keepAwake() {
  if (document.hidden || wakeLock) return;
  wakeLock = await navigator.wakeLock?.request("screen").catch(() => null);
  wakeLock?.addEventListener("release", () => {
    wakeLock = null;
  });
}

function noteHidden() {
  if (isHidden || document.hidden) lastHiddenAt = performance.now();
  isHidden = document.hidden;
  if (isHidden && [...links.values()].some((link) => link.worker))
    warn("This page was hidden while it measured: browsers slow down what is not in front.");
  keepAwake();
}

document.addEventListener("visibilitychange", noteHidden);
document.addEventListener("freeze", noteHidden);
document.addEventListener("resume", noteHidden);
addEventListener("pageshow", (event) => event.persisted && location.reload());
addEventListener("pagehide", () => tab && navigator.sendBeacon(`api/bye?tab=${tab}`));

// What the server asks for.

async function call(path, body) {
  const options = body === undefined ? {} : { method: "POST", body };
  const answer = await fetch(path, { ...options, signal: AbortSignal.timeout(ANSWER_MS) });
  if (!answer.ok) throw Object.assign(new Error((await answer.text()).trim()), { status: answer.status });
  return answer.json();
}

async function say(link, message) {
  try {
    await call(`api/said?tab=${tab}`, JSON.stringify({ link, message }));
  } catch (error) {
    // Over in the meantime: nobody waits for the answer.
    if (error.status !== 404) throw error;
  }
}

const failure = (stage, error, remedy, detail = "") => ({ type: "failure", stage, error, remedy, detail });

function obey(command) {
  if (command.close) return end(command.link);
  const message = JSON.parse(command.line);
  if (message.type === "plan") return start(command.link, message, command.size);
  if (message.type === "hold" || message.type === "ask") return tellFacts(command, message);
  const link = links.get(command.link);
  if (link?.worker) {
    link.askedAt = performance.now();
    link.worker.postMessage(message);
  }
}

async function tellFacts(command, message) {
  if (message.type === "hold") links.set(command.link, { isHold: !message.only_look });
  if (message.type === "hold" && !message.only_look) {
    cells.clear();
    warn(flaw);
  }
  const known = await environment();
  if (command.held_by) known.held_by = command.held_by;
  if (message.with_runtimes) known.runtimes = await runtimes();
  draw();
  return say(command.link, { type: "facts", environment: known });
}

function fail(key, link, message) {
  Object.assign(link.cell, { stands: "failed", error: message.error });
  return say(key, message);
}

function start(key, plan, size) {
  const on =
    plan.backend === "litert-gpu" ? "GPU" : plan.threads === 1 ? "CPU, 1 thread" : `CPU, ${plan.threads} threads`;
  const name = `${plan.artifact} ${on}`;
  const cell = cells.get(name) ?? { on, what: `${plan.input_shape.join("×")}, ${megabytes(size)}`, calls: 0, trace: [] };
  cells.set(name, Object.assign(cell, { stands: "loading", error: "" }));
  const held = [...links.values()].reduce((sum, one) => sum + (one.size ?? 0), 0);
  if (held + size > MOST_BYTES) {
    const text =
      `${megabytes(size)} of model beside ${megabytes(held)} that are loaded: a page here takes ` +
      `${megabytes(MOST_BYTES)} at most`;
    fail(key, { cell }, failure("load", text, "measure fewer models in one run, or a smaller one"));
    return draw();
  }
  const worker = new Worker("worker.js");
  const link = { worker, size, askedAt: performance.now(), cell };
  links.set(key, link);
  link.deadline = setTimeout(
    () => {
      const text = "the page reached the Plan's deadline";
      fail(key, link, failure(link.stage ?? "load", text, "allow more time with --timeout"));
      end(key);
    },
    Math.min(plan.deadline_s * 1000, 2 ** 31 - 1),
  );
  worker.onmessage = ({ data }) => heard(key, link, data);
  worker.onerror = (event) => {
    event.preventDefault();
    const text = `the page's worker broke: ${event.message || "it could not be loaded"}`;
    fail(key, link, failure(link.stage ?? "load", text, "load the page again; or use a smaller model"));
    end(key);
  };
  worker.postMessage(plan);
  keepAwake();
  draw();
}

async function heard(key, link, { message, outputs }) {
  const wasHidden = document.hidden || lastHiddenAt >= link.askedAt;
  if (message.type === "samples") {
    message.sensors.page_hidden = wasHidden;
    noteBlock(link, message);
  }
  if (message.type === "ready") {
    link.stage = "run";
    link.cell.stands = "ready";
    link.repeats = message.calls_per_sample;
    message.backend_version = `LiteRT.js ${runtimeVersion}`;
    message.environment = { ...(await environment()), ...message.environment, page_hidden: wasHidden };
  }
  if (message.type === "ended") message.environment = { ...(await environment()), ...message.environment };
  if (outputs) {
    const sent = await send(message.path, outputs);
    if (sent !== "") message = failure("run", `the outputs could not be sent: ${sent}`, "run again");
  }
  await (message.type === "failure" ? fail(key, link, message) : say(key, message));
  // Painting takes the cores and the GPU that are being timed: seldom, then.
  if (message.type !== "samples" || performance.now() - drawnAt > DRAW_MS) draw();
}

// Nothing, or why it failed. No time-out: what is long on its way is ended by the Plan's deadline.
async function send(path, outputs) {
  const address = `api/out?tab=${tab}&name=${encodeURIComponent(path)}`;
  try {
    const answer = await fetch(address, { method: "POST", body: outputs });
    return answer.ok ? "" : (await answer.text()).trim();
  } catch (error) {
    return error.message;
  }
}

function end(key) {
  const link = links.get(key);
  clearTimeout(link?.deadline);
  link?.worker?.terminate();
  links.delete(key);
  if (link?.cell && !link.cell.calls && !link.cell.error) link.cell.stands = "ended";
  draw();
}

// How it looks.

const megabytes = (bytes) => `${(bytes / MEGABYTE).toFixed(bytes < MEGABYTE ? 2 : bytes < 10 * MEGABYTE ? 1 : 0)} MB`;

function timeParts(ns) {
  // Three digits of 999.6 would be 1.00e+3.
  const [scale, unit] = ns >= 999.5e6 ? [1e9, "s"] : ns >= 999.5e3 ? [1e6, "ms"] : [1e3, "µs"];
  return [(ns / scale).toPrecision(3), unit];
}

function noteBlock(link, block) {
  const sorted = [...block.samples_ns].sort((a, b) => a - b);
  const ns = sorted[sorted.length >> 1] / link.repeats;
  const { cell } = link;
  cell.calls += block.samples_ns.length * link.repeats;
  cell.stands = timeParts(ns).join(" ");
  cell.trace.push(ns);
  if (cell.trace.length > TRACE_POINTS) cell.trace.shift();
}

function state(name, headline, advice) {
  show("status").dataset.state = name;
  show("headline").textContent = headline;
  show("advice").textContent = advice;
}

function warn(text) {
  show("warning").hidden = !text;
  show("warning").textContent = text;
}

function headline(running) {
  if (running.some((link) => link.cell.trace.length)) return "Measuring";
  return running.length ? "Loading" : "In use";
}

function draw() {
  drawnAt = performance.now();
  const running = [...links.values()].filter((link) => link.worker);
  const isMeasuring = running.length > 0 || [...links.values()].some((link) => link.isHold);
  if (tab && isMeasuring) state("measuring", headline(running), "Keep this page in front, and touch nothing.");
  else if (tab) state("waiting", "Ready", "Waiting for vitprof. Keep this page in front and the screen on.");
  const shown = [...cells.values()];
  // One model alone has a time to show: of several, each has its own line.
  const { trace } = shown.length === 1 ? shown[0] : { trace: [] };
  show("figures").hidden = !trace.length;
  if (trace.length) [show("value").textContent, show("unit").textContent] = timeParts(trace.at(-1));
  const most = Math.max(...trace, 1);
  const points = trace.map((ns, at) => `${(300 * at) / Math.max(1, trace.length - 1)},${58 - (54 * ns) / most}`);
  show("line").setAttribute("points", points.join(" "));
  show("tasks").hidden = !shown.length;
  show("title").textContent = isMeasuring ? "This run" : "Last run";
  show("note").hidden = trace.length > 0 || !shown.some((cell) => cell.calls);
  show("list").replaceChildren(...shown.map(lineOf));
}

function lineOf(cell) {
  const part = (kind, text) => Object.assign(document.createElement(kind), { textContent: text });
  const line = document.createElement("li");
  const calls = cell.calls ? `${cell.calls.toLocaleString("en")} call${cell.calls === 1 ? "" : "s"}` : "";
  for (const [large, small] of [
    [cell.on, cell.what],
    [cell.stands, calls],
  ]) {
    const half = part("span", large);
    if (large === "failed") half.className = "failed";
    half.append(part("small", small));
    line.append(half);
  }
  if (cell.error) line.append(part("p", cell.error));
  return line;
}

function list(all) {
  const { user_agent, ...told } = all;
  const rows = Object.entries(told).map(([name, value]) => [name.replaceAll("_", " "), String(value ?? "unknown")]);
  show("facts").replaceChildren(
    ...rows.flatMap(([name, value]) => [
      Object.assign(document.createElement("dt"), { textContent: name }),
      Object.assign(document.createElement("dd"), { textContent: value }),
    ]),
  );
}

// The life of the page.

async function work() {
  const known = await facts();
  list(known);
  flaw = "";
  if (!known.cross_origin_isolated) flaw = "This address is not secure: one thread only, a coarse clock and no WebGPU.";
  else if (!known.gpu) flaw = "This browser shows no GPU: only its processor can be measured.";
  warn(flaw);
  const hello = await call("api/hello", JSON.stringify(known));
  tab = hello.tab;
  runtimeVersion = hello.runtime;
  show("name").textContent = hello.name;
  draw();
  for (;;) {
    for (const command of await call(`api/next?tab=${tab}`)) obey(command);
  }
}

function stop() {
  for (const key of [...links.keys()]) end(key);
  tab = null;
}

for (let isOver = false; !isOver;) {
  try {
    await work();
  } catch (error) {
    stop();
    isOver = error.status === 403 || error.status === 410;
    if (isOver) state("ended", "Disconnected", error.message);
    else {
      state("ended", "Connection lost", "Trying again. Is vitprof devices serve still running?");
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}
