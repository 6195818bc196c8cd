// Jobs: all of them, newest first; filtered and cut by the server.
import { html } from "../lib.js";
import { href, route, set } from "../route.js";
import { bytes, count, loss, percent, prose } from "../format.js";
import { Answer, Choice, Empty, JobLink, State, Table, Time } from "../parts.js";

const STATES = [["", "All"], ["queued", "Queued"], ["running", "Running"], ["succeeded", "Succeeded"], ["failed", "Failed"], ["cancelled", "Cancelled"]];
const PAGE = 50;

export function Jobs() {
  const { state = "", name = "", group = "", offset = "0" } = route.value;
  const at = Number(offset) || 0;
  const pattern = name && !/[*?[]/.test(name) ? `*${name}*` : name;
  const pick = (params) => set({ offset: "", ...params });
  return html`<div class="head"><h1>Jobs</h1><div class="acts"><a href=${href("plan")}>Plan and submit a job</a></div></div>
    <section class="card"><div class="bar">
        <${Choice} label="State" value=${state} options=${STATES} onChoose=${(value) => pick({ state: value })} />
        <label class="small">Name <input type="search" placeholder="any, or a pattern: sweep-*" value=${name} onChange=${(event) => pick({ name: event.target.value })} /></label>
        ${group && html`<span class="small">sweep ${group} <button class="text" onClick=${() => pick({ group: "" })}>show all</button> <a href=${href("compare", { group })}>compare</a></span>`}
      </div>
      <${Answer} path="/jobs" params=${{ state, name: pattern, group, offset: at || "", limit: PAGE }} every=${5000}>${({ jobs, total, more }) => html`
        ${jobs.length === 0 && html`<${Empty} title=${state || name || group ? "No job is like that" : "No job was submitted yet"}><p><a href=${href("plan")}>Plan and submit one here</a>, or with <code>tuneyard submit job.yaml</code>.</p><//>`}
        ${jobs.length > 0 && html`<${Table} label="Jobs" head=${[["Job"], ["State"], ["Model", "wide"], ["User", "wide"], ["Step", "num"], ["Loss", "num"], ["Memory, projected", "num wide"], ["Submitted", "wide"]]}>${jobs.map((job) => html`<${Row} key=${job.id} job=${job} />`)}<//>
          <div class="bar"><span class="quiet small">${count(at + 1)} to ${count(at + jobs.length)} of ${count(total)}</span>
            ${at > 0 && html`<button onClick=${() => set({ offset: at > PAGE ? at - PAGE : "" })}>Newer</button>`}
            ${more && html`<button onClick=${() => set({ offset: at + PAGE })}>Older</button>`}</div>`}`}<//>
    </section>`;
}

function Row({ job }) {
  const { progress } = job;
  return html`<tr><td><${JobLink} id=${job.id} name=${job.name} />${job.group !== null && html` <a class="quiet small" href=${href("compare", { group: job.group })}>sweep</a>`}</td>
    <td><${State} of=${job.state} />${job.state !== "running" && job.state !== "succeeded" && html`<div class="quiet small">${prose(job.reason.text)}</div>`}</td>
    <td class="wide">${job.model.split("/").at(-1)}<div class="quiet small">${job.method}${job.gpus > 1 ? `, ${job.gpus} GPUs` : ""}</div></td><td class="wide">${job.user}</td>
    <td class="num">${progress ? html`${count(progress.step)}<div class="quiet small">${percent(progress.total_steps ? progress.step / progress.total_steps : null)}</div>` : ""}</td>
    <td class="num">${loss(progress)}</td>
    <td class="num wide">${job.measured_bytes ? bytes(job.measured_bytes) : ""}<div class="quiet small">${job.projected_bytes ? bytes(job.projected_bytes) : ""}</div></td>
    <td class="tight wide"><${Time} at=${job.submitted_at} /></td></tr>`;
}
