// Tables that sort, and show a page of rows at a time: ten thousand rows cost no more than these.
//
// A column: {key, label, title?, isNumber?, value(row), cell?(row) → node or text}. Empty values stand last either way.

const PAGE_ROWS = 25;
// Paper has no pages to turn; more than this nobody reads on it.
const PRINTED_ROWS = 1000;

class Table {
  constructor(host, { caption, columns, sort, onpick, empty }) {
    Object.assign(this, {
      host,
      caption,
      columns,
      onpick,
      empty,
      rows: [],
      page: 0,
      length: PAGE_ROWS,
      chosen: new Set(),
    });
    this.sort = sort ?? null;
    window.addEventListener("beforeprint", () => this.draw(PRINTED_ROWS));
    window.addEventListener("afterprint", () => this.draw());
  }

  show(rows) {
    this.rows = rows;
    this.page = 0;
    this.order();
    this.draw();
  }

  // Which rows are marked, by their own identity.
  choose(rows) {
    this.chosen = new Set(rows);
    for (const line of this.host.querySelectorAll("tbody tr"))
      line.classList.toggle("chosen", this.chosen.has(line.row));
  }

  sortBy(key, focusAfter = false) {
    const column = this.columns.find((one) => one.key === key);
    const isSame = this.sort?.key === key;
    this.sort = { key, down: isSame ? !this.sort.down : Boolean(column.startsDown) };
    this.page = 0;
    this.order();
    this.draw();
    if (focusAfter) this.host.querySelector(`th[aria-sort] button`)?.focus();
  }

  order() {
    const column = this.sort && this.columns.find((one) => one.key === this.sort.key);
    this.sorted = this.rows;
    if (!column) return;
    const keyed = this.rows.map((row, at) => ({ row, at, value: column.value(row) }));
    const isEmpty = (value) => value === null || value === undefined || value === "";
    const sign = this.sort.down ? -1 : 1;
    keyed.sort(
      (a, b) =>
        isEmpty(a.value) - isEmpty(b.value) ||
        (isEmpty(a.value) ? 0 : sign * compareValues(a.value, b.value)) ||
        a.at - b.at,
    );
    this.sorted = keyed.map((one) => one.row);
  }

  draw(length = this.length) {
    if (!this.rows.length) {
      fill(this.host, [el("p", { class: "quiet" }, this.empty ?? "Nothing.")]);
      return;
    }
    const from = length === this.length ? this.page * length : 0;
    const shown = this.sorted.slice(from, from + length);
    const head = el(
      "tr",
      {},
      this.columns.map((column) => this.head(column)),
    );
    const body = el(
      "tbody",
      {},
      shown.map((row) => this.line(row)),
    );
    const table = el("table", {}, el("caption", { class: "away" }, this.caption), el("thead", {}, head), body);
    const scroller = el("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": this.caption }, table);
    // A page that is turned must not scroll back to the first column.
    const before = this.host.querySelector(".scroller")?.scrollLeft ?? 0;
    fill(this.host, [scroller, this.turner(from, shown.length)]);
    scroller.scrollLeft = before;
  }

  head(column) {
    const isSorted = this.sort?.key === column.key;
    const sign = isSorted ? (this.sort.down ? " ▾" : " ▴") : "";
    const button = el(
      "button",
      { type: "button", onclick: () => this.sortBy(column.key, true) },
      column.label,
      el("i", { "aria-hidden": "true" }, sign),
    );
    return el(
      "th",
      {
        scope: "col",
        class: column.isNumber ? "number" : null,
        title: column.title,
        "data-key": column.key,
        "aria-sort": isSorted ? (this.sort.down ? "descending" : "ascending") : null,
      },
      button,
    );
  }

  line(row) {
    const line = el("tr", { class: this.chosen.has(row) ? "chosen" : null });
    line.row = row;
    this.columns.forEach((column, at) => {
      const content = column.cell ? column.cell(row) : column.value(row);
      const kind = [column.isNumber ? "number" : "", column.class ?? ""].join(" ").trim();
      // One thing in the line takes the keyboard: its first cell.
      const inner = at === 0 && this.onpick ? el("button", { type: "button", class: "pick" }, content) : content;
      line.append(el(at === 0 ? "th" : "td", { class: kind || null, scope: at === 0 ? "row" : null }, inner));
    });
    if (this.onpick) line.onclick = (event) => this.onpick(row, event);
    return line;
  }

  turner(from, count) {
    const total = this.sorted.length;
    if (total <= count)
      return el("p", { class: "turner quiet" }, `${total.toLocaleString("en-US")} ${total === 1 ? "row" : "rows"}`);
    const turn = (by) => () => {
      this.page += by;
      this.draw();
      this.host.querySelector(`.turner button[data-by="${by}"]`)?.focus();
    };
    const range = `${(from + 1).toLocaleString("en-US")}–${(from + count).toLocaleString("en-US")} of ${total.toLocaleString("en-US")} rows`;
    return el(
      "div",
      { class: "turner" },
      el("button", { type: "button", "data-by": "-1", disabled: from === 0, onclick: turn(-1) }, "‹ Previous"),
      el("span", { class: "quiet", "aria-live": "polite" }, range),
      el("button", { type: "button", "data-by": "1", disabled: from + count >= total, onclick: turn(1) }, "Next ›"),
    );
  }
}
