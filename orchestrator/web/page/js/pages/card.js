// Card: what one card does and did, what happened to it, and which jobs ran on it.
import { html, useMemo } from "../lib.js";
import { get, useLoad } from "../api.js";
import { fleet } from "../live.js";
import { href, picked, route, set } from "../route.js";
import { GIB, bytes, celsius, count, memory, percent, prose, span as lasting, watts } from "../format.js";
import { Chart } from "../chart.js";
import { Answer, Choice, Empty, Facts, JobLink, Loaded, Meter, State, Table, Time } from "../parts.js";

const SPANS = [["1h", "1 hour", 3600], ["6h", "6 hours", 21600], ["1d", "1 day", 86400], ["7d", "1 week", 604800], ["30d", "30 days", 2592000]];
const FIELDS = "memory_used_bytes,utilization,power_w,temperature_c,sm_clock_mhz";
const PAGE = 20;
// Of what happens to a card: what begins it, what ends it, its word, and the state whose colour it has.
const LANES = [
  [["card_fault"], "card_well", "faulty", "faulty"],
  [["card_slow"], "card_full_speed", "slowed", "idle"],
  [["card_gone"], "card_back", "not there", "away"],
  [["card_xid", "card_ecc", "card_ecc_corrected"], "", "errors", "faulty"],
];

export function Card({ card }) {
  return html`<${Answer} path=${`/gpus/${encodeURIComponent(card)}`} every=${15000}>${(gpu) => html`<${Shown} gpu=${gpu} />`}<//>`;
}

function Shown({ gpu }) {
  const state = fleet.value;
  const at = state ? state.cards.id.indexOf(gpu.id) : -1;
  const live = at < 0 ? null : Object.fromEntries(Object.entries(state.cards).map(([name, values]) => [name, values[at]]));
  const sample = gpu.sample ?? {};
  const used = live ? live.used_bytes : sample.memory_used_bytes;
  const job = live ? live.job : gpu.job;
  const span = picked("since", SPANS, "1h");
  return html`<div class="head"><h1>${gpu.host}, card ${gpu.index}</h1><div>${live && html`<${State} of=${live.state} />`}</div></div>
    ${gpu.fault && html`<div class="box bad" role="alert"><b>${gpu.fault}</b><p>It gets no jobs until its host says that it is well again: <code>tuneyard doctor</code> on ${gpu.host}.</p></div>`}
    ${!gpu.present && html`<div class="box warn">Its host has it no more.</div>`}
    <section class="card"><h2>Now</h2><${Facts} of=${[
      ["Type", gpu.name],
      ["Memory", html`${memory(used, gpu.memory_bytes, live?.projected_bytes)}<${Meter} used=${used} of=${gpu.memory_bytes} projected=${live?.projected_bytes} />`],
      ["Job", job ? html`<a href=${href("job", { job })}>${job}</a>${gpu.jobs.length > 1 ? ` and ${gpu.jobs.length - 1} more that share it` : ""}` : "none"],
      ["Utilisation", percent(live?.utilization ?? sample.utilization)],
      ["Power", `${watts(live?.power_w ?? sample.power_w)}${sample.power_limit_w ? ` of ${watts(sample.power_limit_w)}` : ""}`],
      ["Temperature", celsius(live?.temperature_c ?? sample.temperature_c)],
      ["ECC errors", sample.ecc_uncorrected === null || sample.ecc_uncorrected === undefined ? null : `${sample.ecc_uncorrected} uncorrected, ${sample.ecc_corrected ?? 0} corrected`],
      ["UUID", html`<code>${gpu.uuid}</code>`],
      ["Last reading", sample.ts ? html`<${Time} at=${sample.ts} ago />` : "none yet"],
    ]} /></section>
    <section class="card"><div class="bar"><h2>Over time</h2><${Choice} label="How far back" value=${span} options=${SPANS} onChoose=${(since) => set({ since })} /></div>
      <${Happened} gpu=${gpu} span=${span} />
      <${History} gpu=${gpu} span=${span} projected=${live?.projected_bytes} /></section>
    <${Held} gpu=${gpu} />`;
}

/** Faults over the time that the curves below have: a band each, and in words. */
function Happened({ gpu, span }) {
  const found = useLoad(async () => {
    const until = Date.now() / 1000;
    const since = until - SPANS.find(([one]) => one === span)[2];
    return { since, until, ...(await get("/events", { card: gpu.id, since, limit: 200 })) };
  }, [gpu.id, span], 15000);
  return html`<${Loaded} of=${found}>${({ events, more, since, until }) => {
    const lanes = LANES.map((lane) => [lane, bands(lane, events, gpu, since, until)]).filter(([, found]) => found.length);
    const share = (time) => `${(100 * time) / (until - since)}%`;
    if (!lanes.length && !events.length) return html`<p class="quiet small">Nothing happened to it in this time: no fault, no error, no slowing down.</p>`;
    return html`${lanes.map(([[, , word, color], found]) => html`<div class="lane"><span>${word}</span><div role="img" aria-label=${`${word}: ${found.map(([from, to]) => (to > from ? lasting(to - from) : "once")).join(", ")}`}>
        ${found.map(([from, to]) => html`<i class=${`tone-${color}`} style=${{ left: `min(${share(from - since)}, 100% - 3px)`, width: `max(${share(to - from)}, 3px)` }}></i>`)}</div></div>`)}
      ${events.length > 0 && html`<${Table} label="What happened to it" head=${[["When"], ["What"]]}>
        ${events.map((one) => html`<tr key=${one.id}><td class="tight"><${Time} at=${one.ts} /></td><td>${prose(one.text)}</td></tr>`)}<//>`}
      ${more && html`<p class="quiet small">Earlier ones: <code>tuneyard events --card ${gpu.host}/${gpu.index}</code></p>`}`;
  }}<//>`;
}

/** [from, to] of each time that one of the lane's events began; what lasts still goes up to now. */
function bands([begins, ends, word], events, gpu, since, until) {
  const found = [];
  for (const { kind, ts } of [...events].reverse()) {
    if (begins.includes(kind)) found.push([ts, ends ? until : ts]);
    else if (kind !== ends) continue;
    else if (found.length) found.at(-1)[1] = ts;
    else found.push([since, ts]); // it began before
  }
  const lasts = { faulty: gpu.fault, "not there": !gpu.present }[word];
  return found.length || !lasts ? found : [[since, until]];
}

/** Attempts that held it, the newest first. */
function Held({ gpu }) {
  const { before = "" } = route.value;
  return html`<section class="card"><h2>Jobs that ran on it</h2><${Answer} path=${`/gpus/${gpu.id}/jobs`} params=${{ before, limit: PAGE }} every=${15000}>${({ jobs, more }) => html`
    ${jobs.length === 0 && html`<p class="quiet">None yet.</p>`}
    ${jobs.length > 0 && html`<${Table} label="Jobs that ran on it" head=${[["Job"], ["Attempt"], ["User", "wide"], ["Steps", "num"], ["Memory, projected", "num"], ["From", "wide"], ["Held for", "num"]]}>
      ${jobs.map((one) => html`<tr key=${one.attempt}><td><${JobLink} id=${one.job} name=${one.name} /></td>
        <td>${one.number}: ${outcome(one)}${one.rank > 0 && html`<div class="quiet small">rank ${one.rank}</div>`}</td><td class="wide">${one.user}</td>
        <td class="num">${count(one.steps)}</td><td class="num">${bytes(one.measured_bytes)}<div class="quiet small">${bytes(one.projected_bytes)}</div></td>
        <td class="tight wide"><${Time} at=${one.opened_at} /></td><td class="num">${lasting((one.released_at ?? Date.now() / 1000) - one.opened_at)}</td></tr>`)}<//>`}
    <div class="bar">${before && html`<button onClick=${() => set({ before: "" })}>Newest</button>`}${more && html`<button onClick=${() => set({ before: jobs.at(-1).attempt })}>Older</button>`}</div>`}<//></section>`;
}

function outcome({ outcome: of, message }) {
  const tone = { succeeded: "succeeded", cancelled: "cancelled", preempted: "queued" }[of] ?? (of ? "failed" : "running");
  return html`<${State} of=${tone} word=${(of ?? tone).replaceAll("_", " ")} />${tone === "failed" && message && html`<div class="quiet small">${prose(message)}</div>`}`;
}

function History({ gpu, span, projected }) {
  const params = { kind: "card", of: gpu.id, fields: FIELDS, stats: "mean,max", since: span, points: 600 };
  return html`<${Answer} path="/series" params=${params} every=${span === "1h" ? 10000 : 60000}>${(series) => html`<${Lines} series=${series} gpu=${gpu} projected=${projected} />`}<//>`;
}

function Lines({ series: { ts, series, step_s: step }, gpu, projected }) {
  const [one] = series;
  const lines = useMemo(() => {
    const of = (field, stat, by = 1) => one.values[field][stat].map((value) => (value === null ? null : value / by));
    const both = (field, by = 1) => [{ name: "mean", values: of(field, "mean", by) }, { name: "most", values: of(field, "max", by), dash: true }];
    return { memory: both("memory_used_bytes", GIB), use: both("utilization"), power: both("power_w"), heat: both("temperature_c"), clock: both("sm_clock_mhz") };
  }, [series]);
  if (!one || !one.n.some(Boolean)) return html`<${Empty} title="No reading in this time"><p>Readings come each second while the host's agent runs: <code>tuneyard hosts</code>.</p><//>`;
  const marks = projected ? [{ at: projected / GIB, name: "projected" }] : [];
  const charts = [
    ["Memory, GiB", "memory", (value) => value.toFixed(1), { from: 0, to: gpu.memory_bytes / GIB, marks }],
    ["Utilisation", "use", (value) => percent(value), { from: 0, to: 1 }],
    ["Power, W", "power", (value) => value.toFixed(0), { from: 0 }],
    ["Temperature, °C", "heat", (value) => value.toFixed(0), {}],
    ["SM clock, MHz", "clock", (value) => value.toFixed(0), { from: 0 }],
  ].filter(([, name]) => lines[name][0].values.some((value) => value !== null));
  return html`<p class="quiet small">Each point stands for ${step} s.</p><div class="cols">${charts.map(([title, name, format, more]) => html`<div key=${name}><h2>${title}</h2><${Chart} label=${title} x=${ts} lines=${lines[name]} format=${format} time ...${more} /></div>`)}</div>`;
}
