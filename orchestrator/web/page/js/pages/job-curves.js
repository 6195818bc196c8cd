// A job's curves by step: loss, learning rate, gradient norm, speed; and its memory over time.
import { html, useMemo } from "../lib.js";
import { get, useLoad } from "../api.js";
import { count, figure } from "../format.js";
import { Chart } from "../chart.js";
import { Empty, Loaded } from "../parts.js";

const GIB = 2 ** 30;

export function Curves({ job }) {
  const running = job.state === "running";
  const found = useLoad(() => get(`/jobs/${job.id}/metrics`), [job.id, job.state], running ? 5000 : 0);
  return html`<section class="card"><h2>Training</h2><${Loaded} of=${found}>${({ points }) => html`<${Lines} points=${points} job=${job} />`}<//></section>`;
}

function Lines({ points, job }) {
  const made = useMemo(() => {
    const of = (name, by = 1) => points.map((one) => (one[name] === null || one[name] === undefined ? null : one[name] / by));
    return {
      step: points.map((one) => one.step),
      loss: [{ name: "loss", values: of("loss") }, { name: "evaluation", values: of("eval_loss"), points: true }].filter(told),
      rate: [{ name: "learning rate", values: of("learning_rate") }].filter(told),
      norm: [{ name: "gradient norm", values: of("grad_norm") }].filter(told),
      speed: [{ name: "tokens/s", values: of("tokens_per_s") }].filter(told),
      memory: [{ name: "peak so far", values: of("device_bytes", GIB) }].filter(told),
    };
  }, [points]);
  const spoilt = points.filter((one) => Object.keys(one.not_finite ?? {}).length);
  if (!points.length) return html`<${Empty} title="No step yet">${job.state === "running" ? html`<p>The model is being loaded; the log shows how far it is.</p>` : html`<p>Curves begin with its first step.</p>`}<//>`;
  const projection = job.attempts_detail.findLast((one) => one.projection)?.projection;
  const charts = [
    ["Loss", made.loss, figure, {}],
    ["Learning rate", made.rate, figure, { from: 0 }],
    ["Gradient norm", made.norm, figure, { from: 0 }],
    ["Tokens/s", made.speed, count, { from: 0 }],
    ["Device memory, GiB", made.memory, (value) => value.toFixed(1), { from: 0, marks: projection ? [{ at: projection.device_bytes / GIB, name: "projected" }] : [] }],
  ].filter(([, lines]) => lines.length);
  return html`${spoilt.length > 0 && html`<div class="box warn">${count(spoilt.length)} losses are no numbers, the first at step ${spoilt[0].step}: the lines have gaps there.</div>`}
    <div class="cols">${charts.map(([title, lines, format, more]) => html`<div key=${title}><h2>${title}</h2><${Chart} label=${title} x=${made.step} lines=${lines} format=${format} xFormat=${count} ...${more} /></div>`)}</div>`;
}

const told = ({ values }) => values.some((one) => one !== null);
