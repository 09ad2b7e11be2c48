// Which rows are shown: words, and the values of every facet.

class Filters {
  constructor({ bar, chips, search, onchange }) {
    Object.assign(this, { bar, chips, search, onchange, chosen: new Map(), words: [] });
    let timer = 0;
    search.oninput = () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        this.words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
        onchange();
      }, 120);
    };
    this.boxes = FACETS.filter((facet) => facet.values.length > 1).map((facet) => this.box(facet));
    fill(
      bar,
      this.boxes.map((one) => one.node),
    );
    // Only one list is open, and a click elsewhere or Escape closes it.
    document.addEventListener("pointerdown", (event) => this.close(event.target));
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      const open = bar.querySelector("details[open]");
      if (open) {
        open.open = false;
        open.querySelector("summary").focus();
      }
    });
  }

  rows() {
    const asked = [...this.chosen].map(
      ([key, values]) =>
        (row) =>
          values.has(row[key]),
    );
    return ROWS.filter(
      (row) => this.words.every((word) => row.text.includes(word)) && asked.every((passes) => passes(row)),
    );
  }

  // Replaces all of them: {facet: [value, …]}.
  set(asked) {
    this.chosen = new Map(Object.entries(asked).map(([key, values]) => [key, new Set(values)]));
    this.words = [];
    this.search.value = "";
    this.refresh();
  }

  refresh() {
    for (const { facet, inputs } of this.boxes) {
      const chosen = this.chosen.get(facet.key);
      for (const [value, input] of inputs) input.checked = Boolean(chosen?.has(value));
    }
    this.drawChips();
    this.onchange();
  }

  box(facet) {
    const inputs = new Map();
    const list = facet.values.map(({ value, count }) => {
      const input = el("input", { type: "checkbox" });
      input.onchange = () => this.toggle(facet.key, value, input.checked);
      inputs.set(value, input);
      return el("label", {}, input, el("span", {}, nameOf(value)), el("small", {}, count.toLocaleString("en-US")));
    });
    const node = el(
      "details",
      { class: "facet", "data-facet": facet.key },
      el("summary", {}, facet.label),
      el("div", { class: "list" }, list),
    );
    node.ontoggle = () => node.open && this.close(node);
    return { facet, inputs, node };
  }

  close(except) {
    for (const { node } of this.boxes) if (!node.contains(except)) node.open = false;
  }

  toggle(key, value, isOn) {
    const values = this.chosen.get(key) ?? new Set();
    if (isOn) values.add(value);
    else values.delete(value);
    if (values.size) this.chosen.set(key, values);
    else this.chosen.delete(key);
    this.refresh();
  }

  drawChips() {
    const chips = [...this.chosen].flatMap(([key, values]) =>
      [...values].map((value) =>
        el(
          "button",
          {
            type: "button",
            class: "chip",
            "aria-label": `remove the filter ${FACET[key].label}: ${nameOf(value)}`,
            onclick: () => this.toggle(key, value, false),
          },
          `${FACET[key].label}: ${nameOf(value)} ✕`,
        ),
      ),
    );
    fill(this.chips, chips);
    for (const { facet, node } of this.boxes) node.classList.toggle("on", this.chosen.has(facet.key));
  }
}
