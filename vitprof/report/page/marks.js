// What the plot consists of: points, axes, colours and shapes, and what is said of a point.
//
// Beside plot.js, which puts them together and listens.

const SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right"];
const SHAPE_PATHS = {
  circle: "M6 1.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0-9z",
  square: "M2 2h8v8h-8z",
  "triangle-up": "M6 1.5l5 9h-10z",
  diamond: "M6 .5l4.5 5.5l-4.5 5.5l-4.5-5.5z",
  "triangle-down": "M6 10.5l5-9h-10z",
  cross: "M4 1h4v3h3v4h-3v3h-4v-3h-3v-4h3z",
  "triangle-right": "M10.5 6l-9 5v-10z",
};
const OTHERS = "others";
// Colours by value of a facet, over all rows: a filter does not recolour what is left.
function coloursOf(facetKey) {
  const known = FACET[facetKey].values;
  const own = known.slice(0, known.length > REPORT.palette.length ? REPORT.palette.length : known.length);
  const styles = new Map(
    own.map(({ value }, at) => [value, { name: nameOf(value), colour: REPORT.palette[at], shape: SHAPES[at] }]),
  );
  const others = { name: OTHERS, colour: OTHER_COLOUR, shape: "circle" };
  const used = [...styles.values(), ...(known.length > own.length ? [others] : [])];
  return { of: (row) => styles.get(row[facetKey]) ?? others, used };
}

const nameOf = (value) => (value === null ? "none" : String(value));

// Against one of these, the rows that differ in nothing else are joined: a curve over it.
const JOINED = { batch: "batch", pixels: "size", threads: "threads" };
const CELL = ["model", "size", "batch", "precision", "device", "backend", "threads", "region", "protocol_hash"];
const OTHER_COLOUR = "#8A8A8A";

const curveOf = (row, skipped) => JSON.stringify(CELL.filter((key) => key !== skipped).map((key) => row[key]));

const refuse = () => Promise.reject(new Error("the report loads nothing"));

function pointOf(row, asked, colourName) {
  const [x, y] = [row[asked.x.key], row[asked.y.key]];
  // The time of a model with other outputs is void.
  if (row.void && (asked.x.isTime || asked.y.isTime)) return null;
  if (x === null || y === null || (asked.xLog && x <= 0) || (asked.yLog && y <= 0)) return null;
  const border = (key) => (key && row[key] !== null ? row[key] / asked.y.by : null);
  return {
    i: row.i,
    x: x / asked.x.by,
    y: y / asked.y.by,
    low: border(asked.y.low),
    high: border(asked.y.high),
    c: colourName,
  };
}

function axisOf(channel, field, isLog, points) {
  return {
    field: channel,
    type: "quantitative",
    title: titleOf(field),
    scale: {
      type: isLog ? "log" : "linear",
      nice: false,
      domain: domainOf(
        points.map((one) => one[channel]),
        isLog,
      ),
    },
    axis: { format: ",~r", labelOverlap: "greedy", tickCount: isLog ? 6 : 8 },
  };
}

// From the smallest to the largest with some air; not below 0 where nothing is.
function domainOf(values, isLog) {
  if (!values.length) return [1, 10];
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  if (isLog) {
    const air = Math.max(1.15, (high / low) ** 0.04);
    return [low / air, high * air];
  }
  const air = (high - low) * 0.05 || Math.abs(high) * 0.1 || 1;
  return [low >= 0 ? Math.max(0, low - air) : low - air, high + air];
}

function swatch(style) {
  return svg(
    "svg",
    { width: 12, height: 12, viewBox: "0 0 12 12", "aria-hidden": "true" },
    svg("path", { d: SHAPE_PATHS[style.shape], fill: style.colour }),
  );
}

const shortened = (name) => (name.length > 36 ? `${name.slice(0, 20)}…${name.slice(-14)}` : name);

function tipOf(row, asked) {
  const change = row.change ? ` · ${row.change}` : "";
  return [
    el("b", {}, row.model),
    el("div", { class: "quiet" }, cellOf(row)),
    definitions([
      [asked.x.label, withUnit(asked.x, row)],
      [
        asked.y.label,
        withUnit(asked.y, row) +
          (asked.y.key === "ratio" && row.ratio_half_share ? ` ± ${percent(row.ratio_half_share)}` : ""),
      ],
      ["grade", row.grade ? row.grade + change : change.slice(3)],
    ]),
  ];
}

// Vega draws with colours of its own: they are those of the page.
function themeOf() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  const [ink, soft, edge, card, accent] = ["--ink", "--soft", "--edge", "--card", "--accent"].map(of);
  const font = "system-ui, sans-serif";
  const axis = {
    domainColor: soft,
    tickColor: soft,
    gridColor: edge,
    labelColor: soft,
    titleColor: ink,
    labelFont: font,
    titleFont: font,
    labelFontSize: 12,
    titleFontSize: 13,
    titleFontWeight: 600,
  };
  return {
    ink,
    soft,
    card,
    accent,
    config: { axis, view: { stroke: "transparent" }, text: { font, fontSize: 12 }, aria: true },
  };
}
