// A job's log: live while it runs, searched here, downloaded whole.
import { html, useEffect, useMemo, useRef, useState } from "../lib.js";
import { get } from "../api.js";
import { route, set } from "../route.js";
import { count, bytes } from "../format.js";
import { Empty, Fault } from "../parts.js";

const PIECE = 1_000_000;
const KEPT = 2_000_000; // characters in the page: the end of what is longer
const MOST_HITS = 5000;
const EACH_MS = 2000;

/** Escape sequences, control characters and what turns the reading direction; a progress bar as it stood last. */
function clean(text) {
  return text
    .replace(/\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])/g, "")
    .replace(/[^\n]*\r(?!\n|$)/g, "")
    .replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "");
}

export function Log({ job }) {
  const numbers = job.attempts_detail.map((one) => one.number);
  const { attempt = "", find = "" } = route.value;
  const number = numbers.includes(Number(attempt)) ? Number(attempt) : numbers.at(-1);
  if (!number) return html`<section class="card"><${Empty} title="It has not started yet"><p>Its log begins with its first attempt.</p><//></section>`;
  return html`<section class="card"><${Text} key=${`${job.id} ${number}`} job=${job} number=${number} numbers=${numbers} find=${find} /></section>`;
}

function Text({ job, number, numbers, find }) {
  const [log, setLog] = useState({ text: "", cut: 0, ended: false, error: null, loaded: false });
  const box = useRef();
  useEffect(() => {
    let over = false;
    let timer = 0;
    let offset = 0;
    const more = async () => {
      try {
        const page = await get(`/jobs/${job.id}/logs`, { attempt: number, offset, limit: PIECE });
        if (over) return;
        offset = page.next_offset;
        const caughtUp = page.text.length === 0 || page.ended;
        setLog((now) => {
          const text = now.text + page.text;
          return { text: text.slice(-KEPT), cut: now.cut + Math.max(0, text.length - KEPT), ended: page.ended, error: null, loaded: now.loaded || caughtUp };
        });
        if (!page.ended) timer = setTimeout(more, caughtUp || page.text.length < PIECE / 4 ? EACH_MS : 0);
      } catch (error) {
        if (over) return;
        setLog((now) => ({ ...now, error, loaded: true }));
        timer = setTimeout(more, 2 * EACH_MS);
      }
    };
    more();
    return () => ((over = true), clearTimeout(timer));
  }, []);
  const plain = useMemo(() => clean(log.text), [log.text]);
  const { shown, hits } = useMemo(() => marked(plain, find), [plain, find]);
  const follows = useRef(true);
  useEffect(() => {
    if (follows.current && !find) box.current.scrollTop = box.current.scrollHeight;
  }, [plain, find]);
  const scrolled = () => (follows.current = box.current.scrollTop + box.current.clientHeight > box.current.scrollHeight - 24);
  return html`<div class="bar">
      ${numbers.length > 1 && html`<label class="small">Attempt <select value=${number} onChange=${(event) => set({ attempt: event.target.value })}>${numbers.map((one) => html`<option value=${one} selected=${one === number}>${one}</option>`)}</select></label>`}
      <label class="small">Find <input type="search" placeholder="text in the log" value=${find} onInput=${(event) => set({ find: event.target.value })} /></label>
      <span class="quiet small" role="status">${find ? `${count(hits)} line${hits === 1 ? "" : "s"}` : log.ended ? "complete" : "live"}</span>
      <button onClick=${() => download(job, number)}>Download</button>
    </div>
    <${Fault} error=${log.error} />
    ${log.cut > 0 && html`<p class="quiet small">The first ${bytes(log.cut)} are not here; the download has all.</p>`}
    ${log.loaded && !plain ? html`<${Empty} title="Nothing yet"><p>The trainer has not said anything.</p><//>` : null}
    <pre class="log" ref=${box} tabindex="0" role="log" aria-label=${`Log of attempt ${number}`} onScroll=${scrolled}>${shown}</pre>`;
}

/** Only lines with the text, and it marked; all of them without one. */
function marked(text, find) {
  if (!find) return { shown: text, hits: 0 };
  const wanted = find.toLowerCase();
  const lines = text.split("\n").filter((one) => one.toLowerCase().includes(wanted));
  const shown = lines.slice(-MOST_HITS).map((one) => {
    const at = one.toLowerCase().indexOf(wanted);
    return html`${one.slice(0, at)}<mark>${one.slice(at, at + find.length)}</mark>${one.slice(at + find.length)}${"\n"}`;
  });
  return { shown, hits: lines.length };
}

async function download(job, number) {
  const pieces = [];
  for (let offset = 0; ; ) {
    const page = await get(`/jobs/${job.id}/logs`, { attempt: number, offset, limit: 4 * 2 ** 20 });
    if (!page.text) break;
    pieces.push(page.text);
    offset = page.next_offset;
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(pieces, { type: "text/plain" }));
  link.download = `job-${job.id}-attempt-${number}.log`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
