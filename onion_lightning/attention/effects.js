"use strict";
// The part of the attention page that shows the effects of interventions: a map of layers and heads, the curve over windows of
// layers, and a sentence. The script of the page calls `buildEffects` once and `showEffects` after each choice.

const svgNamespace = "http://www.w3.org/2000/svg";
const digits = (value) => Math.abs(value).toFixed(Math.abs(value) < 0.0095 ? 4 : 2);
const nats = (value) => (value < 0 ? "−" : "+") + digits(value) + " nats";
const likelier = (loss) => `${digits(loss)} nats ${loss < 0 ? "more" : "less"} likely`;
const effectCells = []; // {layer, head, element}

// The effects of the selected model; for tuned − base, their differences.
function selectedEffects(data, system) {
  if (system !== "difference") return data.effects[system];
  const { tuned, base } = data.effects;
  return {
    finding: tuned.finding,
    notes: [],
    heads: tuned.heads.map((row, layer) => row.map((value, head) => value - base.heads[layer][head])),
    windows: tuned.windows.map((row, index) => [row[0], row[1], row[2] - base.windows[index][2], null, null]),
    gradient: tuned.gradient.map((value, index) => value - base.gradient[index]),
  };
}

function buildEffects(data, select) {
  const section = document.getElementById("effects");
  if (Object.keys(data.effects).length === 0) return;
  section.hidden = false;
  const map = document.getElementById("effect-map");
  effectCells.push(...buildGrid(map, [...Array(data.heads).keys()], select, showEffectOf).flat());
  map.addEventListener("mouseleave", () => showEffectOf(map.querySelector("[aria-selected=true]")));
  map.addEventListener("keydown", (event) => moveInEffects(event, data, select));
}

function moveInEffects(event, data, select) {
  const step = { ArrowUp: -data.heads, ArrowDown: data.heads, ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const from = effectCells.findIndex((cell) => cell.element === document.activeElement);
  const next = effectCells[from + step];
  if (!next || (Math.abs(step) === 1 && next.layer !== effectCells[from].layer)) return;
  select(next.layer, next.head);
  next.element.focus();
}

function showEffectOf(element) {
  document.getElementById("effect-status").textContent = element ? element.ariaLabel : "";
}

function showEffects(data, system, layer, head) {
  if (effectCells.length === 0) return;
  const effects = selectedEffects(data, system);
  document.getElementById("effect-finding").textContent = effects.finding;
  document.getElementById("effect-notes").textContent = effects.notes
    .map((note) => note[0].toUpperCase() + note.slice(1) + ".")
    .join(" ");
  const largest = Math.max(...effects.heads.flat().map(Math.abs));
  const describeLoss = system === "difference" ? (loss) => `${nats(loss)} in the effect` : likelier;
  let selected = null;
  for (const cell of effectCells) {
    const value = effects.heads[cell.layer][cell.head];
    setColor(cell.element, value * Math.abs(value), largest ** 2); // linear, where shares have the color of their root
    cell.element.ariaLabel = `Layer ${cell.layer}, head ${cell.head}, its edges cut: ${describeLoss(value)}.`;
    cell.element.ariaSelected = String(cell.layer) === layer && String(cell.head) === head;
    cell.element.tabIndex = -1;
    if (cell.element.ariaSelected === "true") selected = cell;
  }
  (selected ?? effectCells[0]).element.tabIndex = 0;
  showEffectOf(selected?.element);
  document.getElementById("effect-scale").textContent =
    `The strongest color is ${digits(largest)} nats. ` +
    (system === "difference" ? "Blue: smaller in the tuned model." : "Blue: the query becomes more likely.");
  drawCurve(effects.windows, data.layers, describeLoss);
}

// The curve over windows of layers, with the mean of the controls and one standard deviation around it

function drawCurve(windows, layers, describeLoss) {
  const svg = document.getElementById("curve");
  const [width, height, left, bottom] = [400, 150, 38, 24];
  const values = windows.flatMap(([, , value, mean, std]) => (mean === null ? [value] : [value, mean - std, mean + std]));
  const low = Math.min(0, ...values), high = Math.max(0, ...values, low + 1e-6);
  const x = (window) => left + ((window[0] + window[1]) / 2 + 0.5) * ((width - left - 4) / layers);
  const y = (value) => 6 + ((high - value) / (high - low)) * (height - bottom - 6);
  const path = (points) => points.map(([a, b], index) => `${index ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");
  const shape = (name, attributes, text) => {
    const element = document.createElementNS(svgNamespace, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    svg.append(element);
    return element;
  };
  svg.replaceChildren();
  if (windows[0][3] !== null) {
    const upper = windows.map((one) => [x(one), y(one[3] + one[4])]);
    const lower = windows.map((one) => [x(one), y(one[3] - one[4])]).reverse();
    shape("path", { class: "band", d: path([...upper, ...lower]) + "Z" });
  }
  shape("line", { class: "axis", x1: left, x2: width - 4, y1: y(0), y2: y(0) });
  shape("path", { class: "line", d: path(windows.map((one) => [x(one), y(one[2])])) });
  for (const one of windows) {
    const dot = shape("circle", { class: "dot", cx: x(one).toFixed(1), cy: y(one[2]).toFixed(1), r: 3 });
    const title = document.createElementNS(svgNamespace, "title");
    title.textContent = `Layers ${one[0]} to ${one[1]}: ${describeLoss(one[2])}`;
    dot.append(title);
  }
  for (const value of new Set([low, 0, high])) {
    shape("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(high - low < 0.1 ? 3 : 1));
  }
  shape("text", { x: left, y: height - 4 }, "first layers");
  shape("text", { x: width - 4, y: height - 4, "text-anchor": "end" }, "last layers");
}
