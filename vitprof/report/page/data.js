// The report's data as rows, and what of a row can be an axis, a column or a filter.
//
// Everything that is shown comes from here as text or a number; only dom.js puts it on the page.

const REPORT = JSON.parse(document.getElementById("data").textContent);
const MILLI = 1e-6;

// Columns are kept one by one, and what repeats is kept once: ten thousand rows stay small.
function rowsFrom({ count, columns }) {
  const rows = Array.from({ length: count }, (_, i) => ({ i }));
  for (const [name, { values, at }] of Object.entries(columns)) {
    for (const row of rows) {
      const place = at ? at[row.i] : row.i;
      row[name] = place === null ? null : values[place];
    }
  }
  return rows;
}

const ROWS = rowsFrom(REPORT.rows);
const ratioOf = (above, below) => (above !== null && below ? above / below : null);
const milliseconds = (ns) => (ns === null ? null : ns * MILLI);

for (const row of ROWS) {
  row.ms = milliseconds(row.p50_ns);
  row.ms_low = milliseconds(row.low_ns);
  row.ms_high = milliseconds(row.high_ns);
  row.image_ms = row.image_ns === null ? null : milliseconds(row.image_ns);
  row.p90_ms = milliseconds(row.p90_ns);
  row.p99_ms = milliseconds(row.p99_ns);
  row.load_ms = milliseconds(row.load_ns);
  row.build_ms = milliseconds(row.build_ns);
  row.first_ms = milliseconds(row.first_call_ns);
  row.roofline_ms = milliseconds(row.roofline_ns);
  row.corrected_ms = milliseconds(row.drift_corrected_ns);
  row.half_share = row.low_ns === null || !row.p50_ns ? null : (row.high_ns - row.low_ns) / (2 * row.p50_ns);
  row.ratio_half_share =
    row.ratio_low === null || !row.ratio ? null : (row.ratio_high - row.ratio_low) / (2 * row.ratio);
  row.intensity = ratioOf(row.macs, row.moved_bytes);
  row.pixels = row.height === null ? null : row.height * row.width;
  row.size = row.height === null ? null : row.height === row.width ? `${row.height}` : `${row.height}x${row.width}`;
  row.text = [row.model, row.family, row.size, row.device, row.backend, row.precision, row.failure?.error ?? ""]
    .join(" ")
    .toLowerCase();
}

// Numbers that can be an axis or a column. `log`: what a log scale suits; `by`: shown value = stored value / by.
const NUMBERS = [
  { key: "macs", label: "MACs", unit: "GMAC", by: 1e9, log: true },
  { key: "params", label: "parameters", unit: "M", by: 1e6, log: true },
  { key: "weight_bytes", label: "weights", unit: "MB", by: 1e6, log: true },
  { key: "activation_bytes", label: "activations", unit: "MB", by: 1e6, log: true },
  { key: "moved_bytes", label: "bytes moved", unit: "MB", by: 1e6, log: true },
  { key: "intensity", label: "arithmetic intensity", unit: "MAC/byte", by: 1, log: true },
  { key: "ops", label: "operators", unit: "", by: 1, log: true },
  { key: "ms", label: "latency", unit: "ms", by: 1, log: true, low: "ms_low", high: "ms_high", isTime: true },
  {
    key: "ratio",
    label: "ratio to the reference",
    unit: "",
    by: 1,
    log: true,
    low: "ratio_low",
    high: "ratio_high",
    isTime: true,
  },
  { key: "image_ms", label: "time of one image", unit: "ms", by: 1, log: true, isTime: true },
  { key: "images_per_s", label: "images/s", unit: "", by: 1, log: true, isTime: true },
  { key: "p90_ms", label: "90th percentile", unit: "ms", by: 1, log: true, isTime: true },
  { key: "p99_ms", label: "99th percentile", unit: "ms", by: 1, log: true, isTime: true },
  { key: "corrected_ms", label: "drift-corrected", unit: "ms", by: 1, log: true, isTime: true },
  { key: "roofline_ms", label: "roofline", unit: "ms", by: 1, log: true },
  { key: "achieved", label: "achieved MACs", unit: "GMAC/s", by: 1e9, log: true, isTime: true },
  { key: "utilisation", label: "utilisation", unit: "%", by: 0.01, log: false, isTime: true },
  { key: "launch_share", label: "share of launching", unit: "%", by: 0.01, log: false, isTime: true },
  { key: "rss_bytes", label: "memory of the process", unit: "MB", by: 1e6, log: true },
  { key: "rss_measuring_bytes", label: "memory of the process, loading apart", unit: "MB", by: 1e6, log: true },
  { key: "device_bytes", label: "memory of the device, by the allocator", unit: "MB", by: 1e6, log: true },
  { key: "nvml_bytes", label: "memory of the device, by NVML", unit: "MB", by: 1e6, log: true },
  { key: "joules", label: "energy of one image", unit: "mJ", by: 1e-3, log: true, isTime: true },
  { key: "joules_above_idle", label: "energy of one image above idle", unit: "mJ", by: 1e-3, log: true, isTime: true },
  { key: "power_w", label: "power", unit: "W", by: 1, log: false, isTime: true },
  { key: "idle_power_w", label: "power at rest", unit: "W", by: 1, log: false },
  { key: "load_ms", label: "load", unit: "ms", by: 1, log: true },
  { key: "build_ms", label: "build", unit: "ms", by: 1, log: true },
  { key: "first_ms", label: "first call", unit: "ms", by: 1, log: true },
  { key: "half_share", label: "half of the interval", unit: "%", by: 0.01, log: true, isTime: true },
  { key: "instructions", label: "instructions", unit: "M", by: 1e6, log: true },
  { key: "placed_share", label: "operators placed as asked", unit: "%", by: 0.01, log: false },
  { key: "top1", label: "top-1 accuracy", unit: "%", by: 1, log: false },
  { key: "pixels", label: "pixels of the image", unit: "", by: 1, log: true },
  { key: "batch", label: "batch", unit: "", by: 1, log: true },
  { key: "threads", label: "threads", unit: "", by: 1, log: false },
].filter((field) => ROWS.some((row) => row[field.key] !== null));
const NUMBER = Object.fromEntries(NUMBERS.map((field) => [field.key, field]));

// What tells rows apart: filters and colours. In the order of the filter bar.
const FACETS = [
  { key: "family", label: "Family" },
  { key: "device", label: "Device" },
  { key: "backend", label: "Backend" },
  { key: "precision", label: "Precision" },
  { key: "batch", label: "Batch" },
  { key: "size", label: "Size" },
  { key: "threads", label: "Threads" },
  { key: "region", label: "Timed" },
  { key: "protocol_hash", label: "Protocol" },
  { key: "grade", label: "Grade" },
  { key: "outcome", label: "Outcome" },
  { key: "change", label: "Change" },
].map((facet) => ({ ...facet, values: valuesOf(facet.key) }));
const FACET = Object.fromEntries(FACETS.map((facet) => [facet.key, facet]));

// The commonest first, equals by name, so that colours and lists are the same each time; numbers by size.
function valuesOf(key) {
  const counts = new Map();
  for (const row of ROWS) counts.set(row[key], (counts.get(row[key]) ?? 0) + 1);
  const isNumeric = [...counts.keys()].every((value) => value === null || !Number.isNaN(Number(value)));
  const order = isNumeric
    ? ([a], [b]) => Number(a) - Number(b)
    : ([a, n], [b, m]) => m - n || compareText(a ?? "", b ?? "");
  return [...counts].sort(order).map(([value, count]) => ({ value, count }));
}

// Not localeCompare: the order must not depend on where the page is read.
function compareText(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

function compareValues(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : compareText(String(a), String(b));
}

// Four significant digits without powers of ten, as every other table of vitprof has them.
function significant(value, digits = 4) {
  if (value === null || value === undefined) return "";
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const exponent = Number(value.toExponential(digits - 1).split("e")[1]);
  const places = Math.min(20, Math.max(0, digits - 1 - exponent));
  return value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
}

function percent(share, digits = 2) {
  return share === null || share === undefined ? "" : `${significant(share * 100, digits)} %`;
}

function shownNumber(field, row) {
  const value = row[field.key];
  if (value === null || value === undefined) return "";
  return Number.isInteger(value) && field.by === 1 ? value.toLocaleString("en-US") : significant(value / field.by);
}

function withUnit(field, row) {
  const text = shownNumber(field, row);
  return text && field.unit ? `${text} ${field.unit}` : text;
}

function titleOf(field) {
  return field.unit ? `${field.label} (${field.unit})` : field.label;
}

// What tells a row from another of the same model, in words; what all rows share is left out.
function cellOf(row, skipped = []) {
  const parts = [
    ["size", row.size && `${row.size} px`],
    ["batch", `batch ${row.batch}`],
    ["precision", row.precision],
    ["device", row.device],
    ["backend", row.backend],
    ["threads", row.threads !== null && `${row.threads} thread${row.threads === 1 ? "" : "s"}`],
    ["region", row.region],
    ["protocol_hash", row.protocol_hash && `protocol ${row.protocol_hash}`],
  ];
  return parts
    .filter(([key, text]) => text && varies(key) && !skipped.includes(key))
    .map(([, text]) => text)
    .join(" · ");
}

// With its size, where models are there at several.
const nameOfModel = (row) => (row.size && varies("size") ? `${row.model} · ${row.size} px` : row.model);

const varies = (() => {
  const known = new Map();
  return (key) => {
    if (!known.has(key)) known.set(key, new Set(ROWS.map((row) => row[key])).size > 1);
    return known.get(key);
  };
})();
