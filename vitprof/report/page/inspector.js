// All that is known of one chosen row, or of two beside each other.

// Terms with their value of a row; a term that no chosen row has is left out.
const FACTS = [
  [
    "latency",
    (row) =>
      withUnit(NUMBER.ms ?? {}, row) &&
      `${withUnit(NUMBER.ms, row)}${row.half_share ? ` ± ${percent(row.half_share)}` : ""}`,
  ],
  [
    "ratio to the reference",
    (row) =>
      row.ratio !== null &&
      `${significant(row.ratio)}${row.ratio_half_share ? ` ± ${percent(row.ratio_half_share)}` : ""} (${row.reference})`,
  ],
  ["grade", (row) => [row.grade, row.ratio_grade && `ratio ${row.ratio_grade}`].filter(Boolean).join(", ")],
  ["since the last run", (row) => changeText(row)],
  ...NUMBERS.filter((field) => !["ms", "ratio", "half_share", "batch", "threads", "pixels"].includes(field.key)).map(
    (field) => [field.label, (row) => withUnit(field, row)],
  ),
  ["energy counted by", (row) => row.energy_source],
  ["bound by", (row) => row.bound],
  ["counted", (row) => row.uncounted],
  [
    "samples",
    (row) =>
      row.samples !== null &&
      `${row.samples.toLocaleString("en-US")} in ${row.sets} processes, ${row.rounds} rounds, stopped by ${row.stop_reason}`,
  ],
  ["parity", (row) => row.parity],
  ["artifact", (row) => row.artifact],
  ["fix-ups", (row) => row.fixups],
  ["runtime", (row) => [row.backend, row.backend_version].filter(Boolean).join(" ")],
  ["timed", (row) => row.region],
  ["protocol", (row) => row.protocol_hash],
  ["run", (row) => [row.run, row.origin, row.started_at].filter(Boolean).join(", ")],
];

function changeText(row) {
  if (!row.change) return "";
  const change = CHANGE_OF.get(row.i);
  return change?.ratio ? `${row.change}, ${changePercent(change)}` : row.change;
}

function inspect(host, rows, { onclear }) {
  if (!rows.length) {
    fill(host, [
      el(
        "p",
        { class: "quiet" },
        "Choose a point or a line of the table to see all that is known of it. With Shift a second one beside it.",
      ),
    ]);
    return;
  }
  const facts = FACTS.map(([term, of]) => [term, rows.map((row) => of(row) || "")]).filter(([, values]) =>
    values.some(Boolean),
  );
  const clear = el("button", { type: "button", class: "quiet-button", onclick: onclear }, "Clear");
  const head = el(
    "tr",
    {},
    el("td", {}, clear),
    rows.map((row) => el("th", { scope: "col" }, row.model, el("div", { class: "quiet" }, cellOf(row)))),
  );
  const lines = facts.map(([term, values]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, term),
      values.map((value) => el("td", {}, value)),
    ),
  );
  fill(host, [
    el(
      "div",
      { class: "scroller", tabindex: "0", role: "region", "aria-label": "What is known of the chosen rows" },
      el("table", { class: "facts" }, el("thead", {}, head), el("tbody", {}, lines)),
    ),
    kindsTable(rows),
    rows.map((row) => troublesOf(row)),
  ]);
}

// Where the counted work lies, by kind of operator.
function kindsTable(rows) {
  const known = rows.filter((row) => row.kinds);
  if (!known.length) return null;
  const names = [...new Set(known.flatMap((row) => Object.keys(row.kinds)))];
  const cell = (row, name) => {
    const kind = row.kinds?.[name];
    if (!kind) return el("td", { class: "number" }, "");
    const [calls, macs, bytes] = kind;
    return el(
      "td",
      { class: "number" },
      [`${calls}×`, macs ? `${significant(macs / 1e6, 3)} MMAC` : "", `${significant(bytes / 1e6, 3)} MB`]
        .filter(Boolean)
        .join(", "),
    );
  };
  const head = el(
    "tr",
    {},
    el("th", { scope: "col" }, "kind"),
    rows.map((row) => el("th", { scope: "col", class: "number" }, shortened(row.model))),
  );
  const lines = names.map((name) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, name.replaceAll("_", " ")),
      rows.map((row) => cell(row, name)),
    ),
  );
  return el(
    "details",
    { open: rows.length > 1 },
    el("summary", {}, "Counted work by kind of operator, of one image"),
    el(
      "div",
      { class: "scroller", tabindex: "0", role: "region", "aria-label": "Counted work by kind" },
      el("table", { class: "facts" }, el("thead", {}, head), el("tbody", {}, lines)),
    ),
  );
}

function troublesOf(row) {
  const troubles = [
    ...(row.failure
      ? [{ code: `failed at ${row.failure.stage}`, detail: row.failure.error, remedy: row.failure.remedy }]
      : []),
    ...(row.warnings ?? []),
  ];
  if (!troubles.length) return null;
  return el(
    "div",
    {},
    el("h4", {}, `Doubts of ${shortened(row.model)}`),
    el(
      "ul",
      { class: "troubles" },
      troubles.map((one) =>
        el(
          "li",
          {},
          el("b", {}, one.code),
          `: ${one.detail} `,
          one.remedy && el("span", { class: "remedy" }, one.remedy),
        ),
      ),
    ),
  );
}
