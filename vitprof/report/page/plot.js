// The plot: any two numbers against each other, drawn by Vega-Lite.
//
// Its expressions are interpreted and not compiled (`ast`), so that the page may forbid text to become code.

// Beyond it a canvas: ten thousand elements are slow. Up to it the plot prints sharply and is read aloud.
const MOST_SVG_POINTS = 2000;
const MOST_BARS = 400;

class Plot {
  constructor({ host, legend, tip, onpick }) {
    Object.assign(this, { host, legend, tip, onpick, drawing: Promise.resolve(), asked: 0, at: -1 });
    host.onkeydown = (event) => this.key(event);
    host.onblur = () => this.leave();
    host.onpointerleave = () => this.hideTip();
    window.addEventListener("scroll", () => this.hideTip(), { passive: true });
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const recolour = () => {
      // For paper, which is never dark (style.css).
      document.documentElement.toggleAttribute("data-dark", dark.matches);
      if (this.last) this.draw(this.last);
    };
    dark.addEventListener("change", recolour);
    recolour();
    let width = 0;
    new ResizeObserver(() => {
      if (width && host.clientWidth !== width && this.last) this.draw(this.last);
      width = host.clientWidth;
    }).observe(host);
  }

  // `asked`: {rows, x, y, xLog, yLog, colour, marked, front}; the latest one wins.
  draw(asked) {
    this.last = asked;
    const mine = ++this.asked;
    this.drawing = this.drawing.then(() => (mine === this.asked ? this.drawNow(asked) : null));
    return this.drawing;
  }

  async drawNow(asked) {
    const colours = coloursOf(asked.colour);
    this.points = this.pointsOf(asked, colours);
    this.drawLegend(colours);
    const renderer = this.points.length > MOST_SVG_POINTS ? "canvas" : "svg";
    this.view?.finalize();
    const made = await vegaEmbed(this.host, this.spec(asked, colours), {
      mode: "vega-lite",
      renderer,
      ast: true,
      actions: false,
      defaultStyle: false,
      // Nothing is ever loaded.
      loader: { load: refuse, sanitize: refuse, http: refuse, file: refuse },
      tooltip: (_, event, item) => this.hover(event, item),
    });
    this.view = made.view;
    this.view.addEventListener("click", (event, item) => {
      const row = ROWS[item?.datum?.i];
      if (row) this.onpick(row, event);
    });
    this.host.setAttribute("data-points", this.points.length);
    this.host.setAttribute(
      "aria-label",
      `${titleOf(asked.y)} against ${titleOf(asked.x)}, ${this.points.length} points; arrow keys walk through them, Enter chooses`,
    );
    show("plot-note").textContent = this.note(asked);
  }

  note(asked) {
    const missing = asked.rows.length - this.points.length;
    if (!asked.rows.length) return "No row passes the filters.";
    return missing
      ? `${missing.toLocaleString("en-US")} of ${asked.rows.length.toLocaleString("en-US")} rows are not drawn: they failed, their time is void, or one of the two numbers is not known.`
      : "";
  }

  pointsOf(asked, colours) {
    const points = asked.rows.map((row) => pointOf(row, asked, colours.of(row).name)).filter(Boolean);
    return points.sort((a, b) => a.x - b.x || a.y - b.y);
  }

  // Chosen rows are drawn whether or not they pass the filters.
  mark(rows) {
    if (!this.last) return;
    this.last.marked = rows;
    // The axes reach as far as the points; who is not among them needs other axes.
    if (rows.some((row) => !this.last.rows.includes(row))) this.draw(this.last);
    else this.view?.data("marked", this.markedPoints(this.last)).runAsync();
  }

  markedPoints(asked) {
    return asked.marked
      .map((row, at) => pointOf(row, asked, ""))
      .filter(Boolean)
      .map((point) => ({ ...point, name: shortened(ROWS[point.i].model), side: this.sideOf(point.x, asked.xLog) }));
  }

  // To which side of a point its name begins: a long one must not leave the plot.
  sideOf(x, isLog) {
    const of = isLog ? Math.log : Number;
    const [low, high] = domainOf(
      this.points.map((one) => one.x),
      isLog,
    ).map(of);
    const share = (of(x) - low) / (high - low);
    return share < 1 / 3 ? "left" : share > 2 / 3 ? "right" : "center";
  }

  spec(asked, colours) {
    const theme = themeOf();
    const points = this.points;
    const bars = asked.y.low && points.length <= MOST_BARS ? points.filter((one) => one.low !== null) : [];
    const marked = this.markedPoints(asked);
    const skipped = JOINED[asked.x.key];
    const curves =
      skipped && points.length <= MOST_SVG_POINTS
        ? points.map((one) => ({ ...one, curve: curveOf(ROWS[one.i], skipped) }))
        : [];
    const all = [...points, ...marked, ...(asked.front ?? [])];
    const place = { x: axisOf("x", asked.x, asked.xLog, all), y: axisOf("y", asked.y, asked.yLog, all) };
    const names = colours.used.map((one) => one.name);
    const color = {
      field: "c",
      type: "nominal",
      scale: { domain: names, range: colours.used.map((one) => one.colour) },
      legend: null,
    };
    const size = points.length > 1500 ? 28 : points.length > 300 ? 45 : 70;
    const zoom = {
      name: "zoom",
      bind: "scales",
      select: {
        type: "interval",
        zoom: "wheel![event.ctrlKey]",
        translate: "[mousedown, window:mouseup] > window:mousemove!",
        clear: "dblclick",
      },
    };
    const label = {
      type: "text",
      align: { expr: "datum.side" },
      dy: -18,
      fontWeight: "bold",
      fill: theme.ink,
      clip: false,
      tooltip: null,
    };
    return {
      width: "container",
      height: Math.max(300, Math.min(520, this.host.clientWidth * 0.62)),
      background: "transparent",
      config: theme.config,
      datasets: { points, curves, bars, front: asked.front ?? [], marked, focus: [] },
      layer: [
        {
          data: { name: "front" },
          mark: {
            type: "line",
            interpolate: asked.frontStep ?? "step-after",
            stroke: theme.soft,
            strokeDash: [4, 3],
            tooltip: null,
          },
          encoding: { ...place, order: { field: "x" } },
        },
        {
          data: { name: "curves" },
          mark: { type: "line", strokeWidth: 1, opacity: 0.6, tooltip: null },
          encoding: { ...place, detail: { field: "curve" }, color },
        },
        {
          data: { name: "bars" },
          mark: { type: "rule", opacity: 0.5, tooltip: null },
          encoding: { ...place, y: { ...place.y, field: "low" }, y2: { field: "high" }, color: { value: theme.soft } },
        },
        {
          data: { name: "points" },
          params: [zoom],
          mark: {
            type: "point",
            filled: true,
            opacity: 0.85,
            stroke: theme.soft,
            strokeWidth: 0.5,
            size,
            tooltip: { content: "data" },
            cursor: "pointer",
          },
          encoding: {
            ...place,
            color,
            shape: {
              field: "c",
              type: "nominal",
              scale: { domain: names, range: colours.used.map((one) => one.shape) },
              legend: null,
            },
          },
        },
        {
          data: { name: "marked" },
          mark: { type: "line", stroke: theme.ink, strokeDash: [2, 2], tooltip: null },
          encoding: place,
        },
        {
          data: { name: "marked" },
          mark: {
            type: "point",
            shape: "circle",
            filled: false,
            size: 260,
            strokeWidth: 2.5,
            stroke: theme.ink,
            fill: "transparent",
            tooltip: { content: "data" },
          },
          encoding: place,
        },
        {
          data: { name: "marked" },
          mark: { ...label, stroke: theme.card, strokeWidth: 4, strokeOpacity: 0.9 },
          encoding: { ...place, text: { field: "name" } },
        },
        {
          data: { name: "marked" },
          mark: label,
          encoding: { ...place, text: { field: "name" } },
        },
        {
          data: { name: "focus" },
          mark: {
            type: "point",
            shape: "circle",
            filled: false,
            size: 200,
            strokeWidth: 2,
            stroke: theme.accent,
            tooltip: null,
          },
          encoding: place,
        },
      ],
    };
  }

  drawLegend(colours) {
    fill(
      this.legend,
      colours.used.map((style) => el("span", {}, swatch(style), style.name)),
    );
  }

  hover(event, item) {
    const row = ROWS[item?.datum?.i];
    if (row === undefined || event?.clientX === undefined) this.hideTip();
    else this.showTip(row, event.clientX, event.clientY);
  }

  showTip(row, x, y) {
    fill(this.tip, tipOf(row, this.last));
    this.tip.hidden = false;
    const { width, height } = this.tip.getBoundingClientRect();
    this.tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 8))}px`;
    this.tip.style.top = `${y + 18 + height > innerHeight ? Math.max(4, y - height - 14) : y + 18}px`;
  }

  hideTip() {
    this.tip.hidden = true;
  }

  leave() {
    this.at = -1;
    this.hideTip();
    this.view?.data("focus", []).runAsync();
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") this.leave();
    if (event.key === "Enter" && this.points?.[this.at]) this.onpick(ROWS[this.points[this.at].i], event);
    if (!step || !this.points?.length) return;
    event.preventDefault();
    this.at = (this.at + step + this.points.length + (this.at < 0 && step < 0 ? 1 : 0)) % this.points.length;
    const point = this.points[this.at];
    this.view.data("focus", [point]).runAsync();
    const frame = this.host.getBoundingClientRect();
    const [left, top] = this.view.origin();
    this.host.scrollIntoView({ block: "nearest" });
    this.showTip(
      ROWS[point.i],
      frame.left + left + this.view.scale("x")(point.x),
      frame.top + top + this.view.scale("y")(point.y),
    );
  }
}
