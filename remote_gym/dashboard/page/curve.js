// Small curves, as SVG. They say nothing that a number beside them does not: screen readers pass over them.

const SVG = "http://www.w3.org/2000/svg";

export class Curve {
  /** A curve in `parent`, of the last `length` values, in a box of `width` by `height` of its own units. */
  constructor(parent, length, { width = 96, height = 22, fromZero = false } = {}) {
    Object.assign(this, { length, width, height, fromZero, values: [] });
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.setAttribute("class", "spark");
    this.area = document.createElementNS(SVG, "path");
    this.area.setAttribute("class", "area");
    this.line = document.createElementNS(SVG, "path");
    this.line.setAttribute("class", "line");
    svg.append(this.area, this.line);
    parent.replaceChildren(svg);
  }

  add(values) {
    if (!values.length) return;
    this.values.push(...values);
    this.values.splice(0, this.values.length - this.length);
    this.draw();
  }

  clear() {
    this.values = [];
    this.draw();
  }

  draw() {
    const known = this.values.filter((value) => value !== null);
    if (known.length < 2) {
      this.line.removeAttribute("d");
      this.area.removeAttribute("d");
      return;
    }
    const low = this.fromZero ? Math.min(0, ...known) : Math.min(...known);
    const high = Math.max(...known);
    const scale = high > low ? (this.height - 3) / (high - low) : 0;
    const step = this.width / (this.length - 1);
    const first = this.width - step * (this.values.length - 1);
    const y = (value) => (scale ? this.height - 1.5 - (value - low) * scale : this.fromZero && high === 0 ? this.height - 1.5 : this.height / 2);
    let line = "";
    let begun = null;
    let last = 0;
    this.values.forEach((value, index) => {
      if (value === null) return;
      const x = first + step * index;
      line += `${begun === null ? "M" : "L"}${x.toFixed(1)} ${y(value).toFixed(1)}`;
      if (begun === null) begun = x;
      last = x;
    });
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", `${line}L${last.toFixed(1)} ${this.height}L${begun.toFixed(1)} ${this.height}Z`);
  }
}
