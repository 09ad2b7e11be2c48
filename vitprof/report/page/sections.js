// Disagreement, failures, and what the numbers were measured with.

const GROUPS = REPORT.groups;
const INVERSIONS = GROUPS.flatMap((group) =>
  group.inversions.map((one) => ({ ...one, group, slow: ROWS[one.slower], fast: ROWS[one.faster] })),
).sort(
  (a, b) => b.time_ratio / b.macs_ratio - a.time_ratio / a.macs_ratio || a.slower - b.slower || a.faster - b.faster,
);

// What tells the groups apart; of a single one everything.
function groupWords(group) {
  const words = {
    device: group.device,
    backend: group.backend,
    precision: group.precision,
    batch: group.batch === null ? "" : `batch ${group.batch}`,
    threads: group.threads && `${group.threads} thread${group.threads === 1 ? "" : "s"}`,
    protocol_hash: group.protocol_hash && `protocol ${group.protocol_hash}`,
    reference: group.reference ? `against ${group.reference}` : "no reference",
  };
  const telling = Object.keys(words).filter((key) => new Set(GROUPS.map((one) => one[key])).size > 1);
  return (telling.length ? telling : Object.keys(words))
    .map((key) => words[key])
    .filter(Boolean)
    .join(" · ");
}

function correlation(one) {
  if (!one || one.value === null) return "";
  const sign = one.value < 0 ? "−" : "";
  const interval = one.low === null ? "" : ` (${one.low.toFixed(2)} to ${one.high.toFixed(2)})`;
  return `${sign}${Math.abs(one.value).toFixed(2)}${interval}`;
}

function drawGroups(host) {
  const count = (name, label) => ({
    key: name,
    label,
    isNumber: true,
    value: (group) => group.spearman[name]?.value ?? null,
    cell: (group) => correlation(group.spearman[name]),
  });
  new Table(host, {
    caption: "How well counts rank the models by time (Spearman)",
    empty: "No group has enough models to compare.",
    columns: [
      { key: "group", label: "group", class: "name", value: groupWords },
      { key: "models", label: "rows", isNumber: true, value: (group) => group.models },
      count("macs", "MACs"),
      count("params", "parameters"),
      count("activations", "activations"),
      count("roofline", "roofline"),
      { key: "best", label: "ranks best", value: (group) => group.best_count },
      {
        key: "r2",
        label: "R² of log MACs",
        isNumber: true,
        value: (group) => group.log_macs_r2,
        cell: (group) => (group.log_macs_r2 === null ? "" : group.log_macs_r2.toFixed(2)),
      },
      {
        key: "inversions",
        label: "inversions",
        isNumber: true,
        startsDown: true,
        value: (group) => group.inversions_total,
        cell: (group) =>
          `${group.inversions_total.toLocaleString("en-US")} of ${group.pairs.toLocaleString("en-US")} pairs`,
      },
    ],
  }).show(GROUPS);
}

const gradesOf = ({ group, slow, fast }) =>
  [slow, fast].map((row) => (group.reference ? row.ratio_grade : row.grade) ?? "none").join(", ");

function inversionTable(host, onpick) {
  const table = new Table(host, {
    caption: "Inversions: fewer MACs, yet slower",
    empty: "No pair has far fewer MACs and takes far longer.",
    columns: [
      { key: "slower", label: "slower", class: "name", value: (one) => nameOfModel(one.slow) },
      { key: "faster", label: "faster", class: "name", value: (one) => nameOfModel(one.fast) },
      {
        key: "macs",
        label: "MACs ÷",
        title: "slower ÷ faster",
        isNumber: true,
        value: (one) => one.macs_ratio,
        cell: (one) => `${significant(one.macs_ratio, 2)}×`,
      },
      {
        key: "time",
        label: "time ÷",
        title: "slower ÷ faster",
        isNumber: true,
        startsDown: true,
        value: (one) => one.time_ratio,
        cell: (one) => `${significant(one.time_ratio, 3)}×`,
      },
      // Of a time that is not sound the ratio is not either.
      ...(INVERSIONS.some((one) => gradesOf(one).includes("C"))
        ? [{ key: "grades", label: "grades", title: "of the slower, of the faster", value: gradesOf }]
        : []),
      { key: "reason", label: "why", class: "words", value: (one) => one.reason },
      { key: "group", label: "group", class: "words", value: (one) => groupWords(one.group) },
    ],
    onpick,
  });
  table.show(INVERSIONS);
  return table;
}

function drawTroubles(host, troubles, empty, onpick) {
  if (!troubles.length) {
    fill(host, [el("p", { class: "quiet" }, empty)]);
    return;
  }
  fill(
    host,
    troubles.map((one) =>
      el(
        "article",
        { class: "trouble" },
        el(
          "h4",
          {},
          `${one.title}: ${one.cells.length.toLocaleString("en-US")} ${one.cells.length === 1 ? "row" : "rows"}`,
        ),
        el(
          "ul",
          {},
          one.facts.slice(0, 12).map((fact) => el("li", {}, fact)),
          one.facts.length > 12 && el("li", {}, `and ${one.facts.length - 12} more`),
        ),
        one.remedy && el("p", { class: "remedy" }, "Remedy: ", one.remedy),
        cellsOf(one.cells, onpick),
      ),
    ),
  );
}

const SHOWN_CELLS = 8;

function cellsOf(cells, onpick) {
  const words = (cell) =>
    cell.row === null ? cell.text : [ROWS[cell.row].model, cellOf(ROWS[cell.row])].filter(Boolean).join(" · ");
  const item = (cell) =>
    el(
      "li",
      {},
      cell.row === null
        ? words(cell)
        : el(
            "button",
            { type: "button", class: "pick", onclick: (event) => onpick(ROWS[cell.row], event) },
            words(cell),
          ),
    );
  const [first, rest] = [cells.slice(0, SHOWN_CELLS), cells.slice(SHOWN_CELLS)];
  const more = rest.length ? el("details", {}, el("summary", {}, `${rest.length.toLocaleString("en-US")} more`)) : null;
  // Thousands of buttons are made only when somebody looks.
  if (more)
    more.ontoggle = () =>
      more.children.length === 1 && more.append(el("ul", { class: "cells" }, rest.slice(0, 500).map(item)));
  return [el("ul", { class: "cells" }, first.map(item)), more];
}

const LONG_FACTS = ["facts", "command", "cell", "before", "now", "versions"];

// Columns that are empty in every row are left out.
function drawFacts(host, caption, columns, rows, empty) {
  const known = columns.filter(([key]) => rows.some((row) => row[key] !== null));
  new Table(host, {
    caption,
    empty,
    columns: known.map(([key, label]) => ({
      key,
      label,
      isNumber: ["rows", "sets"].includes(key),
      class: LONG_FACTS.includes(key) ? "words" : "",
      value: (row) => row[key],
    })),
  }).show(rows);
}

function drawConditions() {
  const hasBefore = REPORT.runs.some((run) => run.role === "before");
  drawFacts(
    show("runs"),
    "Runs",
    [
      ["id", "run"],
      ["role", "is"],
      ["started_at", "started"],
      ["rows", "rows"],
      ["gate", "gate"],
      ["vitprof_version", "vitprof"],
      ["command", "command"],
    ],
    REPORT.runs,
    "No run.",
  );
  drawFacts(
    show("environment"),
    "What is different in the machines and runtimes since the last run",
    [
      ["device", "device"],
      ["backend", "runtime"],
      ["name", "fact"],
      ["before", "before"],
      ["now", "now"],
      ["rows", "rows"],
    ],
    REPORT.environment,
    hasBefore ? "Nothing known is different from the last run." : "No earlier run to compare with.",
  );
  drawFacts(
    show("placements"),
    "Changes of placement",
    [
      ["model", "model"],
      ["cell", "measured as"],
      ["before", "operators placed as asked, before"],
      ["now", "now"],
      ["macs_before", "MACs placed as asked, before"],
      ["macs_now", "now"],
      ["run", "before: run"],
    ],
    REPORT.placements,
    hasBefore ? "No change of placement." : "No earlier run to compare with.",
  );
  drawFacts(
    show("protocols"),
    "Protocols",
    [
      ["hash", "protocol"],
      ["effort", "effort"],
      ["sets", "processes"],
      ["region", "timed"],
      ["references", "reference"],
      ["rows", "rows"],
    ],
    REPORT.protocols,
    "None.",
  );
  drawFacts(
    show("versions"),
    "Versions",
    [
      ["device", "device"],
      ["backend", "runtime"],
      ["versions", "versions"],
    ],
    REPORT.versions,
    "None.",
  );
  drawFacts(
    show("machines"),
    "Machines",
    [
      ["device", "device"],
      ["facts", "facts"],
      ["rows", "rows"],
    ],
    REPORT.machines,
    "None.",
  );
  fill(
    show("left-out"),
    REPORT.left_out.map((text) => el("li", {}, text)),
  );
  show("left-out-box").hidden = !REPORT.left_out.length;
}
