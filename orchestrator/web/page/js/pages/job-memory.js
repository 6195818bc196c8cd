// A job's memory: the parts of its projection, and what was measured beside them.
import { html, useEffect, useRef } from "../lib.js";
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
  const bar = useRef();
  const known = shown(parts);
  useEffect(() => {
    [...bar.current.querySelectorAll("span")].forEach((one, i) => (one.style.width = `${(100 * known[i][1]) / whole}%`));
    [...bar.current.querySelectorAll("u")].forEach((one) => {
      const at = Math.min(100, (100 * one.dataset.bytes) / whole);
      one.style.left = `${at}%`;
      one.firstChild.className = at < 40 ? "after" : "";
    });
  });
  const label = `Of ${bytes(whole)}: ${known.map(([name, size]) => `${words(name)} ${bytes(size)}`).join(", ")}${measured ? `; measured ${bytes(measured)}` : ""}`;
  return html`<div class="stack-box" ref=${bar}>
    <div class="stack" role="img" aria-label=${label}>${known.map(([name], i) => html`<span style=${{ background: line(i) }} title=${words(name)}></span>`)}</div>
    ${upper && html`<u data-bytes=${upper}><small>surely under ${bytes(upper)}</small></u>`}
    ${measured && html`<u class="measured" data-bytes=${measured}><small>measured ${bytes(measured)}</small></u>`}
  </div>`;
}

export const Parts = ({ parts }) => html`<ul class="parts">${shown(parts).map(([name, size], i) => html`<li><${Swatch} color=${line(i)} /><span>${words(name)}</span><span>${bytes(size)}</span></li>`)}</ul>`;
