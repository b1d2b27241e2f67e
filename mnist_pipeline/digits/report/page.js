"use strict";
{
  const cells = JSON.parse(document.getElementById("cells").textContent);
  const panel = document.getElementById("cell");
  const matrix = document.getElementById("matrix");
  const { noun } = matrix.dataset;
  const names = JSON.parse(matrix.dataset.names);
  const buttons = [...matrix.querySelectorAll("button")];
  const named = (cell) => matrix.querySelector(`[data-cell="${cell}"]`);

  // one stop for the Tab key; the arrow keys go on from there
  const enter = (button) => {
    for (const one of buttons) one.tabIndex = one === button ? 0 : -1;
  };
  enter(buttons[0]);

  const element = (name, text) => {
    const made = document.createElement(name);
    made.textContent = text;
    return made;
  };

  const show = (button) => {
    const [truth, prediction] = button.dataset.cell.split(" ").map((label) => names[label]);
    const count = Number(button.dataset.count);
    const digits = cells[button.dataset.cell];
    for (const one of buttons) one.setAttribute("aria-pressed", one === button);
    const some = digits.length < count ? `, the ${digits.length} most confident are shown` : "";
    const title = element("h3", `True ${noun} ${truth}, predicted ${prediction}: ${count.toLocaleString("en")}${some}`);
    const list = document.createElement("ul");
    list.className = "digits";
    for (const [row, confidence, picture] of digits) {
      const image = new Image(56, 56);
      image.src = picture;
      image.alt = `${noun} ${truth}, predicted ${prediction}`;
      const item = document.createElement("li");
      item.append(image);
      if (confidence !== null) item.append(element("span", `${(100 * confidence).toFixed(1)}%`));
      item.append(element("span", `row ${row}`));
      list.append(item);
    }
    panel.replaceChildren(title, list);
  };

  matrix.addEventListener("click", (event) => {
    const button = event.target.closest("td")?.querySelector("button");
    if (button) {
      enter(button);
      show(button);
    }
  });

  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  matrix.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step || !event.target.dataset.cell) return;
    event.preventDefault();
    let [row, column] = event.target.dataset.cell.split(" ").map(Number);
    do {
      row += step[0];
      column += step[1];
    } while (row in [..."0123456789"] && column in [..."0123456789"] && !named(`${row} ${column}`));
    const next = named(`${row} ${column}`);
    if (next) {
      enter(next);
      next.focus();
    }
  });
}
