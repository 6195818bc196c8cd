// How numbers and times read: binary units, the reader's time zone, an en dash for what is not known.

const UNKNOWN = "–";
export const GIB = 2 ** 30;
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const grouped = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

export const count = (value) => (known(value) ? grouped.format(value) : UNKNOWN);
export const percent = (value, digits = 0) => (known(value) ? `${(100 * value).toFixed(digits)}%` : UNKNOWN);
export const signed = (value) => (known(value) ? `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(1)}%` : UNKNOWN);
export const watts = (value) => (known(value) ? (value >= 10000 ? `${value >= 1e6 ? grouped.format(value / 1000) : (value / 1000).toFixed(1)} kW` : `${grouped.format(value)} W`) : UNKNOWN);
export const celsius = (value) => (known(value) ? `${Math.round(value)} °C` : UNKNOWN);

export function bytes(value) {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size >= 1000 * GIB) return `${(value / 1024 / GIB).toFixed(1)} TiB`;
  if (size >= GIB) return `${(value / GIB).toFixed(size < 100 * GIB ? 1 : 0)} GiB`;
  return `${Math.round(value / 2 ** 20)} MiB`;
}

/** Memory of a card that is used, and what was projected. */
export const memory = (used, of, projected = null) => `${bytes(used)} of ${bytes(of)}${projected ? `, projected ${bytes(projected)}` : ""}`;

/** A loss or another figure: four significant digits. */
export function figure(value) {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return Number(value.toPrecision(4)).toString();
}

/** The loss of a line of progress or an evaluation: as it was said, where it is no number. */
export const loss = (of) => (of ? of.loss_text ?? figure(of.loss) : "");

/** Seconds in the two largest units: 3 d 4 h, 12 min, 8 s. */
export function span(seconds) {
  if (!known(seconds)) return UNKNOWN;
  const rest = Math.max(0, Math.round(seconds));
  if (rest < 60) return `${rest} s`;
  if (rest < 3600) return `${Math.floor(rest / 60)} min`;
  const hours = Math.floor(rest / 3600);
  if (hours < 24) return `${hours} h ${Math.floor((rest % 3600) / 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export const time = (seconds) => (known(seconds) ? clock.format(seconds * 1000) : UNKNOWN);
export const when = (seconds) => (known(seconds) ? day.format(seconds * 1000) : UNKNOWN);
/** On an axis with so many seconds from value to value: the time of day, at midnight the day. */
export const tick = (seconds, apart) => (apart >= 86400 || new Date(seconds * 1000).getHours() + new Date(seconds * 1000).getMinutes() === 0 ? date : minute).format(seconds * 1000);
export const exactly = (seconds) => (known(seconds) ? full.format(seconds * 1000) : "");
/** Before or after now: "5 min ago", "in 2 h". */
export function since(seconds, now = Date.now() / 1000) {
  if (!known(seconds)) return UNKNOWN;
  return seconds <= now ? `${span(now - seconds)} ago` : `in ${span(seconds - now)}`;
}
/** When a job is likely to start: an interval. */
export function likely(earliest, latest, now = Date.now() / 1000) {
  if (!known(earliest)) return "not known";
  const from = earliest <= now + 30 ? "soon" : `in ${span(earliest - now)}`;
  if (!known(latest)) return `${from} at the earliest`;
  return latest - earliest < 60 ? from : `${from} to ${span(latest - now)}`;
}
/** Reasons have Unix seconds in braces, for whoever shows them: {1700000000}. */
export const prose = (text) => (text ?? "").replace(/\{(\d{9,11})(?:\.\d+)?\}/g, (_, seconds) => when(Number(seconds)));
