// Compare: the runs of a sweep, their losses together and what differs between them.
import { html, useMemo } from "../lib.js";
import { get, useLoad } from "../api.js";
import { route, set } from "../route.js";
import { bytes, count, figure, loss } from "../format.js";
import { Chart, onOneAxis } from "../chart.js";
import { line } from "../palette.js";
import { Answer, Choice, Empty, JobLink, Loaded, State, Swatch, Table } from "../parts.js";

const MOST_LINES = 8;

export function Compare({ group }) {
  return html`<${Answer} path=${`/groups/${encodeURIComponent(group)}`} every=${10000}>${(table) => html`<${Shown} table=${table} />`}<//>`;
}

function Shown({ table: { id, name, keys, members } }) {
  const { pick = "", curve = "loss" } = route.value;
  const picked = pick ? pick.split("-").map(Number) : members.slice(0, MOST_LINES).map(({ job }) => job.id);
  const chosen = members.filter(({ job }) => picked.includes(job.id)).slice(0, MOST_LINES);
  const toggle = (job) => set({ pick: (picked.includes(job) ? picked.filter((one) => one !== job) : [...picked, job]).slice(-MOST_LINES).join("-") });
  const best = members.find(({ job }) => job.evaluation?.loss != null || job.progress?.loss != null);
  return html`<h1>Sweep ${name || id}</h1>
    <section class="card"><div class="bar"><h2>${curve === "loss" ? "Loss" : "Evaluation loss"} by step</h2>
      <${Choice} label="Which loss" value=${curve} options=${[["loss", "Training"], ["eval_loss", "Evaluation"]]} onChoose=${(value) => set({ curve: value })} /></div>
      <${Lines} chosen=${chosen} keys=${keys} curve=${curve} /></section>
    <section class="card"><h2>What differs</h2><p class="quiet small">Best first. Up to ${MOST_LINES} are drawn: choose which.</p>
      <${Table} label="Jobs of the sweep" head=${[["Drawn"], ["Job"], ["State"], ...keys.map((key) => [key]), ["Loss", "num"], ["Evaluation", "num"], ["Step", "num"], ["Memory", "num wide"]]}>
        ${members.map(({ job, values }) => html`<tr key=${job.id}>
          <td class="tight"><label class="sign"><input type="checkbox" checked=${picked.includes(job.id)} onChange=${() => toggle(job.id)} aria-label=${`Draw job ${job.id}`} /> ${chosen.some((one) => one.job.id === job.id) && html`<${Swatch} color=${line(chosen.findIndex((one) => one.job.id === job.id))} />`}</label></td>
          <td><${JobLink} id=${job.id} name=${job.name} />${best?.job.id === job.id && html` <b class="small">best</b>`}</td><td><${State} of=${job.state} /></td>
          ${keys.map((key) => html`<td>${written(values[key])}</td>`)}
          <td class="num">${loss(job.progress)}</td><td class="num">${loss(job.evaluation)}</td>
          <td class="num">${job.progress ? count(job.progress.step) : ""}</td><td class="num wide">${job.measured_bytes ? bytes(job.measured_bytes) : ""}</td></tr>`)}
      <//></section>`;
}

const written = (value) => (value === undefined || value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));

function Lines({ chosen, keys, curve }) {
  const ids = chosen.map(({ job }) => job.id);
  const found = useLoad(() => Promise.all(ids.map((id) => get(`/jobs/${id}/metrics`))), [ids.join("-")], 10000);
  return html`<${Loaded} of=${found}>${(all) => html`<${Together} all=${all} chosen=${chosen} keys=${keys} curve=${curve} />`}<//>`;
}

/** Their steps differ: one axis of all steps, with gaps bridged. */
function Together({ all, chosen, keys, curve }) {
  const made = useMemo(() => {
    const [steps, spread] = onOneAxis(all.map(({ points }) => [points.map((one) => one.step), points.map((one) => one[curve])]));
    const lines = all.map(({ job }, i) => {
      const { values: own = {} } = chosen.find((member) => member.job.id === job) ?? {};
      const name = keys.map((key) => `${key.split(".").at(-1)} ${written(own[key])}`).join(", ");
      return { name: `${job}${name ? `: ${name}` : ""}`, values: spread[i], color: line(i), points: true };
    });
    return { steps, lines: lines.filter(({ values }) => values.some((one) => one !== null)) };
  }, [all, curve]);
  if (!made.lines.length) return html`<${Empty} title=${curve === "loss" ? "No step yet" : "No evaluation"}><p>${curve === "loss" ? "Lines begin with the first step of one of them." : "Rows are held out with data.holdout in the job file."}</p><//>`;
  return html`<${Chart} label="Loss by step" x=${made.steps} lines=${made.lines} format=${figure} xFormat=${count} height=${300} />`;
}
