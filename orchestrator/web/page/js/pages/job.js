// Job: what it is, where it stands, its plan against what was measured, its curves, attempts, events and log.
import { html } from "../lib.js";
import { post } from "../api.js";
import { href, route, set } from "../route.js";
import { count, likely, loss, percent, prose, span } from "../format.js";
import { Act, Answer, Choice, Facts, State, Time } from "../parts.js";
import { Help } from "./queue.js";
import { Memory } from "./job-memory.js";
import { Curves } from "./job-curves.js";
import { Attempts, Events, Spec } from "./job-record.js";
import { Log } from "./job-log.js";

const TABS = [["", "Overview"], ["log", "Log"], ["attempts", "Attempts"], ["events", "Events"], ["spec", "Job file"]];
const ENDED = ["succeeded", "failed", "cancelled"];

export function Job({ job }) {
  return html`<${Answer} path=${`/jobs/${encodeURIComponent(job)}`} every=${3000}>${(one, again) => html`<${Shown} job=${one} again=${again} />`}<//>`;
}

function Shown({ job, again }) {
  const { tab = "" } = route.value;
  const ended = ENDED.includes(job.state);
  const act = (path) => () => post(`/jobs/${job.id}/${path}`).then(again);
  const requeue = () => post(`/jobs/${job.id}/requeue`, {}).then((made) => set({ job: made.id, tab: "" }));
  return html`<div class="head"><h1>${job.id} ${job.name}</h1><div class="acts">
      ${job.group !== null && html`<a href=${href("compare", { group: job.group })}>Compare its sweep</a>`}
      ${job.state === "queued" && job.reason.code === "held" && html`<${Act} word="Release" act=${act("release")} />`}
      ${job.state === "queued" && job.reason.code !== "held" && html`<${Act} word="Hold" act=${act("hold")} />`}
      ${!ended && html`<${Act} word=${job.cancel_requested ? "Cancel asked for" : "Cancel"} sure="Cancel it: sure?" act=${act("cancel")} />`}
      ${ended && html`<${Act} word="Requeue" sure="Submit it again: sure?" act=${requeue} />`}
    </div></div>
    <${Standing} job=${job} ended=${ended} />
    ${job.unreadable?.length > 0 && html`<div class="box warn">Some records of it can't be read by this version: ${job.unreadable.map((one) => `${one.kind} ${one.id}`).join(", ")}.</div>`}
    <${Choice} label="What to show" value=${tab} options=${TABS} onChoose=${(value) => set({ tab: value, find: "" })} />
    ${tab === "" && html`${job.state === "queued" && html`<section class="card"><h2>What would help</h2><${Help} id=${job.id} /></section>`}<${Memory} job=${job} /><${Curves} job=${job} />`}
    ${tab === "log" && html`<${Log} job=${job} />`}
    ${tab === "attempts" && html`<${Attempts} job=${job} />`}
    ${tab === "events" && html`<${Events} job=${job} />`}
    ${tab === "spec" && html`<${Spec} job=${job} />`}`;
}

/** Where it stands, in a few facts. */
function Standing({ job, ended }) {
  const { progress, start } = job;
  const share = progress?.total_steps ? progress.step / progress.total_steps : null;
  const stalled = progress?.stalled;
  return html`<section class="card">
    <div class="bar"><${State} of=${job.state} />${(job.state !== "running" || !["running", "training"].includes(job.reason.text)) && html`<span>${prose(job.reason.text)}</span>`}</div>
    ${job.silent && html`<div class="box warn" role="alert">${job.silent.host} has not been heard of since <${Time} at=${job.silent.since} />: what the job does is not known. It counts as lost <${Time} at=${job.silent.given_up_at} ago />.</div>`}
    ${stalled && html`<div class="box warn" role="alert">No step for ${span(progress.age_s)}: the trainer hangs, or waits for its data or disk. Its log has its last words.</div>`}
    ${job.warnings.length > 0 && html`<div class="box warn"><ul>${job.warnings.map((one) => html`<li>${one}</li>`)}</ul></div>`}
    <${Facts} of=${[
      ["Model", job.model],
      ["Method", `${job.method}, ${job.trainer}, ${job.gpus} GPU${job.gpus > 1 ? "s" : ""}`],
      ["Who", `${job.user || "nobody said"}, project ${job.project}, priority ${job.priority}`],
      ["Step", progress && `${count(progress.step)} of ${count(progress.total_steps)}${share === null ? "" : `, ${percent(share)}`}`],
      ["Loss", loss(progress)],
      ["Evaluation loss", loss(job.evaluation)],
      ["Speed", progress?.tokens_per_s ? `${count(progress.tokens_per_s)} tokens/s` : null],
      ["Time to go", !ended && progress?.eta_s ? span(progress.eta_s) : null],
      ["Likely start", job.state === "queued" ? likely(start?.earliest, start?.latest) : null],
      ["On", job.hosts.length ? `${job.hosts.join(", ")}: ${job.cards.join(", ")}` : null],
      ["Checkpointing", job.rung],
      ["Waits for", job.after.length ? job.after.map((one) => html`<a href=${href("job", { job: one.job })}>job ${one.job}</a> (${one.state}) `) : null],
      ["Submitted", html`<${Time} at=${job.submitted_at} />`],
      ["Started", job.started_at && html`<${Time} at=${job.started_at} />`],
      ["Ended", job.ended_at && html`<${Time} at=${job.ended_at} />`],
    ]} />
  </section>`;
}
