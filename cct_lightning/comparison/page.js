// What the reader does: sort tables, filter variants, open parts, print. A figure is drawn when its part is opened.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("filter");
const variants = data.variants.map((variant, i) => ({...variant, i}));
const titled = variant => `#${variant.i + 1} ${variant.name}`;
let shown = variants;

const make = (tag, text = "", properties = {}) => Object.assign(document.createElement(tag), {textContent: text}, properties);
const few = found => +form.most.value ? found.slice(0, +form.most.value) : found;

function figure(place, caption, drawn) {
  const holder = make("figure");
  place.append(holder);
  holder.append(make("figcaption", caption), drawn(Math.max(300, Math.round(holder.getBoundingClientRect().width) || 600)));
}

const draw = {
  curves(part) {
    const grid = part.querySelector(".grid"), ends = {};
    grid.replaceChildren();
    const found = few(shown);
    // Without the first epochs, beside which the last ones would all look alike.
    const late = list => list.slice(Math.floor(list.length / 8)).filter(m => m !== null);
    const high = (key, sign) => Math.max(...found.filter(v => v.curves[key]).flatMap(v => late(v.curves[key][1]).map(m => sign * m)));
    // Training and validation on one scale.
    for (const key of Object.keys(data.curves)) {
      const kind = key.split("/").at(-1), keys = Object.keys(data.curves).filter(other => other.split("/").at(-1) === kind);
      ends[key] = {low: -Math.max(...keys.map(k => high(k, -1))), high: Math.max(...keys.map(k => high(k, 1)))};
    }
    for (const [key, label] of Object.entries(data.curves)) {
      const series = found.filter(v => v.curves[key]).map(v => ({
        i: v.i, name: titled(v), tag: String(v.i + 1), line: true, band: true,
        points: v.curves[key][0].map((epoch, k) => [epoch, v.curves[key][1][k], v.curves[key][2][k]]).filter(p => p[1] !== null),
      }));
      if (series.length) figure(grid, key, width => chart(width, {label: "epoch"}, {label, ...ends[key]}, series));
    }
  },

  costs(part) {
    const grid = part.querySelector(".grid");
    grid.replaceChildren();
    for (const [key, label] of Object.entries(data.costs)) {
      const series = few(shown).filter(v => v.mean !== null && v.costs[key] !== null)
        .map(v => ({i: v.i, name: titled(v), tag: String(v.i + 1), bars: true, marks: true, points: [[v.costs[key], v.mean, v.std]]}));
      if (series.length) figure(grid, label, width => chart(width, {label}, {label: data.metric}, series));
    }
  },

  effects(part) {
    const done = shown.filter(v => v.mean !== null), average = list => list.reduce((sum, v) => sum + v.mean, 0) / list.length;
    const order = k => [...new Set([...done].sort((a, b) => a.index - b.index).map(v => v.values[k]))];
    const grid = part.querySelector("[data-part=main]");
    grid.replaceChildren();
    const means = (k, list, values) => values.map((value, at) => [at, list.filter(v => v.values[k] === value)])
      .filter(([, some]) => some.length).map(([at, some]) => [at, average(some)]);
    if (done.length) data.options.forEach((name, k) => {
      const values = order(k);
      const series = [
        ...done.map(v => ({i: v.i, name: titled(v), marks: true, faint: true, points: [[values.indexOf(v.values[k]), v.mean]]})),
        {i: 6, name: `mean by ${name}`, line: true, marks: true, points: means(k, done, values)},
      ];
      figure(grid, name, width => chart(width, {label: name, values}, {label: data.metric}, series));
    });
    const [first, second] = ["first", "second"].map(name => part.querySelector(`select[name=${name}]`));
    if (!first) return;
    if (!first.options.length) {
      for (const choice of [first, second]) {
        choice.append(...data.options.map((name, k) => make("option", name, {value: k})));
        choice.addEventListener("change", () => draw.effects(part));
      }
      second.value = 1;
    }
    const [a, b] = [+first.value, +second.value], values = order(a);
    const place = part.querySelector("[data-part=interaction]"), lines = part.querySelector("[data-part=parallel]");
    place.replaceChildren();
    lines.replaceChildren();
    if (!done.length) return;
    const series = order(b).map((value, i) => ({
      i: i + 7 * (i % 5), name: `${data.options[b]}=${value}`, tag: shorter(value, 5), line: true, marks: true,
      points: means(a, done.filter(v => v.values[b] === value), values),
    }));
    figure(place, `${data.options[a]} by ${data.options[b]}`, width => chart(Math.min(width, 700), {label: data.options[a], values}, {label: data.metric}, series));
    const legend = series.map(s => s.name).join("; ");
    place.firstElementChild.append(make("p", `Lines: ${legend}.`));
    figure(lines, "", width => parallel(width, data.options, data.metric, done));
  },

  classes(part) {
    const choice = part.querySelector("select[name=variant]");
    if (!choice.options.length) choice.addEventListener("change", () => draw.classes(part));
    const before = choice.value, able = shown.filter(v => v.right);
    choice.replaceChildren(...able.map(v => make("option", titled(v), {value: v.i})));
    if (able.some(v => String(v.i) === before)) choice.value = before;
    for (const place of part.querySelectorAll("[data-part]")) place.replaceChildren();
    if (!able.length) return;
    const place = name => part.querySelector(`[data-part=${name}]`), variant = variants[+choice.value];
    place("confusion").append(variant.confusion ? matrix(variant) : make("p", "With so many classes, the page has the matrices of the best variants alone."));
    place("classes").append(perClass(few(able).filter(v => v.classes === variant.classes)));
    place("samples").append(...variant.samples.map(sample));
  },
};

function row(parent, cells, tag) {
  const made = parent.insertRow();
  made.append(...cells.map(([text, share, kind]) => {
    const cell = make(kind || tag, text);
    if (share) cell.style.background = `color-mix(in srgb, var(--accent) ${(0.7 * share).toFixed(0)}%, transparent)`;
    if (tag === "td" && !kind) cell.className = "number";
    return cell;
  }));
}

function matrix(variant) {
  const names = data.classes[variant.classes], table = make("table", "", {className: "matrix"});
  row(table.createTHead(), [["true \\ taken for"], ...names.map(name => [shorter(name, 14)])], "th");
  const body = table.createTBody();
  variant.confusion.forEach((counts, k) => {
    const percent = counts.map(count => variant.total[k] ? 100 * count / variant.total[k] : 0);
    row(body, [[shorter(names[k], 20), 0, "th"], ...percent.map(p => [p ? (p < 0.5 ? "<1" : p.toFixed(0)) : "", p])], "td");
  });
  return table;
}

function perClass(list) {
  const table = make("table");
  row(table.createTHead(), [["class"], ...list.map(v => [`#${v.i + 1}`])], "th");
  const body = table.createTBody();
  data.classes[list[0].classes].forEach((name, k) => row(body, [
    [shorter(name, 24), 0, "th"], ...list.map(v => [v.total[k] ? (100 * v.right[k] / v.total[k]).toFixed(1) : "-"]),
  ], "td"));
  return table;
}

// An image, and beside it the same in grey under the pooling weights, which the browser enlarges smoothly.
function sample({image, size, weight, label, predicted, probability}) {
  const holder = make("figure"), pair = make("div", "", {className: "pair"});
  const picture = () => make("img", "", {src: data.images[image], alt: `test image of the class ${label}`});
  pair.append(picture());
  if (size) {
    const over = make("div", "", {className: "over"}), canvas = make("canvas", "", {width: size[1], height: size[0]});
    const levels = atob(weight), context = canvas.getContext("2d"), pixels = context.createImageData(size[1], size[0]);
    // Five stops of viridis.
    const stops = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
    for (let k = 0; k < levels.length; k++) {
      const level = levels.charCodeAt(k) / 255, at = Math.min(3, Math.floor(4 * level)), rest = 4 * level - at;
      for (let c = 0; c < 3; c++) pixels.data[4 * k + c] = stops[at][c] + rest * (stops[at + 1][c] - stops[at][c]);
      pixels.data[4 * k + 3] = 255 * 0.85 * (2 + level) / 3;
    }
    context.putImageData(pixels, 0, 0);
    over.append(picture(), canvas);
    pair.append(over);
  }
  const caption = make("figcaption");
  if (label === predicted) caption.append(`${label} (${probability} %)`);
  else caption.append(make("span", predicted, {className: "wrong"}), `, is ${label} (${probability} %)`);
  holder.append(pair, caption);
  return holder;
}

function refresh() {
  for (const part of document.querySelectorAll("details[open][data-draw]")) draw[part.dataset.draw](part);
}

function filter() {
  const words = form.text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const numbers = words.filter(word => /^#\d+$/.test(word)), terms = words.filter(word => !numbers.includes(word));
  const chosen = [...form.querySelectorAll("select[data-option]")].filter(select => select.value);
  shown = variants.filter(v => terms.every(term => v.name.toLowerCase().includes(term))
    && (!numbers.length || numbers.includes(`#${v.i + 1}`))
    && chosen.every(select => v.values[data.options.indexOf(select.dataset.option)] === select.value));
  const left = new Set(shown.map(v => v.i));
  for (const line of document.querySelectorAll("tr[data-variant]")) line.hidden = !left.has(+line.dataset.variant);
  form.querySelector("output").textContent = shown.length < variants.length ? `${shown.length} of ${variants.length} variants` : "";
  refresh();
}

form.addEventListener("input", filter);
form.addEventListener("submit", event => event.preventDefault());
for (const part of document.querySelectorAll("details[data-draw]")) part.addEventListener("toggle", () => part.open && draw[part.dataset.draw](part));
let waiting;
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return;  // a phone's bars come and go
  width = innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(refresh, 150);
});
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details[data-draw]")) part.open = true;
  refresh();
});

// Sorts a table by the column of the heading that was clicked; a second click turns the order.
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th").forEach((heading, column) => heading.firstElementChild.addEventListener("click", () => {
    const falling = heading.getAttribute("aria-sort") === "ascending";
    const key = line => { const cell = line.cells[column]; return cell.dataset.key ?? cell.textContent.trim(); };
    const number = text => text === "" ? NaN : Number(text);
    const compare = (a, b) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      const x = number(a), y = number(b);
      const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
      return falling ? -order : order;
    };
    const lines = [...table.tBodies[0].rows].sort((a, b) => compare(key(a), key(b)));
    table.tBodies[0].append(...lines);
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
  }));
}
refresh();
