"use strict";
// The map of an archive: see, hear, select, label, download. Everything the page needs is in it.

const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const canvas = element("map"), context = canvas.getContext("2d"), tip = element("tip"), audio = element("audio");

function numbers(text, Type) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Type(bytes.buffer);
}

// Coordinates are whole numbers from 0 to 65535; times are seconds, NaN for a whole file.
const x = numbers(data.x, Uint16Array), y = numbers(data.y, Uint16Array);
const file = numbers(data.file, Uint32Array), start = numbers(data.start, Float32Array);
const end = numbers(data.end, Float32Array), group = numbers(data.group, Uint8Array);
const count = x.length;
const pathOf = (i) => data.root + data.shown[file[i]];
const linkOf = (i) => data.link + data.shown[file[i]].split("/").map(encodeURIComponent).join("/");
const PALETTE = ["#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#e15759", "#76b7b2", "#9c755f", "#edc948", "#ff9da7", "#86bcb6", "#8cd17d", "#d37295"];
const LABEL_COLOURS = ["#e6194b", "#3cb44b", "#ffb000", "#4363d8", "#f58231", "#911eb4", "#00a5a5", "#f032e6", "#7fae00"];

const labelOf = new Int16Array(count).fill(-1);   // -1: none yet
const selected = new Uint8Array(count);
const labels = [];                                // names, in the order they were first given
const history = [];                               // what to undo: [points, their labels before]
const view = { x: 32768, y: 32768, scale: 1 };    // middle of the screen, and pixels a unit
let current = -1, lassoing = false, path = null, number = 0, changes = 0;

// ---- drawing -------------------------------------------------------------------------------------

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}

const toScreen = (i) => [(x[i] - view.x) * view.scale + canvas.clientWidth / 2, (y[i] - view.y) * view.scale + canvas.clientHeight / 2];

// The points are drawn once for a view; what moves with the pointer is drawn over them.
const points = document.createElement("canvas");
let drawn = "";

function draw() {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const size = Math.max(2.5, Math.min(9, 260 / Math.sqrt(count) * Math.sqrt(view.scale * 65535 / Math.min(width, height)))), half = size / 2;
  const state = [canvas.width, canvas.height, view.x, view.y, view.scale, changes].join();
  if (state !== drawn) { drawn = state; drawPoints(ratio, width, height, half); }
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(points, 0, 0);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const ink = getComputedStyle(document.body).color;
  context.strokeStyle = ink;
  context.lineWidth = 1.5;
  if (number) for (let i = 0; i < count; i++) if (selected[i]) ring(i, half + 2);
  context.lineWidth = 2.5;
  if (current >= 0) ring(current, half + 5);
  if (path && path.length > 1) {
    context.setLineDash([6, 4]);
    context.lineWidth = 1.5;
    context.beginPath();
    path.forEach(([px, py], k) => (k ? context.lineTo(px, py) : context.moveTo(px, py)));
    context.closePath();
    context.stroke();
    context.setLineDash([]);
  }
}

function drawPoints(ratio, width, height, half) {
  points.width = canvas.width;
  points.height = canvas.height;
  const target = points.getContext("2d"), middleX = width / 2, middleY = height / 2, size = 2 * half;
  target.setTransform(ratio, 0, 0, ratio, 0, 0);
  // One colour after the other: changing it for each point would be slow.
  const layers = new Map();
  for (let i = 0; i < count; i++) {
    const px = (x[i] - view.x) * view.scale + middleX, py = (y[i] - view.y) * view.scale + middleY;
    if (px < -size || py < -size || px > width + size || py > height + size) continue;
    const key = labelOf[i] >= 0 ? LABEL_COLOURS[labelOf[i] % LABEL_COLOURS.length] : PALETTE[group[i] % PALETTE.length] + "99";
    let places = layers.get(key);
    if (!places) layers.set(key, places = []);
    places.push(px, py);
  }
  for (const [colour, places] of layers) {
    target.fillStyle = colour;
    const wide = colour.length === 7 ? half + 1 : half;
    target.beginPath();
    for (let k = 0; k < places.length; k += 2) {
      target.moveTo(places[k] + wide, places[k + 1]);
      target.arc(places[k], places[k + 1], wide, 0, 6.2832);
    }
    target.fill();
  }
}

function ring(i, radius) {
  const [px, py] = toScreen(i);
  context.beginPath();
  context.arc(px, py, radius, 0, 6.2832);
  context.stroke();
}

function whole() {
  let left = Infinity, right = 0, top = Infinity, bottom = 0;
  for (let i = 0; i < count; i++) {
    left = Math.min(left, x[i]); right = Math.max(right, x[i]);
    top = Math.min(top, y[i]); bottom = Math.max(bottom, y[i]);
  }
  view.x = (left + right) / 2;
  view.y = (top + bottom) / 2;
  view.scale = 0.88 * Math.min(canvas.clientWidth / Math.max(right - left, 1), canvas.clientHeight / Math.max(bottom - top, 1));
  redraw();
}

function zoom(factor, px = canvas.clientWidth / 2, py = canvas.clientHeight / 2) {
  const dx = px - canvas.clientWidth / 2, dy = py - canvas.clientHeight / 2;
  const smallest = 0.3 * Math.min(canvas.clientWidth, canvas.clientHeight) / 65535;
  const scale = Math.min(20, Math.max(smallest, view.scale * factor));
  view.x += dx / view.scale - dx / scale;      // what lies under the pointer stays there
  view.y += dy / view.scale - dy / scale;
  view.scale = scale;
  redraw();
}

// ---- pictures: sums of a few patterns --------------------------------------------------------------

const packed = data.pictures && {
  mean: numbers(data.pictures.mean, Uint8Array), patterns: numbers(data.pictures.patterns, Int8Array),
  scales: numbers(data.pictures.scales, Float32Array), weights: numbers(data.pictures.weights, Int8Array),
  known: numbers(data.pictures.known, Uint8Array),
};
const STOPS = [[0, 0, 4], [59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]];

function colourOf(value) {
  const at = Math.max(0, Math.min(0.9999, value / 255)) * (STOPS.length - 1), k = Math.floor(at), part = at - k;
  return STOPS[k].map((low, c) => low + part * (STOPS[k + 1][c] - low));
}

// Draws the spectrogram of a sound; returns false where there is none.
function paint(target, i) {
  target.hidden = !packed || !packed.known[i];
  if (target.hidden) return false;
  const { width, height } = data.pictures, size = width * height, terms = packed.scales.length;
  const sums = Float32Array.from(packed.mean);
  for (let k = 0; k < terms; k++) {
    const weight = packed.weights[i * terms + k] * packed.scales[k];
    if (weight) for (let p = 0, at = k * size; p < size; p++) sums[p] += weight * packed.patterns[at + p];
  }
  target.width = width;
  target.height = height;
  const pixels = new ImageData(width, height);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const place = 4 * ((height - 1 - row) * width + column);     // low frequencies are at the bottom
      pixels.data.set([...colourOf(sums[row * width + column]), 255], place);
    }
  }
  target.getContext("2d").putImageData(pixels, 0, 0);
  return true;
}

// ---- one sound -----------------------------------------------------------------------------------

const seconds = (value) => `${Math.floor(value / 60)}:${(value % 60).toFixed(2).padStart(5, "0")}`;

function describe(i) {
  const when = Number.isNaN(start[i]) ? "" : ` ${seconds(start[i])}–${seconds(end[i])}`;
  const own = labelOf[i] >= 0 ? ` [${labels[labelOf[i]]}]` : "";
  return data.shown[file[i]] + when + own;
}

function nearest(px, py, within = 14) {
  let best = -1, least = within * within;
  for (let i = 0; i < count; i++) {
    const [qx, qy] = toScreen(i), distance = (qx - px) ** 2 + (qy - py) ** 2;
    if (distance <= least) { least = distance; best = i; }
  }
  return best;
}

function show(i, px, py) {
  current = i;
  tip.hidden = i < 0;
  if (i >= 0) {
    element("tiptext").textContent = describe(i);
    paint(element("tippicture"), i);
    tip.style.left = `${Math.max(4, Math.min(px + 14, canvas.clientWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(py + 14, canvas.clientHeight - tip.offsetHeight - 4))}px`;
  }
  redraw();
}

let stopAt = Infinity;
function play(i) {
  current = i;
  const url = linkOf(i), from = Number.isNaN(start[i]) ? 0 : start[i];
  stopAt = Number.isNaN(end[i]) ? Infinity : end[i];
  element("now").textContent = describe(i);
  paint(element("nowpicture"), i);
  if (audio.getAttribute("src") !== url) audio.setAttribute("src", url);
  const begin = () => { audio.currentTime = from; audio.play().catch(() => {}); };
  if (audio.readyState > 0) begin(); else { audio.addEventListener("loadedmetadata", begin, { once: true }); audio.load(); }
  redraw();
}

audio.addEventListener("timeupdate", () => { if (audio.currentTime >= stopAt) { audio.pause(); stopAt = Infinity; } });
audio.addEventListener("error", () => {
  if (audio.getAttribute("src")) element("now").textContent = `Cannot be played here: ${decodeURIComponent(audio.getAttribute("src"))}`;
});

// ---- selection and labels ------------------------------------------------------------------------

function select(points, keep) {
  if (!keep) selected.fill(0);
  for (const i of points) selected[i] = 1;
  number = selected.reduce((sum, one) => sum + one, 0);
  element("chosen").textContent = number;
  element("give").disabled = element("none").disabled = number === 0;
  redraw();
}

function inside(polygon) {
  const found = [];
  for (let i = 0; i < count; i++) {
    const [px, py] = toScreen(i);
    let odd = false;
    for (let a = 0, b = polygon.length - 1; a < polygon.length; b = a++) {
      const [ax, ay] = polygon[a], [bx, by] = polygon[b];
      if (ay > py !== by > py && px < (bx - ax) * (py - ay) / (by - ay) + ax) odd = !odd;
    }
    if (odd) found.push(i);
  }
  return found;
}

function give(name) {
  name = name.trim().replace(/\s+/g, " ").replaceAll(";", ",");
  if (!name || !number) return;
  let index = labels.indexOf(name);
  if (index < 0) index = labels.push(name) - 1;
  const points = [];
  for (let i = 0; i < count; i++) if (selected[i]) points.push(i);
  history.push([points, points.map((i) => labelOf[i])]);
  for (const i of points) labelOf[i] = index;
  select([], false);
  element("name").value = "";
  changed();
}

function undo() {
  const last = history.pop();
  if (!last) return;
  last[0].forEach((i, k) => { labelOf[i] = last[1][k]; });
  changed();
}

function changed() {
  const counts = labels.map(() => 0);
  for (const index of labelOf) if (index >= 0) counts[index]++;
  const list = element("labels");
  list.replaceChildren(...labels.map((name, index) => {
    const item = document.createElement("li"), dot = document.createElement("span"), sum = document.createElement("b");
    dot.className = "dot";
    dot.style.background = LABEL_COLOURS[index % LABEL_COLOURS.length];
    sum.textContent = counts[index];
    item.append(dot, `${index + 1}. ${name}`, sum);
    item.hidden = counts[index] === 0;
    return item;
  }));
  element("known").replaceChildren(...labels.map((name) => Object.assign(document.createElement("option"), { value: name })));
  const total = counts.reduce((sum, one) => sum + one, 0);
  element("download").disabled = total === 0;
  element("undo").disabled = history.length === 0;
  element("next").hidden = total === 0;
  const archive = data.folder ? ` --embeddings ${data.folder}` : "";
  element("next").textContent = `Then: hear-audiomamba fit labels.csv --kind single${archive} --out model.safetensors`;
  keep();
  changes++;
  redraw();
}

const cell = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function table() {
  const timed = !start.every(Number.isNaN), lines = [timed ? "path,label,start,end" : "path,label"];
  for (let i = 0; i < count; i++) {
    if (labelOf[i] < 0) continue;
    const times = timed ? (Number.isNaN(start[i]) ? ",," : `,${Number(start[i].toFixed(4))},${Number(end[i].toFixed(4))}`) : "";
    lines.push(cell(pathOf(i)) + "," + cell(labels[labelOf[i]]) + times);
  }
  return lines.join("\n") + "\n";
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
  link.download = "labels.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Labels outlive a closed page where the browser allows a local page to store something.
const place = `hear-audiomamba ${data.id}`;
function keep() {
  const given = [];
  labelOf.forEach((index, i) => { if (index >= 0) given.push([i, index]); });
  try { localStorage.setItem(place, JSON.stringify({ labels, given })); } catch { /* not allowed here */ }
}
function recall() {
  let held = data.known;
  try { held = JSON.parse(localStorage.getItem(place)) || held; } catch { /* not allowed here */ }
  labels.push(...held.labels);
  for (const [i, index] of held.given) labelOf[i] = index;
}

// ---- pointer: one finger or the mouse moves or draws, two fingers zoom -----------------------------

const pointers = new Map();
let travelled = 0, apart = 0;

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
  travelled = 0;
  if (pointers.size === 2) { path = null; apart = spread(); }
  else if (lassoing || event.shiftKey) path = [[event.offsetX, event.offsetY]];
});

canvas.addEventListener("pointermove", (event) => {
  const px = event.offsetX, py = event.offsetY, before = pointers.get(event.pointerId);
  if (!before) { const i = nearest(px, py); if (i !== current || i >= 0 && tip.hidden) show(i, px, py); return; }
  travelled += Math.hypot(px - before[0], py - before[1]);
  pointers.set(event.pointerId, [px, py]);
  if (pointers.size === 2) {
    const now = spread(), [[ax, ay], [bx, by]] = [...pointers.values()];
    if (apart > 0) zoom(now / apart, (ax + bx) / 2, (ay + by) / 2);
    apart = now;
  } else if (path) path.push([px, py]);
  else { view.x -= (px - before[0]) / view.scale; view.y -= (py - before[1]) / view.scale; }
  tip.hidden = true;
  redraw();
});

canvas.addEventListener("pointerup", (event) => {
  const px = event.offsetX, py = event.offsetY;
  pointers.delete(event.pointerId);
  if (path && travelled > 8) select(inside(path), event.ctrlKey || event.metaKey);
  else if (travelled <= 8 && pointers.size === 0) {
    const i = nearest(px, py, event.pointerType === "touch" ? 24 : 14);
    show(i, px, py);
    if (i >= 0) play(i);
  }
  path = null;
  redraw();
});
canvas.addEventListener("pointercancel", (event) => { pointers.delete(event.pointerId); path = null; redraw(); });
canvas.addEventListener("pointerleave", () => { if (pointers.size === 0) tip.hidden = true; });
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
}, { passive: false });

function spread() {
  const [[ax, ay], [bx, by]] = [...pointers.values()];
  return Math.hypot(ax - bx, ay - by);
}

// ---- keys ----------------------------------------------------------------------------------------

const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function step([wx, wy]) {
  let best = -1, least = Infinity;
  for (let i = 0; i < count; i++) {
    if (i === current) continue;
    const dx = current < 0 ? x[i] - view.x : x[i] - x[current], dy = current < 0 ? y[i] - view.y : y[i] - y[current];
    const along = dx * wx + dy * wy, aside = Math.abs(dx * wy) + Math.abs(dy * wx);
    const cost = current < 0 ? Math.hypot(dx, dy) : along <= 0 || aside > along ? Infinity : along + 2 * aside;
    if (cost < least) { least = cost; best = i; }
  }
  if (best < 0) return;
  const [px, py] = toScreen(best), margin = 30;
  if (px < margin || py < margin || px > canvas.clientWidth - margin || py > canvas.clientHeight - margin) { view.x = x[best]; view.y = y[best]; }
  show(best, ...toScreen(best));
}

canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const way = WAYS[event.key];
  if (way && event.shiftKey) { view.x += 60 * way[0] / view.scale; view.y += 60 * way[1] / view.scale; redraw(); }
  else if (way) step(way);
  else if (event.key === "Enter" || event.key === " ") { if (current >= 0) play(current); }
  else if (event.key === "+" || event.key === "=") zoom(1.3);
  else if (event.key === "-") zoom(1 / 1.3);
  else if (event.key === "0") whole();
  else if (event.key === "Escape") select([], false);
  else if (event.key.toLowerCase() === "a") { if (current >= 0) select([current], true); }
  else if (event.key.toLowerCase() === "l") toggle();
  else if (event.key.toLowerCase() === "u") undo();
  else if (event.key >= "1" && event.key <= "9" && labels[event.key - 1]) give(labels[event.key - 1]);
  else return;
  event.preventDefault();
});

function toggle() {
  lassoing = !lassoing;
  element("lasso").setAttribute("aria-pressed", lassoing);
  canvas.classList.toggle("lasso", lassoing);
}

element("lasso").addEventListener("click", toggle);
element("closer").addEventListener("click", () => zoom(1.4));
element("farther").addEventListener("click", () => zoom(1 / 1.4));
element("whole").addEventListener("click", whole);
element("none").addEventListener("click", () => select([], false));
element("undo").addEventListener("click", undo);
element("download").addEventListener("click", download);
element("labelling").addEventListener("submit", (event) => { event.preventDefault(); give(element("name").value); });
new ResizeObserver(redraw).observe(canvas);

if (data.groups.length > 1) {
  element("groups").append("Colours: ", ...data.groups.flatMap((name, index) => {
    const dot = document.createElement("span"), whole = document.createElement("span");
    dot.className = "dot";
    dot.style.background = PALETTE[index % PALETTE.length];
    whole.className = "group";
    whole.append(dot, name);
    return [whole, " "];
  }));
}
recall();
changed();
whole();
