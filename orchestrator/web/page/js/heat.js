// The fleet as a heat map: a block a host, a square a card, on one canvas however many there are.
import { html, useEffect, useRef, useState } from "./lib.js";
import { celsius, memory, percent, span, watts } from "./format.js";
import { STATES, isDark, shade, tone } from "./palette.js";

const ROW = 22;
const LABEL = 104;
const GAP = 2;
const SPACE = 20;

/** What a card is coloured by: 0 to 1, null for no colour. */
export const MEASURES = {
  utilization: { word: "Utilisation", ends: ["0%", "100%"], of: (cards, i) => cards.utilization[i] },
  memory: { word: "Memory", ends: ["empty", "full"], of: (cards, i) => (cards.used_bytes[i] === null ? null : cards.used_bytes[i] / cards.memory_bytes[i]) },
  waste: { word: "Waste", ends: ["none", "held, does nothing"], warm: true, of: (cards, i) => (cards.job[i] === null || cards.utilization[i] === null ? null : 1 - cards.utilization[i]) },
  health: { word: "Health", of: () => null },
};

/** Where each card is drawn. order: ids of hosts. */
function layout(fleet, order, width) {
  const { hosts, cards } = fleet;
  const most = Math.max(1, ...hosts.cards);
  const size = Math.min(18, Math.max(8, Math.floor((width - LABEL) / most) - GAP));
  const perLine = Math.max(1, Math.min(most, Math.floor((Math.min(width, 2000) - LABEL) / (size + GAP))));
  const block = LABEL + perLine * (size + GAP);
  const columns = Math.max(1, Math.floor((width + SPACE) / (block + SPACE)));
  const names = new Map(hosts.id.map((id, i) => [id, hosts.name[i]]));
  const of = new Map();
  cards.host.forEach((host, i) => of.has(host) ? of.get(host).push(i) : of.set(host, [i]));
  const shown = order.filter((host) => names.has(host));
  const lines = Math.ceil(most / perLine);
  const perColumn = Math.ceil(shown.length / columns);
  const places = [];
  const labels = shown.map((host, n) => {
    const x = Math.floor(n / perColumn) * (block + SPACE);
    const y = (n % perColumn) * (ROW * lines);
    (of.get(host) ?? []).forEach((card, k) => places.push({ card, n, k, x: x + LABEL + (k % perLine) * (size + GAP), y: y + Math.floor(k / perLine) * ROW + 2 }));
    return { name: names.get(host), x, y };
  });
  return { places, labels, size, height: Math.max(ROW, perColumn * ROW * lines) };
}

function draw(canvas, fleet, made, measure, at) {
  const width = canvas.clientWidth;
  const scale = devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(made.height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const { cards } = fleet;
  const { of, warm } = MEASURES[measure];
  const dark = isDark();
  const tones = Object.fromEntries(Object.entries(STATES).map(([name, one]) => [name, tone(one.tone)]));
  const shades = Array.from({ length: 101 }, (_, i) => shade(i / 100, warm, dark));
  const [ink, quiet, ground] = ["--ink", "--quiet", "--sheet"].map(tone);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.fillStyle = quiet;
  for (const { name, x, y } of made.labels) pen.fillText(short(pen, name), x, y + 2 + made.size / 2);
  pen.textAlign = "center";
  const size = made.size;
  for (const { card, x, y } of made.places) {
    const state = cards.state[card];
    const value = measure === "health" || state === "faulty" || state === "away" ? null : of(cards, card);
    if (value !== null) {
      pen.fillStyle = shades[Math.round(100 * Math.min(1, Math.max(0, value)))];
      pen.fillRect(x, y, size, size);
    } else if (measure === "health" && state !== "free") {
      pen.fillStyle = tones[state];
      pen.fillRect(x, y, size, size);
    } else {
      pen.strokeStyle = tones[state];
      pen.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
    }
    if (state === "faulty" || state === "away" || (measure === "health" && state === "idle")) {
      pen.fillStyle = measure === "health" ? ground : tones[state];
      pen.font = `700 ${size - 4}px system-ui, sans-serif`;
      pen.fillText(STATES[state].sign, x + size / 2, y + size / 2 + 1);
    }
    // Over what it was surely to stay under: outlined, whatever it is coloured by.
    if (cards.upper_bytes[card] !== null && cards.used_bytes[card] > cards.upper_bytes[card]) {
      pen.strokeStyle = tones.faulty;
      pen.lineWidth = 2;
      pen.strokeRect(x + 1, y + 1, size - 2, size - 2);
      pen.lineWidth = 1;
    }
  }
  const chosen = made.places[at];
  if (chosen) {
    pen.strokeStyle = ink;
    pen.lineWidth = 2;
    pen.strokeRect(chosen.x - 1, chosen.y - 1, size + 2, size + 2);
  }
}

function short(pen, name) {
  if (pen.measureText(name).width <= LABEL - 8) return name;
  let kept = name.length;
  while (kept > 1 && pen.measureText(`…${name.slice(-kept)}`).width > LABEL - 8) kept--;
  return `…${name.slice(-kept)}`;
}

/** What a card is, in words: for the tip, and for who does not see it. */
export function told(fleet, card) {
  const { cards, hosts, running } = fleet;
  const job = running.id.indexOf(cards.job[card]);
  const used = cards.used_bytes[card];
  const idle = cards.state[card] === "idle" && cards.idle_since[card] ? ` for ${span(fleet.at - cards.idle_since[card])}` : "";
  return {
    title: `${hosts.name[hosts.id.indexOf(cards.host[card])]}, card ${cards.index[card]}`,
    lines: [
      cards.name[card],
      `${STATES[cards.state[card]].word}${idle}${cards.fault[card] ? `: ${cards.fault[card]}` : ""}`,
      used === null ? "" : memory(used, cards.memory_bytes[card], cards.projected_bytes[card]),
      cards.utilization[card] === null ? "" : `${percent(cards.utilization[card])}, ${watts(cards.power_w[card])}, ${celsius(cards.temperature_c[card])}`,
      job < 0 ? "" : `job ${running.id[job]} ${running.name[job]}${running.step[job] === null ? "" : `, step ${running.step[job]} of ${running.total_steps[job]}`}`,
    ].filter(Boolean),
  };
}

/** order: ids of the hosts to show; open(card): a card, by its place in the columns, was chosen. */
export function Heat({ fleet, order, measure, open }) {
  const canvas = useRef();
  const [width, setWidth] = useState(0);
  const [at, setAt] = useState(-1);
  const [by, setBy] = useState("");
  useEffect(() => {
    const look = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    look.observe(canvas.current.parentElement);
    return () => look.disconnect();
  }, []);
  const made = useRef({ places: [] });
  useEffect(() => {
    if (!width) return;
    made.current = layout(fleet, order, width);
    canvas.current.style.height = `${made.current.height}px`;
    draw(canvas.current, fleet, made.current, measure, at);
    canvas.current.dataset.drawn = String(made.current.places.length);
    canvas.current.dataset.at = String(fleet.at);
  });
  const find = (event) => {
    const { left, top } = canvas.current.getBoundingClientRect();
    const [x, y] = [event.clientX - left, event.clientY - top];
    const size = made.current.size + GAP;
    return made.current.places.findIndex((one) => x >= one.x && x < one.x + size && y >= one.y - 2 && y < one.y + size + 2);
  };
  const keys = (event) => {
    const { places } = made.current;
    const now = places[Math.max(at, 0)];
    if (!now) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const rows = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Enter" && at >= 0) return open(places[at].card);
    if (event.key === "Escape") return setAt(-1);
    if (!step && !rows) return;
    event.preventDefault();
    setBy("key");
    if (step) return setAt(at < 0 ? 0 : Math.min(places.length - 1, Math.max(0, at + step)));
    const next = places.findLastIndex((one) => one.n === now.n + rows && one.k <= now.k);
    if (next >= 0) setAt(next);
  };
  const chosen = made.current.places[at];
  const words = chosen && told(fleet, chosen.card);
  return html`<div class="heat">
    <canvas ref=${canvas} tabindex="0" role="application" aria-roledescription="heat map"
      aria-label=${`${made.current.places.length || fleet.cards.id.length} cards by host. Arrow keys move from card to card, Enter opens one.`}
      onMouseMove=${(event) => (setBy("mouse"), setAt(find(event)))} onMouseLeave=${() => setAt(-1)} onBlur=${() => setAt(-1)}
      onClick=${(event) => { const place = find(event); if (place >= 0) open(made.current.places[place].card); }} onKeyDown=${keys}></canvas>
    ${words && html`<${Tip} x=${chosen.x} y=${chosen.y} width=${width}><b>${words.title}</b>${words.lines.map((one) => html`<div>${one}</div>`)}<//>`}
    <div class="hidden" aria-live="polite">${words && by === "key" ? `${words.title}. ${words.lines.join(". ")}` : ""}</div>
  </div>`;
}

function Tip({ x, y, width, children }) {
  const box = useRef();
  useEffect(() => {
    box.current.style.left = `${Math.max(0, Math.min(x + 24, width - box.current.offsetWidth))}px`;
    box.current.style.top = `${y + 24}px`;
  });
  return html`<div class="tip" ref=${box} aria-hidden="true">${children}</div>`;
}
