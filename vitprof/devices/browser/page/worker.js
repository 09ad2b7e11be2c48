// One Plan: loads the model with LiteRT.js, then answers one request at a time until it is ended from outside.
//
// A classic worker, because LiteRT.js loads its compiled part by importScripts there. What stands inside the timed
// region is in loop.js and in Session.call.

importScripts("loop.js");

// Whoever waits for the result after a run that has waited waits for a copy of it, not for another run.
const READ_SHARE = 0.5;
const PLACED = /(\d+) operations will run on the GPU, and the remaining (\d+) operations will run on the CPU/;
const NONE_PLACED = /No operations will run on the GPU/;
const OUT_OF_MEMORY = /out of memory|\bOOM\b|allocation failed|cannot enlarge memory|cannot allocate|Out-Of-Memory/i;
const ARRAYS = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };
const WASM_THREADED = "litert_wasm_threaded_internal.js";

class Refusal extends Error {
  constructor(stage, message, remedy) {
    super(message);
    Object.assign(this, { stage, remedy });
  }
}

// What the runtime writes is the only place where it says what runs where.
const said = [];
for (const kind of ["log", "info", "warn", "error"]) {
  const write = console[kind].bind(console);
  console[kind] = (...words) => {
    said.push(words.map(String).join(" "));
    write(...words);
  };
}

// Loading.

async function bytesOf(address, sha256) {
  const answer = await fetch(address).catch((error) => {
    throw new Refusal("load", `cannot fetch ${address}: ${error.message}`, "run again");
  });
  if (!answer.ok) throw new Refusal("load", `cannot fetch ${address}: status ${answer.status}`, "run again");
  const data = await answer.arrayBuffer();
  if (sha256 && self.crypto?.subtle) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
    const found = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    if (found !== sha256) {
      throw new Refusal(
        "load",
        `the model has sha256 ${found.slice(0, 12)}…, expected ${sha256.slice(0, 12)}…`,
        "vitprof cache clear, then run again",
      );
    }
  }
  return data;
}

function checkPlan(plan, isGpu) {
  if (plan.backend !== "litert" && !isGpu)
    throw new Refusal("load", `this page has no backend '${plan.backend}'`, "use litert or litert-gpu");
  if (plan.region !== "call")
    throw new Refusal("load", "a page times calls alone, not from host memory to host memory", "leave out --region");
  if (plan.profile_path)
    throw new Refusal(
      "load",
      "a browser gives no profile by layer",
      "profile the model with --backend ort, torch or openvino",
    );
  const unknown = Object.keys(plan.options ?? {});
  if (unknown.length)
    throw new Refusal(
      "load",
      `a page takes no options, and was given ${unknown.join(", ")}`,
      "take them out of the profile",
    );
  if (!ARRAYS[plan.input_dtype])
    throw new Refusal("load", `a page cannot feed ${plan.input_dtype}`, "use --precision fp32");
  if (!isGpu && plan.threads > 1 && !self.crossOriginIsolated) {
    throw new Refusal(
      "load",
      "this page may not use threads: its address is not secure",
      "open it by https, or measure with --threads 1",
    );
  }
}

async function runtime(isGpu, threads) {
  if (isGpu && !navigator.gpu) {
    throw new Refusal(
      "load",
      "this browser has no WebGPU here",
      "open the page by https or as localhost in a browser that has it, or use --backend litert",
    );
  }
  const isThreaded = !isGpu && threads > 1;
  const base = new URL("litert/", self.location.href);
  // Its threads are workers as well: without a name they would be started from this file.
  self.Module = {
    locateFile: (name) => new URL(name, base).href,
    ...(isThreaded && { mainScriptUrlOrBlob: new URL(WASM_THREADED, base).href }),
  };
  const library = await import(new URL("core.js", base).href);
  if (isThreaded && !(await library.supportsFeature("relaxedSimd"))) {
    throw new Refusal(
      "load",
      "this browser has no relaxed SIMD, without which LiteRT.js has no threads",
      "measure with --threads 1",
    );
  }
  await library.loadLiteRt(base.href, { threads: isThreaded });
  return library;
}

async function gpuOf(library) {
  if (!library.getWebGpuDevice()) {
    // The runtime asks for a device by itself where there is one.
    throw new Refusal(
      "load",
      "this browser gives no GPU",
      "switch its hardware acceleration on, or use --backend litert",
    );
  }
  const device = library.getWebGpuDevice();
  const info = device.adapterInfo ?? (await navigator.gpu.requestAdapter())?.info ?? {};
  const name = [info.vendor, info.architecture, info.device, info.description].filter(Boolean).join(" ");
  const limits = ["maxBufferSize", "maxStorageBufferBindingSize", "maxComputeWorkgroupStorageSize"];
  return {
    device,
    facts: {
      gpu: name || null,
      gpu_is_software: Boolean(info.isFallbackAdapter) || /swiftshader|llvmpipe|basic render/i.test(name),
      gpu_features: [...device.features].sort(),
      gpu_limits: Object.fromEntries(limits.map((limit) => [limit, Number(device.limits[limit])])),
    },
  };
}

class Session {
  static async load(plan) {
    const isGpu = plan.backend === "litert-gpu";
    checkPlan(plan, isGpu);
    const files = [await bytesOf(plan.artifact, plan.artifact_sha256), await bytesOf(plan.inputs, "")];
    const session = new Session();
    const begin = now();
    session.library = await runtime(isGpu, plan.threads);
    session.runtimeStartMs = now() - begin;
    const gpu = isGpu ? await gpuOf(session.library) : null;
    Object.assign(session, { plan, images: files[1], queue: gpu?.device.queue, facts: gpu?.facts ?? {} });
    gpu?.device.lost.then((lost) =>
      tell(
        failureOf(
          new Refusal(
            "run",
            `the GPU was lost: ${lost.message || lost.reason}`,
            "run again; if it repeats, use a smaller model",
          ),
        ),
      ),
    );
    const options = isGpu
      ? // Without it a GPU may compute in fp16.
        { accelerator: "webgpu", gpuOptions: { precision: plan.precision === "fp32" ? "fp32" : "fp16" } }
      : { accelerator: "wasm", cpuOptions: { numThreads: plan.threads } };
    const start = now();
    session.model = await session.library.loadAndCompile(new Uint8Array(files[0]), options);
    session.loadMs = now() - start;
    session.check();
    session.input = await session.image(0);
    return session;
  }

  check() {
    const found = said.join("\n").match(PLACED);
    this.placement = 1;
    if (found) this.placement = Number(found[1]) / (Number(found[1]) + Number(found[2]));
    // It falls back to the processor without an error: wholly, or in browsers with JSPI in parts, and is still `webgpu`.
    const isPlaced = this.model.options.accelerator === "webgpu" && this.model.isFullyAccelerated;
    if (this.queue && (!isPlaced || said.some((line) => NONE_PLACED.test(line)))) {
      const why = said
        .filter((line) => /^[A-Z][A-Z0-9_]+: /m.test(line))
        .slice(0, 2)
        .join("; ")
        .slice(0, 500);
      throw new Refusal(
        "load",
        `LiteRT's GPU does not take the model${why ? `: ${why}` : ""}`,
        "it takes tensors of at most four axes; measure the model with --backend litert, on the CPU",
      );
    }
    if (this.model.getInputDetails().length !== 1)
      throw new Refusal("load", "the model has several inputs", "give a model of one image");
  }

  async image(index) {
    const kind = ARRAYS[this.plan.input_dtype];
    const count = this.plan.input_shape.reduce((product, size) => product * size, 1);
    const values = new kind(
      this.images.slice(index * count * kind.BYTES_PER_ELEMENT, (index + 1) * count * kind.BYTES_PER_ELEMENT),
    );
    const tensor = new this.library.Tensor(values, this.plan.input_shape);
    return this.queue ? tensor.moveTo("webgpu") : tensor;
  }

  // One inference, complete when it returns; its outputs are let go of outside the timed region.
  async call() {
    const outputs = await this.model.run([this.input]);
    if (this.queue) await this.queue.onSubmittedWorkDone();
    if (this.mustRead) return this.read(outputs);
    return outputs;
  }

  async read(outputs) {
    return Promise.all(outputs.map((one) => (this.queue ? one.moveTo("wasm") : one)));
  }

  // Whether waiting for the queue is waiting for the result: asked once, of a second call.
  async findOut() {
    if (!this.queue) return;
    const start = now();
    const outputs = await this.call();
    const done = now();
    const read = await this.read(outputs);
    this.mustRead = now() - done >= READ_SHARE * (done - start) && now() - done > 1;
    free(read);
  }

  async outputs(path) {
    const parts = [];
    const tensors = [];
    let offset = 0;
    for (let index = 0; index < this.plan.input_count; index += 1) {
      const image = await this.image(index);
      const read = await this.read(await this.model.run([image]));
      for (const [place, tensor] of read.entries()) {
        const values = tensor.toTypedArray().slice();
        parts.push(values);
        tensors.push({
          name: `output${place}`,
          dtype: tensor.type.dtype,
          shape: [...tensor.type.layout.dimensions],
          offset,
        });
        offset += values.byteLength;
      }
      free([...read, image]);
    }
    return [{ type: "tensors", path, tensors }, new Blob(parts)];
  }
}

// Answering.

async function ready(plan) {
  const session = await Session.load(plan);
  const [firstMs] = await sample(session, 1);
  const until = now() + SETTLE_MS;
  await session.findOut();
  await settle(session, until);
  const { stepMs, costMs } = clockFacts();
  session.repeats = await callsPerSample(session, stepMs);
  return [
    session,
    {
      type: "ready",
      load_ns: nanoseconds(session.loadMs),
      build_ns: null,
      first_call_ns: nanoseconds(firstMs),
      clock: "browser",
      clock_step_ns: nanoseconds(stepMs),
      clock_cost_ns: nanoseconds(costMs),
      loop_overhead_ns: nanoseconds(await loopOverheadMs(costMs)),
      calls_per_sample: session.repeats,
      backend_version: "",
      placement_ops_share: session.placement,
      environment: {
        ...session.facts,
        runtime_start_ns: nanoseconds(session.runtimeStartMs),
        ...(session.queue && { completion: session.mustRead ? "outputs read" : "queue.onSubmittedWorkDone" }),
      },
    },
  ];
}

function failureOf(error, stage = "run") {
  const detail = [error.stack, ...said.slice(-20)].filter(Boolean).join("\n").slice(0, 8000);
  // The runtime's own exceptions name lines of its source, and no reason: that it has written before.
  const reasons = said.filter((line) => /^ERROR: [^[]/.test(line)).slice(0, 2);
  const text = reasons.join("; ").slice(0, 500) || `${error.name ?? "Error"}: ${error.message ?? error}`;
  if (error instanceof Refusal)
    return { type: "failure", stage: error.stage, error: error.message, remedy: error.remedy, detail };
  const isShort = OUT_OF_MEMORY.test(text);
  const remedy = isShort
    ? "use a smaller model, --batch or --size; on a phone --threads 1 needs less"
    : `see the detail with --debug${isOnGpu ? "; or measure the model with --backend litert" : ""}`;
  return {
    type: "failure",
    stage,
    error: isShort ? `out of memory: ${text}` : text,
    remedy,
    detail,
    kind: isShort ? "out of memory" : null,
  };
}

function tell(message, outputs) {
  self.postMessage({ message, outputs });
}

let current = null;
let isOnGpu = false;

async function answer(request) {
  if (request.type === "plan") {
    isOnGpu = request.backend === "litert-gpu";
    const [session, message] = await ready(request);
    current = session;
    return [message];
  }
  if (request.type === "block") return [await block(current, current.plan, request.index)];
  if (request.type === "outputs") return current.outputs(request.path);
  if (request.type === "end") return [{ type: "ended", peak_rss_bytes: null }];
  throw new Refusal("run", `a page cannot answer '${request.type}'`, "measure with --backend ort, torch or openvino");
}

self.onmessage = async ({ data }) => {
  try {
    tell(...(await answer(data)));
  } catch (error) {
    tell(failureOf(error, current ? "run" : "load"));
  }
};
