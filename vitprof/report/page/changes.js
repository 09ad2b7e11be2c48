// What changed since the last run, and how certain that is.

const CHANGES = rowsFrom(REPORT.changes).map((change) => ({
  ...change,
  row: change.at === null ? null : ROWS[change.at],
}));
const CHANGE_OF = new Map(CHANGES.filter((one) => one.row).map((one) => [one.row.i, one]));
// Worst first, as the headline counts them.
const KINDS = REPORT.kinds;
const CHANGE_COUNTS = KINDS.map((kind) => ({ kind, count: CHANGES.filter((one) => one.kind === kind).length })).filter(
  (one) => one.count,
);

function changePercent(change) {
  if (change.ratio === null) return "";
  const by = (change.ratio - 1) * 100;
  return `${by >= 0 ? "+" : "−"}${significant(Math.abs(by), 3)} %`;
}

// What the verdict stands on, in words.
function certainty(change) {
  const { kind, ratio, low, high } = change;
  const band = REPORT.band;
  if (ratio !== null && low === null) return "no interval: nothing certain can be said";
  const share = (value) => percent(Math.abs(value - 1));
  if (kind === "slower") return `certain: at least ${share(low)} slower (95 %)`;
  if (kind === "faster") return `certain: at least ${share(high)} faster (95 %)`;
  if (kind === "same") return `certain: within ±${percent(band)} (95 %)`;
  if (kind === "undecided")
    return `not certain: between ${signed(low)} and ${signed(high)}, the border is ±${percent(band)}`;
  return change.detail;
}

const signed = (ratio) => `${ratio >= 1 ? "+" : "−"}${percent(Math.abs(ratio - 1))}`;

class Changes {
  constructor({ buttons, host, onpick }) {
    Object.assign(this, { buttons, host, kind: null });
    // The widest interval fills the picture, none is drawn beyond a factor of two.
    const reaches = CHANGES.filter((one) => one.low !== null).flatMap((one) => [
      -Math.log(one.low),
      Math.log(one.high),
    ]);
    const reach = Math.min(
      Math.log(2),
      Math.max(
        0.1,
        reaches.reduce((a, b) => Math.max(a, b), 0),
      ),
    );
    this.table = new Table(host, {
      caption: "Changes since the last run",
      empty: "Nothing of that kind.",
      columns: [
        { key: "model", label: "model", class: "name", value: (one) => one.row?.model ?? one.model },
        { key: "kind", label: "change", value: (one) => KINDS.indexOf(one.kind), cell: (one) => verdictMark(one.kind) },
        {
          key: "ratio",
          label: "now ÷ before",
          isNumber: true,
          startsDown: true,
          value: (one) => one.ratio,
          cell: (one) => changePercent(one),
        },
        {
          key: "bar",
          label: "interval",
          value: (one) => one.low,
          cell: (one) => (one.ratio === null ? "" : intervalBar(one.ratio, one.low, one.high, REPORT.band, reach)),
        },
        { key: "certainty", label: "how certain", class: "words", value: certainty },
        { key: "cell", label: "measured as", class: "words", value: (one) => (one.row ? cellOf(one.row) : one.cell) },
        { key: "confounders", label: "what else differs", class: "words", value: (one) => one.confounders.join("; ") },
        ...(new Set(CHANGES.map((one) => one.baseline_run).filter(Boolean)).size > 1
          ? [{ key: "baseline", label: "before: run", value: (one) => one.baseline_run }]
          : []),
      ],
      onpick: (one, event) => one.row && onpick(one.row, event),
    });
  }

  open(kind = null) {
    this.kind = kind;
    fill(this.buttons, [
      this.button(null, `all ${CHANGES.length.toLocaleString("en-US")}`),
      CHANGE_COUNTS.map(({ kind: one, count }) =>
        this.button(one, verdictMark(one), ` ${count.toLocaleString("en-US")}`),
      ),
    ]);
    this.table.sort =
      kind === "slower" ? { key: "ratio", down: true } : kind === "faster" ? { key: "ratio", down: false } : null;
    this.table.show(CHANGES.filter((one) => kind === null || one.kind === kind));
  }

  button(kind, ...label) {
    return el(
      "button",
      {
        type: "button",
        "data-kind": kind ?? "all",
        "aria-pressed": String(kind === this.kind),
        onclick: () => this.open(kind),
      },
      label,
    );
  }

  choose(rows) {
    this.table.choose(rows.map((row) => CHANGE_OF.get(row.i)).filter(Boolean));
  }
}
