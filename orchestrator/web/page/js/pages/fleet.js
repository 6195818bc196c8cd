// Fleet: every card at a glance, and what needs a look.
import { html, useMemo } from "../lib.js";
import { fleet } from "../live.js";
import { go, href, route, set } from "../route.js";
import { bytes, count, percent, span, watts } from "../format.js";
import { Heat, MEASURES } from "../heat.js";
import { STATES, shade } from "../palette.js";
import { Choice, Empty, JobLink, State, Swatch, Table, Waiting } from "../parts.js";

const SORTS = [["name", "Name"], ["used", "Memory"], ["idle", "Trouble first"]];
const MOST_TROUBLES = 50;

export function Fleet() {
  const state = fleet.value;
  const { color = "utilization", find = "", sort = "name" } = route.value;
  const measure = MEASURES[color] ? color : "utilization";
  const order = useMemo(() => (state ? ordered(state, find, sort) : []), [state, find, sort]);
  if (!state) return html`<h1>Fleet</h1><${Waiting} />`;
  if (!state.hosts.id.length) {
    return html`<h1>Fleet</h1><div class="card"><${Empty} title="No host has joined yet">
      <p>On a GPU machine, run <code>tuneyard host run --server ${location.origin} --token TOKEN</code>.</p>
      <p>On this one, <code>tuneyard up</code> starts a host of its own.</p><//></div>`;
  }
  return html`<h1>Fleet</h1>
    <${Totals} of=${state} />
    <section class="card" aria-label="Cards by host">
      <div class="bar">
        <${Choice} label="Colour by" value=${measure} options=${Object.entries(MEASURES).map(([name, one]) => [name, one.word])} onChoose=${(value) => set({ color: value })} />
        <label class="small">Sort <select value=${sort} onChange=${(event) => set({ sort: event.target.value })}>${SORTS.map(([name, word]) => html`<option value=${name} selected=${name === sort}>${word}</option>`)}</select></label>
        <label class="small">Find <input type="search" placeholder="host, card, state, job, user" value=${find} onInput=${(event) => set({ find: event.target.value })} /></label>
      </div>
      <${Legend} measure=${measure} states=${state.totals.states} />
      ${order.length ? html`<${Heat} fleet=${state} order=${order} measure=${measure} open=${(card) => go("card", { card: state.cards.id[card] })} />` : html`<${Empty} title=${`Nothing here contains “${find}”`}><button onClick=${() => set({ find: "" })}>Show all ${count(state.hosts.id.length)} hosts</button><//>`}
    </section>
    <${Troubles} of=${state} />`;
}

function Totals({ of: { totals } }) {
  const { busy = 0, idle = 0, free = 0, faulty = 0, away = 0 } = totals.states;
  const out = faulty + away;
  return html`<dl class="stats">
    <div><dt>Cards held</dt><dd>${count(busy + idle)} <small>of ${count(totals.cards)}</small></dd></div>
    <div><dt>Free</dt><dd>${count(free)}</dd></div>
    <div><dt>Held, idle</dt><dd>${count(idle)}</dd></div>
    <div><dt>Faulty or away</dt><dd>${count(out)}</dd></div>
    <div><dt>Memory used</dt><dd>${percent(totals.memory_bytes ? totals.used_bytes / totals.memory_bytes : null)} <small>of ${bytes(totals.memory_bytes)}</small></dd></div>
    <div><dt>Power</dt><dd>${totals.power_w ? watts(totals.power_w) : "–"}</dd></div>
    <div><dt>Running</dt><dd><a href=${href("jobs", { state: "running" })}>${count(totals.running)}</a></dd></div>
    <div><dt>Waiting</dt><dd><a href=${href("queue")}>${count(totals.waiting)}</a></dd></div>
  </dl>`;
}

function Legend({ measure, states }) {
  const { ends, warm } = MEASURES[measure];
  const shown = Object.keys(STATES).filter((one) => states[one] && (measure === "health" || ["faulty", "away"].includes(one)));
  return html`<div class="legend">
    ${ends && html`<span>${ends[0]} ${[0, 0.25, 0.5, 0.75, 1].map((at) => html`<${Swatch} color=${shade(at, warm)} />`)} ${ends[1]}</span>`}
    ${shown.map((one) => html`<${State} of=${one} word=${`${STATES[one].word} ${count(states[one])}`} />`)}
    ${measure !== "health" && html`<span>outlined: nothing to tell</span>`}
    <span class="sign"><i class="over" aria-hidden="true"></i>over its projection</span>
  </div>`;
}

/** Cards that somebody ought to look at: faulty, away, held but idle, over their projection. */
function Troubles({ of: { cards, hosts, running, at } }) {
  const rows = [];
  cards.state.forEach((state, i) => {
    const over = cards.upper_bytes[i] !== null && cards.used_bytes[i] > cards.upper_bytes[i];
    if (state === "faulty" || state === "idle" || over || (state === "away" && cards.job[i] !== null)) rows.push({ i, state, over });
  });
  const names = new Map(hosts.id.map((id, i) => [id, hosts.name[i]]));
  const jobs = new Map(running.id.map((id, i) => [id, running.name[i]]));
  const why = ({ i, state, over }) => {
    if (state === "faulty") return cards.fault[i];
    if (over) return `uses ${bytes(cards.used_bytes[i])}, was to stay under ${bytes(cards.upper_bytes[i])}`;
    if (state === "away") return "its host is not heard of";
    return `nothing computed for ${span(at - cards.idle_since[i])}`;
  };
  return html`<section class="card" aria-labelledby="troubles"><h2 id="troubles">Needs a look</h2>
    ${rows.length === 0 && html`<p class="quiet">Nothing: no card is faulty, idle under a job, or over its projection.</p>`}
    ${rows.length > 0 && html`<${Table} label="Cards that need a look" head=${[["Card"], ["State"], ["What"], ["Job"]]}>
      ${rows.slice(0, MOST_TROUBLES).map((row) => html`<tr key=${cards.id[row.i]}>
        <td><a href=${href("card", { card: cards.id[row.i] })}>${names.get(cards.host[row.i])}, ${cards.index[row.i]}</a></td>
        <td><${State} of=${row.state} /></td><td>${why(row)}</td>
        <td>${cards.job[row.i] === null ? "" : html`<${JobLink} id=${cards.job[row.i]} name=${jobs.get(cards.job[row.i]) ?? ""} />`}</td>
      </tr>`)}
    <//>`}
    ${rows.length > MOST_TROUBLES && html`<p class="quiet small">and ${count(rows.length - MOST_TROUBLES)} more: sort the map by trouble.</p>`}
  </section>`;
}

function ordered(state, find, sort) {
  const { hosts, cards, running } = state;
  const text = find.trim().toLowerCase();
  const jobs = new Map(running.id.map((id, i) => [id, `${id} ${running.name[i]} ${running.user[i]} ${running.project[i]}`.toLowerCase()]));
  const said = new Map(hosts.id.map((id, i) => [id, `${hosts.name[i]} ${hosts.state[i]}`.toLowerCase()]));
  const used = new Map();
  const bad = new Map();
  const found = new Set();
  cards.host.forEach((host, i) => {
    used.set(host, (used.get(host) ?? 0) + (cards.used_bytes[i] ?? 0));
    bad.set(host, (bad.get(host) ?? 0) + { faulty: 1000, away: 100, idle: 10 }[cards.state[i]] || 0);
    if (text && `${cards.name[i]} ${cards.state[i]} ${cards.fault[i] ?? ""} ${jobs.get(cards.job[i]) ?? ""}`.toLowerCase().includes(text)) found.add(host);
  });
  const kept = hosts.id.filter((id) => !text || found.has(id) || said.get(id).includes(text));
  if (sort === "used") return kept.sort((a, b) => (used.get(b) ?? 0) - (used.get(a) ?? 0));
  if (sort === "idle") return kept.sort((a, b) => (bad.get(b) ?? 0) - (bad.get(a) ?? 0));
  const names = new Map(hosts.id.map((id, i) => [id, hosts.name[i]]));
  return kept.sort((a, b) => names.get(a).localeCompare(names.get(b), undefined, { numeric: true }));
}
