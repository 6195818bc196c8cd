// Plan: a job file, what it would take on each card, and its way into the queue.
import { html, useEffect, useRef, useState } from "../lib.js";
import { ask, get, post } from "../api.js";
import { go } from "../route.js";
import { bytes, count, percent, prose, span } from "../format.js";
import { complete } from "../complete.js";
import { Act, Answer, Empty, Fault, Table } from "../parts.js";
import { Parts, Stack } from "./job-memory.js";

const KEPT = "tuneyard-plan";
const AGAIN_MS = 1500;
const NOTHING = { plan: null, error: null, busy: "" };
const NO_HINTS = { from: 0, options: [] };
const EXAMPLE = `# What to train. The keys of each section are offered as you write.
name: first-try
model: Qwen/Qwen2.5-0.5B-Instruct
data: /data/pairs.jsonl      # on the GPU hosts: prompt and completion in each row
method: lora
training:
  steps: 200
  sequence_length: 1024
  global_batch: 16
`;

export function Plan({ from = "" }) {
  const [text, setText] = useState(from ? "" : localStorage.getItem(KEPT) ?? EXAMPLE);
  const [state, setState] = useState(NOTHING);
  const tell = (now) => setState({ ...NOTHING, ...now });
  const asked = useRef(0);
  useEffect(() => {
    if (from) get(`/jobs/${from}`).then((job) => setText(JSON.stringify(job.spec, null, 2)), (error) => tell({ error }));
    return () => void asked.current++;
  }, [from]);
  const write = (value) => (setText(value), localStorage.setItem(KEPT, value));
  const body = { text, source: "the job file above" };
  /** Asks until the model is traced, which takes a host some seconds the first time. */
  const plan = async () => {
    const mine = ++asked.current;
    tell({ busy: "Planning …" });
    try {
      for (;;) {
        const found = await ask("POST", "/plan", { job: body });
        if (mine !== asked.current) return;
        if (!found.pending) return tell({ plan: found });
        tell({ busy: `${found.text} …` });
        await new Promise((done) => setTimeout(done, AGAIN_MS));
      }
    } catch (error) {
      if (mine === asked.current) tell({ error });
    }
  };
  const submit = async () => {
    setState((now) => ({ ...now, error: null }));
    try {
      const { jobs } = await post("/jobs", { jobs: [body] });
      if (jobs.length === 1) go("job", { job: jobs[0].id });
      else go("jobs", { group: jobs[0].group });
    } catch (error) {
      setState((now) => ({ ...now, error }));
    }
  };
  return html`<h1>Plan</h1>
    <section class="card"><h2 id="file">Job file</h2>
      <${Answer} path="/schema">${(root) => html`<${Editor} text=${text} write=${write} schema=${root} />`}<//>
      <div class="bar"><button class="main" onClick=${plan} disabled=${Boolean(state.busy)}>Plan</button><${Act} word="Submit" act=${submit} /><span class="quiet small" role="status">${state.busy}</span></div>
    </section>
    <${Fault} error=${state.error} />
    ${state.plan && html`<${Found} plan=${state.plan} />`}`;
}

function Editor({ text, write, schema }) {
  const area = useRef();
  const [hints, setHints] = useState(NO_HINTS);
  const [at, setAt] = useState(0);
  const look = () => {
    const box = area.current;
    setHints(box.selectionStart === box.selectionEnd ? complete(box.value, box.selectionStart, schema) : NO_HINTS);
    setAt(0);
  };
  const take = (option) => {
    const box = area.current;
    const made = box.value.slice(0, hints.from) + option.insert + box.value.slice(box.selectionEnd);
    const place = hints.from + option.insert.length;
    write(made);
    box.value = made;
    box.setSelectionRange(place, place);
    box.focus();
    look();
  };
  const keys = (event) => {
    const { options } = hints;
    if (event.key === " " && event.ctrlKey) return event.preventDefault(), look();
    if (!options.length) return;
    if (event.key === "Escape") return setHints(NO_HINTS);
    if (event.altKey && event.key === "ArrowDown") event.preventDefault(), setAt((at + 1) % options.length);
    if (event.altKey && event.key === "ArrowUp") event.preventDefault(), setAt((at - 1 + options.length) % options.length);
    if (event.altKey && event.key === "Enter") event.preventDefault(), take(options[at]);
  };
  return html`<div class="editor">
    <textarea ref=${area} aria-labelledby="file" aria-describedby="how" aria-controls="hints" aria-activedescendant=${hints.options.length ? `hint-${at}` : undefined} spellcheck="false" autocomplete="off" autocapitalize="off"
      value=${text} onInput=${(event) => (write(event.target.value), look())} onClick=${look} onKeyDown=${keys} onKeyUp=${(event) => event.key.startsWith("Arrow") && !event.altKey && look()}></textarea>
    <p class="quiet small" id="how">YAML or JSON. What may stand at the cursor is listed below: Alt with ↓ and ↑ chooses, Alt with Enter takes it; Ctrl with Space asks again.</p>
    <ul class="hints" id="hints" role="listbox" aria-label="What may stand here" hidden=${!hints.options.length}>
      ${hints.options.map((one, i) => html`<li role="option" id=${`hint-${i}`} aria-selected=${String(i === at)} onMouseDown=${(event) => (event.preventDefault(), take(one))}><code>${one.name}</code> <span class="quiet">${one.about}</span></li>`)}
    </ul></div>`;
}

function Found({ plan }) {
  const pick = plan.cards.find((one) => one.pick) ?? plan.cards.find((one) => one.fits);
  const [open, setOpen] = useState(pick?.card ?? null);
  const shown = plan.cards.find((one) => one.card === open);
  const priced = plan.cards.some((one) => one.price !== null);
  return html`<section class="card"><h2>${plan.job}: ${count(plan.gpus)} GPU${plan.gpus > 1 ? "s" : ""}, batch ${count(plan.global_batch)}, ${count(plan.length)} tokens${plan.steps ? `, ${count(plan.steps)} steps` : ""}</h2>
      ${plan.reason && html`<div class="box warn">${prose(plan.reason)}</div>`}
      ${plan.advice.length > 0 && html`<div class="box"><ul>${plan.advice.map((one) => html`<li>${one}</li>`)}</ul></div>`}
      ${plan.cards.length === 0 && html`<${Empty} title="No card to plan for"><p>A host brings its cards: <code>tuneyard host run</code>.</p><//>`}
      ${plan.cards.length > 0 && html`<${Table} label="Cards" head=${[["Card"], ["Free", "num"], ["Checkpointing"], ["Projected", "num"], ["Surely under", "num"], ["Step", "num"], ["Time", "num"], ...(priced ? [["Price", "num"]] : []), [""]]}>
        ${plan.cards.map((one) => html`<tr key=${one.card}><td>${one.card}${one.pick && html` <b class="small">chosen</b>`}<div class="quiet small">${bytes(one.memory_bytes)}</div></td><td class="num">${count(one.free)} of ${count(one.count)}</td>
          <td>${one.fits ? one.rung?.label : html`<span class="quiet">${prose(one.reason ?? "does not fit")}</span>`}</td><td class="num">${bytes(one.projection?.device_bytes)}</td><td class="num">${bytes(one.projection?.upper_bytes)}</td>
          <td class="num">${one.step_s ? `${one.step_s.toPrecision(3)} s` : ""}</td><td class="num">${one.hours ? span(one.hours * 3600) : ""}</td>${priced && html`<td class="num">${one.cost === null ? "" : one.cost.toFixed(2)}</td>`}
          <td><button class="text" aria-expanded=${String(open === one.card)} onClick=${() => setOpen(open === one.card ? null : one.card)}>${open === one.card ? "less" : "parts and rungs"}</button></td></tr>`)}<//>`}
    </section>
    ${shown && html`<section class="card"><h2>${shown.card}</h2>${shown.projection && html`<${Stack} parts=${shown.projection.parts} whole=${shown.memory_bytes} upper=${shown.projection.upper_bytes} /><${Parts} parts=${shown.projection.parts} />`}
      ${shown.notes.map((one) => html`<p class="quiet small">${one}</p>`)}
      ${shown.tried.length > 0 && html`<${Table} label="Rungs" head=${[["Rung"], ["Projected", "num"], ["Surely under", "num"], ["Step", "num"], ["Fits"]]}>${shown.tried.map((one) => html`<tr><td>${one.rung.label}</td><td class="num">${bytes(one.device_bytes)}</td><td class="num">${bytes(one.upper_bytes)}</td><td class="num">${one.relative_time === null ? `${one.step_s.toPrecision(3)} s` : percent(one.relative_time)}</td><td>${one.excluded ? "ran out of memory before" : one.fits ? "yes" : "no"}</td></tr>`)}<//>`}</section>`}
    ${plan.notes.length > 0 && html`<section class="card"><h2>What else to know</h2><ul>${plan.notes.map((one) => html`<li>${one}</li>`)}</ul></section>`}`;
}
