"use strict";
// The script of the attention page.
// Sources of each row of the maps: 0 is the rollout, 1 the mean of all heads, 2 + layer the mean of a layer, then the kept heads.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const sourceCount = 2 + data.layers + data.kept_heads.length;
const sourceOfHead = new Map(data.kept_heads.map((head, index) => [head, 2 + data.layers + index]));
const systemNames = { base: "Base", tuned: "Tuned", difference: "Tuned − base" };
let bytes = null; // the unpacked maps

const percent = (share) => {
  const points = Math.abs(100 * share);
  return (points > 0 && points < 0.05 ? (100 * share).toPrecision(1) : (100 * share).toFixed(points < 9.95 ? 2 : 1)) + "%";
};
const signedPercent = (share) => (share < 0 ? "−" : "+") + percent(Math.abs(share));
const formatShare = (share) => (isGradient() ? nats(share) : isDifference() ? signedPercent(share) : percent(share));
const tokenName = (index) => data.pieces[index][1].trim() || (data.pieces[index][1] ? "␣" : "(part of a character)");

const isDifference = () => $("system").value === "difference";
const isGradient = () => $("layer").value === "gradient";

// Statistics of a head, the mean of a layer, the mean of all heads, or the rollout

function mean(values) {
  if (values.includes(null)) return null; // too few control spans
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function statisticOf(system, name, layer, head) {
  const { heads, rollout } = data.statistics[system];
  if (layer === "rollout") return rollout[name];
  if (layer === "mean") return name === "z" ? null : mean(heads[name].map(mean));
  if (head === "mean") return name === "z" ? null : mean(heads[name][layer]);
  return heads[name][layer][head];
}

function statistic(name, layer, head) {
  if (!isDifference()) return statisticOf($("system").value, name, layer, head);
  const [tuned, base] = ["tuned", "base"].map((system) => statisticOf(system, name, layer, head));
  return tuned === null || base === null ? null : tuned - base;
}

// Attention of the selected row to each token, or null for a head whose map is not on the page

function selectedSource() {
  const layer = $("layer").value, head = $("head").value;
  if (layer === "rollout") return 0;
  if (layer === "mean") return 1;
  if (head === "mean") return 2 + Number(layer);
  return sourceOfHead.get(Number(layer) * data.heads + Number(head));
}

function attentionOf(system, source) {
  const rowOfSystem = Number($("row").value);
  const row = data.systems.indexOf(system) * data.rows + rowOfSystem;
  const begin = (row * sourceCount + source) * data.width;
  const shares = Array.from(bytes.subarray(begin, begin + data.width), (byte) => (byte / 255) ** 2);
  if (source !== 0) return shares;
  const [first, largest] = data.rollout_scale[system][rowOfSystem];
  return shares.map((share, index) => (index === 0 ? first : share * largest));
}

function attention() {
  if (isGradient()) return gradient();
  const source = selectedSource();
  if (source === undefined) return null;
  if (!isDifference()) return attentionOf($("system").value, source);
  const base = attentionOf("base", source);
  return attentionOf("tuned", source).map((share, index) => share - base[index]);
}

// The gradient of the query's log-probability times each embedding, in nats; it is one figure a token, for the whole query.
function gradient() {
  const values = selectedEffects(data, $("system").value).gradient;
  return [...values, ...Array(data.width - values.length).fill(0)];
}

function setColor(element, share, largest) {
  const strength = largest > 0 ? Math.sqrt(Math.min(Math.abs(share) / largest, 1)) : 0;
  element.style.setProperty("--c", share < 0 ? "var(--cold)" : "var(--hot)");
  element.style.setProperty("--a", (100 * strength).toFixed(1) + "%");
}

// Building the page

function addOption(select, value, label) {
  select.add(new Option(label, value));
}

function buildControls() {
  for (const system of data.systems) addOption($("system"), system, systemNames[system]);
  if (data.systems.length > 1) addOption($("system"), "difference", systemNames.difference);
  $("system").value = data.systems.at(-1);
  addOption($("row"), 0, "the whole query");
  for (let row = 1; row < data.rows; row++) addOption($("row"), row, tokenName(data.query[0] + row - 1));
  addOption($("layer"), "mean", "all (mean)");
  addOption($("layer"), "rollout", "all (rollout)");
  if (Object.keys(data.effects).length > 0) addOption($("layer"), "gradient", "gradient × input");
  for (let layer = 0; layer < data.layers; layer++) addOption($("layer"), layer, layer);
  addOption($("head"), "mean", "all (mean)");
  for (let head = 0; head < data.heads; head++) addOption($("head"), head, head);
  addOption($("measure"), "key", "attention to the key");
  addOption($("measure"), "z", "z-score");
  addOption($("measure"), "first_token", "attention to the first token");
  for (const id of ["system", "row", "layer", "head", "measure"]) $(id).addEventListener("change", update);
  $("controls").addEventListener("submit", (event) => event.preventDefault());
}

const tokens = []; // span elements

function buildText() {
  data.pieces.forEach(([before, text], index) => {
    $("text").append(before);
    const span = document.createElement("span");
    span.textContent = text;
    span.dataset.index = index;
    if (index >= data.query[0] && index < data.query[1]) span.classList.add("query");
    if (index >= data.key[0] && index < data.key[1]) span.classList.add("key");
    if (index === 0) span.classList.add("sink");
    if (index >= data.width) span.classList.add("after");
    tokens.push(span);
    $("text").append(span);
  });
  $("text").addEventListener("mouseover", (event) => {
    const index = event.target.dataset.index;
    if (index !== undefined) showToken(Number(index));
  });
  $("text").addEventListener("mouseleave", showSelection);
}

const cells = []; // one array per layer, of {layer, head, element}

function addLabel(map, text, kind) {
  const element = document.createElement("span");
  element.className = kind;
  element.textContent = text;
  element.ariaHidden = true;
  map.append(element);
}

function addCell(row, layer, head, onClick, onEnter) {
  const element = document.createElement("div");
  Object.assign(element, { className: "cell", role: "gridcell", tabIndex: -1 });
  element.addEventListener("click", onClick);
  element.addEventListener("mouseenter", () => onEnter(element));
  row.append(element);
  return { layer, head, element };
}

// Fills a grid of layers and heads, and returns one array of cells per layer.
function buildGrid(map, columns, onClick, onEnter) {
  map.style.gridTemplateColumns = `auto repeat(${columns.length}, ${Math.min(1.7, 22 / (data.heads + 1))}rem)`;
  map.style.setProperty("--height", `${Math.min(1.1, Math.max(27 / data.layers, 0.6))}rem`);
  const step = data.heads > 16 ? 4 : 1;
  addLabel(map, "", "row-label");
  for (const head of columns) addLabel(map, head === "mean" ? "x̄" : head % step ? "" : head, "column-label");
  return [...Array(data.layers).keys()].map((layer) => {
    addLabel(map, layer, "row-label");
    const row = document.createElement("div");
    row.role = "row";
    row.style.display = "contents";
    map.append(row);
    return columns.map((head) =>
      addCell(row, layer, head, () => onClick(layer, head), (element) => onEnter(element, layer, head)));
  });
}

function buildHeatmap() {
  const heatmap = $("heatmap");
  const columns = ["mean", ...Array(data.heads).keys()];
  const show = (element, layer, head) => showHead(layer, head);
  cells.push(...buildGrid(heatmap, columns, (layer, head) => select(layer, head, true), show));
  heatmap.addEventListener("mouseleave", showSelection);
  heatmap.addEventListener("keydown", move);
}

// Interaction

function select(layer, head, focus) {
  $("layer").value = layer;
  $("head").value = head;
  update();
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
  if (next) select(next.layer, next.head, true);
}

function update() {
  const layer = $("layer").value, head = $("head").value;
  $("head").disabled = layer === "mean" || layer === "rollout" || isGradient();
  $("row").disabled = isGradient();
  const shares = attention();
  colorText(shares);
  listTopTokens(shares);
  colorHeatmap(layer, head);
  showEffects(data, $("system").value, layer, head);
  showSelection();
}

function colorText(shares) {
  const largest = Math.max(...(shares ?? []).slice(1).map(Math.abs), 0);
  tokens.forEach((span, index) => {
    if (index === 0 || index >= data.width || !shares) {
      span.style.background = "";
      return;
    }
    setColor(span, shares[index], largest);
    span.style.background = "color-mix(in srgb, var(--c) var(--a), transparent)";
  });
}

function listTopTokens(shares) {
  const most = isGradient() ? "Tokens that contribute most" : "Tokens with the most attention";
  $("top-title").textContent = isDifference() ? "Tokens with the largest change" : most;
  if (!shares) {
    $("top-tokens").replaceChildren();
    return;
  }
  const order = [...shares.keys()].slice(1).sort((one, other) => Math.abs(shares[other]) - Math.abs(shares[one]));
  $("top-tokens").replaceChildren(...order.slice(0, 8).map((index) => tableRow(tokenName(index), index, shares[index])));
  // The statistics are more precise than the maps, but there are none for single query tokens.
  const whole = $("row").value === "0" && !isGradient();
  const first = whole ? statistic("first_token", $("layer").value, $("head").value) : shares[0];
  $("top-tokens").append(tableRow("first token", 0, first));
}

function tableRow(name, index, share) {
  const row = document.createElement("tr");
  for (const text of [name, index, formatShare(share)]) {
    const cell = document.createElement("td");
    cell.textContent = text;
    row.append(cell);
  }
  return row;
}

function colorHeatmap(layer, head) {
  const measure = $("measure").value;
  const values = cells.flat().map((cell) => statistic(measure, cell.layer, cell.head));
  const largest = Math.max(...values.map((value) => Math.abs(value ?? 0)));
  const blue = isDifference() ? " Blue: lower in the tuned model." : "";
  $("scale").textContent = `The strongest color is ${measure === "z" ? largest.toFixed(1) : percent(largest)}.${blue}`;
  let selectedCell = null;
  cells.flat().forEach((cell, index) => {
    setColor(cell.element, values[index] ?? 0, largest);
    const selected = String(cell.layer) === layer && String(cell.head) === head;
    cell.element.ariaSelected = selected;
    cell.element.tabIndex = selected ? 0 : -1;
    cell.element.ariaLabel = describe(cell.layer, cell.head);
    if (selected) selectedCell = cell;
  });
  if (!selectedCell) cells[0][0].element.tabIndex = 0;
}

// Status text

function nameOf(layer, head) {
  if (layer === "rollout") return "Rollout over all layers";
  if (layer === "mean") return "Mean of all heads";
  return head === "mean" ? `Layer ${layer}, mean of heads` : `Layer ${layer}, head ${head}`;
}

function describe(layer, head) {
  if (layer === "gradient") {
    return "Gradient × input: an estimate of what each token adds to the query's log-probability. Orange: more likely.";
  }
  const whole = $("row").value === "0" ? "" : ", whole query"; // there are no statistics for single query tokens
  const parts = [`${formatShare(statistic("key", layer, head))} to the key`];
  const control = statistic("control_mean", layer, head), z = statistic("z", layer, head);
  if (control !== null && !isDifference()) parts.push(`${percent(control)} to control spans`);
  if (z !== null && !isDifference()) parts.push(`z = ${z.toFixed(1)}`);
  parts.push(`${formatShare(statistic("first_token", layer, head))} to the first token`);
  return `${nameOf(layer, head)}${whole}: ${parts.join(", ")}.`;
}

function showHead(layer, head) {
  $("status").textContent = describe(layer, head);
}

function showSelection() {
  const layer = $("layer").value, head = $("head").value;
  const number = (value) => (Number.isNaN(Number(value)) ? value : Number(value));
  const missing = attention() === null ? " This head's attention map is omitted to limit the size of the page." : "";
  $("status").textContent = describe(number(layer), number(head)) + missing;
}

function showToken(index) {
  const shares = attention();
  if (index >= data.width) $("status").textContent = "After the query: tokens attend only to earlier ones.";
  else if (shares) $("status").textContent = `“${tokenName(index)}” (token ${index}): ${formatShare(shares[index])}.`;
}

function showFinding() {
  const [layer, head] = data.best_head;
  const system = data.systems.at(-1);
  const key = statisticOf(system, "key", layer, head), z = statisticOf(system, "z", layer, head);
  const control = statisticOf(system, "control_mean", layer, head);
  const controls = z === null ? "" : `, compared with ${percent(control)} to control spans (z = ${z.toFixed(1)})`;
  const base = data.systems.length > 1 ? ` In the base model: ${percent(statisticOf("base", "key", layer, head))}.` : "";
  const effects = data.effects[system];
  const alone = effects ? ` Without these edges in this head alone, the query is ${likelier(effects.heads[layer][head])}.` : "";
  $("finding").textContent =
    `Highest-ranked head: layer ${layer}, head ${head}. ${percent(key)} of the query's attention goes to the key${controls}.` +
    base + alone;
}

async function start() {
  const packed = Uint8Array.from(atob(data.maps), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  buildControls();
  buildText();
  buildHeatmap();
  buildEffects(data, (layer, head) => select(layer, head, false));
  showFinding();
  select(...data.best_head, false);
  document.body.dataset.ready = "true";
}

start();
