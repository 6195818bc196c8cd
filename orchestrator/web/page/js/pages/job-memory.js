// A job's memory: the parts of its projection, and what was measured beside them.
import { html } from "../lib.js";
import { bytes, signed, span } from "../format.js";
import { line } from "../palette.js";
import { Facts, Swatch } from "../parts.js";

/** attempts_detail: the latest that was projected. */
export function Memory({ job }) {
  const attempt = job.attempts_detail.findLast((one) => one.projection);
  if (!attempt) return html`<section class="card"><h2>Memory</h2><p class="quiet">It is projected once a card is chosen for it. <a href="?view=plan">Plan</a> shows it for any card.</p></section>`;
  const { projection, measured, errors, card_bytes: whole } = attempt;
  return html`<section class="card"><h2>Memory of attempt ${attempt.number}: projected against measured</h2>
    <${Stack} parts=${projection.parts} whole=${whole ?? projection.upper_bytes} measured=${measured?.device_bytes} upper=${projection.upper_bytes} />
    <div class="cols">
      <${Parts} parts=${projection.parts} />
      <${Facts} of=${[
        ["Projected", `${bytes(projection.device_bytes)}, at its highest in ${projection.phase}`],
        ["Surely under", bytes(projection.upper_bytes)],
        ["Measured", measured?.device_bytes ? `${bytes(measured.device_bytes)}${errors?.device_bytes == null ? "" : `, ${signed(errors.device_bytes)}`}` : "nothing yet"],
        ["Allocated", measured?.allocated_bytes ? `${bytes(measured.allocated_bytes)} of ${bytes(projection.allocated_bytes)} projected` : null],
        ["Not compared", attempt.not_comparable === "no_peak" ? "it made fewer than two steps" : attempt.not_comparable === "roomy_card" ? "a CPU card with room to spare" : null],
        ["Card", bytes(whole)],
        ["Step", measured?.step_s ? `${seconds(measured.step_s)}${projection.step_s ? `, projected ${seconds(projection.step_s)}` : ""}` : projection.step_s ? `projected ${seconds(projection.step_s)}` : null],
      ]} />
    </div></section>`;
}

const seconds = (value) => (value < 60 ? `${value.toPrecision(3)} s` : span(value));
const words = (name) => name.replaceAll("_", " ");
const shown = (parts) => Object.entries(parts).filter(([, size]) => size > 0);

/** A bar of the card's memory: parts, the measured peak as a line, the upper bound as another. */
export function Stack({ parts, whole, measured = null, upper = null }) {
  const known = shown(parts);
  const mark = (size, kind, word) => {
    const at = Math.min(100, (100 * size) / whole);
    return size && html`<u class=${kind} style=${{ left: `${at}%` }}><small class=${at < 40 ? "after" : ""}>${word} ${bytes(size)}</small></u>`;
  };
  const label = `Of ${bytes(whole)}: ${known.map(([name, size]) => `${words(name)} ${bytes(size)}`).join(", ")}${measured ? `; measured ${bytes(measured)}` : ""}`;
  return html`<div class="stack-box">
    <div class="stack" role="img" aria-label=${label}>${known.map(([name, size], i) => html`<span style=${{ background: line(i), width: `${(100 * size) / whole}%` }} title=${words(name)}></span>`)}</div>
    ${mark(upper, "", "surely under")}${mark(measured, "measured", "measured")}
  </div>`;
}

export const Parts = ({ parts }) => html`<ul class="parts">${shown(parts).map(([name, size], i) => html`<li><${Swatch} color=${line(i)} /><span>${words(name)}</span><span>${bytes(size)}</span></li>`)}</ul>`;
