// What several pages show: states, errors, empty places, meters, times.
import { html, useState } from "./lib.js";
import { get, useLoad } from "./api.js";
import { exactly, memory, since, when } from "./format.js";
import { STATES } from "./palette.js";
import { href } from "./route.js";

const SIGNS = { queued: "…", running: "▸", succeeded: "✓", failed: "!", cancelled: "×", online: "✓" };

/** A state as a sign and a word: no colour is needed to read it. */
export function State({ of, word = "" }) {
  const known = STATES[of];
  return html`<span class="sign tone-${of}"><i aria-hidden="true">${known?.sign ?? SIGNS[of] ?? "·"}</i>${word || (known?.word ?? of)}</span>`;
}

/** What went wrong, and what to do. */
export function Fault({ error, again = null }) {
  if (!error) return null;
  const faults = (error.faults ?? []).filter((one) => one.path || one.problem);
  return html`<div class="box bad" role="alert">
    <p><b>${error.message}</b></p>
    ${faults.length > 0 && html`<ul>${faults.slice(0, 20).map((one) => html`<li><code>${one.path}</code> ${one.problem}${one.fix && html`; ${one.fix}`}</li>`)}</ul>`}
    ${again && html`<button onClick=${again}>Try again</button>`}
  </div>`;
}

/** A place with nothing in it says what would fill it. */
export const Empty = ({ title, children }) => html`<div class="empty"><b>${title}</b>${children}</div>`;

export const Waiting = () => html`<p class="quiet" role="status">Loading …</p>`;

/** What useLoad() gives: waiting, fault, or the page. */
export function Loaded({ of, children }) {
  if (of.data === undefined) return of.error ? html`<${Fault} error=${of.error} again=${of.again} />` : html`<${Waiting} />`;
  return html`${of.error && html`<${Fault} error=${of.error} />`}${children(of.data)}`;
}

/** What a path answers, asked again each `every` ms: children(data, again). */
export function Answer({ path, params, every = 0, children }) {
  const found = useLoad(() => get(path, params), [path, JSON.stringify(params), every], every);
  return html`<${Loaded} of=${found}>${(data) => children(data, found.again)}<//>`;
}

export const Time = ({ at, ago = false }) => html`<time dateTime=${at ? new Date(at * 1000).toISOString() : undefined} title=${exactly(at)}>${ago ? since(at) : when(at)}</time>`;

export const JobLink = ({ id, name }) => html`<a href=${href("job", { job: id })}>${id} ${name}</a>`;

/** Buttons of which one is chosen. options: [[value, word]]. */
export function Choice({ label, options, value, onChoose }) {
  return html`<span class="choice" role="group" aria-label=${label}>
    ${options.map(([one, word]) => html`<button type="button" aria-pressed=${String(one === value)} onClick=${() => onChoose(one)}>${word}</button>`)}
  </span>`;
}

/** Memory used of a card, with a mark at what was projected. */
export function Meter({ used, of, projected = null }) {
  const share = (size) => `${Math.min(100, (100 * (size ?? 0)) / of)}%`;
  const told = memory(used, of, projected);
  return html`<div class="meter" role="img" aria-label=${told} title=${told}><span style=${{ width: share(used) }}></span>${projected ? html`<u style=${{ left: share(projected) }}></u>` : null}</div>`;
}

export const Swatch = ({ color }) => html`<i class="swatch" style=${{ background: color }} aria-hidden="true"></i>`;

/** Facts as pairs; those that are not known are left out. */
export const Facts = ({ of }) => html`<dl class="facts">${of.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;

/** A button that asks once more before it does something; says what went wrong. */
export function Act({ word, sure, act, main = false }) {
  const [state, setState] = useState({ asked: false, busy: false, error: null });
  const run = () => {
    if (sure && !state.asked) {
      setState({ ...state, asked: true });
      setTimeout(() => setState((now) => ({ ...now, asked: false })), 5000);
      return;
    }
    setState({ asked: false, busy: true, error: null });
    act().then(
      () => setState({ asked: false, busy: false, error: null }),
      (error) => setState({ asked: false, busy: false, error }),
    );
  };
  return html`<span><button class=${main ? "main" : ""} disabled=${state.busy} onClick=${run}>${state.asked ? sure : word}</button>
    ${state.error && html` <span class="small" role="alert">${state.error.message}</span>`}</span>`;
}

/** A table that scrolls by itself where it is too wide. head: [word, class]. */
export const Table = ({ label, head, children }) => html`<div class="table" role="region" aria-label=${label} tabindex="0"><table>
  <thead><tr>${head.map(([word, kind = ""]) => html`<th scope="col" class=${kind}>${word}</th>`)}</tr></thead>
  <tbody>${children}</tbody>
</table></div>`;
