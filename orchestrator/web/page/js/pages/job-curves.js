// A job's curves by step: loss, learning rate, gradient norm, speed; and its memory over time.
import { html, useMemo } from "../lib.js";
import { GIB, count, figure } from "../format.js";
import { Chart, onOneAxis } from "../chart.js";
import { Answer, Empty } from "../parts.js";

export function Curves({ job }) {
  return html`<section class="card"><h2>Training</h2><${Answer} path=${`/jobs/${job.id}/curves`} every=${job.state === "running" ? 5000 : 0}>${(told) => html`<${Lines} told=${told} job=${job} />`}<//></section>`;
}

function Lines({ told: { training, evaluation }, job }) {
  const made = useMemo(() => {
    // Evaluations have steps of their own.
    const of = (table, name, by = 1) => [table.step, table[name].map((one) => (one === null ? null : one / by))];
    const names = ["learning_rate", "grad_norm", "tokens_per_s"].map((name) => of(training, name));
    const [step, [loss, evaluated, rate, norm, speed, memory]] = onOneAxis([of(training, "loss"), of(evaluation, "loss"), ...names, of(training, "device_bytes", GIB)]);
    const one = (name, values) => [{ name, values }].filter(known);
    return {
      step,
      loss: [{ name: "loss", values: loss }, { name: "evaluation", values: evaluated, points: true }].filter(known),
      rate: one("learning rate", rate),
      norm: one("gradient norm", norm),
      speed: one("tokens/s", speed),
      memory: one("peak so far", memory),
    };
  }, [training, evaluation]);
  const spoilt = training.step.filter((_, i) => training.loss[i] === null);
  if (!made.step.length) return html`<${Empty} title="No step yet">${job.state === "running" ? html`<p>The model is being loaded; the log shows how far it is.</p>` : html`<p>Curves begin with its first step.</p>`}<//>`;
  const projection = job.attempts_detail.findLast((one) => one.projection)?.projection;
  const charts = [
    ["Loss", made.loss, figure, {}],
    ["Learning rate", made.rate, figure, { from: 0 }],
    ["Gradient norm", made.norm, figure, { from: 0 }],
    ["Tokens/s", made.speed, count, { from: 0 }],
    ["Device memory, GiB", made.memory, (value) => value.toFixed(1), { from: 0, marks: projection ? [{ at: projection.device_bytes / GIB, name: "projected" }] : [] }],
  ].filter(([, lines]) => lines.length);
  return html`${spoilt.length > 0 && html`<div class="box warn">${count(spoilt.length)} losses are no numbers, the first at step ${count(spoilt[0])}: the lines have gaps there.</div>`}
    <div class="cols">${charts.map(([title, lines, format, more]) => html`<div key=${title}><h2>${title}</h2><${Chart} label=${title} x=${made.step} lines=${lines} format=${format} xFormat=${count} ...${more} /></div>`)}</div>`;
}

const known = ({ values }) => values.some((one) => one !== null);
