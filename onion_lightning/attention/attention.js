"use strict";
// The page of an attention answer. Sources of a row: 0 rollout, 1 all heads, 2 + layer, then the kept heads.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const sourceCount = 2 + data.layers + data.kept.length;
const placeOfHead = new Map(data.kept.map((head, place) => [head, 2 + data.layers + place]));
const names = { base: "Base", tuned: "Tuned", difference: "Tuned − base" };
const percent = (share) => {
  const points = Math.abs(100 * share);
  return (points > 0 && points < 0.05 ? (100 * share).toPrecision(1) : (100 * share).toFixed(points < 9.95 ? 2 : 1)) + "%";
};
const signed = (share) => (share < 0 ? "−" : "+") + percent(Math.abs(share));
let bytes = null;
const called = (at) => data.pieces[at][1].trim() || (data.pieces[at][1] ? "␣" : "(rest of a character)");

const isDifference = () => $("system").value === "difference";
const systemOf = () => (isDifference() ? "tuned" : $("system").value);

// Figures of what is chosen: a head, a layer's mean, the mean of all, or the rollout.

function mean(values) {
  if (values.includes(null)) return null; // too few controls
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function figure(system, name, layer, head) {
  const { heads, rollout } = data.figures[system];
  if (layer === "rollout") return rollout[name];
  if (layer === "mean") return name === "z" ? null : mean(heads[name].map(mean));
  if (head === "mean") return name === "z" ? null : mean(heads[name][layer]);
  return heads[name][layer][head];
}

function shown(name, layer, head) {
  if (!isDifference()) return figure($("system").value, name, layer, head);
  const [tuned, base] = ["tuned", "base"].map((system) => figure(system, name, layer, head));
  return tuned === null || base === null ? null : tuned - base;
}

// Attention of the chosen row to each token, from the packed square roots; null for a head that was not kept.

function attention() {
  const layer = $("layer").value, head = $("head").value;
  let source = layer === "rollout" ? 0 : layer === "mean" ? 1 : 2 + Number(layer);
  if (layer !== "rollout" && layer !== "mean" && head !== "mean")
    source = placeOfHead.get(Number(layer) * data.heads + Number(head));
  if (source === undefined) return null;
  const read = (system) => {
    const row = data.systems.indexOf(system) * data.rows + Number($("row").value);
    const begin = (row * sourceCount + source) * data.width;
    const shares = Array.from(bytes.subarray(begin, begin + data.width), (byte) => (byte / 255) ** 2);
    if (source !== 0) return shares;
    const [first, most] = data.rollout[system][Number($("row").value)];
    return shares.map((share, at) => (at === 0 ? first : share * most));
  };
  if (!isDifference()) return read($("system").value);
  const base = read("base");
  return read("tuned").map((share, at) => share - base[at]);
}

function colour(element, share, most) {
  const strength = most > 0 ? Math.sqrt(Math.min(Math.abs(share) / most, 1)) : 0;
  element.style.setProperty("--c", share < 0 ? "var(--cold)" : "var(--hot)");
  element.style.setProperty("--a", (100 * strength).toFixed(1) + "%");
}

// Building

function option(select, value, label) {
  select.add(new Option(label, value));
}

function buildControls() {
  for (const system of data.systems) option($("system"), system, names[system]);
  if (data.systems.length > 1) option($("system"), "difference", names.difference);
  $("system").value = data.systems.at(-1);
  option($("row"), 0, "the whole phrase");
  for (let at = 1; at < data.rows; at++) option($("row"), at, called(data.query[0] + at - 1));
  option($("layer"), "mean", "all, mean");
  option($("layer"), "rollout", "all, rollout");
  for (let layer = 0; layer < data.layers; layer++) option($("layer"), layer, layer);
  option($("head"), "mean", "mean");
  for (let head = 0; head < data.heads; head++) option($("head"), head, head);
  option($("measure"), "key", "share to the key");
  option($("measure"), "z", "z-score");
  option($("measure"), "first_token", "share to the first token");
  for (const id of ["system", "row", "layer", "head", "measure"]) $(id).addEventListener("change", paint);
  $("controls").addEventListener("submit", (event) => event.preventDefault());
}

const tokens = [];

function buildText() {
  data.pieces.forEach(([before, word], at) => {
    $("text").append(before);
    const span = document.createElement("span");
    span.textContent = word;
    span.dataset.at = at;
    if (at >= data.query[0] && at < data.query[1]) span.classList.add("query");
    if (at >= data.key[0] && at < data.key[1]) span.classList.add("key");
    if (at === 0) span.classList.add("sink");
    if (at >= data.width) span.classList.add("unseen");
    tokens.push(span);
    $("text").append(span);
  });
  $("text").addEventListener("mouseover", (event) => {
    const at = event.target.dataset.at;
    if (at !== undefined) sayToken(Number(at));
  });
  $("text").addEventListener("mouseleave", sayChoice);
}

const cells = []; // rows of {layer, head, element}

function buildMap() {
  const map = $("map");
  map.style.gridTemplateColumns = `auto repeat(${data.heads + 1}, ${Math.min(1.7, 22 / (data.heads + 1))}rem)`;
  map.style.setProperty("--height", `${Math.min(1.1, Math.max(27 / data.layers, 0.6))}rem`);
  const label = (text, kind) => {
    const element = document.createElement("span");
    element.className = kind;
    element.textContent = text;
    element.ariaHidden = true;
    map.append(element);
  };
  const every = data.heads > 16 ? 4 : 1;
  label("", "name");
  label("x̄", "head");
  for (let head = 0; head < data.heads; head++) label(head % every ? "" : head, "head");
  for (let layer = 0; layer < data.layers; layer++) {
    label(layer, "name");
    const row = document.createElement("div");
    row.role = "row";
    row.style.display = "contents";
    map.append(row);
    cells.push(["mean", ...Array(data.heads).keys()].map((head) => {
      const element = document.createElement("div");
      Object.assign(element, { className: "cell", role: "gridcell", tabIndex: -1 });
      element.addEventListener("click", () => choose(layer, head, true));
      element.addEventListener("mouseenter", () => sayHead(layer, head));
      row.append(element);
      return { layer, head, element };
    }));
  }
  map.addEventListener("mouseleave", sayChoice);
  map.addEventListener("keydown", move);
}

// Doing

function choose(layer, head, focus) {
  $("layer").value = layer;
  $("head").value = head;
  paint();
  if (focus) cells[layer][head === "mean" ? 0 : head + 1].element.focus();
}

function move(event) {
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const step = steps[event.key];
  if (!step) return;
  event.preventDefault();
  const layer = cells.findIndex((row) => row.some((cell) => cell.element === document.activeElement));
  const column = cells[layer].findIndex((cell) => cell.element === document.activeElement);
  const next = cells[layer + step[0]]?.[column + step[1]];
  if (next) choose(next.layer, next.head, true);
}

function paint() {
  const layer = $("layer").value, head = $("head").value;
  $("head").disabled = layer === "mean" || layer === "rollout";
  paintText(attention());
  paintMap(layer, head);
  sayChoice();
}

function paintText(shares) {
  const seen = shares ?? [];
  const most = Math.max(...seen.slice(1).map(Math.abs), 0);
  tokens.forEach((span, at) => {
    if (at === 0 || at >= data.width || !shares) {
      span.style.background = "";
      return;
    }
    colour(span, shares[at], most);
    span.style.background = "color-mix(in srgb, var(--c) var(--a), transparent)";
  });
  const order = [...seen.keys()].slice(1).sort((one, other) => Math.abs(seen[other]) - Math.abs(seen[one]));
  $("most").replaceChildren(...order.slice(0, 8).map((at) => line(called(at), at, seen[at])));
  const first = $("row").value === "0" ? shown("first_token", $("layer").value, $("head").value) : seen[0];
  if (shares) $("most").append(line("first token", 0, first)); // from the figures where they have it: the maps are rounded
}

function line(word, at, share) {
  const row = document.createElement("tr");
  for (const text of [word, at, isDifference() ? signed(share) : percent(share)]) {
    const cell = document.createElement("td");
    cell.textContent = text;
    row.append(cell);
  }
  return row;
}

function paintMap(layer, head) {
  const measure = $("measure").value;
  const values = cells.flat().map((cell) => shown(measure, cell.layer, cell.head));
  const most = Math.max(...values.map((value) => Math.abs(value ?? 0)));
  $("scale").textContent = `Strongest colour: ${measure === "z" ? most.toFixed(1) : percent(most)}.`;
  let chosen = null;
  cells.flat().forEach((cell, at) => {
    colour(cell.element, values[at] ?? 0, most);
    const selected = String(cell.layer) === layer && String(cell.head) === head;
    cell.element.ariaSelected = selected;
    cell.element.tabIndex = selected ? 0 : -1;
    cell.element.ariaLabel = describe(cell.layer, cell.head);
    if (selected) chosen = cell;
  });
  if (!chosen) cells[0][0].element.tabIndex = 0;
}

// Saying

function describe(layer, head) {
  const place = layer === "rollout" ? "Rollout through all layers" : layer === "mean" ? "All heads, mean"
    : head === "mean" ? `Layer ${layer}, mean of heads` : `Layer ${layer}, head ${head}`;
  const tell = isDifference() ? signed : percent;
  const whole = $("row").value === "0" ? "" : ", the whole phrase"; // the figures are not told token by token
  const parts = [`${tell(shown("key", layer, head))} to the key`];
  const control = shown("control_mean", layer, head), z = shown("z", layer, head);
  if (control !== null && !isDifference()) parts.push(`${percent(control)} to control spans`);
  if (z !== null && !isDifference()) parts.push(`z = ${z.toFixed(1)}`);
  parts.push(`${tell(shown("first_token", layer, head))} to the first token`);
  return `${place}${whole}: ${parts.join(", ")}.`;
}

function sayHead(layer, head) {
  $("says").textContent = describe(layer, head);
}

function sayChoice() {
  const layer = $("layer").value, head = $("head").value;
  const number = (value) => (value === "mean" || value === "rollout" ? value : Number(value));
  const missing = attention() === null ? " Its map was left out of this page to keep it small." : "";
  $("says").textContent = describe(number(layer), number(head)) + missing;
}

function sayToken(at) {
  const shares = attention();
  if (at >= data.width) $("says").textContent = "After the query: a token attends to earlier ones only.";
  else if (shares) {
    const share = isDifference() ? signed(shares[at]) : percent(shares[at]);
    $("says").textContent = `“${called(at)}” (token ${at}): ${share}.`;
  }
}

function sayFinding() {
  const [layer, head] = data.best;
  const system = data.systems.at(-1);
  const key = figure(system, "key", layer, head), z = figure(system, "z", layer, head);
  const control = figure(system, "control_mean", layer, head);
  const beside = z === null ? "" : `, against ${percent(control)} to control spans (z = ${z.toFixed(1)})`;
  const base = data.systems.length > 1 ? `; ${percent(figure("base", "key", layer, head))} in the base model` : "";
  $("finding").textContent = `Layer ${layer}, head ${head} gives the key ${percent(key)} of its attention${beside}${base}.`;
}

async function start() {
  const packed = Uint8Array.from(atob(data.maps), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  buildControls();
  buildText();
  buildMap();
  sayFinding();
  choose(...data.best, false);
  document.body.dataset.ready = "true";
}

start();
