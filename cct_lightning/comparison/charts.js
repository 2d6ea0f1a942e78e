// The figures of the page, as SVG: lines and marks on two axes, and parallel coordinates.
// A variant is told from another by its color, its dash or mark, and its number.
"use strict";
const MARKS = [
  "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", "M-4-4h8v8h-8z", "M0-5L5,4H-5z", "M0-5.5L5.5,0 0,5.5 -5.5,0z", "M0,5L5-4H-5z",
  "M-1.5-5h3v3.5H5v3H1.5V5h-3V1.5H-5v-3h3.5z", "M-4-4L4,4M4-4L-4,4M0-5V5", "M0-6L1.6-1.6 6,0 1.6,1.6 0,6 -1.6,1.6 -6,0 -1.6-1.6z",
];
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "14 4"];

function add(parent, tag, attributes = {}, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

let clips = 0;
const color = i => `var(--c${i % 7})`;
const shorter = (text, room) => text.length > room ? text.slice(0, room - 1) + "…" : text;

// Numbers that divide a span evenly.
function ticks(low, high, count) {
  if (!(high > low)) return [low];
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(factor => factor * power >= rough);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(+(k * step).toPrecision(12));
  return found;
}

// A number, with the digits that tell it from one that is a step away.
function written(value, step = 0) {
  const size = Math.abs(value), digits = step ? Math.min(9, Math.max(2, Math.ceil(Math.log10(Math.max(size, step) / step)) + 1)) : 4;
  if (size >= 1e6) return +(value / 1e6).toPrecision(digits) + " M";
  if (size >= 1e4) return +(value / 1e3).toPrecision(digits) + " k";
  return size !== 0 && size < 1e-3 ? value.toExponential(1) : String(+value.toPrecision(digits));
}

const labelled = found => found.map(value => [value, written(value, found.length > 1 ? found[1] - found[0] : 0)]);

/* Draws series on two axes.
   x: {label, values: names of places, or null for numbers}; y: {label, low, high: null to fit};
   series: [{i: number of the variant from 0, name, points: [[x, y, deviation], ...], line, band, bars, marks, tag}]. */
function chart(width, x, y, series) {
  const height = Math.min(340, Math.max(240, width * 0.62)), left = 62, right = 34, top = 10;
  const long = x.values && Math.max(...x.values.map(v => v.length)) * 7 > (width - left - right) / x.values.length;
  const bottom = long ? 92 : 44;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "img");
  svg.style.maxWidth = `${width}px`;
  const points = series.flatMap(s => s.points), xs = points.map(p => p[0]);
  const ends = points.flatMap(p => [p[1] - (p[2] || 0), p[1] + (p[2] || 0)]);
  let [x0, x1] = x.values ? [-0.4, x.values.length - 0.6] : [Math.min(...xs), Math.max(...xs)];
  let y0 = y.low ?? Math.min(...ends), y1 = y.high ?? Math.max(...ends);
  if (x1 === x0) [x0, x1] = [x0 - Math.abs(x0) * 0.05 - 1e-9, x1 + Math.abs(x1) * 0.05 + 1e-9];
  else if (!x.values) [x0, x1] = [x0 - (x1 - x0) * 0.03, x1 + (x1 - x0) * 0.03];
  const margin = (y1 - y0) * 0.04 || Math.abs(y1) * 0.05 || 1;
  [y0, y1] = [y0 - margin, y1 + margin];
  const px = v => left + (v - x0) / (x1 - x0) * (width - left - right);
  const py = v => height - bottom - (v - y0) / (y1 - y0) * (height - top - bottom);
  for (const [v, name] of labelled(ticks(y0, y1, 5))) {
    add(svg, "line", {class: "axis", x1: left, x2: width - right, y1: py(v), y2: py(v)});
    add(svg, "text", {x: left - 6, y: py(v) + 4, "text-anchor": "end"}, name);
  }
  const marks = x.values ? x.values.map((name, k) => [k, name]) : labelled(ticks(x0, x1, Math.max(3, width / 110)));
  for (const [v, name] of marks) {
    const place = long ? {transform: `translate(${px(v)},${height - bottom + 14}) rotate(-35)`, "text-anchor": "end"}
      : {x: px(v), y: height - bottom + 17, "text-anchor": "middle"};
    add(svg, "text", place, shorter(name, 16));
  }
  add(svg, "text", {x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle"}, x.label);
  add(svg, "text", {transform: `translate(13,${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle"}, y.label);
  const tags = [], clip = `inside-${clips++}`;
  add(add(svg, "clipPath", {id: clip}), "rect", {x: left - 6, y: 0, width: width - left - right + 12, height: height - bottom});
  for (const s of series) {
    const whole = add(svg, "g", {class: "series", stroke: color(s.i), fill: color(s.i)});
    const group = add(whole, "g", {"clip-path": `url(#${clip})`});
    add(whole, "title", {}, s.name);
    if (s.band && s.points.some(p => p[2])) {
      const edge = (p, sign) => `${px(p[0]).toFixed(1)},${py(p[1] + sign * (p[2] || 0)).toFixed(1)}`;
      const around = [...s.points.map(p => edge(p, 1)), ...s.points.map(p => edge(p, -1)).reverse()];
      add(group, "path", {class: "band", stroke: "none", d: `M${around.join("L")}Z`});
    }
    const path = s.points.map(p => `${px(p[0]).toFixed(1)},${py(p[1]).toFixed(1)}`).join("L");
    if (s.line) add(group, "path", {class: "curve", "stroke-dasharray": DASHES[Math.floor(s.i / 7) % 5], d: `M${path}`});
    for (const p of s.points) {
      if (s.bars && p[2]) add(group, "line", {x1: px(p[0]), x2: px(p[0]), y1: py(p[1] - p[2]), y2: py(p[1] + p[2])});
      if (s.marks || s.points.length === 1) {
        const mark = add(group, "path", {d: MARKS[s.i % 8], transform: `translate(${px(p[0])},${py(p[1])})`, "fill-opacity": s.faint ? 0.35 : 1, "stroke-opacity": s.faint ? 0.5 : 1});
        add(mark, "title", {}, `${s.name}: ${written(p[1])}${p[2] ? " ± " + written(p[2]) : ""}`);
      }
    }
    const last = s.points.at(-1);
    if (s.tag) tags.push({group: whole, x: px(last[0]) + 8, y: py(last[1]), text: s.tag});
  }
  // Tags of one column keep a distance: pushed down by those above, and up from the lower end.
  tags.sort((a, b) => a.y - b.y);
  const near = (tag, others) => others.find(other => Math.abs(other.x - tag.x) < 16);
  tags.forEach((tag, k) => { tag.y = Math.max(tag.y, top, (near(tag, tags.slice(0, k).reverse())?.y ?? -99) + 11); });
  tags.forEach((_, k) => {
    const tag = tags[tags.length - 1 - k], below = near(tag, tags.slice(tags.length - k));
    tag.y = Math.min(tag.y, (below?.y ?? height - bottom + 11) - 11);
    add(tag.group, "text", {x: tag.x, y: tag.y + 4, "font-size": 11}, tag.text);
  });
  return svg;
}

// Draws an axis for each option and one for the result, and a line for each variant: {i, name, values, mean}.
function parallel(width, options, label, variants) {
  const height = 350, top = 50, bottom = 16, left = 46, right = 60;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "img");
  const low = Math.min(...variants.map(v => v.mean)), high = Math.max(...variants.map(v => v.mean));
  const axes = options.map((name, k) => [...new Set(variants.map(v => v.values[k]))].sort((a, b) => a - b || a.localeCompare(b)));
  const px = k => left + k * (width - left - right) / options.length;
  const py = share => height - bottom - share * (height - top - bottom);
  const of = (k, value) => py(axes[k].length > 1 ? axes[k].indexOf(value) / (axes[k].length - 1) : 0.5);
  const result = mean => py(high > low ? (mean - low) / (high - low) : 0.5);
  for (const v of [...variants].reverse()) {
    const share = high > low ? (v.mean - low) / (high - low) : 1;
    const path = [...v.values.map((value, k) => `${px(k)},${of(k, value)}`), `${px(options.length)},${result(v.mean)}`];
    const group = add(svg, "g", {class: "series", stroke: color(v.i), fill: "none", "stroke-opacity": 0.15 + 0.85 * share});
    add(group, "title", {}, `#${v.i + 1} ${v.name}: ${written(v.mean)}`);
    add(group, "path", {d: `M${path.join("L")}`, "stroke-width": 0.8 + 2 * share, "stroke-dasharray": DASHES[Math.floor(v.i / 7) % 5]});
  }
  [...options, label].forEach((name, k) => {
    add(svg, "line", {class: "axis", x1: px(k), x2: px(k), y1: top, y2: height - bottom});
    const ends = k === options.length ? "end" : k ? "middle" : "start";
    const at = k === options.length ? width - 2 : k ? px(k) : 2;
    add(svg, "text", {x: at, y: k % 2 && width < 700 ? 14 : 28, "text-anchor": ends, "font-weight": 600}, shorter(name, Math.max(8, width / options.length / 8)));
    if (k === options.length) for (const [v, at] of labelled(ticks(low, high, 6))) add(svg, "text", {x: px(k) + 5, y: result(v) + 4}, at);
    else for (const value of axes[k]) add(svg, "text", {x: px(k) + 5, y: of(k, value) - 3}, shorter(value, 14));
  });
  return svg;
}
