// The page: what is chosen, and who is told when that changes.

const hasOneReference =
  new Set(ROWS.filter((row) => !row.void).map((row) => `${row.reference} ${row.protocol_hash}`)).size === 1 &&
  ROWS.some((row) => row.ratio !== null);
// Of what failed there is nothing to draw.
const hasPlot = ROWS.some((row) => row.outcome !== "failed");
const state = {
  x: NUMBER.macs ? "macs" : NUMBERS[0]?.key,
  y: [hasOneReference ? "ratio" : "ms", "image_ms", "instructions"].find((key) => NUMBER[key]) ?? NUMBERS[0]?.key,
  xLog: true,
  yLog: true,
  colour: ["device", "backend"].find(varies) ?? "family",
  marked: [],
  front: null,
};

const plot = new Plot({ host: show("plot"), legend: show("legend"), tip: show("tip"), onpick: pick });
const changes = new Changes({ buttons: show("kinds"), host: show("changes-table"), onpick: pickAndShow });
const inversions = inversionTable(show("inversions"), pickInversion);
const results = new Table(show("results"), {
  caption: "Results",
  columns: [],
  onpick: pick,
  empty: "No row passes the filters.",
});
const filters = new Filters({ bar: show("facets"), chips: show("chips"), search: show("search"), onchange: refresh });
const fastest = new Fastest(show("fastest"), { onfront: showFront, onpick: pickAndShow });

// Columns of the table of results. What all rows share has no column; `isExtra`: shown when asked for.
const text = (key, label, extra) => ({ key, label, value: (row) => row[key], ...extra });
const number = (key, label, extra) =>
  NUMBER[key] && {
    key,
    label,
    isNumber: true,
    title: titleOf(NUMBER[key]),
    value: (row) => row[key],
    cell: (row) => shownNumber(NUMBER[key], row),
    ...extra,
  };
const timed = (key, label, extra) => {
  const column = number(key, label, extra);
  // The time of a model with other outputs is void.
  return (
    column && {
      ...column,
      cell: (row) =>
        row.outcome === "broken" && row[key] !== null
          ? el("s", {}, shownNumber(NUMBER[key], row))
          : shownNumber(NUMBER[key], row),
    }
  );
};
const COLUMNS = [
  text("model", "model", { class: "name" }),
  timed("ratio", "ratio"),
  text("ratio_half_share", "±", {
    isNumber: true,
    title: "half of the ratio's 95 % interval",
    cell: (row) => percent(row.ratio_half_share),
  }),
  timed("ms", "ms"),
  text("grade", "grade", { cell: (row) => gradeMark(row.grade) }),
  CHANGES.length
    ? text("change", "change", {
        value: (row) => (row.change ? KINDS.indexOf(row.change) : null),
        cell: (row) => verdictMark(row.change),
      })
    : null,
  ...["size", "batch", "precision", "device", "backend", "threads", "region", "protocol_hash"].map(
    (key) =>
      varies(key) &&
      text(key, FACET[key].label.toLowerCase(), {
        isNumber: ["batch", "threads", "size"].includes(key),
        value: (row) => (key === "size" ? row.pixels : row[key]),
        cell: (row) => row[key] ?? "",
      }),
  ),
  timed("instructions", "M instructions"),
  timed("images_per_s", "images/s"),
  number("macs", "GMAC"),
  number("params", "M params"),
  number("intensity", "MAC/byte"),
  timed("utilisation", "utilised %"),
  number("rss_bytes", "process MB"),
  number("device_bytes", "device MB"),
  number("nvml_bytes", "device MB, NVML"),
  timed("joules", "mJ/image"),
  number("top1", "top-1 %"),
  text("outcome", "outcome", {
    isExtra: ROWS.every((row) => row.outcome === "ok"),
    cell: (row) => (row.outcome === "ok" ? "ok" : el("span", { class: "bad" }, row.outcome)),
  }),
  ...[
    "half_share",
    "p90_ms",
    "p99_ms",
    "image_ms",
    "corrected_ms",
    "roofline_ms",
    "achieved",
    "launch_share",
    "weight_bytes",
    "activation_bytes",
    "moved_bytes",
    "ops",
    "load_ms",
    "build_ms",
    "first_ms",
    "placed_share",
    "rss_measuring_bytes",
    "joules_above_idle",
    "power_w",
    "idle_power_w",
  ].map((key) => NUMBER[key] && (NUMBER[key].isTime ? timed : number)(key, titleOf(NUMBER[key]), { isExtra: true })),
  text("ratio_grade", "grade of the ratio", { isExtra: true, cell: (row) => gradeMark(row.ratio_grade) }),
  text("family", "family", { isExtra: true }),
  text("run", "run", { isExtra: !varies("run") }),
].filter((column) => column && ROWS.some((row) => column.value(row) !== null));
const shownColumns = new Set(COLUMNS.filter((column) => !column.isExtra).map((column) => column.key));

function refresh() {
  const rows = filters.rows();
  show("count").textContent = `${rows.length.toLocaleString("en-US")} of ${ROWS.length.toLocaleString("en-US")} rows`;
  results.show(rows);
  results.choose(state.marked);
  drawPlot(rows);
}

function drawPlot(rows = plot.last?.rows ?? ROWS) {
  if (!hasPlot) return;
  const [x, y] = [NUMBER[state.x], NUMBER[state.y]];
  const shown = { rows, x, y, xLog: state.xLog, yLog: state.yLog, colour: state.colour, marked: state.marked };
  // The front is one of two numbers: against others it says nothing.
  if (state.front && state.front.x === state.x && state.front.y === state.y) {
    shown.front = state.front.rows.map((row) => ({ x: row[state.x] / x.by, y: row[state.y] / y.by }));
    shown.frontStep = isFloor(state.x) ? "step-before" : "step-after";
  }
  plot.draw(shown);
}

function mark(rows) {
  state.marked = rows;
  results.choose(rows);
  changes.choose(rows);
  inversions.choose(
    INVERSIONS.filter((one) => rows.length === 2 && rows.includes(one.slow) && rows.includes(one.fast)),
  );
  inspect(show("inspector"), rows, { onclear: () => mark([]) });
  plot.mark(rows);
}

function pick(row, event) {
  const [first] = state.marked;
  mark(event?.shiftKey && first && first !== row ? [first, row] : [row]);
}

function goTo(id) {
  show(id).scrollIntoView({
    behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth",
    block: "start",
  });
}

function pickAndShow(row, event) {
  pick(row, event);
  goTo("explore");
}

// A filter on each of these that tells rows apart.
function only(one, keys) {
  return Object.fromEntries(keys.filter((key) => varies(key)).map((key) => [key, [one[key]]]));
}

function setAxes(x, y, colour = state.colour) {
  Object.assign(state, { x, y, colour, xLog: NUMBER[x].log, yLog: NUMBER[y].log });
  drawControls();
}

// Both models among their group, with the axes on which they disagree.
function pickInversion(one) {
  const { group, slow, fast } = one;
  state.front = null;
  setAxes(
    "macs",
    group.reference && NUMBER.ratio && group.batch !== null ? "ratio" : NUMBER.image_ms ? "image_ms" : "ms",
    "family",
  );
  state.marked = [slow, fast];
  const keys = ["device", "backend", "precision", "batch", "threads", "protocol_hash"];
  filters.set(only(group, keys));
  mark([slow, fast]);
  fill(show("why"), [
    el("b", {}, nameOfModel(slow)),
    ` has ${significant(one.macs_ratio, 2)} times the MACs of `,
    el("b", {}, nameOfModel(fast)),
    ` and takes ${significant(one.time_ratio, 3)} times as long: ${one.reason === "unexplained" ? "nothing that was counted explains it" : one.reason}.`,
    gradesOf(one).includes("C") && ` Not to be relied on: the grades of the two times are ${gradesOf(one)}.`,
  ]);
  show("why").hidden = false;
  goTo("explore");
}

function showFront({ device, group, budget, front }) {
  const [batch, region, protocol_hash, reference] = group.parts;
  const y = reference === null ? (group.rows[0].ms === null ? "image_ms" : "ms") : "ratio";
  mark([]);
  state.front = { rows: front, x: budget, y };
  show("why").hidden = true;
  setAxes(budget, y, new Set(group.rows.map((row) => row.backend)).size > 1 ? "backend" : "family");
  const asked = { device, batch, region, protocol_hash };
  filters.set(only(asked, Object.keys(asked)));
}

const QUESTIONS = {
  fastest: () => fastest.open(),
  changes: () =>
    changes.open(
      CHANGES.some((one) => one.kind === "slower")
        ? "slower"
        : CHANGES.some((one) => one.kind === "undecided")
          ? "undecided"
          : null,
    ),
  disagreement: () => INVERSIONS.length && pickInversion(INVERSIONS[0]),
};

function drawQuestions() {
  const count = (kind) => CHANGES.filter((one) => one.kind === kind).length;
  const worst = INVERSIONS[0];
  const said = {
    fastest: `${ROWS.filter((row) => !row.void).length.toLocaleString("en-US")} timed rows on ${fastest.devices.length} ${fastest.devices.length === 1 ? "device" : "devices"}`,
    changes: REPORT.runs.some((run) => run.role === "before")
      ? `${count("slower")} slower for certain, ${count("undecided")} undecided, ${count("broke")} broke`
      : "no earlier run to compare with",
    disagreement: worst
      ? `${INVERSIONS.length.toLocaleString("en-US")} shown; the worst: ${significant(worst.macs_ratio, 2)} times the MACs, ${significant(worst.time_ratio, 3)} times the time`
      : "no such pair",
  };
  for (const button of document.querySelectorAll("#questions button")) {
    const name = button.dataset.question;
    button.querySelector("small").textContent = said[name];
    button.onclick = () => {
      show("fastest-box").hidden = name !== "fastest";
      QUESTIONS[name]();
      goTo({ fastest: "fastest-box", changes: "changes", disagreement: "explore" }[name]);
    };
  }
}

function drawControls() {
  for (const axis of ["x", "y"]) {
    const select = show(`${axis}-axis`);
    options(
      select,
      NUMBERS.map((field) => [field.key, titleOf(field)]),
      state[axis],
    );
    select.onchange = () => {
      setAxes(axis === "x" ? select.value : state.x, axis === "y" ? select.value : state.y);
      drawPlot();
    };
    const log = show(`${axis}-log`);
    log.checked = state[`${axis}Log`];
    log.onchange = () => {
      state[`${axis}Log`] = log.checked;
      drawPlot();
    };
  }
  const colour = show("colour");
  options(
    colour,
    FACETS.filter((facet) => facet.values.length > 1 || facet.key === "family").map((facet) => [
      facet.key,
      facet.label,
    ]),
    state.colour,
  );
  colour.onchange = () => {
    state.colour = colour.value;
    drawPlot();
  };
}

function drawColumnPicker() {
  const boxes = COLUMNS.slice(1).map((column) => {
    const input = el("input", { type: "checkbox", checked: shownColumns.has(column.key) });
    input.onchange = () => {
      if (input.checked) shownColumns.add(column.key);
      else shownColumns.delete(column.key);
      showColumns();
    };
    return el("label", {}, input, el("span", {}, column.title ?? column.label));
  });
  fill(show("column-list"), boxes);
}

function showColumns() {
  results.columns = COLUMNS.filter((column) => shownColumns.has(column.key));
  if (results.sorted) results.draw();
}

function drawHead() {
  document.title = REPORT.title;
  show("title").textContent = REPORT.title;
  show("subtitle").textContent = REPORT.subtitle;
  show("shared").textContent = REPORT.shared;
  fill(
    show("headline"),
    CHANGE_COUNTS.map(({ kind, count }) =>
      el(
        "button",
        { type: "button", "data-kind": kind, onclick: () => (changes.open(kind), goTo("changes")) },
        verdictMark(kind),
        ` ${count.toLocaleString("en-US")}`,
      ),
    ),
  );
}

drawHead();
drawQuestions();
drawControls();
drawColumnPicker();
showColumns();
drawGroups(show("groups"));
drawTroubles(show("failures-list"), REPORT.failures, "Nothing failed.", pickAndShow);
drawTroubles(show("broken-list"), REPORT.broken, "None was found.", pickAndShow);
drawTroubles(show("warnings-list"), REPORT.warnings, "No warnings.", pickAndShow);
drawConditions();
changes.open(null);
inspect(show("inspector"), [], {});
show("reset").onclick = () => {
  state.front = null;
  show("why").hidden = true;
  filters.set({});
};
for (const id of ["axes", "plot-box"]) show(id).hidden = !hasPlot;
refresh();
plot.drawing.then(() => document.documentElement.setAttribute("data-ready", ""));
