// Card: what one card does and did.
import { html, useMemo } from "../lib.js";
import { get, useLoad } from "../api.js";
import { fleet } from "../live.js";
import { href, route, set } from "../route.js";
import { bytes, celsius, percent, watts } from "../format.js";
import { Chart } from "../chart.js";
import { Choice, Empty, Facts, Loaded, Meter, State, Time } from "../parts.js";

const SPANS = [["1h", "1 hour"], ["6h", "6 hours"], ["1d", "1 day"], ["7d", "1 week"], ["30d", "30 days"]];
const FIELDS = "memory_used_bytes,utilization,power_w,temperature_c,sm_clock_mhz";
const GIB = 2 ** 30;

export function Card({ card }) {
  const found = useLoad(() => get("/gpus"), [card], 15000);
  return html`<${Loaded} of=${found}>${({ gpus }) => {
    const one = gpus.find((gpu) => String(gpu.id) === card);
    if (!one) return html`<h1>Card ${card}</h1><div class="card"><${Empty} title="There is no such card"><p>It may have been taken out of its host. <a href=${href("fleet")}>See the fleet</a>.</p><//></div>`;
    return html`<${Shown} gpu=${one} />`;
  }}<//>`;
}

function Shown({ gpu }) {
  const state = fleet.value;
  const at = state ? state.cards.id.indexOf(gpu.id) : -1;
  const live = at < 0 ? null : Object.fromEntries(Object.entries(state.cards).map(([name, values]) => [name, values[at]]));
  const sample = gpu.sample ?? {};
  const used = live ? live.used_bytes : sample.memory_used_bytes;
  const job = live ? live.job : gpu.job;
  const span = SPANS.some(([one]) => one === route.value.since) ? route.value.since : "1h";
  return html`<div class="head"><h1>${gpu.host}, card ${gpu.index}</h1><div>${live && html`<${State} of=${live.state} />`}</div></div>
    ${gpu.fault && html`<div class="box bad" role="alert"><b>${gpu.fault}</b><p>It gets no jobs until its host says that it is well again: <code>tuneyard doctor</code> on ${gpu.host}.</p></div>`}
    <section class="card"><h2>Now</h2><${Facts} of=${[
      ["Type", gpu.name],
      ["Memory", html`${bytes(used)} of ${bytes(gpu.memory_bytes)}${live?.projected_bytes ? `, projected ${bytes(live.projected_bytes)}` : ""}<${Meter} used=${used} of=${gpu.memory_bytes} projected=${live?.projected_bytes} />`],
      ["Job", job ? html`<a href=${href("job", { job })}>${job}</a>${gpu.jobs.length > 1 ? ` and ${gpu.jobs.length - 1} more that share it` : ""}` : "none"],
      ["Utilisation", percent(live?.utilization ?? sample.utilization)],
      ["Power", `${watts(live?.power_w ?? sample.power_w)}${sample.power_limit_w ? ` of ${watts(sample.power_limit_w)}` : ""}`],
      ["Temperature", celsius(live?.temperature_c ?? sample.temperature_c)],
      ["ECC errors", sample.ecc_uncorrected === null || sample.ecc_uncorrected === undefined ? null : `${sample.ecc_uncorrected} uncorrected, ${sample.ecc_corrected ?? 0} corrected`],
      ["UUID", html`<code>${gpu.uuid}</code>`],
      ["Last reading", sample.ts ? html`<${Time} at=${sample.ts} ago />` : "none yet"],
    ]} /></section>
    <section class="card"><div class="bar"><h2>Over time</h2><${Choice} label="How far back" value=${span} options=${SPANS} onChoose=${(since) => set({ since })} /></div>
      <${History} gpu=${gpu} span=${span} projected=${live?.projected_bytes} /></section>`;
}

function History({ gpu, span, projected }) {
  const found = useLoad(() => get("/series", { kind: "card", of: gpu.id, fields: FIELDS, stats: "mean,max", since: span, points: 600 }), [gpu.id, span], span === "1h" ? 10000 : 60000);
  return html`<${Loaded} of=${found}>${(series) => html`<${Lines} series=${series} gpu=${gpu} projected=${projected} />`}<//>`;
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
