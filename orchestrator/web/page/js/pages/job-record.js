// What is on record of a job: attempts with their outcomes and checkpoints, events, the job file.
import { html } from "../lib.js";
import { bytes, count, figure, prose, signed, span } from "../format.js";
import { Empty, Table, Time } from "../parts.js";

const GONE = { unneeded: "removed: the job has ended, and nothing goes on from them", replaced: "removed: later ones took their place" };

export function Attempts({ job }) {
  const all = [...job.attempts_detail].reverse();
  if (!all.length) return html`<section class="card"><${Empty} title="It has not started yet"><p>Each try of it will be here, with how it ended.</p><//></section>`;
  return html`${all.map((one) => html`<section class="card" key=${one.id}><h2>Attempt ${one.number}: ${one.outcome ?? "runs"}</h2>
    ${one.message && html`<p>${prose(one.message)}</p>`}
    <${Table} label=${`Attempt ${one.number}`} head=${[["Where"], ["Checkpointing"], ["Steps", "num"], ["Last loss", "num"], ["Memory, error", "num"], ["Time", "num"]]}><tr>
      <td>${one.hosts.join(", ")}<div class="quiet small">${one.gpus.map((gpu) => gpu.name).join(", ")}</div></td><td>${one.rung?.label}</td>
      <td class="num">${count(one.steps)}</td><td class="num">${one.last_loss_text ?? figure(one.last_loss)}</td>
      <td class="num">${bytes(one.measured?.device_bytes)}<div class="quiet small">${one.errors?.device_bytes == null ? "" : signed(one.errors.device_bytes)}</div></td>
      <td class="num">${span((one.ended_at ?? Date.now() / 1000) - (one.started_at ?? one.opened_at))}<div class="quiet small"><${Time} at=${one.started_at ?? one.opened_at} /></div></td></tr><//>
    <p class="small">${one.resumed ? (one.resumed.step ? `Went on from step ${one.resumed.step}. ` : "Began at step 0. ") : ""}
      ${one.checkpoints.length ? `Checkpoints on its host: ${one.checkpoints.map((kept) => `step ${kept.step} (${bytes(kept.bytes)}${kept.whole === false ? ", not whole" : ""})`).join(", ")}.` : one.checkpoints_gone ? `Checkpoints: ${GONE[one.checkpoints_gone]}.` : "No checkpoint."}
      ${one.result && html` Result: <code>${one.result}</code>; <code>tuneyard pull ${job.id}</code> copies it.`}</p></section>`)}`;
}

export function Events({ job }) {
  return html`<section class="card"><${Table} label="Events" head=${[["When"], ["Attempt", "num"], ["What"], ["Who asked", "wide"]]}>
    ${[...job.events].reverse().map((one) => html`<tr><td class="tight"><${Time} at=${one.ts} /></td><td class="num">${one.attempt ?? ""}</td><td>${prose(one.text)}<div class="quiet small">${one.kind}</div></td><td class="wide">${one.by ?? ""}</td></tr>`)}
  <//></section>`;
}

export function Spec({ job }) {
  const text = JSON.stringify(job.spec, null, 2);
  return html`<section class="card"><p><a href=${`?view=plan&from=${job.id}`}>Edit a copy of it and plan that</a></p><pre class="log" tabindex="0" role="region" aria-label="Job file">${text}</pre></section>`;
}
