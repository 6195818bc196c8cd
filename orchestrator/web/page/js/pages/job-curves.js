// A job's curves by step: loss, learning rate, gradient norm, speed; and its memory over time.
import { html, useMemo } from "../lib.js";
import { get, useLoad } from "../api.js";
import { count, figure } from "../format.js";
import { Chart } from "../chart.js";
import { Empty, Loaded } from "../parts.js";

const GIB = 2 ** 30;

export function Curves({ job }) {
  const running = job.state === "running";
  const found = useLoad(() => get(`/jobs/${job.id}/curves`), [job.id, job.state], running ? 5000 : 0);
  return html`<section class="card"><h2>Training</h2><${Loaded} of=${found}>${(told) => html`<${Lines} told=${told} job=${job} />`}<//></section>`;
}

function Lines({ told: { training, evaluation }, job }) {
  const made = useMemo(() => {
    // Evaluations have steps of their own: one axis of both.
    const step = [...new Set([...training.step, ...evaluation.step])].sort((a, b) => a - b);
    const place = new Map(step.map((one, i) => [one, i]));
    const spread = (table, name, by) => {
      const values = Array(step.length).fill(null);
      table.step.forEach((one, i) => (values[place.get(one)] = table[name][i] === null ? null : table[name][i] / by));
      return values;
    };
    const of = (name, by = 1) => spread(training, name, by);
    return {
      step,
      loss: [{ name: "loss", values: of("loss") }, { name: "evaluation", values: spread(evaluation, "loss", 1), points: true }].filter(known),
      rate: [{ name: "learning rate", values: of("learning_rate") }].filter(known),
      norm: [{ name: "gradient norm", values: of("grad_norm") }].filter(known),
      speed: [{ name: "tokens/s", values: of("tokens_per_s") }].filter(known),
      memory: [{ name: "peak so far", values: of("device_bytes", GIB) }].filter(known),
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
