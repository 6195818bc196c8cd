// Accuracy: projections beside measurements, coverage, and the worst misses.
import { html, useEffect, useRef } from "../lib.js";
import { bytes, count, percent, signed } from "../format.js";
import { tone } from "../palette.js";
import { Answer, Empty, JobLink, Table } from "../parts.js";

export function Accuracy() {
  return html`<h1>Accuracy of projections</h1><${Answer} path="/accuracy" every=${60000}>${(told) => html`<${Shown} told=${told} />`}<//>`;
}

function Shown({ told }) {
  if (!told.counted) return html`<section class="card"><${Empty} title="Nothing was measured yet"><p>Each attempt that ends adds a line: projected memory beside what its card held.</p><//></section>`;
  const device = told.figures.find((one) => one.figure === "device");
  return html`<dl class="stats">
      <div><dt>Attempts compared</dt><dd>${count(told.counted)}</dd></div>
      <div><dt>Stayed under the bound</dt><dd>${percent(told.coverage.share)} <small>asked ${percent(told.coverage.asked)}</small></dd></div>
      <div><dt>Median error</dt><dd>${percent(device?.median_error, 1)}</dd></div>
      <div><dt>Worst</dt><dd>${signed(device?.worst)}</dd></div>
      <div><dt>Ran out of memory</dt><dd>${count(told.ran_out)}</dd></div>
    </dl>
    <section class="card"><h2>Measured against projected, each attempt</h2><p class="quiet small">On the line, the card held what was projected; above it, more.</p><${Scatter} rows=${told.attempts} /></section>
    <section class="card"><h2>By model family, method and card</h2><${Table} label="Groups" head=${[["Family"], ["Method"], ["Card"], ["Attempts", "num"], ["Covered", "num"], ["Median error", "num"], ["Worst", "num"], ["Next interval", "num"]]}>
      ${told.groups.map((one) => html`<tr><td>${one.family}</td><td>${one.method}${one.quantisation && one.quantisation !== "none" ? `, ${one.quantisation}` : ""}</td><td>${one.card}</td><td class="num">${count(one.count)}</td><td class="num">${one.covered} of ${one.judged}</td><td class="num">${percent(one.median_error, 1)}</td><td class="num">${signed(one.worst)}</td><td class="num">${one.low === null ? "" : `${signed(one.low)} to ${signed(one.high)}`}</td></tr>`)}<//></section>
    <section class="card"><h2>Worst misses</h2><${Table} label="Worst misses" head=${[["Job"], ["Card"], ["Checkpointing"], ["Projected", "num"], ["Measured", "num"], ["Error", "num"], ["Outcome"]]}>
      ${told.worst.slice(0, 20).map((one) => html`<tr><td><${JobLink} id=${one.job} name=${one.name} /></td><td>${one.card}</td><td>${one.rung}</td><td class="num">${bytes(one.projected.device_bytes)}</td><td class="num">${bytes(one.measured.device_bytes)}</td><td class="num">${signed(one.error)}</td><td>${one.outcome}</td></tr>`)}<//></section>`;
}

/** Dots on log axes, with the diagonal; covered ones round, others as crosses. */
function Scatter({ rows }) {
  const canvas = useRef();
  const known = rows.filter((one) => one.projected.device_bytes && one.measured.device_bytes);
  useEffect(() => {
    const box = canvas.current;
    const [width, height, scale] = [box.clientWidth, 300, devicePixelRatio];
    Object.assign(box, { width: width * scale, height: height * scale });
    const pen = box.getContext("2d");
    pen.scale(scale, scale);
    const all = known.flatMap((one) => [one.projected.device_bytes, one.measured.device_bytes]).map(Math.log2);
    const [low, high] = [Math.floor(Math.min(...all)), Math.ceil(Math.max(...all) + 0.01)];
    const [left, bottom] = [72, 28];
    const share = (value) => (Math.log2(value) - low) / (high - low);
    const x = (value) => left + share(value) * (width - left - 12);
    const y = (value) => height - bottom - share(value) * (height - bottom - 12);
    const [ink, quiet, grid, good, bad] = ["--ink", "--quiet", "--line", "--busy", "--faulty"].map(tone);
    pen.font = "12px system-ui";
    pen.strokeStyle = grid;
    for (let at = low; at <= high; at += high - low < 3 ? 0.5 : Math.max(1, Math.round((high - low) / 6))) {
      const value = 2 ** at;
      pen.fillStyle = quiet;
      pen.textAlign = "right";
      pen.fillText(bytes(value), left - 8, y(value) + 4);
      pen.textAlign = "center";
      pen.fillText(bytes(value), Math.min(x(value), width - 30), height - 8);
      pen.strokeRect(left, y(value), width - left - 12, 0);
    }
    pen.fillText("projected", width / 2, height - 34);
    pen.textAlign = "left";
    pen.fillText("measured", left + 6, 28);
    pen.strokeStyle = ink;
    pen.beginPath();
    pen.moveTo(x(2 ** low), y(2 ** low));
    pen.lineTo(x(2 ** high), y(2 ** high));
    pen.stroke();
    for (const one of known) {
      const [px, py] = [x(one.projected.device_bytes), y(one.measured.device_bytes)];
      pen.strokeStyle = pen.fillStyle = one.covered === false ? bad : good;
      pen.beginPath();
      if (one.covered === false) pen.moveTo(px - 4, py - 4), pen.lineTo(px + 4, py + 4), pen.moveTo(px + 4, py - 4), pen.lineTo(px - 4, py + 4), pen.stroke();
      else pen.arc(px, py, 3.5, 0, 7), pen.fill();
    }
  });
  return html`<canvas ref=${canvas} class="scatter" role="img" aria-label=${`${known.length} attempts; the tables below have their figures`}></canvas>`;
}
