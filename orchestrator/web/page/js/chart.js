// Lines over an axis: uPlot, with our colours, units and the reader's time zone.
import uPlot from "../vendor/uplot.js";
import { html, useEffect, useRef } from "./lib.js";
import { tick, when } from "./format.js";
import { line, tone } from "./palette.js";

const HEIGHT = 180;

/** Axis values without more digits than they need. */
const plain = (format) => (_, values) => values.map((one) => (one === null ? "" : format(one)));

/**
 * x: values of the axis; lines: [{name, values, color?, dash?, points?}]; format: how a value reads; time: whether x is
 * Unix seconds; marks: [{at, name}] across; from, to: the ends of the axis y.
 */
export function Chart({ label, x, lines, format = String, time = false, xFormat = String, marks = [], from = null, to = null, height = HEIGHT }) {
  const box = useRef();
  const theme = document.documentElement.dataset.theme ?? "";
  useEffect(() => {
    const { offsetWidth } = box.current;
    const [ink, quiet, grid] = ["--ink", "--quiet", "--line"].map(tone);
    const axis = { stroke: quiet, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const plot = new uPlot(
      {
        width: offsetWidth,
        height,
        scales: { x: { time }, y: { range: (_, low, high) => bounds(low, high, marks, from, to) } },
        axes: [{ ...axis, size: 28, values: time ? (_, all) => all.map((one) => tick(one, all[1] - all[0])) : plain(xFormat) }, { ...axis, size: 64, values: plain(format) }],
        series: [
          { label: time ? "Time" : "Step", value: (_, one) => (one === null ? "–" : (time ? when : xFormat)(one)) },
          ...lines.map((one, index) => ({
            label: one.name,
            stroke: one.color ?? line(index),
            width: 1.75,
            dash: one.dash ? [6, 4] : undefined,
            spanGaps: Boolean(one.points),
            points: { show: x.length < 3 || (Boolean(one.points) && sparse(one.values)), size: 5 },
            value: (_, value) => (value === null ? "–" : format(value)),
          })),
        ],
        legend: { show: lines.length > 1 },
        hooks: { draw: [(drawn) => drawMarks(drawn, marks, ink)] },
      },
      [x, ...lines.map((one) => one.values)],
      box.current,
    );
    const look = new ResizeObserver(() => box.current && plot.setSize({ width: box.current.offsetWidth, height }));
    look.observe(box.current);
    return () => (look.disconnect(), plot.destroy());
  }, [x, lines, theme]);
  return html`<div class="chart" role="img" aria-label=${`${label}: ${summary(lines, format)}`} ref=${box}></div>`;
}

/** Lines whose steps differ on one axis: [steps of all, the values of each]. lines: [[steps, values]]. */
export function onOneAxis(lines) {
  const x = [...new Set(lines.flatMap(([steps]) => steps))].sort((a, b) => a - b);
  const place = new Map(x.map((step, i) => [step, i]));
  const spread = ([steps, values]) => {
    const made = Array(x.length).fill(null);
    steps.forEach((step, i) => (made[place.get(step)] = values[i] ?? made[place.get(step)]));
    return made;
  };
  return [x, lines.map(spread)];
}

/** A line of a few values among many steps: without points, one of a single value would not be seen. */
function sparse(values) {
  const at = values.flatMap((one, i) => (one === null ? [] : i));
  return at.length < 2 || at.at(-1) - at[0] > 3 * at.length;
}

function bounds(low, high, marks, from, to) {
  const all = [low, high, ...marks.map((one) => one.at)].filter((one) => one !== null && Number.isFinite(one));
  let least = from ?? Math.min(...all);
  let most = to ?? Math.max(...all);
  if (!all.length) return [0, 1];
  const room = (most - least || Math.abs(most) || 1) * 0.06;
  least = from ?? least - room;
  most = to ?? most + room;
  return [least, most > least ? most : least + 1];
}

/** Lines across, named where they stand: no legend to look up. */
function drawMarks(plot, marks, ink) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = ink;
  ctx.font = `${12 * devicePixelRatio}px system-ui`;
  ctx.textBaseline = "bottom";
  ctx.textAlign = "left";
  for (const { at, name } of marks) {
    const y = Math.round(plot.valToPos(at, "y", true)) + 0.5;
    ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.fillText(name, bbox.left + 4 * devicePixelRatio, y - 2 * devicePixelRatio);
  }
  ctx.restore();
}

/** For who does not see it: where each line ends. */
function summary(lines, format) {
  return lines
    .map((one) => {
      const known = one.values.filter((value) => value !== null && value !== undefined);
      return known.length ? `${one.name} from ${format(known[0])} to ${format(known.at(-1))}` : `${one.name} not known`;
    })
    .join("; ");
}
