// The three questions that a reader comes with, each answered by one click:
// which is fastest at my budget on this device; what got slower, and is it certain; why does fewer MACs take longer.

const BUDGETS = [
  "top1",
  "macs",
  "params",
  "weight_bytes",
  "moved_bytes",
  "rss_bytes",
  "device_bytes",
  "nvml_bytes",
  "joules",
].filter((key) => NUMBER[key]);
const isFloor = (key) => key === "top1";

// Rows whose times may be ranked: one device, batch, region, protocol and reference; the largest group first.
function rankable(device) {
  const groups = new Map();
  for (const row of ROWS) {
    if (row.device !== device || row.void || row.image_ns === null) continue;
    const parts = [row.batch, row.region, row.protocol_hash, row.reference];
    const key = JSON.stringify(parts);
    if (!groups.has(key)) groups.set(key, { key, parts, rows: [] });
    groups.get(key).rows.push(row);
  }
  const found = [...groups.values()].sort(
    (a, b) => b.rows.length - a.rows.length || a.parts[0] - b.parts[0] || compareText(a.key, b.key),
  );
  for (const group of found) group.name = groupName(group.parts, found);
  return found;
}

function groupName([batch, region, protocol, reference], all) {
  const differs = (at) => new Set(all.map((one) => one.parts[at])).size > 1;
  return [
    `batch ${batch}`,
    differs(1) && region,
    differs(2) && protocol && `protocol ${protocol}`,
    differs(3) && (reference ? `against ${reference}` : "no reference"),
  ]
    .filter(Boolean)
    .join(", ");
}

// What is compared: the ratio where the rows have a reference in common, else the time; of one inference, one batch.
const timeOf = (row) => (row.reference === null ? row.ms : row.ratio) ?? row.image_ms;
const lowOf = (row) => (row.reference === null ? row.ms_low : row.ratio_low) ?? timeOf(row);
const highOf = (row) => (row.reference === null ? row.ms_high : row.ratio_high) ?? timeOf(row);

// Of what is compared: the milliseconds may be less sure than the ratio, or more.
const gradeOf = (row) => row.ratio_grade ?? row.grade;

// Of one model several rows may be ranked together, such as those of two backends.
const cellName = (row) => [row.model, cellOf(row, ["device"])].filter(Boolean).join(" · ");

// The fastest for every budget: who needs more of it and is not faster is left out.
function frontOf(rows, budget) {
  const sign = isFloor(budget) ? -1 : 1;
  const sorted = rows
    .filter((row) => row[budget] !== null)
    .sort((a, b) => sign * (a[budget] - b[budget]) || timeOf(a) - timeOf(b) || a.i - b.i);
  const front = [];
  for (const row of sorted) if (!front.length || timeOf(row) < timeOf(front.at(-1))) front.push(row);
  return front;
}

// Those within the budget whose interval reaches into the interval of the fastest.
function nearlyAsFast(rows, best) {
  return rows
    .filter((row) => row !== best && lowOf(row) <= highOf(best))
    .sort((a, b) => timeOf(a) - timeOf(b) || a.i - b.i);
}

class Fastest {
  constructor(host, { onfront, onpick }) {
    Object.assign(this, { host, onfront, onpick, device: null, budget: BUDGETS[0], limit: null, group: 0 });
    this.devices = FACET.device.values.map((one) => one.value).filter((device) => rankable(device).length);
  }

  open(device = this.device ?? this.devices[0]) {
    if (device !== this.device) this.group = 0;
    this.device = device;
    this.draw();
  }

  draw() {
    if (!this.devices.length || !BUDGETS.length) {
      fill(this.host, [el("p", {}, "No row has both a time and a count.")]);
      return;
    }
    const groups = rankable(this.device);
    const group = groups[this.group] ?? groups[0];
    const front = frontOf(group.rows, this.budget);
    fill(this.host, [
      this.controls(groups),
      this.answer(group.rows),
      el(
        "h4",
        {},
        isFloor(this.budget)
          ? "For every budget: the fastest that reaches at least this"
          : "For every budget: the fastest that needs at most this",
      ),
      isFloor(this.budget) &&
        el(
          "p",
          { class: "quiet", id: "within" },
          "Within a latency: the most accurate line whose time fits; no other row reaches more in that time.",
        ),
      this.steps(front),
    ]);
    this.onfront({ device: this.device, group, budget: this.budget, front });
  }

  controls(groups) {
    const field = NUMBER[this.budget];
    const devices = this.devices.map((device) =>
      el(
        "button",
        { type: "button", "aria-pressed": String(device === this.device), onclick: () => this.open(device) },
        device,
      ),
    );
    const budget = el("select", { "aria-label": "budget" });
    options(
      budget,
      BUDGETS.map((key) => [key, NUMBER[key].label]),
      this.budget,
    );
    budget.onchange = () => this.change({ budget: budget.value, limit: null });
    const limit = el("input", {
      type: "number",
      step: "any",
      min: "0",
      placeholder: "any",
      value: this.limit ?? "",
      "aria-label": `limit in ${field.unit || field.label}`,
      id: "limit",
    });
    limit.onchange = () => this.change({ limit: limit.value === "" ? null : Number(limit.value) });
    const words = isFloor(this.budget) ? "at least" : "at most";
    const which = el("select", { "aria-label": "rows that may be compared" });
    options(
      which,
      groups.map((group, at) => [String(at), `${group.name} (${group.rows.length})`]),
      String(this.group),
    );
    which.onchange = () => this.change({ group: Number(which.value) });
    return el(
      "div",
      { class: "row" },
      el("div", { class: "buttons", role: "group", "aria-label": "device" }, devices),
      el("label", {}, words, limit, field.unit),
      budget,
      groups.length > 1 && which,
    );
  }

  change(what) {
    Object.assign(this, what);
    this.draw();
  }

  answer(rows) {
    const field = NUMBER[this.budget];
    const limit = this.limit === null ? null : this.limit * field.by;
    // Without a limit also those of which nobody knows what they need.
    const known = rows.filter((row) => limit === null || row[this.budget] !== null);
    const within = known.filter(
      (row) => limit === null || (isFloor(this.budget) ? row[this.budget] >= limit : row[this.budget] <= limit),
    );
    const unknown = rows.length - known.length;
    const left = unknown ? ` Not looked at: ${unknown.toLocaleString("en-US")} of unknown ${field.label}.` : "";
    const words =
      limit === null
        ? "With any budget"
        : `With ${isFloor(this.budget) ? "at least" : "at most"} ${this.limit} ${field.unit || field.label}`;
    if (!within.length) return el("p", { class: "answer" }, `${words}, nothing was measured on ${this.device}.${left}`);
    const best = within.reduce((a, b) => (timeOf(b) < timeOf(a) ? b : a));
    const near = nearlyAsFast(within, best);
    const also = near.length
      ? ` Its interval is reached by ${near
          .slice(0, 3)
          .map((row) => cellName(row))
          .join(", ")}${near.length > 3 ? ` and ${near.length - 3} more` : ""}.`
      : lowOf(best) < highOf(best)
        ? " No other interval reaches its own."
        : " How certain that is cannot be said: its interval is not known.";
    return el(
      "p",
      { class: "answer", id: "answer" },
      `${words}, the fastest on ${this.device} is `,
      el("b", {}, best.model),
      ` (${cellOf(best, ["device"]) || "one cell"}): ${timeText(best)}, grade ${gradeOf(best) ?? "unknown"}.`,
      also,
      left,
    );
  }

  steps(front) {
    const field = NUMBER[this.budget];
    const table = el("div", {});
    new Table(table, {
      caption: `The fastest on ${this.device} for every budget`,
      columns: [
        { key: "model", label: "fastest", value: (row) => row.model, class: "name" },
        {
          key: "budget",
          label: titleOf(field),
          isNumber: true,
          value: (row) => row[this.budget],
          cell: (row) => shownNumber(field, row),
        },
        {
          key: "ratio",
          label: "ratio",
          isNumber: true,
          value: (row) => row.ratio,
          cell: (row) => significant(row.ratio),
        },
        {
          key: "ms",
          label: "ms",
          isNumber: true,
          value: (row) => row.ms ?? row.image_ms,
          cell: (row) => significant(row.ms ?? row.image_ms),
        },
        { key: "cell", label: "measured as", value: (row) => cellOf(row, ["device"]) },
        { key: "grade", label: "grade", value: gradeOf, cell: (row) => gradeMark(gradeOf(row)) },
      ],
      onpick: this.onpick,
    }).show(front);
    return table;
  }
}

function timeText(row) {
  const ms = row.ms ?? row.image_ms;
  const ratio =
    row.ratio === null
      ? ""
      : `ratio ${significant(row.ratio)}${row.ratio_half_share ? ` ± ${percent(row.ratio_half_share)}` : ""}, `;
  return `${ratio}${significant(ms)} ms${row.ms === null ? " an image" : ""}`;
}
