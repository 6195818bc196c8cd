// Usage: where GPU-hours and energy went.
import { html } from "../lib.js";
import { picked, set } from "../route.js";
import { count, percent } from "../format.js";
import { line } from "../palette.js";
import { Answer, Choice, Empty, JobLink, Swatch, Table } from "../parts.js";

const PARTS = [["training_s", "training"], ["recompute_s", "recomputing for checkpointing"], ["startup_s", "start-up"], ["lost_s", "lost to faults and preemption"], ["idle_s", "held, idle"]];
const BY = [["project", "Project"], ["user", "User"], ["job", "Job"], ["card", "Card"]];
const SINCE = [["1d", "1 day"], ["7d", "1 week"], ["30d", "30 days"], ["365d", "1 year"]];
const MOST = 200;

const hours = (seconds) => (seconds < 360_000 ? (seconds / 3600).toFixed(1) : count(seconds / 3600));

export function Usage() {
  const by = picked("by", BY, "project");
  const since = picked("since", SINCE, "30d");
  return html`<h1>Usage</h1><div class="bar"><${Choice} label="By" value=${by} options=${BY} onChoose=${(value) => set({ by: value })} /><${Choice} label="How far back" value=${since} options=${SINCE} onChoose=${(value) => set({ since: value })} /></div>
    <${Answer} path="/usage" params=${{ by, since }} every=${60000}>${(told) => html`<${Shown} told=${told} />`}<//>`;
}

function Shown({ told: { by, lines, total } }) {
  if (!total.gpu_s) return html`<section class="card"><${Empty} title="No card was held in this time"><p>GPU-hours count from the first start of a job.</p><//></section>`;
  const priced = lines.some((one) => one.price !== null);
  return html`<section class="card"><h2>${hours(total.gpu_s)} GPU-hours, ${total.energy_kwh.toFixed(1)} kWh${total.price === null ? "" : `, ${total.price.toFixed(2)} in money`}</h2><${Split} of=${total} />
      <ul class="parts">${PARTS.map(([name, word], i) => html`<li><${Swatch} color=${line(i)} /><span>${word}</span><span>${hours(total[name])} h, ${percent(total[name] / total.gpu_s)}</span></li>`)}</ul></section>
    <section class="card"><${Table} label="Usage" head=${[[BY.find(([one]) => one === by)[1]], ["GPU-hours", "num"], ["Where they went"], ["Trained", "num"], ["Attempts", "num wide"], ["kWh", "num"], ...(priced ? [["Price", "num"]] : [])]}>
      ${lines.slice(0, MOST).map((one) => html`<tr key=${one.id ?? one.name}><td>${one.id === undefined ? one.name : html`<${JobLink} id=${one.id} name=${one.name} />`}</td><td class="num">${hours(one.gpu_s)}</td><td class="split"><${Split} of=${one} /></td><td class="num">${percent(one.gpu_s ? one.training_s / one.gpu_s : null)}</td><td class="num wide">${count(one.attempts)}</td><td class="num">${one.energy_kwh.toFixed(1)}</td>${priced && html`<td class="num">${one.price === null ? "" : one.price.toFixed(2)}</td>`}</tr>`)}<//>
      ${lines.length > MOST && html`<p class="quiet small">and ${count(lines.length - MOST)} more: <code>tuneyard usage --by ${by} --csv</code> has all.</p>`}</section>`;
}

function Split({ of }) {
  const share = (name) => (of.gpu_s ? of[name] / of.gpu_s : null);
  const label = PARTS.map(([name, word]) => `${word} ${percent(share(name))}`).join(", ");
  return html`<div class="stack" role="img" aria-label=${label} title=${label}>${PARTS.map(([name], i) => html`<span style=${{ background: line(i), width: `${100 * share(name)}%` }}></span>`)}</div>`;
}
