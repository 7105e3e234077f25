"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const make = (name, text) => Object.assign(document.createElement(name), { textContent: text });

/* The crossover. */
function crossover() {
  const k = Number(at("eps-crossover").value), said = at("said");
  at("crossover-now").textContent = data.radii[k].toPrecision(3);
  at("pushed").src = `images-${String(k).padStart(2, "0")}.png`;
  said.replaceChildren();
  const rows = [["true class", data.true], ["label-to-be", data.labels]];
  for (const name of data.names) rows.push([name, data.said[name][k]]);
  for (const [name, classes] of rows) {
    const head = document.createElement("tr"), row = document.createElement("tr");
    const title = make("td", name);
    title.colSpan = data.true.length;
    head.className = "head";
    head.append(title);
    classes.forEach((c, i) => {
      const cell = make("td", c < 0 ? "undecided" : data.classes[c]);
      if (name !== "label-to-be" && c === data.labels[i]) cell.className = "new";
      row.append(cell);
    });
    said.append(head, row);
  }
  const parts = data.names.map((name) => `${name} ${data.shares[name].new[k].toFixed(0)} %`);
  at("shares").textContent = `Given the new class: ${parts.join("; ")}.`;
  const line = document.querySelector(".nb-now");
  for (const end of ["x1", "x2"]) line.setAttribute(end, data.places.x[k]);
}

/* The theory, in closed form: see notbugs.theory.gaussian. */
function erfc(x) {
  if (x < 0) return 2 - erfc(-x);
  if (x < 3) {
    let term = x, sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum) && n < 200; n++) {
      term *= -x * x / n;
      sum += term / (2 * n + 1);
    }
    return 1 - 2 / Math.sqrt(Math.PI) * sum;
  }
  let fraction = 0;
  for (let n = 80; n > 0; n--) fraction = n / 2 / (x + fraction);
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
}
const normal = (x) => erfc(-x / Math.SQRT2) / 2;

function accuracy(mean, variances, weights, eps) {
  const [dot, squares, spread] = mean.reduce(([d, q, s], m, i) =>
    [d + m * weights[i], q + weights[i] ** 2, s + variances[i] * weights[i] ** 2], [0, 0, 0]);
  return normal((dot - eps * Math.sqrt(squares)) / Math.sqrt(spread));
}

function robustVariances(variances, multiplier) {
  return variances.map((s) => s / 2 + 1 / multiplier + Math.sqrt(s / multiplier + s * s / 4));
}

function robustFit(variances, eps) {
  const spent = (log) => {
    const m = Math.exp(log);
    return robustVariances(variances, m).reduce((sum, r) => sum + 1 / (m * m * r), 0);
  };
  let low = -1, high = 1;
  while (spent(low) < eps * eps) low *= 2;
  while (spent(high) > eps * eps) high *= 2;
  while (high - low > 1e-13 * Math.max(1, Math.abs(high))) {
    const middle = (low + high) / 2;
    if (spent(middle) > eps * eps) low = middle; else high = middle;
  }
  const multiplier = Math.exp((low + high) / 2);
  return { multiplier, variances: robustVariances(variances, multiplier) };
}

function classifier(mean, variances, fitted, eps) {
  const weights = mean.map((m, i) => m / fitted[i]);
  const dot = mean[0] * weights[0] + mean[1] * weights[1];
  return {
    weights,
    accuracy: accuracy(mean, variances, weights, 0),
    robust: accuracy(mean, variances, weights, eps),
    cosine: dot / Math.hypot(...mean) / Math.hypot(...weights),
  };
}

function gaussians(mean, variances, eps) {
  const fit = robustFit(variances, eps);
  return {
    fit,
    standard: classifier(mean, variances, variances, eps),
    robust: classifier(mean, variances, fit.variances, eps),
  };
}

const SLIDERS = ["length", "angle", "first", "second", "eps"];

function theory() {
  const value = Object.fromEntries(SLIDERS.map((id) => [id, Number(at(id).value)]));
  for (const id of SLIDERS) at(`${id}-now`).textContent = value[id];
  const angle = value.angle * Math.PI / 180;
  const mean = [value.length * Math.cos(angle), value.length * Math.sin(angle)];
  const variances = [value.first, value.second];
  const found = gaussians(mean, variances, value.eps);
  at("numbers").replaceChildren(...[["Maximum likelihood", found.standard],
    ["Robust to ε", found.robust]].map(([name, one]) => {
    const row = document.createElement("tr"), head = make("th", name);
    head.scope = "row";
    row.append(head, make("td", `${(100 * one.accuracy).toFixed(1)} %`),
      make("td", `${(100 * one.robust).toFixed(1)} %`), make("td", one.cosine.toFixed(3)));
    return row;
  }));
  plot(mean, variances, found);
}

function plot(mean, variances, found) {
  const shapes = [];
  const add = (name, attributes) => {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, v] of Object.entries(attributes)) shape.setAttribute(key, v);
    shapes.push(shape);
  };
  const line = { "stroke-width": 0.06, fill: "none" };
  for (const [sign, ink] of [[1, "var(--nb-blue)"], [-1, "var(--nb-vermillion)"]]) {
    const [cx, cy] = [sign * mean[0], -sign * mean[1]];
    for (const sigmas of [1, 2]) {
      const [rx, ry] = variances.map((s) => sigmas * Math.sqrt(s));
      add("ellipse", { cx, cy, rx, ry, stroke: ink, fill: ink, "fill-opacity": 0.1, "stroke-width": 0.03 });
    }
    add("circle", { cx, cy, r: 0.12, fill: ink });
  }
  for (const [one, dash, ink] of [[found.standard, "none", "var(--nb-ink)"],
    [found.robust, "0.25 0.15", "var(--nb-green)"]]) {
    const length = Math.hypot(...one.weights), [a, b] = one.weights.map((w) => 9 * w / length);
    add("line", { x1: -b, y1: -a, x2: b, y2: a, stroke: ink, "stroke-dasharray": dash, ...line });
  }
  const words = (x, y, text, ink) => {
    add("text", { x, y, fill: ink, "font-size": 0.42, class: "words" });
    shapes[shapes.length - 1].textContent = text;
  };
  words(-4.8, -4.45, "maximum likelihood", "var(--nb-ink)");
  words(-4.8, -3.95, "robust (dashed)", "var(--nb-green)");
  at("plot").replaceChildren(...shapes);
}

at("eps-crossover").addEventListener("input", crossover);
for (const id of SLIDERS) at(id).addEventListener("input", theory);
at("reveal").addEventListener("change", (event) => {
  document.querySelector(".gallery").classList.toggle("revealed", event.target.checked);
});
crossover();
theory();
