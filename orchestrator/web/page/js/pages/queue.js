// Queue: why each job waits, when it is likely to start, what would help.
import { html } from "../lib.js";
import { post } from "../api.js";
import { fleet } from "../live.js";
import { href, route, set } from "../route.js";
import { count, likely, prose } from "../format.js";
import { Act, Answer, Empty, JobLink, Table, Time, Waiting } from "../parts.js";

export function Queue() {
  const state = fleet.value;
  const { find = "", open = "" } = route.value;
  if (!state) return html`<h1>Queue</h1><${Waiting} />`;
  const { queue, totals } = state;
  const text = find.trim().toLowerCase();
  const rows = queue.id.map((_, i) => i).filter((i) => `${queue.id[i]} ${queue.name[i]} ${queue.user[i]} ${queue.project[i]} ${queue.reason[i]}`.toLowerCase().includes(text));
  return html`<div class="head"><h1>Queue</h1>
      <label class="small">Find <input type="search" placeholder="job, user, project, reason" value=${find} onInput=${(event) => set({ find: event.target.value })} /></label></div>
    <section class="card">
      ${totals.waiting === 0 && html`<${Empty} title="Nothing waits"><p>${totals.states.free ? `${count(totals.states.free)} cards are free.` : "Every job that was submitted has started or ended."} <a href=${href("plan")}>Plan and submit a job</a>.</p><//>`}
      ${totals.waiting > 0 && html`<p class="quiet small">${count(totals.waiting)} waiting${totals.waiting > queue.id.length ? `; the first ${count(queue.id.length)} are here` : ""}, in the order of priority and submission.</p>`}
      ${totals.waiting > 0 && rows.length === 0 && html`<${Empty} title=${`No job here contains “${find}”`}><button onClick=${() => set({ find: "" })}>Show all</button><//>`}
      ${rows.length > 0 && html`<${Table} label="Jobs that wait" head=${[["Job"], ["User", "wide"], ["Project", "wide"], ["Priority", "num wide"], ["Why it waits"], ["Likely start"], ["Submitted", "wide"]]}>
        ${rows.map((i) => html`<${Row} key=${queue.id[i]} queue=${queue} i=${i} open=${String(queue.id[i]) === open} />`)}
      <//>`}
    </section>`;
}

function Row({ queue, i, open }) {
  const id = queue.id[i];
  const show = () => set({ open: open ? "" : id });
  return html`<tr>
      <td><${JobLink} id=${id} name=${queue.name[i]} /></td><td class="wide">${queue.user[i]}</td><td class="wide">${queue.project[i]}</td><td class="num wide">${queue.priority[i]}</td>
      <td>${prose(queue.text[i])} <button class="text" aria-expanded=${String(open)} onClick=${show}>${open ? "less" : "what would help"}</button></td>
      <td class="tight">${likely(queue.earliest[i], queue.latest[i])}</td><td class="tight wide"><${Time} at=${queue.submitted_at[i]} /></td>
    </tr>${open && html`<tr><td colspan="7"><${Help} id=${id} /><p><${Act} word="Cancel it" sure="Cancel it: sure?" act=${() => post(`/jobs/${id}/cancel`)} /></p></td></tr>`}`;
}

/** What the planner says of a job that waits: host by host, and what would let it start sooner. */
export function Help({ id }) {
  return html`<div class="box"><${Answer} path=${`/jobs/${id}/why`}>${({ advice, hosts }) => html`
    ${advice.length > 0 ? html`<ul>${advice.map((one) => html`<li>${prose(one)}</li>`)}</ul>` : html`<p>Nothing in its own file would let it start sooner.</p>`}
    ${hosts.length > 0 && html`<details><summary>Host by host (${count(hosts.length)})</summary><ul>${hosts.slice(0, 100).map((one) => html`<li><b>${one.host}</b> ${prose(one.verdict)}</li>`)}</ul></details>`}
    `}<//></div>`;
}
