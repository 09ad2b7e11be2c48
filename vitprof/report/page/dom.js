// What stands on the page: elements, whose text is always text.
//
// Names and errors come from outside. Nothing here or elsewhere reads markup: no innerHTML, no attribute from the data
// but `title`, `value` and `aria-label`, so a model whose name is markup is shown as the letters of that markup.

const show = (id) => document.getElementById(id);

// Properties of a name starting with `on` are functions; the others are attributes; null and false leave them out.
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node[name] = value;
    else if (value !== null && value !== undefined && value !== false)
      node.setAttribute(name, value === true ? "" : value);
  }
  return fill(node, children, false);
}

function fill(node, children, isNew = true) {
  if (isNew) node.replaceChildren();
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function options(select, choices, chosen) {
  fill(
    select,
    choices.map(([value, text]) => el("option", { value, selected: value === chosen }, text)),
  );
  select.value = chosen;
}

const VERDICTS = {
  broke: { sign: "✕", word: "broke" },
  "still broken": { sign: "✕", word: "still broken" },
  slower: { sign: "▲", word: "slower" },
  undecided: { sign: "?", word: "undecided" },
  "not compared": { sign: "≠", word: "not compared" },
  faster: { sign: "▼", word: "faster" },
  mended: { sign: "✓", word: "mended" },
  same: { sign: "=", word: "same" },
  new: { sign: "+", word: "new" },
  gone: { sign: "−", word: "gone" },
};

// A word and a sign, not colour alone.
function verdictMark(verdict) {
  const known = VERDICTS[verdict];
  if (!known) return verdict ?? "";
  return el(
    "span",
    { class: `verdict ${verdict.replaceAll(" ", "-")}` },
    el("i", { "aria-hidden": "true" }, known.sign),
    known.word,
  );
}

function gradeMark(grade) {
  return grade ? el("span", { class: `grade grade-${grade}`, title: GRADES[grade] ?? "" }, grade) : "";
}

const GRADES = {
  A: "A: the interval was met and the machine was steady",
  B: "B: the interval was missed",
  C: "C: drifting, throttled, disturbed, or not warmed up",
};

// An interval of a ratio beside the band of equivalence, drawn: 1 is in the middle.
function intervalBar(ratio, low, high, band, reach) {
  const width = 150;
  const x = (value) => width / 2 + (Math.max(-1, Math.min(1, Math.log(value) / reach)) * (width - 10)) / 2;
  const parts = [
    svg("rect", { class: "band", x: x(1 / (1 + band)), width: x(1 + band) - x(1 / (1 + band)), y: 0, height: 16 }),
    svg("line", { class: "one", x1: x(1), x2: x(1), y1: 0, y2: 16 }),
  ];
  if (low !== null && high !== null) parts.push(svg("line", { class: "reach", x1: x(low), x2: x(high), y1: 8, y2: 8 }));
  parts.push(svg("circle", { cx: x(ratio), cy: 8, r: 3.5 }));
  return svg(
    "svg",
    { class: "interval", width, height: 16, viewBox: `0 0 ${width} 16`, "aria-hidden": "true" },
    ...parts,
  );
}

function definitions(pairs) {
  return el(
    "dl",
    {},
    pairs
      .filter(([, value]) => value !== "" && value !== null && value !== undefined)
      .map(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]),
  );
}
