// Rows of a table by their keys: made once, changed where they differ, moved only if their order changes.

import { Curve } from "/curve.js";

/** Write text where it differs; text, never markup. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export class Rows {
  /**
   * @param body the tbody.
   * @param columns for each cell: {label, number, text(row), note(row), title(row), curve and its length, of(row), make(cell, row), draw(cell, row)};
   *     `label` stands beside the cell where the screen is too narrow for a table.
   */
  constructor(body, columns) {
    this.body = body;
    this.columns = columns;
    this.known = new Map();
  }

  show(rows) {
    const before = this.known;
    this.known = new Map();
    let place = this.body.firstElementChild;
    for (const row of rows) {
      const shown = before.get(row.key) ?? this.make(row);
      before.delete(row.key);
      this.known.set(row.key, shown);
      this.draw(shown, row);
      if (shown.line === place) place = place.nextElementSibling;
      else this.body.insertBefore(shown.line, place);
    }
    for (const gone of before.values()) gone.line.remove();
  }

  make(row) {
    const line = document.createElement("tr");
    line.setAttribute("role", "row"); // on narrow screens it is none any more by its style
    const shown = { line, cells: [] };
    this.columns.forEach((column, index) => {
      const node = document.createElement(index ? "td" : "th");
      if (!index) node.scope = "row";
      node.setAttribute("role", index ? "cell" : "rowheader");
      if (column.number) node.className = "n";
      if (column.kind) node.classList.add(column.kind);
      node.dataset.label = column.label ?? "";
      const cell = { node, text: node };
      if (column.note) {
        cell.text = document.createElement("span");
        cell.note = document.createElement("small");
        node.append(cell.text, " ", cell.note);
      }
      if (column.curve) {
        cell.text = document.createElement("span");
        const drawn = document.createElement("span");
        cell.curve = new Curve(drawn, column.length, column.curve);
        node.append(cell.text, drawn);
      }
      column.make?.(cell, row);
      shown.cells.push(cell);
      line.append(node);
    });
    return shown;
  }

  draw(shown, row) {
    this.columns.forEach((column, index) => {
      const cell = shown.cells[index];
      if (column.text) write(cell.text, column.text(row));
      if (column.note) write(cell.note, column.note(row));
      if (column.title) {
        const title = column.title(row);
        if (cell.node.title !== title) cell.node.title = title;
      }
      if (column.curve) cell.curve.add(column.of(row));
      column.draw?.(cell, row);
    });
    shown.row = row;
  }
}
