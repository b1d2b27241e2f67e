"use strict";

const PEN = 0.07; // of the sheet's width: a felt pen, as for MNIST
const PAUSE = 200; // milliseconds after a stroke before it is read
const sheet = document.getElementById("sheet");
const predicted = document.getElementById("predicted");
const here = document.getElementById("here");
const file = document.getElementById("file");
const pen = sheet.getContext("2d", { willReadFrequently: true });
const { noun } = document.getElementById("bars").dataset;
const names = JSON.parse(document.getElementById("bars").dataset.names);
const meters = [];
let strokes = []; // lists of points, or one picture
let drawing = null; // the pointer that draws
let asked = null;
let timer = 0;

for (let digit = 0; digit < 10; digit += 1) {
  const row = document.querySelector("#bars tbody").insertRow();
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = names[digit];
  const meter = document.createElement("meter");
  meter.setAttribute("aria-label", `probability of ${names[digit]}`);
  row.append(head);
  row.insertCell().append(meter);
  meters.push([meter, row.insertCell()]);
}

function paint() {
  here.hidden = strokes.length > 0;
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, sheet.width, sheet.height);
  pen.strokeStyle = pen.fillStyle = "#000";
  pen.lineWidth = PEN * sheet.width;
  pen.lineCap = pen.lineJoin = "round";
  strokes.forEach(line);
}

function line(points) {
  pen.beginPath();
  points.forEach(([x, y]) => pen.lineTo(x, y));
  if (points.length === 1) pen.lineTo(points[0][0] + 0.1, points[0][1]);
  pen.stroke();
}

function onSheet(event) {
  const box = sheet.getBoundingClientRect();
  return [((event.clientX - box.left) * sheet.width) / box.width, ((event.clientY - box.top) * sheet.height) / box.height];
}

sheet.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || drawing !== null) return; // a second finger, or a palm
  drawing = event.pointerId;
  sheet.setPointerCapture(event.pointerId);
  clearTimeout(timer);
  strokes.push([onSheet(event)]);
  here.hidden = true;
  line(strokes.at(-1));
});
sheet.addEventListener("pointermove", (event) => {
  if (event.pointerId !== drawing) return;
  const points = strokes.at(-1);
  const before = points.length - 1;
  for (const one of event.getCoalescedEvents?.() ?? [event]) points.push(onSheet(one));
  line(points.slice(before));
});
for (const end of ["pointerup", "pointercancel"]) {
  sheet.addEventListener(end, (event) => {
    if (event.pointerId !== drawing) return;
    drawing = null;
    readSoon();
  });
}

function readSoon() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    // not toBlob, which waits up to a second for an idle moment
    const png = atob(sheet.toDataURL("image/png").split(",")[1]);
    read(Uint8Array.from(png, (letter) => letter.charCodeAt(0)));
  }, PAUSE);
}

document.getElementById("clear").addEventListener("click", () => {
  strokes = [];
  restart();
});
document.getElementById("undo").addEventListener("click", () => {
  strokes.pop();
  restart();
});

function restart() {
  paint();
  if (strokes.length) {
    readSoon();
    return;
  }
  clearTimeout(timer);
  asked?.abort();
  show(null, `Nothing yet: draw a ${noun}.`);
}

async function read(picture) {
  asked?.abort();
  asked = new AbortController();
  const { signal } = asked;
  const headers = { "Content-Type": "application/octet-stream" };
  try {
    const response = await fetch("api/predict?nearest=8", { method: "POST", headers, body: picture, signal });
    const answer = await response.json().catch(() => ({ error: `The server answered ${response.status}.` }));
    if (response.ok) {
      show(answer);
    } else {
      show(null, answer.error);
    }
  } catch (error) {
    if (!signal.aborted) show(null, "No answer: is mnist-pipeline still running?");
  }
}

function show(answer, message) {
  document.body.dataset.digit = answer ? answer.digit : "";
  predicted.replaceChildren();
  if (answer) {
    const digit = document.createElement("strong");
    digit.textContent = answer.name;
    predicted.append(digit, `with ${(100 * answer.confidence).toFixed(1)}% confidence`);
    if (answer.warning) {
      const warning = document.createElement("em");
      warning.textContent = `Warning: ${answer.warning}`;
      predicted.append(warning);
    }
  } else {
    predicted.textContent = message;
  }
  meters.forEach(([meter, share], digit) => {
    meter.value = answer ? answer.scores[digit] : 0;
    share.textContent = answer ? `${(100 * answer.scores[digit]).toFixed(1)}%` : "";
  });
  const seen = document.getElementById("seen");
  ink(seen, answer ? answer.pixels : []);
  seen.setAttribute("aria-label", answer ? "The prepared picture" : "The prepared picture: nothing yet");
  const near = (answer ? answer.nearest : []).map((one) => {
    const item = document.createElement("li");
    const picture = document.createElement("canvas");
    picture.className = "digit";
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-label", `training ${noun} ${names[one.label]}`);
    ink(picture, one.pixels);
    const label = document.createElement("b");
    label.textContent = names[one.label];
    item.append(picture, label, one.row_id);
    return item;
  });
  document.getElementById("near").replaceChildren(...near);
}

function ink(canvas, rows) {
  if (rows.length) canvas.width = canvas.height = rows.length;
  const image = new ImageData(canvas.width, canvas.width);
  image.data.fill(255);
  rows.flat().forEach((value, place) => image.data.fill(255 - value, 4 * place, 4 * place + 3));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function open(picture) {
  if (!picture) return;
  clearTimeout(timer);
  strokes = [];
  paint();
  show(null, `Reading ${picture.name || "the picture"} ...`);
  read(picture);
}

file.addEventListener("change", () => {
  open(file.files[0]);
  file.value = "";
});
addEventListener("paste", (event) => open(event.clipboardData.files[0]));
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  open(event.dataTransfer.files[0]);
});

paint();
show(null, `Nothing yet: draw a ${noun}.`);
